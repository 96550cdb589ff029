"""The dashboard in a notebook cell: the same page, from a process of its own beside the kernel.

Widgets of a served page and widgets of JupyterLab do not share a process: each would take the
other's messages. So the page comes from a child of the kernel that listens on this computer only,
under an address that nobody can guess, and ends when the kernel does.

The kernel itself imports neither Panel nor anything else that takes long.
"""

import contextlib
import html
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any, TextIO

from skysense.checks import shown
from skysense.errors import RegionError, SkySenseError, SourceError
from skysense.region import Region

HEIGHT = 760
"""Height of the frame in the cell (pixels)."""

PATIENCE = 180.0
"""How long the page may take to be served (s); it takes about ten on a quiet machine."""

LAST_WORDS = 30
"""Lines kept of what the process complains of."""

_GRACE = 5.0
_SCREENS: dict[str, "Screen"] = {}


class Screen:
    """A dashboard that is being served; shown in the cell whose last value it is."""

    def __init__(self, choices: dict[str, Any], height: int) -> None:
        self._height = height
        self._said: deque[str] = deque(maxlen=LAST_WORDS)
        self._process = subprocess.Popen(
            # -P: an app.py beside the notebook is not ours
            [sys.executable, "-P", "-m", "app.notebook"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, encoding="utf-8", env={**os.environ, "PYTHONPATH": _python_path()},
            start_new_session=True,  # interrupting a cell is not meant for the page
        )  # fmt: skip
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(choices) + "\n")
        self._process.stdin.flush()  # and stays open: its end is the kernel's
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.url = self._address()
        """Where the page is, for a window of its own; only on this computer."""

    @property
    def alive(self) -> bool:
        """Whether it is still served."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process; the page in the cell no longer answers."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it ended by itself
                self._process.stdin.close()
        try:
            self._process.wait(2 * _GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listen(self) -> None:
        for line in self._process.stderr or ():
            self._said.append(line.rstrip())

    def _address(self) -> str:
        timer = threading.Timer(PATIENCE, self._process.kill)
        timer.start()
        try:
            for line in self._process.stdout or ():
                found = re.search(r"http://\S+", line)
                if found:
                    return found[0]
        finally:
            timer.cancel()
        self._process.wait()
        self._listener.join(_GRACE)
        why = self._said[-1] if self._said else f"it gave no sign of life for {PATIENCE:.0f} s"
        raise SkySenseError(f"The dashboard could not be started: {why}")

    def _repr_html_(self) -> str:
        url = html.escape(self.url, quote=True)
        return (
            f'<iframe src="{url}" title="SkySense Explorer" style="width:100%;height:'
            f'{self._height}px;border:1px solid #dfe5ea;border-radius:8px"></iframe>'
            f'<div style="font-size:12px"><a href="{url}" target="_blank" rel="noopener">'
            "Open in a window of its own</a></div>"
        )

    def __repr__(self) -> str:
        return f"<SkySense Explorer at {self.url}{'' if self.alive else ', closed'}>"


def explore(
    region: Region | None = None,
    *,
    source: str | Path | None = None,
    encoder: str | None = None,
    recipe: str | Path | None = None,
    height: int = HEIGHT,
) -> Screen:
    """Show the dashboard in this cell: `sky.explore(region)` as its last line.

    The browser must be on the computer of the kernel, or reach its ports (an SSH tunnel, the port
    forwarding of an editor). Asked again with the same arguments, the same process answers.

    Args:
        region: The place to open; the demo, or all of a recipe, if none is given.
        source: Where its images come from, as `load_stack` takes it; `auto` if none is given.
        encoder: Name of the encoder to begin with.
        recipe: Path of a recipe (`.toml`) whose images are shown instead of a source's.
        height: Of the frame (pixels), 300..4000.

    Raises:
        RegionError: If `region` is not one.
        SourceError: If both a source and a recipe are given, a source without a region, or no
            recipe is there.
        SkySenseError: If the extra `app` is not installed, or the dashboard does not start.
    """
    choices = checked_choices(region, source, encoder, recipe)
    if isinstance(height, bool) or not isinstance(height, int) or not 300 <= height <= 4000:
        raise SkySenseError(f"height={shown(height)} is not a height from 300 to 4000 pixels.")
    key = json.dumps([choices, height])
    screen = _SCREENS.get(key)
    if screen is None or not screen.alive:
        prefix = f"/{secrets.token_urlsafe(24)}"
        screen = _SCREENS[key] = Screen({**choices, "prefix": prefix}, height)
    return screen


def checked_choices(
    region: Region | None,
    source: str | Path | None,
    encoder: str | None,
    recipe: str | Path | None,
) -> dict[str, Any]:
    """What `explore` was asked for, as JSON can hold it.

    Raises:
        SkySenseError: As `explore` says.
    """
    if region is not None and not isinstance(region, Region):
        raise RegionError(
            f"region={shown(region)} is not a Region; make one with Region.around(...)."
        )
    if source is not None and recipe is not None:
        raise SourceError("A source and a recipe were given; a recipe is where images come from.")
    if source is not None and region is None:
        raise SourceError(f"source={shown(source)} needs a region: explore(region, source=...).")
    if recipe is not None and not Path(recipe).is_file():
        raise SourceError(f"There is no recipe {recipe}; give the path of a .toml file.")
    if encoder is not None and not isinstance(encoder, str):
        raise SkySenseError(f"encoder={shown(encoder)} is not the name of an encoder.")
    return {
        "region": None if region is None else region.to_geojson(),
        "source": None if source is None else str(source),
        "encoder": encoder,
        "recipe": None if recipe is None else str(Path(recipe).resolve()),
    }


def _python_path() -> str:
    """Where a child finds this package, wherever its own came from."""
    here, named = str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")
    return os.pathsep.join(filter(None, [here, named]))


# ------------------------------------------------------------------------------- the other process


def main(asked: TextIO) -> int:
    """Serve what the first line asks for until there are no more; returns the exit code."""
    # the widgets bring a debugger along, which warns of what nobody here debugs
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    choices = json.loads(asked.readline())
    threading.Thread(target=_end_with, args=(asked,), daemon=True).start()
    try:
        from app.main import serve

        serve(
            port=0,
            prefix=choices["prefix"],
            places=places_for(choices) or None,
            encoder=choices["encoder"] or "",
            warm=choices["region"] is None and choices["recipe"] is None,
        )
    except ModuleNotFoundError as error:
        sys.stderr.write(f"{error.name} is not installed: pip install 'skysense[app]'.\n")
        return 2
    except SkySenseError as error:
        sys.stderr.write(f"{error}\n".replace("\n", " ").strip() + "\n")
        return 2
    return 0


def places_for(choices: dict[str, Any]) -> list[Any]:
    """The places to offer, the one that was asked for first; none for the demos alone."""
    from app.places import Place, demos, recipe_places

    region = None if choices["region"] is None else Region.from_geojson(choices["region"])
    recipe = choices["recipe"]
    if region is not None:
        name = region.name or "Place"
        own = [Place("notebook", name, recipe or choices["source"] or "auto", region)]
    else:
        own = [] if recipe is None else recipe_places(Path(recipe))
    return [*own, *demos()] if own else []


def _end_with(asked: TextIO) -> None:
    """End this process when nobody holds the other end of its input any more."""
    for _ in asked:  # nothing more is asked; this ends when the kernel has
        pass
    threading.Timer(_GRACE, os._exit, [0]).start()  # if something is being encoded
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main(sys.stdin))
