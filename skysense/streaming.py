"""Where features are put while they are made: memory, or a Zarr store that survives a kill.

An interrupted Zarr write reads back as NaN without complaint, so what is finished is recorded
outside the arrays: a line in `done.txt`, synced to disk after the window it names. Work that is
started again with the same choices skips those windows.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import xarray as xr
import zarr
from odc.geo.geobox import GeoBox
from odc.geo.xr import assign_crs

from skysense.errors import EncoderError
from skysense.windows import Bounds


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
        if path is not None and _journal(path).exists():
            self.done = set(_journal(path).read_text(encoding="utf-8").splitlines())

    @classmethod
    def create(
        cls, path: str | Path | None, dim: int, geobox: GeoBox, attrs: dict[str, Any]
    ) -> "FeatureStore":
        """An empty store, or the unfinished one of the same work at the same path.

        Raises:
            EncoderError: If `path` does not end in .zarr, is taken, or holds other unfinished work.
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
            if (partial / "key").read_text() != key:
                raise EncoderError(
                    f"{partial} holds unfinished work with other choices. Remove it, or choose "
                    "another name for `out`."
                )
            return cls(zarr.open_array(partial / "store/features", mode="r+"), geobox, attrs, path)
        template = _labelled(
            dask.array.full(shape, np.nan, "f4", chunks=_chunks(shape)), geobox, attrs
        )
        partial.mkdir(parents=True)
        template.to_dataset().to_zarr(
            partial / "store", compute=False, zarr_format=3, consolidated=False
        )
        (partial / "key").write_text(key)
        return cls(zarr.open_array(partial / "store/features", mode="r+"), geobox, attrs, path)

    @staticmethod
    def check(path: str | Path | None) -> None:
        """Refuse a place where features cannot be written, before any work is done.

        Raises:
            EncoderError: If `path` does not end in .zarr or is taken.
        """
        if path is None:
            return
        path = Path(path)
        if path.suffix != ".zarr":
            raise EncoderError(f"out={str(path)!r} must end in .zarr.")
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
            with _journal(self.path).open("a", encoding="utf-8") as journal:
                journal.write(_name(core) + "\n")
                journal.flush()
                os.fsync(journal.fileno())

    def finish(self) -> xr.DataArray:
        """The features, whole; a streamed store gets its final name only now."""
        if self.path is None:
            return _labelled(self.array, self.geobox, self.attrs)
        partial = _partial(self.path)
        (partial / "store").rename(self.path)
        shutil.rmtree(partial)
        opened = xr.open_zarr(self.path, consolidated=False, decode_coords="all")
        return opened["features"]


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


def _key(dim: int, geobox: GeoBox, attrs: dict[str, Any]) -> str:
    """Identity of the work: grid, encoder, weights, dates, batch, everything that is recorded."""
    text = json.dumps([dim, repr(geobox), attrs], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
