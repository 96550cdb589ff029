"""The labelled places and sets at hand, each with the reason where one is left out."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from skysense.errors import SkySenseError
from skysense.evaluation import sets
from skysense.evaluation.tasks import BLOCK, Images, Skipped, Task, images_of_stack
from skysense.sources import load_stack
from skysense.sources.files_labels import VECTORS, read_labels
from skysense.sources.recipe import Recipe, read_recipe
from skysense.sources.synthetic import LICENCE, STYLES, scene
from skysense.stack import sensors_of

LARGE = ("br-coast", "tz-simiyu", "dk-jutland")
"""Places of 2.2 km: cells of 20 m, and a checkerboard of `LARGE_BLOCK`."""

LARGE_BLOCK = 480.0
"""In m. Their maps are so smooth that with 160 m the nearest training cell alone, by position, names
86 % (mean IoU) of tz-simiyu; with 480 m still 78 %, with 560 m 77 %, but rare classes run out."""

UNFIT = {
    "de-lowersaxony-forest": "one class (silver fir) over its 60 m",
    "us-newyork-hro": "questions and answers derived from OpenStreetMap, weak and noisy; no map",
    "us-yellowstone-neon": "boxes of single trees, smaller than a 10 m cell",
    "ph-manila-oam": "five tree outlines of many: everything else would be a wrong negative",
    "us-northdakota-naip5m": "no labels, and 5 m pixels",
    "us-vegas-spacenet": "no labels",
    "br-coast-l1c": "the same ground and labels as br-coast",
}
"""Recipes that are no task, and why."""

SCENES = {"fens": 9_001, "hills": 9_002}
"""Style to seed of the synthetic scenes; training must use others."""


def find_tasks(shared: Path, recipes: Path) -> tuple[list[Task], list[Skipped]]:
    """Every labelled place and set, and what is left out.

    Args:
        shared: The folder with `pretrain` and `evaluate`.
        recipes: A folder of recipes; every raster of labels in one is a task.
    """
    tasks: list[Task] = []
    skipped: list[Skipped] = []
    files = sorted(recipes.glob("*.toml")) if recipes.is_dir() else []
    if not files:
        skipped.append(Skipped("places of recipes", f"there is no recipe in {recipes}"))
    for path in files:
        if path.stem in UNFIT:
            skipped.append(Skipped(path.stem, UNFIT[path.stem]))
            continue
        try:
            recipe = read_recipe(path)
            found = _of_recipe(path, recipe)
        except (SkySenseError, OSError) as error:
            skipped.append(Skipped(path.stem, f"it cannot be read: {error}"))
            continue
        tasks += found
        if not found:
            skipped.append(Skipped(path.stem, "it has no raster of labels"))
    for name, folder, make in sets.SETS:
        path = shared / folder
        if path.exists():
            tasks += make(path)
        else:
            skipped.append(Skipped(name, f"{path} is not there"))
    skipped += [Skipped(name, reason) for name, reason in sets.UNFIT]
    return tasks + synthetic_tasks(), skipped


def _of_recipe(path: Path, recipe: Recipe) -> list[Task]:
    names = [
        name for name, source in recipe.labels if Path(source.path).suffix.lower() not in VECTORS
    ]
    if not names:
        return []
    sensors = tuple(image.sensor for image in recipe.images)
    if not recipe.root.is_dir():
        raise SkySenseError(f"its folder {recipe.root} is not there")
    large = path.stem in LARGE

    @lru_cache(maxsize=1)
    def load() -> Images:
        labels = {name: read_labels(recipe, name) for name in names}
        return images_of_stack(load_stack(source=str(path)), labels, 20 if large else 10)

    notes = {name: source.note for name, source in recipe.labels}
    return [
        Task(
            f"{path.stem}: {name.replace('_', ' ')}",
            path.stem,
            "pixels",
            name,
            load,
            sensors,
            block=LARGE_BLOCK if large else BLOCK,
            licence=recipe.licence,
            credit=recipe.credit,
            note=notes[name],
        )
        for name in names
    ]


def synthetic_tasks() -> list[Task]:
    """Scenes nobody saw: the only places with all three sensors at a useful size."""

    def loader(style: str, seed: int) -> Callable[[], Images]:
        @lru_cache(maxsize=1)
        def load() -> Images:
            stack, truth = scene(seed, 640.0, style=style)
            assert set(sensors_of(stack)) == {"hr", "s2", "s1"}
            return images_of_stack(stack, {"land_cover": truth})

        return load

    return [
        Task(
            f"synthetic {style}: land cover",
            f"synthetic {style} seed {SCENES[style]}",
            "pixels",
            "land_cover",
            loader(style, SCENES[style]),
            ("hr", "s2", "s1"),
            licence=LICENCE,
            note="Synthetic: it shows how outputs use sensors together, not how they fare on Earth.",
            synthetic=True,
        )
        for style in STYLES
    ]
