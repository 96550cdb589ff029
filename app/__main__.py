"""`python -m app`: serve the dashboard and print its address once a picture is ready."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from skysense.errors import SkySenseError


def parser(name: str) -> argparse.ArgumentParser:
    """The options of the command `name`."""
    options = argparse.ArgumentParser(
        prog=name, description="Serve the SkySense dashboard on this computer."
    )
    options.add_argument("--port", type=int, default=5006, help="0 for any free port")
    options.add_argument("--address", default="127.0.0.1", help="where to listen")
    options.add_argument("--prefix", default="", help="path behind a proxy, such as /tools/sky")
    options.add_argument("--recipes", type=Path, help="folder of .toml recipes to offer as places")
    options.add_argument("--tiles", default="", help="tile service, https://.../{z}/{x}/{y}.png")
    options.add_argument("--tiles-credit", default="", help="its attribution, shown on the map")
    options.add_argument(
        "--weights", type=Path, help="folder of official weights that `skysense convert` wrote"
    )
    options.add_argument(
        "--allow", action="append", default=[], metavar="HOST:PORT",
        help="another name under which browsers come, for a server behind a proxy; repeatable",
    )  # fmt: skip
    options.add_argument("--open", action=argparse.BooleanOptionalAction, default=False,
                         help="open a browser window")  # fmt: skip
    return options


def start(arguments: Sequence[str] | None, name: str) -> None:
    """Serve until interrupted, as the arguments of the command `name` say.

    Raises:
        SkySenseError: If an option cannot be used.
    """
    given = parser(name).parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # the widgets bring a debugger along, which warns of what nobody here debugs
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    from app.main import serve

    serve(
        port=given.port,
        address=given.address,
        prefix=given.prefix,
        recipes=given.recipes,
        tiles=given.tiles,
        tiles_credit=given.tiles_credit,
        weights=given.weights,
        open_browser=given.open,
        allow=tuple(given.allow),
    )


def main() -> int:
    """Serve until interrupted; returns the exit code."""
    try:
        start(None, "python -m app")
    except SkySenseError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
