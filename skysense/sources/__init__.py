"""Where stacks come from: files, STAC catalogues, synthetic scenes; one contract."""

import os
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import xarray as xr

from skysense.checks import choice, shown
from skysense.disk import path_of
from skysense.errors import RecipeError, RegionError, SourceError
from skysense.region import Region
from skysense.sensors import SENSORS

CATALOGUES = ("planetary-computer", "earth-search")
"""Names of the built-in STAC catalogues; any http(s) address of another one works too."""


def load_stack(
    region: Region | str | Path | None = None,
    sensors: Sequence[str] | str | None = None,
    source: str | Path = "auto",
    *,
    root: str | Path | None = None,
    scene: str | None = None,
    allow_hosts: Sequence[str] = (),
) -> xr.DataTree:
    """A lazy stack of images: `load_stack(region)`, `load_stack("my.tif")`, `load_stack(recipe)`.

    Args:
        region: The place and period. For files it may be left out, and the path given in its
            place: everything in them is then loaded.
        sensors: Which of `hr`, `s2`, `s1`; None for all that the source has, which for
            catalogues means Sentinel-2 and Sentinel-1.
        source: `auto` (the Planetary Computer), `earth-search`, the address of a STAC catalogue,
            `synthetic` (invented, for trying things out), or a path: a recipe (`.toml`), an image
            (`.tif`, `.png`, `.jpg`), or a stack that `save_stack` wrote (`.zarr`).
        root: For a recipe: the folder of its files, instead of the one it names.
        scene: For a recipe of several places: which one.
        allow_hosts: For a catalogue given by its address: hosts besides its own that images may
            be read from.

    Returns:
        A stack as `skysense.stack` describes. Pixels are read when they are used.

    Raises:
        SkySenseError: A `RegionError`, `RecipeError`, `SourceError` or `StackError`, saying what
            was given and what to do.
    """
    if isinstance(region, str | Path):
        if source != "auto":
            raise RegionError(f"region={str(region)!r} is a path, and source={source!r} is given.")
        region, source = None, region
    if region is not None and not isinstance(region, Region):
        raise RegionError(
            f"region={shown(region)} is not a Region; make one with Region.around(...)."
        )
    if not isinstance(source, str | os.PathLike):
        raise SourceError(f"source={shown(source)} is not a text or a path: {_known()}")
    wanted = _wanted(sensors)
    hosts = _hosts(allow_hosts)
    name = str(source)
    remote = name == "auto" or name in CATALOGUES or name.startswith(("http://", "https://"))
    if name == "synthetic" or remote:
        if root is not None or scene is not None:
            raise RecipeError(f"root and scene belong to a recipe (.toml), not to {shown(name)}.")
        name = CATALOGUES[0] if name == "auto" else name
        place = _needed(region, name)
        if not remote:
            from skysense.sources.synthetic import scene_for

            return scene_for(place, wanted)
        from skysense.sources.stac import load_stack as load_catalogue

        return load_catalogue(place, wanted or ("s2", "s1"), name, allow_hosts=hosts)
    return _from_path(path_of(source, SourceError, "source"), region, wanted, root, scene)


def _from_path(
    path: Path,
    region: Region | None,
    sensors: tuple[str, ...] | None,
    root: str | Path | None,
    scene: str | None,
) -> xr.DataTree:
    from skysense.sources.files import open_recipe
    from skysense.sources.files_open import IMAGES
    from skysense.sources.recipe import read_recipe

    ending = path.suffix.lower()
    if ending == ".toml":
        return open_recipe(read_recipe(path, root), region, sensors, scene)
    if root is not None or scene is not None:
        raise RecipeError(f"root and scene belong to a recipe (.toml), not to {path.name}.")
    if ending in IMAGES:
        from skysense.sources.files_geotiff import open_geotiff

        if sensors is not None and len(sensors) != 1:
            raise RecipeError(f"{path.name} holds one sensor, not {', '.join(sensors)}.")
        return open_geotiff(path, sensors[0] if sensors else None, region=region)
    if ending == ".zarr" and path.is_dir():
        return _saved(path, region, sensors)
    if ending in (".nc", ".nc4", ".zarr"):
        if not path.exists():
            raise RecipeError(f"There is no file at {path}.")
        raise RecipeError(
            f"{path.name} does not say what its variables mean. Describe it by a recipe of a few "
            "lines (docs/recipes.md) and load that."
        )
    raise SourceError(f"source={shown(str(path))} is not known: {_known()}")


def _known() -> str:
    return (
        f"use 'auto', {', '.join(map(repr, CATALOGUES))}, 'synthetic', an http(s) address of a STAC "
        "catalogue, or a path ending in .toml, .tif, .png, .jpg or .zarr."
    )


def _saved(path: Path, region: Region | None, sensors: tuple[str, ...] | None) -> xr.DataTree:
    """A stack that `save_stack` wrote, with some of its sensors."""
    from skysense.stack import open_stack, sensors_of

    tree = open_stack(path)
    if region is not None:
        raise RecipeError(
            f"{path.name} is a saved stack and is opened whole; pass the region to embed instead."
        )
    absent = [name for name in sensors or () if name not in sensors_of(tree)]
    if absent:
        raise RecipeError(f"{path.name} has no {absent[0]!r}; it has {sensors_of(tree)}.")
    if sensors is None:
        return tree
    groups = {f"/{name}": tree[name].to_dataset() for name in sensors}
    return xr.DataTree.from_dict({"/": tree.to_dataset(), **groups})


def _wanted(sensors: Sequence[str] | str | None) -> tuple[str, ...] | None:
    if sensors is None:
        return None
    if not isinstance(sensors, Sequence | Set):
        raise SourceError(
            f"sensors={shown(sensors)} is no list; name some of {', '.join(SENSORS)}, or leave it "
            "out for all."
        )
    names = (sensors,) if isinstance(sensors, str) else tuple(sensors)
    for name in names:
        choice("sensor", name, SENSORS, SourceError)
    if not names:
        raise SourceError("sensors is empty; name at least one, or leave it out for all.")
    return names


def _hosts(names: Any) -> tuple[str, ...]:
    """The hosts a caller trusts; one text would be taken letter by letter."""
    if isinstance(names, str) or not isinstance(names, Sequence | Set):
        raise SourceError(f"allow_hosts={shown(names)} is no list; give ['images.example.org'].")
    for name in names:
        if not isinstance(name, str):
            raise SourceError(f"allow_hosts: {shown(name)} is not the name of a host.")
    return tuple(names)


def _needed(region: Region | None, source: str) -> Region:
    if region is None:
        raise RegionError(
            f"source={source!r} needs a region: Region.around(lon, lat, size=640, "
            "time=('2018-03-01', '2018-10-31')). Only files can be loaded without one."
        )
    return region


def __getattr__(name: str) -> Any:
    if name == "available":
        from skysense.sources.inventory import available

        return available
    raise AttributeError(f"skysense.sources has no {name!r}.")
