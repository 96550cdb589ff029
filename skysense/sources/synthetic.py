"""A synthetic world with known truth, in exactly the stack's form: no network, no licence.

It is made for learning and for tests: eight land-cover classes with the phenology of a temperate
European landscape, ten Sentinel-2 bands under passing clouds, Sentinel-1 backscatter with speckle
from two orbits, and one image of 0.3125 m. Everything is a function of absolute UTM metres and of
the day, so any two rectangles and any two periods agree on what they share. No satellite ever saw
it, and every stack says so.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import dask.array
import numpy as np
import odc.geo.xr
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from skysense.checks import as_number, choice, seed_of, shown
from skysense.errors import SourceError
from skysense.region import Region
from skysense.sensors import CELL, SENSORS
from skysense.sources import synthetic_close as close
from skysense.sources import synthetic_coarse as coarse
from skysense.sources import synthetic_sky as sky
from skysense.sources.synthetic_land import survey
from skysense.sources.synthetic_noise import mix
from skysense.sources.synthetic_plan import CLASS_OF, CLASSES, World
from skysense.stack import make_stack, sensor_group
from skysense.windows import Bounds, Lattice, cover

LICENCE = "synthetic, no rights reserved (CC0)"
SOURCE = "synthetic scene (no satellite saw it)"
NOTES = (
    "Synthetic: invented fields, forests and weather of a temperate European landscape, "
    "whatever the latitude. No satellite saw it.",
)

STYLES = {"fens": (0.0, 3.01591, 50.84258), "hills": (1.0, 9.74845, 51.45743)}
"""Style to (hilliness 0..1, lon, lat); at both places `scene_for` too finds every class."""

_EAGER_CELLS = 260 * 260
"""Largest grid of 10 m cells that is made at once; larger ones are made when they are read."""

_BLOCK = {"hr": 1024, "s2": 192, "s1": 192}
"""Side of a lazy block in pixels."""

_DATES_PER_BLOCK = 12


def scene(
    seed: int = 0,
    size: float = 640.0,
    sensors: Sequence[str] = ("hr", "s2", "s1"),
    *,
    style: str = "fens",
    lon: float | None = None,
    lat: float | None = None,
    time: str | tuple[str, str] = ("2023-01-01", "2023-12-31"),
    name: str = "",
) -> tuple[xr.DataTree, xr.DataArray]:
    """A small scene with every class in it, and what is truly there.

    Like a file it has edges: its windows begin at its own corner.

    Args:
        seed: Another seed is another landscape.
        size: Side (m), a multiple of 10 of at least 80, up to 3,000.
        sensors: Which of `hr`, `s2`, `s1`.
        style: `fens` (flat, long fields, ditches) or `hills` (more wood and grass, later spring).
        lon: Where it pretends to lie (degrees); by default the style's place.
        lat: The same, degrees north.
        time: The period.
        name: What to call it.

    Returns:
        The stack, and a categorical (y, x) field on the 10 m grid: float32 class index, names in
        `attrs["categories"]`.

    Raises:
        SourceError: For an unknown style or sensor, a seed that is none, or a size that cannot be
            made.
        RegionError: For a place or a period that is none.
    """
    choice("style", style, STYLES, SourceError)
    seed = seed_of(seed, SourceError)
    side = as_number(size)
    if not (80 <= side <= 3000 and side % CELL == 0):
        raise SourceError(
            f"size={shown(size)} is not a multiple of {CELL:g} m from 80 to 3,000. "
            "For larger places use scene_for(region)."
        )
    hills, style_lon, style_lat = STYLES[style]
    lon, lat = style_lon if lon is None else lon, style_lat if lat is None else lat
    name = f"synthetic {style}" if isinstance(name, str) and not name else name
    region = Region.around(lon, lat, size, time, name)
    x, y = Transformer.from_crs("EPSG:4326", region.crs, always_xy=True).transform(lon, lat)
    left, top = (round(v / CELL) * CELL for v in (x - size / 2, y + size / 2))
    bounds = (left, top - size, left + size, top)
    world = _rich_world(seed, region.crs, hills, bounds)
    lattice = Lattice(region.crs, left, top, size, size)
    tree = _stack(world, region, lattice, bounds, sensors, whole=True)
    return tree, _truth(world, bounds, SOURCE)


def scene_for(
    region: Region, sensors: Sequence[str] | None = None, *, lazy: bool = False
) -> xr.DataTree:
    """The synthetic world's stack of a region: a catalogue without a network.

    The same place holds the same values whatever rectangle or period asks for it. It reads whole
    encoder windows, so it is larger than the region; large ones are lazy.

    Args:
        region: Any region.
        sensors: Which of `hr`, `s2`, `s1`; None means all.
        lazy: Make no pixel before it is read, however small the place.

    Raises:
        SourceError: For what is no region, an unknown sensor, or if nothing passes over in the
            period.
    """
    bounds = _cover(region)
    wanted = list(SENSORS) if sensors is None else sensors
    world = World(0, region.crs)
    return _stack(world, region, Lattice(region.crs), bounds, wanted, lazy=lazy)


def truth_for(region: Region) -> xr.DataArray:
    """What truly lies where `scene_for(region)` looks: categorical (y, x) at 10 m.

    Raises:
        SourceError: For what is no region.
    """
    bounds = _cover(region)
    return _truth(World(0, region.crs), bounds, SOURCE)


def demo_regions(
    size: float = 900.0, time: str | tuple[str, str] = ("2023-01-01", "2023-12-31")
) -> tuple[Region, Region]:
    """Two places of the synthetic world with every class in them: fens, and hills.

    They differ in what grows there, in the shape of the fields, and by 12 days of spring. Their
    centres are corners of the window lattice, so that 900 m are exactly 2 × 2 windows.
    """
    fens, hills = (
        Region.around(lon, lat, size, time, f"synthetic {style}")
        for style, (_, lon, lat) in STYLES.items()
    )
    return fens, hills


def _cover(region: Region) -> Bounds:
    if not isinstance(region, Region):
        raise SourceError(
            f"region={shown(region)} is not a Region; make one with Region.around(...)."
        )
    box = region.geobox(CELL).boundingbox
    return cover(Lattice(region.crs), (box.left, box.bottom, box.right, box.top))


@lru_cache(maxsize=64)
def _rich_world(seed: int, crs: str, hills: float, bounds: Bounds) -> World:
    """The first of some shifted worlds in which every class has its share of the rectangle."""
    left, bottom, right, top = bounds
    step = (right - left) / 24
    xs, ys = np.arange(left + step / 2, right, step), np.arange(top - step / 2, bottom, -step)
    best, best_score = World(seed, crs, hills), -1.0
    for attempt in range(120):
        shift = (mix(seed, 100, attempt) % 4000, mix(seed, 101, attempt) % 4000)
        world = World(seed, crs, hills, (640.0 * float(shift[0]), 640.0 * float(shift[1])))
        kinds = CLASS_OF[survey(world, xs, ys, tile=1e9).material]
        shares = np.bincount(kinds.ravel(), minlength=len(CLASSES)) / kinds.size
        score = float(np.minimum(shares, 0.045).sum() - max(0.0, shares.max() - 0.4))
        if score > best_score:
            best, best_score = world, score
        if score >= 0.045 * len(CLASSES) - 1e-9:
            break
    return best


def _truth(world: World, bounds: Bounds, source: str) -> xr.DataArray:
    """Class of most of each 10 m cell."""
    box = _geobox(world.crs, bounds, CELL)
    xs, ys = _axis(box)
    field = xr.DataArray(
        coarse.classes(world, xs, ys).astype("f4"),
        dims=("y", "x"),
        coords={"y": ys, "x": xs},
        name="truth",
        attrs={
            "kind": "categorical",
            "long_name": "land cover (truth)",
            "units": "",
            "categories": list(CLASSES),
            "synthetic": 1,
            "source": source,
            "data_licence": LICENCE,
        },
    )
    return odc.geo.xr.assign_crs(field, world.crs)


def _stack(
    world: World,
    region: Region,
    lattice: Lattice,
    bounds: Bounds,
    sensors: Sequence[str],
    whole: bool = False,
    lazy: bool = False,
) -> xr.DataTree:
    if isinstance(sensors, str) or not isinstance(sensors, Sequence) or not len(sensors):
        raise SourceError(f"sensors={shown(sensors)} is no list of some of {list(SENSORS)}.")
    for key in sensors:
        choice("sensor", key, SENSORS, SourceError)
    groups: dict[str, xr.Dataset] = {}
    notes: list[str] = list(NOTES)
    for key in sensors:
        flown = sky.passes(world, key, *region.time)
        if len(flown):
            groups[key] = _group(world, key, bounds, flown, whole, 0 if lazy else _EAGER_CELLS)
        else:
            first, last = region.time
            notes.append(f"{SENSORS[key].title} does not pass over from {first} to {last}.")
    if not groups:
        raise SourceError(f"{' '.join(notes[1:])} Choose a longer period.")
    return make_stack(
        groups, lattice=lattice, region=region, source=SOURCE, synthetic=True, notes=notes
    )


def _group(
    world: World, key: str, bounds: Bounds, flown: sky.Passes, whole: bool, eager: int
) -> xr.Dataset:
    spec = SENSORS[key]
    box = _geobox(world.crs, bounds, spec.resolution)
    make = {"hr": close.image, "s2": coarse.optical, "s1": coarse.radar}[key]
    data, valid = _arrays(make, world, key, box, flown, eager)
    clear = sky.usable(flown.cover)
    if whole and isinstance(valid, np.ndarray):
        clear = valid.mean((1, 2), dtype=np.float64)
    days = [str(t)[:10].replace("-", "") for t in flown.time]
    level = {"s2": "L2A", "s1": "GRD", "hr": ""}[key]
    n = len(flown)
    return sensor_group(
        key,
        data,
        valid,
        bands=spec.names,
        time=list(flown.time),
        geobox=box,
        per_date={
            "item": [
                f"synthetic-{key}-{day}-{abs(o)}"
                for day, o in zip(days, flown.orbit_number, strict=True)
            ],
            "orbit_direction": flown.orbit_direction,
            "orbit_number": flown.orbit_number,
            "baseline": ["05.09" if key == "s2" else ""] * n,
            "level": [level] * n,
            "backscatter": ["sigma0" if key == "s1" else ""] * n,
            "clear": clear.tolist() if key == "s2" else [1.0] * n,
        },
        source=SOURCE,
        licence=LICENCE,
    )


def _arrays(
    make: Callable[..., tuple[np.ndarray, np.ndarray]],
    world: World,
    key: str,
    box: GeoBox,
    flown: sky.Passes,
    eager: int,
) -> tuple[Any, Any]:
    """Data and valid of a sensor: at once if it is small, block by block when read if not."""
    xs, ys = _axis(box)
    every = np.arange(len(flown))
    if key != "hr" and box.shape[0] * box.shape[1] <= eager:
        return make(world, xs, ys, flown, every)
    masked = key == "s2"  # the others see everywhere
    bands = len(SENSORS[key].names)
    chunks = (
        _lengths(len(every), _DATES_PER_BLOCK),
        (bands + masked,),
        _lengths(len(ys), _BLOCK[key]),
        _lengths(len(xs), _BLOCK[key]),
    )
    starts = [np.concatenate([[0], np.cumsum(lengths)]) for lengths in chunks]

    def block(block_id: tuple[int, int, int, int]) -> np.ndarray:
        t, _, r, c = (slice(s[i], s[i + 1]) for s, i in zip(starts, block_id, strict=True))
        data, valid = make(world, xs[c], ys[r], flown, every[t])
        return np.concatenate([data, valid[:, None].astype("f4")], 1) if masked else data

    empty = np.empty((0, 0, 0, 0), "f4")
    both = dask.array.map_blocks(block, chunks=chunks, dtype="f4", meta=empty)
    if masked:
        return both[:, :bands], both[:, bands] > 0
    shape = (len(every), *box.shape)
    return both, dask.array.ones(shape, dtype=bool, chunks=(chunks[0], *chunks[2:]))


def _lengths(total: int, most: int) -> tuple[int, ...]:
    """Lengths of the blocks along an axis."""
    return tuple(min(most, total - start) for start in range(0, total, most))


def _geobox(crs: str, bounds: Bounds, resolution: float) -> GeoBox:
    left, bottom, right, top = bounds
    shape = (round((top - bottom) / resolution), round((right - left) / resolution))
    return GeoBox(shape, Affine(resolution, 0, left, 0, -resolution, top), crs)


def _axis(box: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(box.coordinates["x"].values), np.asarray(box.coordinates["y"].values)
