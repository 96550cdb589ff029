"""Where features are put while they are made: memory, or a Zarr store that survives a kill.

An interrupted Zarr write reads back as NaN without complaint, so what is finished is recorded
outside the arrays: a line in `done.txt`, synced to disk after the window it names. Work that is
started again with the same choices skips those windows. Dates that turned out unreadable on the
way are recorded too: no window may have used a date that another one could not.
"""

import json
import os
import shutil
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import xarray as xr
import zarr
from odc.geo.geobox import GeoBox
from odc.geo.xr import assign_crs
from zarr.errors import ZarrUserWarning

from skysense import __version__
from skysense.batch import check_bands
from skysense.checks import shown
from skysense.conventions import group_attrs
from skysense.disk import path_of, writing
from skysense.errors import EncoderError
from skysense.sensors import HR_COARSEST, SENSORS
from skysense.sources.fetch import days_of
from skysense.stack import all_notes, region_of
from skysense.windows import Bounds

Lost = dict[str, dict[int, str]]
"""Sensor to index of a date to why it could not be read."""

HINTS = {"threads": "set by OMP_NUM_THREADS", "batch_size": "chosen from memory_gb"}
"""Where a choice comes from that nobody has to name."""


class FeatureStore:
    """An array (feature, y, x) being filled window by window."""

    def __init__(
        self, array: Any, geobox: GeoBox, attrs: dict[str, Any], path: Path | None
    ) -> None:
        self.array = array
        self.geobox = geobox
        self.attrs = attrs
        self.path = path
        self.done: set[str] = set()
        self.lost: Lost = {}
        self.remarks: set[str] = set()
        if path is not None:
            self.done = set(_lines(_journal(path)))
            self.remarks = set(_lines(_partial(path) / "remarks.txt"))
            for line in _lines(_partial(path) / "lost.txt"):
                sensor, date, why = json.loads(line)
                self.lost.setdefault(sensor, {})[date] = why

    @classmethod
    def create(
        cls, path: str | Path | None, dim: int, geobox: GeoBox, attrs: dict[str, Any]
    ) -> "FeatureStore":
        """An empty store, or the unfinished one of the same work at the same path.

        Args:
            path: Where to write, ending in .zarr; None for memory.
            dim: Number of features.
            geobox: Their grid.
            attrs: How they are made; work with other `attrs` is other work.

        Raises:
            EncoderError: If `path` does not end in .zarr, is taken, cannot be written, or holds
                other unfinished work.
        """
        cls.check(path)
        shape = (dim, *geobox.shape)
        if path is None:
            return cls(np.full(shape, np.nan, np.float32), geobox, attrs, None)
        path = Path(path)
        partial = _partial(path)
        key = _key(dim, geobox, attrs)
        if partial.exists() and not (partial / "key").exists():
            shutil.rmtree(partial)  # stopped before anything was done
        if partial.exists():
            _check_same(partial, key)
            return cls(zarr.open_array(partial / "store/features", mode="r+"), geobox, attrs, path)
        template = _labelled(
            dask.array.full(shape, np.nan, dtype="f4", chunks=_chunks(shape)), geobox, attrs
        )
        template.encoding = {}  # with a grid mapping in it, spatial_ref would be no coordinate
        with writing(path, EncoderError):
            partial.mkdir(parents=True)
            group = template.to_dataset().assign_attrs(group_attrs(geobox, dim, attrs))
            group.to_zarr(partial / "store", compute=False, zarr_format=3, consolidated=False)
            _sync(partial / "key", key)
        return cls(zarr.open_array(partial / "store/features", mode="r+"), geobox, attrs, path)

    @staticmethod
    def check(path: str | Path | None) -> None:
        """Refuse a place where features cannot be written, before any work is done.

        Raises:
            EncoderError: If `path` does not end in .zarr or is taken.
        """
        if path is None:
            return
        path = path_of(path, EncoderError, "out")
        if path.suffix != ".zarr":
            raise EncoderError(f"out={shown(path)} must end in .zarr.")
        if path.exists():
            raise EncoderError(f"{path} is already there. Choose another name or remove it first.")

    def has(self, core: Bounds) -> bool:
        """True if this window was finished by an earlier run."""
        return _name(core) in self.done

    def write(self, core: Bounds, part: np.ndarray, row: int, column: int) -> None:
        """Put a window's core at its place and record it as done."""
        rows, columns = slice(row, row + part.shape[1]), slice(column, column + part.shape[2])
        self.array[:, rows, columns] = part
        if self.path is not None:
            _sync(_journal(self.path), _name(core) + "\n", "a")

    def remark(self, sentences: Iterable[str]) -> None:
        """Keep what was learnt from windows about to be written, for the notes."""
        new = sorted(set(sentences) - self.remarks)
        self.remarks |= set(new)
        if self.path is not None and new:
            _sync(_partial(self.path) / "remarks.txt", "".join(f"{s}\n" for s in new), "a")

    def begin_again(self, lost: Lost) -> None:
        """Forget what is done, as it used dates that cannot be read everywhere, and record those."""
        self.done, self.remarks, self.lost = set(), set(), lost
        if self.path is None:
            self.array[:] = np.nan
        else:
            lines = [
                json.dumps([k, i, why]) for k, dates in lost.items() for i, why in dates.items()
            ]
            _journal(self.path).unlink(missing_ok=True)  # first: a kill in between loses work only
            (_partial(self.path) / "remarks.txt").unlink(missing_ok=True)
            _sync(_partial(self.path) / "lost.txt", "".join(f"{line}\n" for line in lines))

    def so_far(self, attrs: dict[str, Any], unfinished: float) -> xr.DataArray:
        """What is there of features in memory, NaN where nothing was made yet.

        Args:
            attrs: How they are made.
            unfinished: Share of the work still to do, 0..1; what they say of themselves. With 0
                they say nothing, as features that are whole.
        """
        notes = [*attrs.get("notes", []), *sorted(self.remarks)]
        said = {"unfinished": round(unfinished, 4)} if unfinished else {}
        return _labelled(self.array, self.geobox, {**attrs, "notes": notes, **said})

    def finish(self, attrs: dict[str, Any]) -> xr.DataArray:
        """The features, whole; a streamed store gets its final name only now.

        Args:
            attrs: How they were made, which may say more than was known at the beginning.
        """
        if self.path is None:
            return self.so_far(attrs, 0)
        attrs = {**attrs, "notes": [*attrs.get("notes", []), *sorted(self.remarks)]}
        for name in self.attrs.keys() - attrs.keys():
            del self.array.attrs[name]
        self.array.attrs.update(attrs)
        partial = _partial(self.path)
        group = zarr.open_group(partial / "store", mode="r+")
        group.attrs.update(group_attrs(self.geobox, self.array.shape[0], attrs))
        with warnings.catch_warnings():
            # zarr warns that the specification does not have this yet; xarray warns if it is missing
            warnings.simplefilter("ignore", ZarrUserWarning)
            zarr.consolidate_metadata(partial / "store")
        (partial / "store").rename(self.path)
        shutil.rmtree(partial)
        opened = xr.open_zarr(self.path, consolidated=False, decode_coords="all")
        return opened["features"]


def provenance(stack: xr.DataTree, sensors: Sequence[str]) -> dict[str, Any]:
    """Flat attributes of what is encoded that travel with the features: strings, numbers, lists.

    Args:
        stack: With the dates that are used, and its notes.
        sensors: What the encoder reads of it.
    """
    region = region_of(stack)
    notes = all_notes(stack)
    missing: list[str] = []
    for key in sensors:
        group = stack[key].to_dataset()
        absent = check_bands(SENSORS[key], group)
        missing += [f"{key}:{name}" for name in absent]
        pixel = abs(group.odc.geobox.resolution.x)
        if key == "hr" and pixel > HR_COARSEST:
            notes.append(
                f"High resolution: pixels of {pixel:g} m are coarser than the {HR_COARSEST} m the "
                "encoder is meant for; its features are outside what it was made for."
            )
    attrs: dict[str, Any] = {
        "long_name": "features",
        "approximate": [k for k in sensors if stack[k].attrs.get("approximate")],
        "region": region.name if region else "",
        "source": str(stack.attrs.get("source", "")),
        "data_licence": str(stack.attrs.get("licence", "")),
        "synthetic": int(stack.attrs.get("synthetic", 0)),
        "sensors": list(sensors),
        "missing_bands": missing,
        "notes": notes,
        "version": __version__,
    }
    for key in sensors:
        attrs[f"dates_{key}"] = days_of(stack[key].to_dataset())
        attrs[f"items_{key}"] = [str(v) for v in stack[key]["item"].values]
    return attrs


def _labelled(values: Any, geobox: GeoBox, attrs: dict[str, Any]) -> xr.DataArray:
    """Values (feature, y, x) with their grid and how they were made."""
    coordinates = geobox.coordinates
    features = xr.DataArray(
        values,
        dims=("feature", "y", "x"),
        coords={
            "feature": np.arange(values.shape[0]),
            "y": np.asarray(coordinates["y"].values),
            "x": np.asarray(coordinates["x"].values),
        },
        attrs=attrs,
        name="features",
    )
    return assign_crs(features, geobox.crs)


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[0], min(64, shape[1]), min(64, shape[2])


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _journal(path: Path) -> Path:
    return _partial(path) / "done.txt"


def _name(core: Bounds) -> str:
    return " ".join(f"{value:.0f}" for value in core)


def _lines(path: Path) -> list[str]:
    """Lines of a text that may not be there; a last one that was cut short does not count."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return text.split("\n")[:-1]


def _sync(path: Path, text: str, mode: str = "w") -> None:
    """Write, and wait until it is on the disk."""
    with path.open(mode, encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _key(dim: int, geobox: GeoBox, attrs: dict[str, Any]) -> str:
    """Identity of the work: grid, encoder, weights, dates, batch, everything that is recorded."""
    a, (rows, columns) = geobox.affine, geobox.shape
    grid = f"{rows} × {columns} cells of {a.a:g} m from {a.c!r}, {a.f!r} in {geobox.crs}"
    return json.dumps({"dim": dim, "grid": grid, **attrs}, sort_keys=True, default=str)


def _check_same(partial: Path, key: str) -> None:
    """Raise, naming what differs, unless the unfinished work there is the one of this key."""
    text = (partial / "key").read_text(encoding="utf-8")
    if text == key:
        return
    try:
        there, now = json.loads(text), json.loads(key)
        names = [name for name in {**now, **there} if there.get(name) != now.get(name)]
    except (ValueError, AttributeError):  # of an older version, or cut short by a full disk
        there, now, names = {}, {}, []
    names.sort(key=lambda name: name == "notes")  # they follow from the others
    said = "; ".join(_difference(name, there.get(name), now.get(name)) for name in names[:3])
    raise EncoderError(
        f"{partial} holds unfinished work with other choices{': ' if said else ''}{said}. "
        "Start it with the same ones, remove it, or choose another name for `out`."
    )


def _difference(name: str, was: Any, now: Any) -> str:
    """How one choice differs, on a short line."""
    if isinstance(was, list) and isinstance(now, list):
        gone = [value for value in was if value not in now]
        new = [value for value in now if value not in was]
        return f"{name} had {_brief(gone)} where there is {_brief(new)} now"
    hint = f" ({HINTS[name]})" if name in HINTS else ""
    return f"{name} was {_brief(was)} and is {_brief(now)} now{hint}"


def _brief(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return (text if len(text) <= 60 else f"{text[:57]}...") or "nothing"
