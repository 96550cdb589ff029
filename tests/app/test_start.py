import socket

import pytest

from app.main import check_address, serve
from skysense.errors import SkySenseError


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"port": 99_999}, "between 0"),
        ({"port": -5}, "between 0"),
        ({"address": "192.0.2.1", "port": 0}, "cannot be used"),
        ({"allow": ("::bad",)}, "not HOST:PORT"),
        ({"prefix": "/a b"}, "is not a path"),
        ({"tiles": "https://a.b/tiles"}, "must begin with https"),
    ],
)
def test_a_start_that_cannot_be_is_refused_in_a_sentence(options, words):
    with pytest.raises(SkySenseError, match=words):
        serve(**{"port": 0, **options})


def test_a_port_in_use_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SkySenseError, match=f"Port {port} of 127.0.0.1"):
            check_address("127.0.0.1", port, ())


def test_weights_that_are_no_checkpoint_are_refused(tmp_path):
    with pytest.raises(SkySenseError, match="skysense convert"):
        serve(port=0, weights=tmp_path)
