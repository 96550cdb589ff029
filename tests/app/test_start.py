import socket

import pytest
from typer.testing import CliRunner

from app import main
from app.__main__ import parser
from app.main import check_address, serve
from skysense.cli import app as command_line
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


def test_both_doors_to_the_dashboard_take_every_option_there_is(monkeypatch):
    given = {}
    monkeypatch.setattr(main, "serve", lambda **options: given.update(options))
    words = ["--port", "0", "--allow", "a.org:443", "--allow", "b.org:80", "--tiles-credit", "me"]
    done = CliRunner().invoke(command_line, ["app", *words], catch_exceptions=False)
    assert done.exit_code == 0
    assert (given["port"], given["tiles_credit"]) == (0, "me")
    assert given["allow"] == ("a.org:443", "b.org:80")
    help_of = CliRunner().invoke(command_line, ["app", "--help"]).output
    assert help_of == parser("skysense app").format_help()
