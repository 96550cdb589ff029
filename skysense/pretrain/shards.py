"""Zarr shards: many places of one shape in one store, for data that no recipe describes.

A shard is a Zarr group. Its attributes are `form` ("skysense shard 1"), `licence`, and where known
`credit`, `source`, `synthetic` (bool), `level` (of Sentinel-2: `L2A` or `L1C`), `names` (n texts)
and `notes` (sentences). It holds

- `lonlat` (n, 2), degrees, NaN = unknown; may be absent;
- `labels` (n, h, w) of 10 m cells, of a synthetic shard: class by index of
  `skysense.pretrain.words.CLASSES`, -1 = none; may be absent;
- per sensor a group `hr`, `s2` or `s1` with the attribute `bands` (names or product codes, any
  order, at least `skysense.sensors.MIN_BANDS`), where needed `scale` (contract value = pixel ×
  scale), and

  - `pixels` (n, t, c, h, w), numbers, NaN = missing,
  - `valid` (n, t, h, w) bool; a place with fewer dates than t fills up with invalid ones,
  - `doy` (n, t), day of year 1..366, 0 = unknown; may be absent.

Contract values are reflectance, dB and 0..255. Sentinel pixels are 10 m, high-resolution ones
0.3125 m: 32 × 32 of them cover one Sentinel pixel.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from skysense.errors import StackError
from skysense.pretrain.data import Date, Found, check_labels, facts, pixels_per_cell
from skysense.sensors import MIN_BANDS, SENSORS

SHARD = "skysense shard 1"
"""What a shard's attribute `form` says."""

_LOOKED_AT = 32
"""Places whose median decides whether values can be in contract units."""


@dataclass(frozen=True)
class ShardSensor:
    """One sensor's part of a shard; see the module for shapes."""

    pixels: np.ndarray
    valid: np.ndarray
    bands: Sequence[str]
    doy: np.ndarray | None = None
    scale: float = 1.0


def write_shard(
    path: str | Path,
    sensors: Mapping[str, ShardSensor],
    *,
    licence: str,
    credit: str = "",
    source: str = "",
    synthetic: bool = False,
    level: str = "",
    names: Sequence[str] = (),
    lonlat: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write a shard, and read it once to see that it is one.

    Args:
        path: A new folder ending in `.zarr`.
        sensors: By key.
        licence: Terms of the images.
        credit: Who made them, as they want to be named.
        source: Where they come from, for people.
        synthetic: True if no satellite saw them.
        level: Of Sentinel-2, `L2A` or `L1C`.
        names: One per place.
        lonlat: (n, 2) degrees, NaN = unknown.
        labels: (n, h, w) classes of 10 m cells, of synthetic places only.
        notes: Sentences for whoever uses it.

    Raises:
        StackError: If the folder is there, or the arrays do not fit together.
    """
    path = Path(path)
    if path.exists():
        raise StackError(f"{path} is already there. Choose another name or remove it first.")
    group = zarr.open_group(path, mode="w-")
    group.attrs.update(
        form=SHARD,
        licence=licence,
        credit=credit,
        source=source,
        synthetic=synthetic,
        level=level,
        names=list(names),
        notes=list(notes),
    )
    if lonlat is not None:
        group.create_array("lonlat", data=np.asarray(lonlat, np.float64))
    if labels is not None:
        group.create_array("labels", data=np.asarray(labels))
    for key, each in sensors.items():
        part = group.create_group(key)
        part.attrs.update(bands=list(each.bands), scale=float(each.scale))
        for name, array in (("pixels", each.pixels), ("valid", each.valid), ("doy", each.doy)):
            if array is not None:
                # one place per chunk, as places are read
                part.create_array(name, data=array, chunks=(1, *array.shape[1:]))
    try:
        next(of_shard(path, []))
    except StackError:
        shutil.rmtree(path)
        raise
    return path


def of_shard(path: Path, notes: list[str]) -> Iterator[Found]:
    """The places of a shard, each read when its dates are asked for.

    Raises:
        StackError: If it does not keep the form of this module.
    """
    group = zarr.open_group(path, mode="r")
    said = dict(group.attrs)
    parts = {key: _part(path, key, group[key]) for key in SENSORS if key in group}
    if not parts:
        raise StackError(f"The shard {path} holds no sensor: there is no group hr, s2 or s1 in it.")
    if not said.get("licence"):
        raise StackError(
            f"The shard {path} does not say under which licence its images are. Set the attribute "
            "`licence`."
        )
    shapes = {key: _cells(path, key, part["pixels"].shape) for key, part in parts.items()}
    if len(set(shapes.values())) != 1:
        raise StackError(
            f"The sensors of the shard {path} cover different ground, in (places, 10 m rows, "
            f"columns): {shapes}. Cut them to the same."
        )
    n, *cells = next(iter(shapes.values()))
    names = list(said.get("names") or ())
    if names and len(names) != n:
        raise StackError(f"The shard {path} has {len(names)} names for {n} places.")
    lonlat = np.asarray(group["lonlat"][:]) if "lonlat" in group else np.full((n, 2), np.nan)
    if lonlat.shape != (n, 2):
        raise StackError(f"`lonlat` of the shard {path} is {lonlat.shape}; it must be ({n}, 2).")
    labels = np.asarray(group["labels"][:]) if "labels" in group else None
    if labels is not None:
        check_labels(f"The shard {path}", labels, (n, *cells), bool(said.get("synthetic")))
    notes += [f"{path.stem}: {note}" for note in said.get("notes") or ()]
    for i in range(n):
        yield Found(
            f"{path.stem}/{names[i] if names else i}",
            (cells[0], cells[1]),
            {key: _dates(part, key, i) for key, part in parts.items()},
            {key: _missing(part, key) for key, part in parts.items()},
            facts(
                lonlat[i],
                licence=str(said["licence"]),
                credit=str(said.get("credit") or ""),
                source=str(said.get("source") or ""),
                synthetic=bool(said.get("synthetic")),
                level=str(said.get("level") or "") if "s2" in parts else "",
            ),
            None if labels is None else labels[i],
        )


def _part(path: Path, key: str, part: Any) -> Any:
    """A sensor's group, with everything there and plausible."""
    where, sensor = f"/{key} of the shard {path}", SENSORS[key]
    absent = [name for name in ("pixels", "valid") if name not in part]
    if absent:
        raise StackError(f"{where} lacks the array {absent[0]!r}.")
    shape = part["pixels"].shape
    if len(shape) != 5:
        raise StackError(f"{where}: pixels are {shape}; they must be (place, date, band, y, x).")
    for name, wanted in (("valid", (*shape[:2], *shape[3:])), ("doy", shape[:2])):
        if name in part and part[name].shape != wanted:
            raise StackError(
                f"{where}: {name} is {part[name].shape}; pixels {shape} need {wanted}."
            )
    if part["valid"].dtype != bool:
        raise StackError(f"{where}: valid is {part['valid'].dtype}; it must be bool.")
    bands = [sensor.name_of(str(name)) for name in part.attrs.get("bands") or ()]
    if len(bands) != shape[2] or None in bands or len(set(bands)) < len(bands):
        raise StackError(
            f"{where}: its attribute `bands` is {part.attrs.get('bands')}, which does not name "
            f"{shape[2]} bands of {sensor.title} ({', '.join(sensor.known)})."
        )
    present = [band for band in bands if band in sensor.names]
    if len(present) < MIN_BANDS[key]:
        raise StackError(
            f"{where} has {len(present)} of the bands the encoder reads; at least "
            f"{MIN_BANDS[key]} are needed."
        )
    if "doy" in part:
        days = np.asarray(part["doy"][:])
        if ((days < 0) | (days > 366)).any():
            raise StackError(f"{where}: doy has values outside 0..366 (0 = unknown).")
    _check_units(where, key, part)
    return part


def _check_units(where: str, key: str, part: Any) -> None:
    """Refuse values that cannot be in contract units: a forgotten scale would ruin the training."""
    low, high = SENSORS[key].plausible
    medians = []
    count = part["pixels"].shape[0]
    for i in range(0, count, max(1, count // _LOOKED_AT)):
        pixels, valid, _ = next(_dates(part, key, i), (np.empty(0), np.empty(0, bool), 0))
        given = [band for band in range(len(pixels)) if band not in _missing(part, key)]
        if valid.any():
            medians.append(np.median(pixels[given][:, valid]))
    if medians and not low <= float(np.median(medians)) <= high:
        raise StackError(
            f"{where}: the median value is {float(np.median(medians)):.4g}, but {SENSORS[key].units} "
            f"should lie within {low:g} to {high:g}. Set the attribute `scale` (contract value = "
            "pixel × scale), or convert."
        )


def _cells(path: Path, key: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    side = pixels_per_cell(key)
    if shape[3] % side or shape[4] % side:
        raise StackError(
            f"/{key} of the shard {path} is {shape[3]} × {shape[4]} pixels; both must be multiples "
            f"of {side}, the pixels of a 10 m cell. Pad with invalid ones."
        )
    return shape[0], shape[3] // side, shape[4] // side


def _order(part: Any, key: str) -> list[tuple[int, int]]:
    """(band in the model, band in the shard) of the bands both know."""
    sensor = SENSORS[key]
    bands = [sensor.name_of(str(name)) for name in part.attrs["bands"]]
    return [(sensor.names.index(b), i) for i, b in enumerate(bands) if b in sensor.names]


def _missing(part: Any, key: str) -> tuple[int, ...]:
    there = {model for model, _ in _order(part, key)}
    return tuple(i for i in range(len(SENSORS[key].names)) if i not in there)


def _dates(part: Any, key: str, place: int) -> Iterator[Date]:
    """The dates of one place that hold a valid pixel."""
    pixels, valid = np.asarray(part["pixels"][place]), np.asarray(part["valid"][place])
    doy = np.asarray(part["doy"][place]) if "doy" in part else np.zeros(len(valid))
    scale = float(part.attrs.get("scale", 1.0))
    mean = np.array(SENSORS[key].mean, np.float32)[:, None, None]
    order = _order(part, key)
    inner, outer = [model for model, _ in order], [stored for _, stored in order]
    for t in range(len(valid)):
        read = pixels[t, outer].astype(np.float32) * np.float32(scale)  # c h w
        usable = valid[t] & np.isfinite(read).all(axis=0)
        if usable.any():
            full = np.broadcast_to(mean, (len(mean), *usable.shape)).copy()
            full[inner] = np.where(usable, read, mean[inner])
            yield full, usable, int(doy[t])
