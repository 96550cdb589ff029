"""Places to learn from: image series of one ground, kept on disk and mapped into memory.

A folder of places, as `skysense.pretrain.prepare.prepare` writes it, holds `index.json` and plain
`.npy` files: per source and sensor one of pixels (dates, bands, rows, columns) and one of validity
(dates, rows, columns), the usable dates of its places one after the other. Nothing is compressed,
so a view is cut from a file of any size by reading that view and no more.

Values are stored as `STORED` says: Sentinel-2 as int16 of reflectance × 10,000 (an atmospheric
correction makes negative ones), Sentinel-1 as float16 dB (steps of 0.016 dB at -20 dB),
high resolution as uint8.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from skysense.errors import StackError
from skysense.pretrain.words import CLASSES
from skysense.sensors import CELL, SENSORS

FORM = "skysense places 1"
"""What `index.json` says it is."""

STORED: dict[str, tuple[str, float]] = {"hr": ("u1", 1.0), "s2": ("<i2", 1e-4), "s1": ("<f2", 1.0)}
"""Per sensor: type on disk, and contract units per stored unit."""

LEAST_SEEN = 0.2
"""A date of which less than this share of the place is usable is left out."""


@dataclass(frozen=True)
class Series:
    """The usable dates of one sensor over one place; values are `pixels × scale` in contract units.

    The contract's units are reflectance (Sentinel-2), dB (Sentinel-1) and 0..255 (high resolution).
    """

    pixels: np.ndarray
    """(t, c, h, w), all bands of the sensor in the model's order; s2 int16, s1 float16, hr uint8."""
    valid: np.ndarray
    """(t, h, w) bool, True = usable."""
    doy: np.ndarray
    """(t,) int64, day of year 1..366; 0 = unknown."""
    scale: float = 1.0
    """Contract units per stored unit: 0.0001 for s2, 1 for the others."""
    missing: tuple[int, ...] = ()
    """Bands the source lacks; they are at the sensor's mean, which means nothing is known."""


@dataclass(frozen=True)
class Place:
    """One piece of ground as some sensors saw it, each on its own grid from the same corner."""

    name: str
    sensors: dict[str, Series]
    """By key, in the model's order; 10 m pixels for s2 and s1, 32 × 32 hr pixels for each of them."""
    lonlat: tuple[float, float]
    """Centre (degrees); NaN where nobody knows."""
    licence: str
    credit: str
    synthetic: bool
    """True if no satellite saw it."""
    level: str = ""
    """Of Sentinel-2: `L2A` (surface) or `L1C` (top of the atmosphere); empty if unknown or absent."""
    source: str = ""
    """Where it comes from, for people."""
    labels: np.ndarray | None = None
    """(rows, columns) int8 of 10 m cells: class by index of `skysense.pretrain.words.CLASSES`, -1 = none.
    Of synthetic places only; None = there are none."""

    @property
    def cells(self) -> tuple[int, int]:
        """(rows, columns) of 10 m cells."""
        key, series = next(iter(self.sensors.items()))
        side = pixels_per_cell(key)
        return series.valid.shape[1] // side, series.valid.shape[2] // side


def pixels_per_cell(key: str) -> int:
    """Pixels of a sensor along the side of a 10 m cell: 32 for hr, 1 for s2 and s1."""
    return round(CELL / SENSORS[key].resolution)


def open_places(folder: str | Path, check: bool = False) -> list[Place]:
    """The places of a folder that `prepare` wrote, mapped into memory: nothing is read yet.

    Args:
        folder: The folder.
        check: Read every file once and compare it with the digest in the index.

    Raises:
        StackError: If there is no such folder, or a file is missing, cut short or changed.
    """
    folder = Path(folder)
    index = _index(folder)
    files: dict[str, np.ndarray] = {}
    for name, digest in index["sha256"].items():
        try:
            files[name] = np.load(folder / name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise StackError(
                f"{folder / name}, which the index names, cannot be read: {error}. Prepare the "
                "folder again."
            ) from error
        if check and file_digest(folder / name) != digest:
            raise StackError(
                f"{folder / name} is not what was written (its SHA-256 differs). Prepare the "
                "folder again."
            )
    labelled = any("labels" in entry for entry in index["places"])
    if labelled and tuple(index.get("classes", ())) != CLASSES:
        raise StackError(
            f"The labels in {folder} are of the classes {index.get('classes')}; this version knows "
            f"{', '.join(CLASSES)}. Prepare the folder again."
        )
    return [_place(entry, files) for entry in index["places"]]


def fingerprint(folder: str | Path) -> str:
    """SHA-256 of the index, which holds those of all files: equal folders teach the same.

    Raises:
        StackError: If `folder` holds no prepared places.
    """
    folder = Path(folder)
    _index(folder)
    return file_digest(folder / "index.json")


def notes_of(folder: str | Path) -> list[str]:
    """Sentences about what was left out or assumed when the folder was prepared."""
    return list(_index(Path(folder))["notes"])


Date = tuple[np.ndarray, np.ndarray, int]
"""Pixels (c, h, w) in contract units, all bands of the sensor; valid (h, w); day of year, 0 = unknown."""


@dataclass(frozen=True)
class Found:
    """A place that is about to be written."""

    name: str
    cells: tuple[int, int]
    """(rows, columns) of 10 m cells."""
    dates: dict[str, Iterator[Date]]
    """By sensor."""
    missing: dict[str, tuple[int, ...]]
    """By sensor: bands the source lacks, at the sensor's mean in `dates`."""
    facts: dict[str, Any]
    """What the index says of it, as `facts` makes it."""
    labels: np.ndarray | None = None
    """As those of a `Place`."""


def facts(
    lonlat: Iterable[float], *, licence: str, credit: str, source: str, synthetic: bool, level: str
) -> dict[str, Any]:
    """What the index says of a place besides its sensors; JSON knows no NaN, so unknown is null."""
    return {
        "lonlat": [float(value) if np.isfinite(value) else None for value in lonlat],
        "licence": licence,
        "credit": credit,
        "source": source,
        "synthetic": synthetic,
        "level": level,
    }


def check_labels(name: str, labels: np.ndarray, cells: tuple[int, ...], synthetic: bool) -> None:
    """Refuse labels that a place cannot have.

    Raises:
        StackError: If the place is real, or they do not fit it.
    """
    if not synthetic:
        raise StackError(
            f"{name} comes with labels but is not synthetic. What is learnt of real places is learnt "
            "without labels; leave them out."
        )
    if labels.shape != cells or labels.dtype.kind not in "iu":
        raise StackError(
            f"The labels of {name} are {labels.dtype} of shape {labels.shape}; they must be whole "
            f"numbers of shape {cells}, one for each cell of 10 m."
        )
    low, high = int(labels.min()), int(labels.max())
    if low < -1 or high >= len(CLASSES):
        raise StackError(
            f"The labels of {name} go from {low} to {high}; classes are 0 to {len(CLASSES) - 1}, "
            "-1 = none."
        )


class Pack:
    """Writes the dates of places that share a shape, one sensor after the other, to two files.

    The number of dates is known only at the end, so the header is written again then; NumPy keeps
    room in it for that.
    """

    def __init__(self, folder: Path, stem: str, key: str, cells: tuple[int, int]) -> None:
        self.key, self.folder, self.count = key, folder, 0
        side, sensor = pixels_per_cell(key), SENSORS[key]
        h, w = cells[0] * side, cells[1] * side
        self.dtype, self.scale = np.dtype(STORED[key][0]), STORED[key][1]
        self.mean = np.array(sensor.mean, np.float32)[:, None, None]
        self.names = (f"{stem}-{key}-pixels.npy", f"{stem}-{key}-valid.npy")
        self.forms = (((len(sensor.names), h, w), self.dtype), ((h, w), np.dtype(bool)))
        self.files: list[BinaryIO] = [(folder / name).open("wb") for name in self.names]
        self._headers()

    def add(self, pixels: np.ndarray, valid: np.ndarray) -> int:
        """Append one date; the number of values that its stored type cannot hold and that were cut.

        Args:
            pixels: (c, h, w) in contract units, every band of the sensor.
            valid: (h, w) bool; what is not valid is stored as the sensor's mean.
        """
        stored = np.where(valid, pixels, self.mean)
        cut = 0
        if self.dtype.kind in "iu":
            stored = np.rint(stored / np.float32(self.scale))
            low, high = np.iinfo(self.dtype).min, np.iinfo(self.dtype).max
            cut = int(((stored < low) | (stored > high)).sum())
            stored = stored.clip(low, high)
        for file, array in zip(self.files, (stored.astype(self.dtype), valid), strict=True):
            file.write(np.ascontiguousarray(array).tobytes())
        self.count += 1
        return cut

    def close(self) -> None:
        """Write the final headers; a pack without any date leaves no file."""
        if self.count:
            self._headers()
        for file, name in zip(self.files, self.names, strict=True):
            file.close()
            if not self.count:
                (self.folder / name).unlink()

    def _headers(self) -> None:
        for file, (shape, dtype) in zip(self.files, self.forms, strict=True):
            file.seek(0)
            header = {
                "descr": np.lib.format.dtype_to_descr(dtype),
                "fortran_order": False,
                "shape": (self.count, *shape),
            }
            np.lib.format.write_array_header_1_0(file, header)


def write_index(
    folder: Path, places: Iterable[dict[str, Any]], files: Iterable[str], notes: Iterable[str]
) -> None:
    """Write `index.json`: the facts of every place, and the digest of every file."""
    content = {
        "form": FORM,
        "classes": list(CLASSES),
        "notes": list(notes),
        "sha256": {name: file_digest(folder / name) for name in files},
        "places": list(places),
    }
    (folder / "index.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _index(folder: Path) -> dict[str, Any]:
    path = folder / "index.json"
    if not path.is_file():
        raise StackError(
            f"There are no prepared places at {folder} (no index.json). prepare(sources, folder) "
            "writes them."
        )
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        form = index["form"]
    except (ValueError, KeyError, TypeError) as error:
        raise StackError(f"{path} is not an index of prepared places.") from error
    if form != FORM:
        raise StackError(f"{path} has the form {form!r}; this version reads {FORM!r}.")
    return index


def _place(entry: dict[str, Any], files: dict[str, np.ndarray]) -> Place:
    sensors = {}
    for key in SENSORS:
        if key not in entry["sensors"]:
            continue
        each = entry["sensors"][key]
        pixels, valid = (files[name] for name in each["files"])
        rows = slice(each["first"], each["first"] + len(each["doy"]))
        if rows.stop > len(pixels) or rows.stop > len(valid):
            raise StackError(
                f"The place {entry['name']!r} should have dates up to number {rows.stop} in "
                f"{each['files'][0]}, which holds {len(pixels)}. Prepare the folder again."
            )
        doy = np.array(each["doy"], np.int64)
        sensors[key] = Series(
            pixels[rows], valid[rows], doy, STORED[key][1], tuple(each["missing"])
        )
    labels = files[entry["labels"]["file"]][entry["labels"]["row"]] if "labels" in entry else None
    lonlat = tuple(float("nan") if value is None else float(value) for value in entry["lonlat"])
    place = Place(
        name=entry["name"],
        sensors=sensors,
        lonlat=(lonlat[0], lonlat[1]),
        licence=entry["licence"],
        credit=entry["credit"],
        synthetic=bool(entry["synthetic"]),
        level=entry["level"],
        source=entry["source"],
        labels=labels,
    )
    if labels is not None:
        check_labels(f"The place {place.name!r}", labels, place.cells, place.synthetic)
    return place
