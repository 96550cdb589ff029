"""Selected cells as text: every selection comes back, and no text does harm."""

import base64
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from skysense.errors import SessionError
from skysense.selected import cells_of, cells_text
from skysense.session import Session, SessionPlace, SessionView

SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=40)


def text_of(size, bits):
    return f"{size}:{base64.b64encode(zlib.compress(bits)).decode()}"


@given(arrays.arrays(bool, SHAPES))
def test_every_selection_comes_back(cells):
    again = cells_of(cells_text(cells))
    assert again.dtype == bool
    np.testing.assert_array_equal(again, cells)


def test_the_form_is_what_the_docstring_says():
    """Two rows of three cells, of which the first and the last are selected: 1000 01."""
    text = text_of("2x3", bytes([0b10000100]))
    assert cells_of(text).tolist() == [[True, False, False], [False, False, True]]


def test_half_the_cells_of_a_large_place_fit_into_a_tenth_of_a_megabyte():
    cells = np.random.default_rng(0).random((512, 512)) < 0.5
    assert len(cells_text(cells)) < 100_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2x3", "is not ROWSxCOLUMNS"),
        ("2x3:~", "is not ROWSxCOLUMNS"),
        ("0x3:eJw=", "is not ROWSxCOLUMNS"),
        ("2x3:eJw=", "damaged|not those of a grid"),
        ("9999999x9999999:eJw=", "16,777,216"),
        (text_of("2x3", bytes(2)), "not those of a grid of 2 x 3"),
        (text_of("2x3", b""), "not those of a grid of 2 x 3"),
        (text_of("2x3", bytes(50_000_000)), "not those of a grid of 2 x 3"),
        (7, "is not ROWSxCOLUMNS"),
    ],
)
def test_a_text_that_is_no_selection_is_refused_in_a_sentence(text, words):
    with pytest.raises(SessionError, match=words):
        SessionView(selected=text)


@given(st.text() | st.from_regex(r"[1-9]x[1-9]:[A-Za-z0-9+/]{0,40}={0,2}", fullmatch=True))
def test_any_text_is_cells_or_refused(text):
    with suppress(SessionError):
        assert cells_of(text).ndim == 2


@pytest.mark.parametrize("cells", [np.ones((2, 3)), np.ones(3, bool), np.ones((0, 3), bool)])
def test_what_is_no_selection_is_not_written(cells):
    with pytest.raises(SessionError, match="give"):
        cells_text(cells)


def test_a_session_of_some_of_its_places_keeps_the_selection_of_a_place_that_stays():
    view = SessionView(place="b", selected=cells_text(np.ones((2, 2), bool)))
    session = Session((SessionPlace("a"), SessionPlace("b")), view=view)
    assert session.only(["b"]).view.selected == view.selected
    assert session.only(["a"]).view.selected == ""
