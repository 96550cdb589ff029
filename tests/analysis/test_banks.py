"""A bank kept in a file is the bank that was kept; anything else is refused in a sentence."""

import contextlib
import json

import numpy as np
import pytest
from blobs import blobs, fields
from hypothesis import given
from hypothesis import strategies as st
from sentences import ODD, refused

from skysense.analysis import (
    assign,
    bank_digest,
    bank_text,
    fit_prototypes,
    names_of,
    open_bank,
    read_bank,
    rename,
    save_bank,
)
from skysense.errors import AnalysisError


@pytest.fixture(scope="module")
def place():
    return blobs(fields(64, 4, 8))


@pytest.fixture(scope="module")
def bank(place):
    return fit_prototypes({"here": place}, 6, epochs=2)


def test_a_bank_comes_back_from_its_file_bit_by_bit(bank, tmp_path):
    again = open_bank(save_bank(bank, tmp_path / "bank.json"))
    np.testing.assert_array_equal(again.values, bank.values)
    np.testing.assert_array_equal(again["centre"], bank["centre"])
    assert again.dtype == bank.dtype
    assert {k: v for k, v in again.attrs.items() if k != "names"} == bank.attrs


def test_a_reopened_bank_assigns_every_pixel_as_before(bank, place, tmp_path):
    again = open_bank(save_bank(bank, tmp_path / "bank.json"))
    np.testing.assert_array_equal(assign(place, again), assign(place, bank))


def test_what_is_written_twice_is_the_same_text(bank):
    assert bank_text(read_bank(bank_text(bank))) == bank_text(bank)


def test_a_name_travels_with_the_bank_and_onto_the_map(bank, place):
    named = read_bank(bank_text(rename(bank, 2, "  late   maize ")))
    assert names_of(named)[2] == "late maize"
    assert assign(place, named).attrs["categories"][2] == "late maize"
    assert names_of(bank)[2] == "prototype 3"


def test_a_bank_file_is_lines_a_person_can_read(bank):
    lines = bank_text(rename(bank, 0, "Wälder <b>")).splitlines()
    assert sum('"vector"' in line for line in lines) == 6
    assert '"Wälder <b>"' in lines[2]


def test_two_prototypes_cannot_have_one_name(bank):
    assert "called “prototype 2” already" in refused(AnalysisError, rename, bank, 0, "prototype 2")


@pytest.mark.parametrize("name", ["", "  ", None, 5])
def test_a_prototype_needs_a_name(bank, name):
    assert "short name" in refused(AnalysisError, rename, bank, 0, name)


def test_the_digest_is_of_what_assigns_and_not_of_names(bank, place):
    other = fit_prototypes({"here": place}, 6, epochs=2, seed=1)
    assert bank_digest(rename(bank, 0, "water")) == bank_digest(bank)
    assert bank_digest(read_bank(bank_text(bank))) == bank_digest(bank)
    assert bank_digest(other) != bank_digest(bank)


def broken(bank, change):
    found = json.loads(bank_text(bank))
    change(found)
    return json.dumps(found)


def put(key, value):
    return lambda found: found.update({key: value})


def first(key, value):
    return lambda found: found["prototypes"][0].update({key: value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("format", "session"), "does not say so"),
        (put("version", 2), "version 2"),
        (put("prototypes", []), "no list"),
        (put("prototypes", [1]), "not an object"),
        (put("centre", [0.5]), "1 features"),
        (put("attrs", {"a": {"b": 1}}), "attrs"),
        (put("feature", [[1]]), "names of the features"),
        (first("vector", [1, 2]), "features"),
        (first("vector", ["1"]), "finite numbers"),
        (first("vector", [1e39]), "finite numbers"),
        (first("vector", [10**400]), "finite numbers"),
        (first("name", "prototype 2"), "same name"),
        (first("name", "x" * 41), "1 to 40"),
        (first("name", None), "1 to 40"),
    ],
)
def test_a_damaged_bank_file_is_refused_in_a_sentence(bank, change, words):
    assert words in refused(AnalysisError, read_bank, broken(bank, change))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "NaN", "[" * 100_000, b"\xff\xfe", None, "1" * 9999]
)
def test_what_is_no_bank_file_is_refused_in_a_sentence(text):
    refused(AnalysisError, read_bank, text)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
                    lambda each: st.lists(each, max_size=3), max_leaves=6),
       st.sampled_from(["version", "attrs", "feature", "centre", "prototypes"]))  # fmt: skip
def test_whatever_stands_in_a_bank_file_only_our_own_error_comes_out(value, key):
    small = {"format": "skysense-bank", "version": 1, "attrs": {}, "feature": None,
             "centre": None, "prototypes": [{"name": "a", "vector": [1.0, 0.5]}]}  # fmt: skip
    with contextlib.suppress(AnalysisError):
        assert read_bank(json.dumps({**small, key: value})).shape == (1, 2)


@pytest.mark.parametrize(
    "path",
    [*(odd for odd in ODD if not isinstance(odd, str)), "bank.npz"],
    ids=lambda odd: type(odd).__name__,
)
def test_a_bank_is_kept_at_a_path_that_ends_in_json(bank, path):
    refused(AnalysisError, save_bank, bank, path)


def test_a_bank_that_is_not_there_is_a_sentence(tmp_path):
    assert "cannot be read" in refused(AnalysisError, open_bank, tmp_path / "none.json")
