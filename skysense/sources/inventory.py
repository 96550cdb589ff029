"""What a source holds for a place, before any image of it is read."""

from collections.abc import Sequence
from pathlib import Path

from skysense.dates import Acquisition, Dates, acquisitions
from skysense.region import Region
from skysense.sources import load_stack


def available(
    region: Region | str | Path | None = None,
    sensors: Sequence[str] | str | None = None,
    source: str | Path = "auto",
    *,
    rule: Dates | None = None,
    scene: str | None = None,
) -> list[Acquisition]:
    """Every acquisition of every sensor that a source has for a place and a period.

    A catalogue is searched and no image opened; of files the headers and masks are read; a
    synthetic scene is listed and not made. `skysense.dates.tally` says it in words,
    `skysense.view.dates` draws it.

    Args:
        region: The place and period; for a recipe it may be left out.
        sensors: Which of `hr`, `s2`, `s1`; None for all that the source has.
        source: As for `load_stack`.
        rule: Which dates an encoder would be given; each acquisition says whether it is one.
        scene: For a recipe of several places: which one.

    Raises:
        SkySenseError: As `load_stack`: the catalogue cannot be reached, or has nothing there.
    """
    if source == "synthetic" and isinstance(region, Region):
        from skysense.sources.synthetic import scene_for

        wanted = (sensors,) if isinstance(sensors, str) else sensors
        return acquisitions(scene_for(region, wanted, lazy=True), rule)
    return acquisitions(load_stack(region, sensors, source, scene=scene), rule)


__all__ = ["available"]
