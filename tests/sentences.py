"""What a refusal must be: the border's own error, one or more sentences, naming what was given."""

import pytest


class Odd:
    """Nothing that anything here expects."""

    def __repr__(self):
        return "<odd>"


ODD = (None, True, 5, -1, 2.5, float("nan"), 2**70, 10**5000, "x", "", b"x", "a\0b", [], ["x"],
       {"a": None}, (1,), Odd(), 1j, {1}, len)  # fmt: skip
"""Values of every kind; a test leaves out those that are right where it puts them."""


def refused(error, call, *arguments, **options):
    """The sentence with which `call` refuses; any other error, or none, fails the test."""
    with pytest.raises(error) as caught:
        call(*arguments, **options)
    text = str(caught.value)
    assert text.endswith((".", "?")), text
    assert len(text.split()) > 5, text
    assert "\n" not in text, text
    assert len(text) < 700, text
    return text
