"""Places a person can choose: the demo, recipes in a folder, and what was drawn or typed."""

import logging
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from skysense.errors import RecipeError, RegionError
from skysense.region import Region
from skysense.sources import synthetic
from skysense.sources.recipe import read_recipe

log = logging.getLogger(__name__)

SYNTHETIC = "synthetic"

LARGEST_KM2 = 400.0
"""The screen's own limit; larger places belong to the command line."""


@dataclass(frozen=True)
class Place:
    """Somewhere to look at, and where its images come from."""

    key: str = field(compare=False)
    """Unique within a session; sessions that mean the same place share what is made of it."""
    name: str
    source: str
    """What `load_stack` takes: a catalogue, a path, or `synthetic`."""
    region: Region | None = None
    """None means all that a file holds."""
    scene: str | None = None
    """One scene of a recipe with several."""
    sensors: tuple[str, ...] | None = None
    """Which of `hr`, `s2`, `s1` are loaded; None for what `load_stack` takes by itself."""

    @property
    def local(self) -> bool:
        """Whether its images are made or kept on this computer."""
        return self.source == SYNTHETIC or self.source.endswith(".toml")


def demos() -> list[Place]:
    """Made-up scenes that need no network; a visitor sees the first one at once."""
    return [
        Place(f"demo{number}", f"Demo: {style}", SYNTHETIC, replace(region, name=f"Demo: {style}"))
        for number, (style, region) in enumerate(
            zip(synthetic.STYLES, synthetic.demo_regions(), strict=True)
        )
    ]


def recipes_in(folder: Path) -> list[Place]:
    """The places of all `.toml` recipes of a folder, by name; no image is opened.

    A recipe that cannot be read is listed all the same: opening it says what is wrong with it.

    Raises:
        RecipeError: If the folder is not there.
    """
    if not folder.is_dir():
        raise RecipeError(f"There is no folder {folder} to read recipes from.")
    found: list[Place] = []
    for path in sorted(folder.glob("*.toml")):
        found += recipe_places(path)
    return found


def recipe_places(path: Path) -> list[Place]:
    """The places of one recipe; one that cannot be read is a place too, and opening it says why."""
    try:
        scenes = read_recipe(path).scenes
    except RecipeError as error:
        log.warning("%s", error)
        scenes = ()
    key = f"recipe:{path.stem}"
    if len(scenes) < 2:
        return [Place(key, path.stem, str(path))]
    return [
        Place(f"{key}:{scene}", f"{path.stem} · {scene}", str(path), scene=scene)
        for scene in scenes
    ]


def typed_region(text: str, size: float, time: tuple[str, str], name: str) -> Region:
    """A region from what a person typed: a point, a rectangle, or GeoJSON.

    Args:
        text: `lon, lat`, or `west, south, east, north` (degrees), or GeoJSON text.
        size: Side of the square around a point (m).
        time: (first, last) ISO days.
        name: What to call it.

    Raises:
        RegionError: If it is none of these, or not a usable place.
    """
    text = text.strip()
    if text.startswith("{"):
        region = Region.from_geojson(text, time, name)
    else:
        numbers = re.split(r"[\s,;]+", text)
        try:
            values = tuple(float(number) for number in numbers)
        except ValueError as error:
            raise RegionError(
                f"“{text[:60]}” is not a place. Type lon, lat (3.02, 50.81), or west, south, east, "
                "north, or paste GeoJSON."
            ) from error
        if len(values) == 2:
            region = Region.around(values[0], values[1], float(size), time, name)
        elif len(values) == 4:
            region = Region(values, time, name)
        else:
            raise RegionError(
                f"{len(values)} numbers are neither a point (lon, lat) nor a rectangle "
                "(west, south, east, north)."
            )
    return checked(region)


def checked(region: Region) -> Region:
    """The region, unless it is too large for the screen.

    Raises:
        RegionError: If it is, with its area.
    """
    if region.area > LARGEST_KM2:
        raise RegionError(
            f"This place is {region.area:,.0f} km²; the dashboard takes up to {LARGEST_KM2:.0f} "
            "km². Draw a smaller one, or use `skysense embed` for large areas."
        )
    return region
