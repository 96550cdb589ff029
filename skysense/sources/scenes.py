"""STAC items as scenes: one shape whatever the provider, the STAC version or the spelling.

`read_scene` is the only place that knows how items are written: `proj:epsg` (before projection
2.0) and `proj:code`, `raster:bands` (before STAC 1.1) and `bands`, the many names of tiles, orbits
and processing baselines. Items are somebody else's text, so anything may be missing or of the
wrong type; a scene that cannot be used is refused with a sentence and counted by the caller.
"""

import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import antimeridian
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from skysense.errors import SourceError
from skysense.sources.access import Access
from skysense.sources.profiles import Collection, Layer
from skysense.sources.radiometry import S2_SCALE, Decode, offset_to_add, parse_baseline

_MALFORMED = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    shapely.errors.ShapelyError,
)
"""What reading a description that is not one can raise."""


@dataclass(frozen=True)
class Part:
    """One band of one scene: where it is and how it is read."""

    href: str
    index: int
    decode: Decode


@dataclass(frozen=True)
class Scene:
    """One item of a catalogue, ready to be read."""

    item: str
    moment: dt.datetime
    """UTC, without a time zone."""
    footprint: BaseGeometry
    """Outline of the image, degrees."""
    bands: dict[str, Part]
    mask: Part | None = None
    crs: str = ""
    """`EPSG:...`, empty if the item does not say."""
    transform: tuple[float, ...] = ()
    """Six numbers of the finest band's grid; empty if the item does not say."""
    tile: str = ""
    strip: str = ""
    """Start of the datastrip's sensing; empty if unknown."""
    baseline: str = ""
    made: str = ""
    """When it was processed, ISO; orders reprocessed products of one baseline."""
    orbit_direction: str = ""
    orbit_number: int = -1
    level: str = ""
    backscatter: str = ""
    clear: float = math.nan
    assumed: tuple[str, ...] = ()
    """Sentences about what the item did not say."""


def read_scene(item: Mapping[str, Any], spec: Collection, access: Access) -> Scene:
    """A scene from a STAC item.

    Args:
        item: The item as JSON gives it.
        spec: What the provider calls things.
        access: Which addresses are allowed.

    Raises:
        SourceError: If it cannot be used, with the reason.
    """
    try:
        return _read_scene(item, spec, access)
    except SourceError:
        raise
    except _MALFORMED as error:
        name = item.get("id") if isinstance(item, Mapping) else item
        raise SourceError(f"{str(name)[:80]!r} is not a usable STAC item: {error!r}.") from error


def _read_scene(item: Mapping[str, Any], spec: Collection, access: Access) -> Scene:
    properties: Mapping[str, Any] = item["properties"]
    assets: Mapping[str, Mapping[str, Any]] = item["assets"]
    name = _text(item["id"])
    product = _first(properties, "s2:product_uri", "sentinel:product_id") or name
    baseline = _baseline(properties, product)
    assumed: list[str] = []
    bands: dict[str, Part] = {}
    for band, layer in spec.bands.items():
        found = _locate(assets, layer, band)
        if found is not None:
            asset, index = found
            decode, sentence = _decode(asset, index, spec, baseline)
            assumed += [sentence] if sentence and sentence not in assumed else []
            bands[band] = Part(access.check(asset["href"]), index, decode)
    if not bands:
        wanted = sorted({a for layer in spec.bands.values() for a in layer.assets})
        raise SourceError(f"{name} has none of the assets {', '.join(wanted)}.")
    mask = _locate(assets, spec.mask, "") if spec.mask else None
    first = _locate(assets, spec.bands[next(iter(bands))], "")
    levels = (first[0] if first else {}, properties)
    cloud = properties.get("eo:cloud_cover")
    level, backscatter = _kind(properties, spec, first[0] if first else {}, name)
    return Scene(
        item=name,
        moment=_moment(properties),
        footprint=_footprint(item),
        bands=bands,
        mask=Part(access.check(mask[0]["href"]), mask[1], Decode(nodata=0)) if mask else None,
        crs=projection_of(*levels),
        transform=_transform(*levels),
        tile=_tile(properties, name),
        strip=_strip(properties),
        baseline=baseline,
        made=_first(properties, "s2:generation_time", "processing:datetime", "created"),
        orbit_direction=_orbit(properties),
        orbit_number=_orbit_number(properties, product),
        level=level,
        backscatter=backscatter,
        clear=1 - float(cloud) / 100 if _number(cloud) and 0 <= cloud <= 100 else math.nan,
        assumed=tuple(assumed),
    )


def projection_of(*levels: Mapping[str, Any]) -> str:
    """CRS of an asset or item, `EPSG:...`, from `proj:code` or `proj:epsg`; empty if unknown.

    `EPSG:None`, which pystac writes for a null code, is unknown.
    """
    for level in levels:
        code, number = level.get("proj:code"), level.get("proj:epsg")
        if isinstance(code, str) and re.fullmatch(r"EPSG:\d{4,6}", code, re.IGNORECASE):
            return code.upper()
        if isinstance(number, int | str) and re.fullmatch(r"\d{4,6}", str(number)):
            return f"EPSG:{number}"
    return ""


def newest(scenes: Sequence[Scene]) -> tuple[list[Scene], list[Scene]]:
    """Scenes without those that a newer processing replaced: (kept, replaced).

    The same tile and moment twice is either a reprocessed product, of which the newest baseline
    counts, or one pass cut into two datastrips, which complement each other and are both kept.
    """
    best: dict[tuple[Any, ...], Scene] = {}
    for scene in scenes:
        key: tuple[Any, ...] = (scene.item,)
        if scene.tile:
            key = (scene.tile, scene.moment.replace(microsecond=0), scene.strip)
            key += (scene.orbit_number,) if scene.strip else _sequence(scene)
        rival = best.get(key)
        if rival is None or _rank(scene) > _rank(rival):
            best[key] = scene
    kept = {id(scene) for scene in best.values()}
    return [s for s in scenes if id(s) in kept], [s for s in scenes if id(s) not in kept]


def by_day(scenes: Sequence[Scene], lon: float) -> list[list[Scene]]:
    """Scenes of one pass together, oldest first; within a pass the preferred scene comes first.

    A pass is one solar day and, for radar, one orbit: ascending and descending see the ground from
    opposite sides. The solar day is odc-stac's `solar_day`, which counts whole hours of longitude.
    """
    passes: dict[tuple[Any, ...], list[Scene]] = {}
    for scene in scenes:
        day = (scene.moment + dt.timedelta(hours=int(lon / 15))).date()
        orbit = (scene.orbit_direction, scene.orbit_number) if scene.backscatter else ()
        passes.setdefault((day, *orbit), []).append(scene)
    groups = [sorted(g, key=lambda s: (_rank(s), s.item), reverse=True) for g in passes.values()]
    return sorted(groups, key=lambda g: (min(s.moment for s in g), g[0].item))


def _rank(scene: Scene) -> tuple[Any, ...]:
    return parse_baseline(scene.baseline) or (0, 0), scene.made


def _sequence(scene: Scene) -> tuple[str, ...]:
    """Earth Search numbers products of one tile and day `_0_`, `_1_`; both may be needed."""
    found = re.search(r"_(\d)_L[12]", scene.item)
    return (found[1],) if found else ()


def _locate(
    assets: Mapping[str, Mapping[str, Any]], layer: Layer, band: str
) -> tuple[Mapping[str, Any], int] | None:
    """The asset a layer is in and the band inside it; declared colours outrank the usual order."""
    for key in layer.assets:
        asset = assets.get(key)
        if asset is None or not asset.get("href"):
            continue
        declared = asset.get("eo:bands") or asset.get("bands") or []
        names = [str(b.get("common_name") or b.get("eo:common_name") or "") for b in declared]
        if len(names) > 1 and all(names):
            if band and band not in names:
                continue
            return asset, names.index(band) + 1 if band else layer.index
        return asset, layer.index
    return None


def _decode(
    asset: Mapping[str, Any], index: int, spec: Collection, baseline: str
) -> tuple[Decode, str]:
    declared = asset.get("raster:bands") or asset.get("bands") or [{}]
    band = declared[index - 1] if index <= len(declared) else {}
    about = {
        key: band.get(key, band.get(f"raster:{key}", asset.get(f"raster:{key}", asset.get(key))))
        for key in ("scale", "offset", "nodata", "unit", "data_type")
    }
    nodata = about["nodata"]
    nodata = float(nodata) if _number(nodata) or nodata == "nan" else spec.nodata
    scale = float(about["scale"]) if _number(about["scale"]) else None
    offset = float(about["offset"]) if _number(about["offset"]) else None
    if spec.sensor == "s2":
        if scale is None and str(about["data_type"]).startswith("float"):
            return Decode(nodata=nodata, floor=0.0), "floating-point values taken as reflectance"
        if scale not in {None, S2_SCALE} and spec.offset == "declared":
            return Decode(scale or 1.0, (offset or 0.0) / (scale or 1.0), nodata, floor=0.0), ""
        add, sentence = offset_to_add(spec.offset, baseline, offset)
        return Decode(S2_SCALE, add, nodata, floor=0.0), sentence
    if spec.sensor == "s1":
        decibels = str(about["unit"]).strip().lower() in {"db", "decibel", "decibels"}
        return Decode(scale or 1.0, (offset or 0.0) / (scale or 1.0), nodata, not decibels), ""
    return Decode(nodata=nodata), ""


def _kind(
    properties: Mapping[str, Any], spec: Collection, asset: Mapping[str, Any], name: str
) -> tuple[str, str]:
    """(level, backscatter) of a scene."""
    if spec.sensor != "s1" or spec.backscatter:
        return spec.level, spec.backscatter
    product = str(properties.get("sar:product_type") or "").upper()
    if product == "GRD":
        bands = asset.get("raster:bands") or asset.get("bands") or [{}]
        if str(bands[0].get("unit")).lower() != "db":
            raise SourceError(
                f"{name} is uncalibrated Sentinel-1 GRD without a map grid; only gridded "
                "backscatter (RTC, or GRD in dB) can be read."
            )
        return "GRD", "sigma0"
    return ("RTC", "gamma0") if product in {"RTC", ""} else (product, "gamma0")


def _moment(properties: Mapping[str, Any]) -> dt.datetime:
    text = _first(properties, "datetime", "start_datetime")
    moment = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is not None:
        moment = moment.astimezone(dt.UTC).replace(tzinfo=None)
    if not 1980 < moment.year < 2200:
        raise ValueError(f"the year {moment.year}")
    return moment


def _transform(*levels: Mapping[str, Any]) -> tuple[float, ...]:
    for level in levels:
        numbers = level.get("proj:transform")
        if isinstance(numbers, Sequence) and len(numbers) >= 6 and all(map(_number, numbers[:6])):
            return tuple(float(v) for v in numbers[:6])
    return ()


def _footprint(item: Mapping[str, Any]) -> BaseGeometry:
    """The image's outline in degrees, cut where it crosses the antimeridian."""
    geometry = item.get("geometry")
    outline = shapely.geometry.shape(geometry) if geometry else shapely.box(*item["bbox"][:4])
    west, _, east, _ = outline.bounds
    if isinstance(outline, shapely.Polygon) and east - west > 180:
        outline = antimeridian.fix_polygon(outline)
    outline = shapely.make_valid(outline)
    if outline.is_empty or not np.isfinite(outline.bounds).all():
        raise ValueError("an empty outline")
    return outline


def _baseline(properties: Mapping[str, Any], product: str) -> str:
    for key in ("s2:processing_baseline", "processing:version"):
        version = parse_baseline(properties.get(key))
        if version is not None:
            return f"{version[0]:02d}.{version[1]:02d}"
    found = re.search(r"_N(\d{2})(\d{2})(_|$)", product)
    return f"{found[1]}.{found[2]}" if found else ""


def _tile(properties: Mapping[str, Any], name: str) -> str:
    said = _first(properties, "s2:mgrs_tile", "grid:code").removeprefix("MGRS-")
    found = re.search(r"_T?(\d{1,2}[C-X][A-Z]{2})_", name)
    return said or (found[1] if found else "")


def _strip(properties: Mapping[str, Any]) -> str:
    """When the sensing of the datastrip began; reprocessing keeps it."""
    found = re.search(r"_S(\d{8}T\d{6})_", _first(properties, "s2:datastrip_id") + "_")
    return found[1] if found else ""


def _orbit(properties: Mapping[str, Any]) -> str:
    direction = str(properties.get("sat:orbit_state") or "").lower()
    return direction if direction in {"ascending", "descending"} else ""


def _orbit_number(properties: Mapping[str, Any], product: str) -> int:
    number = properties.get("sat:relative_orbit")
    if _number(number):
        return int(number)
    found = re.search(r"_R(\d{3})_", product)
    return int(found[1]) if found else -1


def _first(properties: Mapping[str, Any], *keys: str) -> str:
    return next((str(properties[k]) for k in keys if properties.get(k)), "")


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"an id of {value!r}")
    return value[:200]
