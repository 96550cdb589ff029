"""From stacks, recipes and Zarr shards to places on disk that views are cut from."""

import itertools
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from pyproj import Transformer

from skysense.batch import check_bands, to_batch
from skysense.errors import StackError
from skysense.pretrain.data import (
    LEAST_SEEN,
    STORED,
    Date,
    Found,
    Pack,
    Place,
    facts,
    open_places,
    pixels_per_cell,
    write_index,
)
from skysense.pretrain.shards import SHARD, of_shard
from skysense.sensors import CELL, SENSORS
from skysense.stack import sensors_of
from skysense.windows import Bounds, Lattice, Window

Source = xr.DataTree | str | Path

_AT_ONCE = 2**24
"""Values of a stack that are read at once."""

_BLOCK = {"hr": 64, "s2": 1024, "s1": 1024}
"""Side of the blocks a stack is read in (10 m cells)."""


def prepare(sources: Source | Sequence[Source], folder: str | Path) -> list[Place]:
    """Write places to learn from into a new folder, and open them.

    Every usable date is kept; one of which less than a fifth of the place is usable is left out,
    and so is a sensor without dates or with fewer bands than
    `skysense.sensors.MIN_BANDS`. The notes of the folder
    say so (`skysense.pretrain.data.notes_of`). Bands a source lacks are at the sensor's mean.

    Args:
        sources: One or several of: a stack; a recipe (`.toml`), all scenes of it; a Zarr store of
            a stack or of a shard; a folder of recipes and Zarr stores; anything else that
            `load_stack(path)` takes.
        folder: A new folder. It appears when all is written.

    Raises:
        StackError: If the folder is there already, a source breaks its contract, or nothing usable
            is in them.
        SkySenseError: What `load_stack` raises.
    """
    folder = Path(folder)
    if folder.exists():
        raise StackError(f"{folder} is already there. Choose another name or remove it first.")
    if isinstance(sources, xr.DataTree | str | Path):
        sources = [sources]
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _write(sources, partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(folder)
    return open_places(folder)


def _write(sources: Sequence[Source], folder: Path) -> None:
    """Everything of all sources into an empty folder."""
    entries: list[dict[str, Any]] = []
    files: list[str] = []
    notes: list[str] = []
    for number, found in enumerate(_each(sources, notes)):
        packs: dict[str, Pack] = {}
        labels: list[np.ndarray] = []
        for place in found:
            for key in place.dates:
                if key not in packs:
                    packs[key] = Pack(folder, f"{number:04d}", key, place.cells)
            written = _written(place, packs, notes)
            if written and place.labels is not None:
                written[0]["labels"] = {"file": f"{number:04d}-labels.npy", "row": len(labels)}
                labels.append(place.labels.astype(np.int8))
            entries += written
        if labels:
            files.append(f"{number:04d}-labels.npy")
            np.save(folder / files[-1], np.stack(labels))
        for pack in packs.values():
            pack.close()
            files += pack.names if pack.count else ()
    if not entries:
        raise StackError(f"There is no usable image in what was given. {' '.join(notes)}".strip())
    _name_apart(entries)
    write_index(folder, entries, files, notes)


def _written(place: Found, packs: dict[str, Pack], notes: list[str]) -> list[dict[str, Any]]:
    """Append a place's dates to its packs; its entry in the index, or none if nothing is usable."""
    sensors = {}
    for key in [key for key in SENSORS if key in place.dates]:
        pack, days = packs[key], []
        first, seen, cut = pack.count, 0, 0
        for pixels, valid, doy in place.dates[key]:
            seen += bool(valid.any())
            if valid.mean() >= LEAST_SEEN:
                cut += pack.add(pixels, valid)
                days.append(int(doy))
        title = f"{place.name}, {SENSORS[key].title}"
        if seen > len(days):
            notes.append(
                f"{title}: {seen - len(days)} of {seen} dates show less than "
                f"{LEAST_SEEN:.0%} of the place and are left out."
            )
        if cut:
            notes.append(f"{title}: {cut} values beyond what {STORED[key][0]} holds were cut.")
        if days:
            sensors[key] = {
                "files": list(pack.names),
                "first": first,
                "doy": days,
                "missing": list(place.missing[key]),
            }
    if not sensors:
        notes.append(f"{place.name}: no usable date; left out.")
        return []
    return [{"name": place.name, **place.facts, "sensors": sensors}]


def _each(sources: Sequence[Source], notes: list[str]) -> Iterator[Iterator[Found]]:
    """Places by source; those of one source share a shape."""
    for source in sources:
        if isinstance(source, xr.DataTree):
            yield _of_stack(source, "", notes)
            continue
        path = Path(source)
        if path.is_dir() and path.suffix != ".zarr":
            inside = sorted(p for p in path.iterdir() if p.suffix in (".toml", ".zarr"))
            if not inside:
                raise StackError(f"The folder {path} holds no recipe (.toml) and no Zarr store.")
            for each in inside:
                yield from _of_path(each, notes)
        else:
            yield from _of_path(path, notes)


def _of_path(path: Path, notes: list[str]) -> Iterator[Iterator[Found]]:
    from skysense.sources import load_stack
    from skysense.sources.recipe import read_recipe

    if path.suffix == ".toml":
        for scene in read_recipe(path).scenes or (None,):
            name = f"{path.stem}/{scene}" if scene else path.stem
            yield _of_stack(load_stack(path, scene=scene), name, notes)
        return
    if path.suffix == ".zarr" and path.is_dir():
        import zarr

        try:
            group = zarr.open_group(path, mode="r")
        except (OSError, ValueError) as error:
            raise StackError(f"{path} cannot be opened as a Zarr group: {error}.") from error
        if str(group.attrs.get("form", "")) == SHARD:
            yield of_shard(path, notes)
            return
        if "lattice_crs" not in group.attrs:
            raise StackError(
                f"{path} is neither a stack that save_stack wrote nor a shard: its attribute `form` "
                f"is {group.attrs.get('form')!r}, not {SHARD!r}."
            )
    yield _of_stack(load_stack(path), path.stem, notes)


def _of_stack(tree: xr.DataTree, name: str, notes: list[str]) -> Iterator[Found]:
    """The whole of a stack as one place."""
    lattice = Lattice.from_attrs(tree.attrs)
    left, bottom, right, top = lattice.bounds if lattice.bounded else _extent(tree)
    rows, columns = (math.ceil(side / CELL - 1e-6) for side in (top - bottom, right - left))
    bounds = (left, top - rows * CELL, left + columns * CELL, top)
    name = name or str(tree.attrs.get("source") or "stack")
    dates, missing = {}, {}
    for key in sensors_of(tree):
        try:
            absent = check_bands(SENSORS[key], tree[key].to_dataset())
        except StackError as error:
            notes.append(f"{name}: {error} This sensor is left out.")
            continue
        missing[key] = tuple(SENSORS[key].names.index(band) for band in absent)
        dates[key] = _stack_dates(tree, key, bounds)
    levels = {str(level) for level in tree["s2"]["level"].values} if "s2" in dates else set()
    said = facts(
        _centre(lattice.crs, bounds),
        licence=str(tree.attrs.get("licence") or "not stated"),
        credit="",
        source=str(tree.attrs.get("source") or ""),
        synthetic=bool(tree.attrs.get("synthetic")),
        level=levels.pop() if len(levels) == 1 else "",
    )
    if dates:
        yield Found(name, (rows, columns), dates, missing, said)


def _stack_dates(tree: xr.DataTree, key: str, bounds: Bounds) -> Iterator[Date]:
    """The dates of one sensor on its window grid, read block by block."""
    group, root = tree[key].to_dataset(), tree.to_dataset()
    left, bottom, right, top = bounds
    side = pixels_per_cell(key)
    h, w = round((top - bottom) / CELL) * side, round((right - left) / CELL) * side
    block = _BLOCK[key] * CELL
    bands = len(SENSORS[key].names)
    at_once = max(1, _AT_ONCE // (bands * h * w))
    for first in range(0, group.sizes["time"], at_once):
        part = group.isel(time=slice(first, first + at_once))
        one = xr.DataTree.from_dict({"/": root, f"/{key}": part})
        t = part.sizes["time"]
        pixels = np.empty((t, bands, h, w), np.float32)
        valid = np.empty((t, h, w), bool)
        for y, x in itertools.product(
            np.arange(top, bottom, -block), np.arange(left, right, block)
        ):
            window = (
                float(x),
                max(bottom, float(y - block)),
                min(right, float(x + block)),
                float(y),
            )
            each = to_batch(one, [Window(window, window)], [key]).sensors[key]
            row, column = round((top - y) / CELL) * side, round((x - left) / CELL) * side
            there = np.s_[row : row + each.valid.shape[-2], column : column + each.valid.shape[-1]]
            pixels[:, :, *there] = each.pixels[0].numpy()
            valid[:, *there] = each.valid[0].numpy()
        days = np.nan_to_num(part["doy"].values, nan=0.0)
        for date in range(t):
            yield pixels[date], valid[date], int(days[date])


def _extent(tree: xr.DataTree) -> Bounds:
    """Ground that the grids of a stack without edges cover together, in whole 10 m cells."""
    boxes = [tree[key].to_dataset().odc.geobox.boundingbox for key in sensors_of(tree)]
    low = (min(box.left for box in boxes), min(box.bottom for box in boxes))
    high = (max(box.right for box in boxes), max(box.top for box in boxes))
    left, bottom = (math.floor(value / CELL + 1e-6) * CELL for value in low)
    right, top = (math.ceil(value / CELL - 1e-6) * CELL for value in high)
    return left, bottom, right, top


def _centre(crs: str, bounds: Bounds) -> tuple[float, float]:
    left, bottom, right, top = bounds
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return to_degrees.transform((left + right) / 2, (bottom + top) / 2)


def _name_apart(entries: list[dict[str, Any]]) -> None:
    """Number places that share a name."""
    counts = Counter(entry["name"] for entry in entries)
    numbers: Counter[str] = Counter()
    for entry in entries:
        name = entry["name"]
        if counts[name] > 1:
            numbers[name] += 1
            entry["name"] = f"{name} ({numbers[name]})"
