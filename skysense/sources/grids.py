"""The pixel grid of a catalogue's stack: absolute multiples in the region's UTM zone.

Sentinel pixels are 10 m and their grids are multiples of 10 m, so they are copied as they are;
20 m bands are repeated. High resolution keeps the pixel size of its images, and their grid too if
all of them share one in the region's UTM zone; NAD83 and ETRS89 zones count as the same zone,
since they differ from WGS 84 by a metre or two and catalogues do not say how.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from affine import Affine
from odc.geo.geobox import GeoBox

from skysense.sensors import SENSORS
from skysense.sources.scenes import Scene
from skysense.windows import Bounds

SAME = 0.01
"""Share of a pixel within which two grids are one."""


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a sensor go, and what happens to them on the way."""

    geobox: GeoBox
    resampling: str
    """`nearest` or `bilinear`."""
    sentence: str
    """What was resampled; empty if nothing was."""


def choose_grid(sensor: str, scenes: Sequence[Scene], gsd: float, crs: str, bounds: Bounds) -> Grid:
    """The grid for the scenes of one sensor over whole encoder windows.

    Args:
        sensor: `hr`, `s2` or `s1`.
        scenes: What will be read.
        gsd: Pixel size where scenes do not say (m).
        crs: The region's UTM zone.
        bounds: What the windows cover (m).
    """
    if sensor == "hr":
        return _native(scenes, gsd, crs, bounds)
    spec = SENSORS[sensor]
    geobox = _geobox(bounds, crs, spec.resolution)
    sentences = []
    foreign = sum(bool(s.crs) and s.crs != crs for s in scenes)
    if foreign:
        sentences.append(f"{foreign} of {len(scenes)} scenes lie in another zone than {crs}")
    unknown = sum(not s.crs for s in scenes)
    if unknown:
        sentences.append(f"{unknown} of {len(scenes)} scenes do not say which grid they are on")
    moved = sum(bool(s.transform) and s.crs == crs and not _on(s, spec.resolution) for s in scenes)
    if moved:
        sentences.append(f"{moved} of {len(scenes)} scenes are off the 10 m grid")
    coarse = sorted({s.transform[0] for s in scenes if s.transform} - {spec.resolution})
    if coarse:
        sizes = ", ".join(f"{size:g}" for size in coarse)
        sentences.append(f"pixels of {sizes} m were put on the 10 m grid")
    text = f"{', '.join(sentences)}: nearest neighbour. " if sentences else ""
    if sensor == "s2":
        text += "20 m bands are repeated on the 10 m grid."
    return Grid(geobox, "nearest", text.strip())


def _native(scenes: Sequence[Scene], gsd: float, crs: str, bounds: Bounds) -> Grid:
    """The images' own pixel size and, if they share one, their own grid."""
    sizes = [abs(s.transform[0]) for s in scenes if s.transform and zone_of(s.crs)]
    size = min(sizes) if sizes else gsd
    phases = {
        (
            round((s.transform[2] / size) % 1 / SAME) * SAME % 1,
            round((s.transform[5] / size) % 1 / SAME) * SAME % 1,
        )
        for s in scenes
        if s.transform
    }
    shared = (
        len(sizes) == len(scenes)
        and len(phases) == 1
        and all(zone_of(s.crs) == crs for s in scenes)
        and max(sizes) - size <= SAME * size
        and all(math.isclose(abs(s.transform[4]), size, rel_tol=SAME) for s in scenes)
    )
    if not shared:
        sentence = f"resampled to {crs} at {size:g} m on absolute multiples, bilinear."
        return Grid(_geobox(bounds, crs, size), "bilinear", sentence)
    first = scenes[0].transform
    x, y = (first[2] / size) % 1 * size, (first[5] / size) % 1 * size
    return Grid(_geobox(bounds, crs, size, x, y), "nearest", "")


def _geobox(bounds: Bounds, crs: str, size: float, x: float = 0.0, y: float = 0.0) -> GeoBox:
    """Pixels over `bounds`, their edges at x, y plus multiples of the size."""
    left, bottom, right, top = bounds
    left = math.floor((left - x) / size + 1e-6) * size + x
    top = math.ceil((top - y) / size - 1e-6) * size + y
    columns = math.ceil((right - left) / size - 1e-6)
    rows = math.ceil((top - bottom) / size - 1e-6)
    return GeoBox((rows, columns), Affine(size, 0, left, 0, -size, top), crs)


def _on(scene: Scene, size: float) -> bool:
    return all(
        abs(v / size - round(v / size)) <= SAME for v in (scene.transform[2], scene.transform[5])
    )


def zone_of(crs: str) -> str:
    """The WGS 84 UTM zone with the same coordinates up to a metre or two, or nothing."""
    number = int(crs.removeprefix("EPSG:") or 0)
    if 32601 <= number <= 32660 or 32701 <= number <= 32760:
        return crs
    if 26901 <= number <= 26923:  # NAD83
        return f"EPSG:{number + 5700}"
    if 25828 <= number <= 25838:  # ETRS89
        return f"EPSG:{number + 6800}"
    return ""
