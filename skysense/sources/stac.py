"""Stacks from STAC catalogues: search, choose, and describe; pixels stay where they are.

    Region ─▶ search ─▶ scenes (one shape) ─▶ newest, by day ─▶ odc-stac on our grid ─▶ stack

`load_stack` reads only the catalogue. What it returns knows its dates, the clear share of each
and its size in bytes; pixels are read when they are computed, or all at once by
`skysense.sources.fetch.read_stack`, which drops and names what cannot be read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import dask.array as da
import numpy as np
import pystac
import shapely
import xarray as xr
from pyproj import Transformer
from pystac_client import Client
from pystac_client.errors import ClientTypeError
from pystac_client.exceptions import APIError

from skysense.errors import SourceError
from skysense.region import Region
from skysense.sensors import CELL, SENSORS
from skysense.sources.access import Access, Limits
from skysense.sources.catalogue import Catalogue
from skysense.sources.grids import choose_grid
from skysense.sources.profiles import Collection, Profile, profile_of
from skysense.sources.radiometry import CLEAR_CLASSES, usable
from skysense.sources.reader import MASK, lazy_pixels
from skysense.sources.scenes import Scene, by_day, newest, read_scene
from skysense.stack import make_stack, sensor_group
from skysense.windows import HR_MARGIN, Bounds, Lattice, cover

MAX_ITEMS = 400
"""Scenes of one sensor beyond which a search is refused; each is about 20 kB of description."""

_NOT_STAC = (
    pystac.errors.STACError,
    ClientTypeError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    NotImplementedError,
    RecursionError,
)
"""What pystac-client raises over an answer that is not STAC."""

T = TypeVar("T")


def load_stack(
    region: Region,
    sensors: Sequence[str] = ("s2", "s1"),
    source: str | Profile = "planetary-computer",
    *,
    allow_hosts: Sequence[str] = (),
    max_items: int = MAX_ITEMS,
    timeout: float = 120.0,
    clear_classes: Sequence[int] = CLEAR_CLASSES,
) -> xr.DataTree:
    """What a catalogue holds for a region, as a lazy stack.

    The stack covers whole encoder windows around the region, which belong to the UTM zone and not
    to the region (`skysense.windows`), so a place has the same value whatever was drawn.

    Args:
        region: Where and when.
        sensors: Keys of the sensors to look for.
        source: `planetary-computer`, `earth-search`, the address of a STAC API, or a profile.
        allow_hosts: Hosts besides the catalogue's own that images may be read from; the two
            named providers need none.
        max_items: Scenes of one sensor beyond which the search is refused.
        timeout: Seconds after which an unanswered search, or a stalled image, is given up.
        clear_classes: Sentinel-2 scene classes that count as usable.

    Returns:
        A stack (`skysense.stack`) with Dask arrays. Computing it raises `ReadError` for an image
        that cannot be read; `read_stack` drops that date instead.

    Raises:
        SourceError: If the catalogue cannot be used, or holds nothing for this region.
    """
    wanted = _checked_sensors(sensors)
    if isinstance(max_items, bool) or not isinstance(max_items, int) or max_items < 1:
        raise SourceError(f"max_items={max_items!r} is not a number of scenes of at least 1.")
    profile = source if isinstance(source, Profile) else profile_of(source)
    access = profile.access(tuple(allow_hosts), Limits.within(timeout))
    lattice = Lattice(region.crs)
    box = region.geobox(CELL).boundingbox
    bounds = cover(lattice, (box.left, box.bottom, box.right, box.top))
    client = _answer(profile, lambda: Client.open(profile.address, stac_io=Catalogue(access)))
    groups: dict[str, xr.Dataset] = {}
    notes = [] if profile.called_live else [_unproved(profile)]
    for key in wanted:
        found = _find(client, profile, key, region, bounds, access, max_items)
        if isinstance(found, str):
            notes.append(f"{SENSORS[key].title}: {found}")
        else:
            groups[key] = _group(key, found, profile, access, region, bounds, clear_classes)
    if not groups:
        first, last = region.time
        raise SourceError(
            f"{profile.title} has nothing for {', '.join(SENSORS[k].title for k in wanted)} "
            f"from {first} to {last} here: {' '.join(notes[-len(wanted) :])} "
            "Choose a longer period, another sensor or another place."
        )
    return make_stack(groups, lattice=lattice, region=region, source=profile.title, notes=notes)


@dataclass(frozen=True)
class Found:
    """What a search gave for one sensor."""

    spec: Collection
    collection: str
    licence: str
    passes: list[list[Scene]]
    notes: list[str]


def _find(
    client: Client,
    profile: Profile,
    key: str,
    region: Region,
    bounds: Bounds,
    access: Access,
    max_items: int,
) -> Found | str:
    """The scenes of one sensor by date, or the reason why there are none."""
    if key not in profile.collections:
        reason = profile.absent.get(key, "this profile does not know where they are")
        return f"not read from {profile.title}, {reason}."
    spec = profile.collections[key]
    collection, licence = _collection(client, profile, spec)
    if not collection:
        return f"the catalogue has none of the collections {', '.join(spec.ids)}."
    beyond = HR_MARGIN * spec.gsd if key == "hr" else 0.0
    left, bottom, right, top = bounds
    seen = (left - beyond, bottom - beyond, right + beyond, top + beyond)
    outline = _degrees(seen, region.crs)
    first, last = region.time
    period = f"{first}T00:00:00Z/{last}T23:59:59Z"
    search = {"collections": [collection], "bbox": outline.bounds, "datetime": period}
    items = _answer(
        profile,
        lambda: list(client.search(**search, max_items=max_items + 1, limit=100).items_as_dicts()),
    )
    if len(items) > max_items:
        raise SourceError(
            f"More than {max_items} {SENSORS[key].title} scenes of {collection} match {first} to "
            f"{last}. Shorten the period, choose a smaller region, or pass a larger max_items."
        )
    scenes, refused = _read_scenes(items, spec, access)
    inside = [s for s in scenes if s.footprint.intersects(outline)]
    kept, replaced = newest(inside)
    area = shapely.box(*region.bounds)
    passes = by_day(kept, region.centre[0])
    passes = [p for p in passes if any(s.footprint.intersects(area) for s in p)]
    if refused and not passes:
        return f"none of {len(items)} scenes of {collection} can be used. {refused[0]}"
    if not passes:
        return f"no scene in {collection} from {first} to {last}."
    notes = [f"{len(items)} scenes of {collection} found, {len(passes)} dates."]
    notes += [f"left out: {sentence}" for sentence in refused[:20]]
    notes += [f"left out for the same fault: {len(refused) - 20} more."] if refused[20:] else []
    if replaced:
        names = ", ".join(s.item for s in replaced[:10])
        notes.append(f"{len(replaced)} older processings of the same scene left out: {names}.")
    return Found(spec, collection, licence, passes, notes)


def _collection(client: Client, profile: Profile, spec: Collection) -> tuple[str, str]:
    """(id, licence) of the collection to use; for somebody's own catalogue what it holds."""
    if profile.name != "own":
        return spec.ids[0], spec.licence
    held = _answer(profile, lambda: {c.id: c for c in client.get_collections() if c.id in spec.ids})
    name = next((i for i in spec.ids if i in held), "")
    licence = f"as stated by the catalogue: {held[name].license}" if name else ""
    return name, licence


def _read_scenes(
    items: Sequence[Any], spec: Collection, access: Access
) -> tuple[list[Scene], list[str]]:
    scenes, refused = [], []
    for item in items:
        try:
            scenes.append(read_scene(item, spec, access))
        except SourceError as error:
            refused.append(str(error))
    return scenes, refused


def _group(
    key: str,
    found: Found,
    profile: Profile,
    access: Access,
    region: Region,
    bounds: Bounds,
    clear_classes: Sequence[int],
) -> xr.Dataset:
    """One sensor's part of the stack, from scenes by date."""
    passes, spec = found.passes, found.spec
    scenes = [s for p in passes for s in p]
    bands = [b for b in spec.bands if any(b in s.bands for s in scenes)]
    grid = choose_grid(key, scenes, spec.gsd, region.crs, bounds)
    # Resampling a window looks at pixels beyond its edge; s2 and s1 are copied.
    geobox = grid.geobox.pad(HR_MARGIN) if key == "hr" else grid.geobox
    masked = any(s.mask is not None for s in scenes)
    pixels = lazy_pixels(passes, bands, geobox, access, masked=masked, resampling=grid.resampling)
    data = da.stack([pixels[b].data for b in bands], axis=1)
    if key == "hr":
        # Black is a colour: a picture has no data only where no channel has any.
        data = da.where((data == 0).all(axis=1, keepdims=True), np.float32(np.nan), data)
    has = np.array([[any(b in s.bands for s in p) for b in bands] for p in passes])
    seen = da.isfinite(data) | ~has[:, :, None, None]  # a band that a date lacks masks nothing
    valid = seen.all(axis=1)
    notes = [*found.notes, *_band_notes(bands, has), *_scene_notes(key, passes, spec)]
    if masked:
        kept = tuple(int(c) for c in clear_classes)
        valid &= da.map_blocks(usable, pixels[MASK].data, keep=kept, dtype=bool)
        notes.append(f"scene classes {', '.join(map(str, kept))} are usable, all others masked.")
    elif key == "s2":
        notes.append("no scene classification: clouds are not masked.")
    return sensor_group(
        key,
        data,
        valid,
        bands=bands,
        time=[p[0].moment for p in passes],
        geobox=geobox,
        per_date=_per_date(passes),
        source=f"{profile.title}, {found.collection}",
        licence=found.licence,
        resampling=grid.sentence,
        notes=notes,
    )


def _per_date(passes: Sequence[Sequence[Scene]]) -> dict[str, list[Any]]:
    def same(values: Sequence[str]) -> str:
        return " ".join(dict.fromkeys(v for v in values if v))

    return {
        "item": [" ".join(s.item for s in p) for p in passes],
        "orbit_direction": [p[0].orbit_direction for p in passes],
        "orbit_number": [p[0].orbit_number for p in passes],
        "baseline": [same([s.baseline for s in p]) for p in passes],
        "level": [same([s.level for s in p]) for p in passes],
        "backscatter": [same([s.backscatter for s in p]) for p in passes],
        "clear": [_mean([s.clear for s in p]) for p in passes],
    }


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if np.isfinite(v)]
    return float(np.mean(known)) if known else float("nan")


def _band_notes(bands: Sequence[str], has: np.ndarray) -> list[str]:
    lacking = [(b, int((~has[:, i]).sum())) for i, b in enumerate(bands)]
    return [f"{n} of {len(has)} dates have no {b}; it is missing there." for b, n in lacking if n]


def _scene_notes(key: str, passes: Sequence[Sequence[Scene]], spec: Collection) -> list[str]:
    """What was decided about numbers, and what had to be assumed."""
    scenes = [s for p in passes for s in p]
    notes = []
    if key == "s2":
        first = [next(iter(s.bands.values())).decode.add for s in scenes]
        shifted = sum(add < 0 for add in first)
        rule = {
            "raw": "by processing baseline",
            "declared": "as the catalogue's band metadata say, else by processing baseline",
            "shifted": "the provider has already taken it off, whatever its metadata say",
        }[spec.offset]
        notes.append(
            f"offset of −1000 applied to {shifted} of {len(scenes)} scenes ({rule}); "
            "values below 0 set to 0."
        )
    if key == "s1" and any(part.decode.power for s in scenes for part in s.bands.values()):
        notes.append("linear power converted to dB; values not above 0 are missing.")
    assumed: dict[str, int] = {}
    for scene in scenes:
        for sentence in scene.assumed:
            assumed[sentence] = assumed.get(sentence, 0) + 1
    notes += [f"{n} of {len(scenes)} scenes: {sentence}." for sentence, n in assumed.items()]
    joined = sum(len(p) > 1 for p in passes)
    if joined:
        notes.append(f"{joined} dates are mosaics of several scenes of one solar day.")
    return notes


def _unproved(profile: Profile) -> str:
    """How far the reading of this provider's numbers can be trusted."""
    if profile.name == "own":
        return f"{profile.title}: its own descriptions were believed, nobody has checked them here."
    return f"{profile.title}: profile not yet called live, written from documentation and records."


def _degrees(bounds: Bounds, crs: str) -> Any:
    """A rectangle in metres as a lon/lat rectangle."""
    inverse = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return shapely.box(*inverse.transform_bounds(*bounds))


def _checked_sensors(sensors: Sequence[str]) -> list[str]:
    if isinstance(sensors, str):
        sensors = (sensors,)
    wanted = [key for key in SENSORS if key in sensors]
    if not wanted or len(wanted) != len(set(sensors)):
        raise SourceError(f"sensors={tuple(sensors)!r}; choose from {', '.join(SENSORS)}.")
    return wanted


def _answer(profile: Profile, ask: Callable[[], T]) -> T:
    """What the catalogue answers.

    Raises:
        SourceError: If it does not answer, or not with STAC.
    """
    try:
        return ask()
    except APIError as error:
        inner = error.__context__
        if isinstance(inner, SourceError):
            raise inner from error
        raise SourceError(
            f"{profile.title} ({profile.address}) did not answer: {_plainly(error)}. Check the "
            'address and the connection; source="synthetic" works without any.'
        ) from error
    except SourceError:
        raise
    except _NOT_STAC as error:
        raise SourceError(
            f"{profile.address} answered, but not as a STAC API that can be searched "
            f"({type(error).__name__}). Give the root address of one, such as "
            "https://planetarycomputer.microsoft.com/api/stac/v1."
        ) from error


def _plainly(error: Exception) -> str:
    text = " ".join(str(error).split())
    code = getattr(error, "status_code", None)
    return f"HTTP {code}" if code else text[:200] or type(error).__name__
