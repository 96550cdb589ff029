"""What the menu *Keep* makes: files to take home, and texts to copy."""

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from app.jobs import Job
from app.state import READY, State
from skysense import view
from skysense.errors import SessionError, SkySenseError
from skysense.export import save_features
from skysense.item import save_item
from skysense.link import share_text
from skysense.notebook import as_code, save_notebook
from skysense.pack import save_pack
from skysense.session import Session
from skysense.session_file import open_session, save_session
from skysense.table import save_table
from skysense.view.static import save_figure

if TYPE_CHECKING:
    from app.flow import Flow

WHAT: dict[str, str] = {
    "session": "Writing the session",
    "link": "Writing the link",
    "notebook": "Writing the notebook",
    "code": "Writing the code",
    "features": "Writing the features",
    "zarr": "Writing the Zarr store",
    "picture": "Drawing the picture",
    "pack": "Packing images, features and labels",
}
"""What can be made, and what is said meanwhile."""


@dataclass(frozen=True)
class Kept:
    """What was made."""

    files: tuple[Path, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class _Screen:
    """What is on the screen when a person asks, so that a worker needs no state."""

    gather: Callable[[], Session]
    stacks: Callable[[], dict[str, xr.DataTree]]
    name: str
    top: Any
    shown: xr.DataArray | None
    columns: Mapping[str, xr.DataArray] = field(default_factory=dict)
    features: Mapping[str, xr.DataArray] = field(default_factory=dict)


class TakeHome:
    """The verbs that make files."""

    def __init__(self, flow: "Flow") -> None:
        self._flow = flow

    def make(self, what: str, folder: Path, done: Callable[[Kept], None]) -> None:
        """Make one of `WHAT` in a worker.

        Args:
            what: Its key.
            folder: Of the page; each thing gets a folder of its own there.
            done: Takes what was made.
        """
        if self._flow.state.place is None:
            self._flow.keep.refuse("There is no place yet. Choose one first.")
            return
        screen = self._screen()

        def work(_: Job) -> Kept:
            where = Path(tempfile.mkdtemp(dir=folder))
            return _MAKERS[what](screen, where)

        self._flow.run("keep", "keep", WHAT[what], work, done)

    def open(self, content: bytes, folder: Path, done: Callable[[], None]) -> None:
        """Show the session of a file that was uploaded."""
        flow = self._flow

        def work(_: Job) -> Session:
            path = Path(tempfile.mkdtemp(dir=folder)) / "session.json"
            path.write_bytes(content)
            return open_session(path, flow.keep.folders())

        def opened(session: Session) -> None:
            try:
                flow.keep.restore(session)
            except SkySenseError as error:
                flow.keep.refuse(str(error))
                return
            flow.state.set_status("keep", READY)
            done()

        flow.run("keep", "keep", "Reading the session", work, opened)

    def _screen(self) -> _Screen:
        flow, state = self._flow, self._flow.state
        name = state.place.name if state.place is not None else ""
        columns = {
            key: each
            for key, each in state.fields.items()
            if each.ndim == 2 and key in ("groups", "prototypes", "classes", "similarity")
        }
        return _Screen(
            flow.keep.gather(), flow.keep.stacks, slug(name), _on_top(state), state.features,
            columns, flow.keep.encoded(),
        )  # fmt: skip


def slug(name: str) -> str:
    """A name for files: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "place"


def _on_top(state: State) -> Callable[[], Any] | None:
    """Gives what the map shows; None while that is nothing."""
    if state.top != "colour" and state.top_field is not None:
        found = state.top_field
        return lambda: found
    stack, (sensor, number) = state.stack, state.shown
    if stack is None or not sensor:
        return None
    return lambda: view.true_colour_field(stack[sensor].to_dataset(), number)


def _session(screen: _Screen, where: Path) -> Kept:
    return Kept((save_session(screen.gather(), where / f"{screen.name}.json"),))


def _link(screen: _Screen, where: Path) -> Kept:
    return Kept(text=share_text(screen.gather()))


def _notebook(screen: _Screen, where: Path) -> Kept:
    return Kept((save_notebook(screen.gather(), where / f"{screen.name}.ipynb"),))


def _code(screen: _Screen, where: Path) -> Kept:
    return Kept(text=as_code(screen.gather()))


def _there(screen: _Screen) -> xr.DataArray:
    if screen.shown is None:
        raise SessionError("This place has no features yet. Press Encode first.")
    return screen.shown


def _zarr(screen: _Screen, where: Path) -> Kept:
    features = _there(screen)
    inside = where / screen.name
    inside.mkdir()
    data = save_features(features, inside / f"{screen.name}.zarr")
    save_item(features, inside / f"{screen.name}.json", data=data)
    return Kept((_zipped(inside, where / f"{screen.name}-zarr"),))


def _features(screen: _Screen, where: Path) -> Kept:
    features = _there(screen)
    inside = where / screen.name
    inside.mkdir()
    data = save_features(features, inside / f"{screen.name}.tif")
    save_table(features, inside / f"{screen.name}.parquet", **screen.columns)
    save_item(features, inside / f"{screen.name}.json", data=data)
    return Kept((_zipped(inside, where / f"{screen.name}-features"),))


def _picture(screen: _Screen, where: Path) -> Kept:
    if screen.top is None:
        raise SessionError("There is nothing on the map yet. Open a place, or choose a layer.")
    field = screen.top()
    return Kept(
        tuple(
            save_figure([field], where / f"{screen.name}.{kind}", size=6.0)
            for kind in ("png", "svg")
        )
    )


def _pack(screen: _Screen, where: Path) -> Kept:
    folder = save_pack(screen.gather(), where / screen.name, screen.stacks(), screen.features)
    return Kept((_zipped(folder, where / f"{screen.name}-pack"),))


def _zipped(folder: Path, target: Path) -> Path:
    """A zip of a folder, with the folder in it; the folder goes."""
    try:
        made = shutil.make_archive(str(target), "zip", folder.parent, folder.name)
    except OSError as error:
        raise SessionError(f"The zip cannot be written: {error.strerror}.") from error
    shutil.rmtree(folder)
    return Path(made)


_MAKERS: dict[str, Callable[[_Screen, Path], Kept]] = {
    "session": _session, "link": _link, "notebook": _notebook, "code": _code,
    "features": _features, "zarr": _zarr, "picture": _picture, "pack": _pack,
}  # fmt: skip
