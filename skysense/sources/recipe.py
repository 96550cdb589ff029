"""Recipes: a small TOML file that says what is in somebody's image files.

A GeoTIFF does not say whether 4,312 means a reflectance of 0.43, whether its first band is blue,
or when it was taken. A recipe says it once, in words a person can check. `docs/recipes.md` is the
reference for people; the dataclasses here are the same thing for code. Reading is strict: an
unknown key is refused by name, because a misspelt `scales` would otherwise shift every value.
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skysense.checks import shown
from skysense.disk import path_of
from skysense.errors import RecipeError
from skysense.sensors import SENSORS
from skysense.sources.recipe_fields import (
    Fact,
    LabelSource,
    MaskRule,
    Part,
    Table,
    Times,
    read_crs,
    read_fact,
    read_labels_table,
    read_mask,
    read_part,
    read_times,
)

MAX_BYTES = 1_000_000
"""A recipe larger than this (bytes) is not a recipe."""

UNITS = {
    "s2": ("reflectance",),
    "s1": ("dB", "power", "amplitude"),
    "hr": ("0..255",),
}
"""What stored values may mean, per sensor, once `scale` and `offset` are applied."""

LEVELS = {"s2": ("L2A", "L1C"), "s1": ("GRD", "RTC"), "hr": ()}
BACKSCATTER = ("sigma0", "gamma0")
DIRECTIONS = ("ascending", "descending")

_TOP = ("title", "licence", "credit", "root", "scenes", "notes", "sensor", "labels")
_SENSOR = ("name", "file", "units", "scale", "offset", "db_offset", "nodata", "time", "mask", "crs",
           "bounds", "approximate", "notes", "item", "orbit_direction", "orbit_number", "baseline",
           "level", "backscatter")  # fmt: skip


@dataclass(frozen=True)
class Images:
    """One `[[sensor]]` table: images of one sensor that share bands, units and grid."""

    sensor: str
    """`hr`, `s2` or `s1`."""
    files: tuple[Part, ...]
    """Parts whose bands belong together, each with the same dates."""
    units: str
    """One of `UNITS[sensor]`: what a value means after `scale` and `offset`."""
    times: Times
    scale: float = 1.0
    offset: float = 0.0
    """value = stored × scale + offset, after the file's own scale."""
    db_offset: float = 0.0
    """Added to decibels at the end (dB); for radar stored as amplitude."""
    nodata: tuple[float, ...] = ()
    """Stored values that mean nothing was measured."""
    masks: tuple[MaskRule, ...] = ()
    crs: str = ""
    """Given where the file has none, e.g. `EPSG:32632`."""
    bounds: tuple[float, float, float, float] | None = None
    """(left, bottom, right, top) in `crs`; given where the file has none."""
    approximate: bool = False
    facts: tuple[tuple[str, Fact], ...] = ()
    """Per-date facts by the names of `skysense.stack.PER_DATE`."""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_images(self)


@dataclass(frozen=True)
class Recipe:
    """What a set of image files holds.

    `root` is the folder that every path of the recipe must stay inside.
    """

    root: Path
    title: str
    images: tuple[Images, ...]
    licence: str = "not stated in the recipe"
    credit: str = ""
    scenes: tuple[str, ...] = ()
    """Names that may stand for `{scene}` in paths; empty if the recipe is one place."""
    labels: tuple[tuple[str, LabelSource], ...] = ()
    notes: tuple[str, ...] = ()

    def find(self, pattern: str, scene: str = "") -> list[Path]:
        """The files a path or glob pattern of this recipe names, sorted by name.

        Raises:
            RecipeError: If it leaves the root, names nothing, or names no regular file.
        """
        return find_files(self.root, pattern.replace("{scene}", scene))

    def choose_scene(self, scene: str | None) -> str:
        """The scene to open: the one asked for, or the only one there is.

        Raises:
            RecipeError: If there is no such scene, or several and none was asked for.
        """
        if scene is not None and not isinstance(scene, str):
            raise RecipeError(f"scene={shown(scene)} is not the name of a scene; give text.")
        if not self.scenes:
            if scene:
                raise RecipeError(f"The recipe {self.title!r} has no scenes; leave out {scene!r}.")
            return ""
        if scene is None and len(self.scenes) == 1:
            return self.scenes[0]
        if scene not in self.scenes:
            said = f"scene={scene!r} is not in" if scene else "Say which scene of"
            raise RecipeError(
                f"{said} the recipe {self.title!r}; it has {_listed(self.scenes)}. Pass scene=NAME."
            )
        return scene


def read_recipe(path: str | Path, root: str | Path | None = None) -> Recipe:
    """Read and check a recipe; no image is opened.

    Args:
        path: A TOML file, described in `docs/recipes.md`.
        root: Folder of the image files, instead of the one the recipe names.

    Raises:
        RecipeError: Naming the key that is unknown, missing or of the wrong kind.
    """
    path = path_of(path, RecipeError)
    if not path.is_file():
        raise RecipeError(f"There is no recipe at {path}.")
    if path.stat().st_size > MAX_BYTES:
        raise RecipeError(f"{path} is {path.stat().st_size:,} bytes, too large for a recipe.")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no TOML, no UTF-8
        raise RecipeError(f"{path.name} is not readable TOML: {error}.") from error
    try:
        return parse_recipe(content, path.parent, root)
    except RecipeError as error:
        raise RecipeError(f"{path.name}: {error}") from error


def parse_recipe(content: dict[str, Any], folder: Path, root: str | Path | None = None) -> Recipe:
    """A checked `Recipe` from parsed TOML; `folder` is what `root` is relative to.

    Raises:
        RecipeError: Naming the key that is unknown, missing or of the wrong kind.
    """
    top = Table(content, "the recipe", _TOP)
    stated = top.text("root", ".")
    if Path(stated).is_absolute() or "://" in stated or stated.startswith("~"):
        raise RecipeError(
            f"root = {stated!r} must be relative to the recipe's own folder. For a folder "
            "elsewhere, leave it out and pass root=... to load_stack."
        )
    tables = top.tables("sensor")
    if not tables:
        raise RecipeError("there is no [[sensor]] table, so no images are described.")
    scenes = top.texts("scenes")
    for name in scenes:
        if not re.fullmatch(r"[\w\-.]+", name) or ".." in name:
            raise RecipeError(f"scenes: {name!r} may hold only letters, digits, '_', '-' and '.'.")
    labels = top.table("labels")
    return Recipe(
        root=_folder(path_of(root, RecipeError, "root") if root is not None else folder / stated),
        title=top.text("title"),
        images=tuple(_read_images(t, f"[[sensor]] {i}") for i, t in enumerate(tables, start=1)),
        licence=top.text("licence", Recipe.licence),
        credit=top.text("credit", ""),
        scenes=scenes,
        labels=tuple((name, read_labels_table(name, value)) for name, value in labels.items()),
        notes=top.texts("notes"),
    )


def find_files(root: Path, pattern: str) -> list[Path]:
    """Regular files under `root` that a relative path or glob pattern names, sorted by name.

    Symbolic links are followed and their targets must lie under `root` too.

    Raises:
        RecipeError: If the pattern could leave `root`, or names nothing.
    """
    steps = Path(pattern).parts
    if (not pattern or Path(pattern).is_absolute() or ".." in steps or ":" in pattern
            or "\\" in pattern or "\0" in pattern or "{" in pattern or pattern.startswith("~")
            or "**" in pattern):  # fmt: skip
        raise RecipeError(
            f"path = {pattern!r} must be a plain relative path inside the recipe's root: no "
            "absolute path, no '..', no address, no '**'."
        )
    home = root.resolve()
    found = sorted(root.glob(pattern)) if any(c in pattern for c in "*?[") else [root / pattern]
    for each in found:
        if not each.resolve().is_relative_to(home):
            raise RecipeError(f"{each.name} leads outside the recipe's root by a symbolic link.")
    store = pattern.rstrip("/").lower().endswith(".zarr")
    kept = [f for f in found if (f.is_dir() if store else f.is_file())]
    if not kept:
        raise RecipeError(
            f"there is no file {pattern!r} under {root}. Correct the path, or pass root=... where "
            "the files are."
        )
    if len(kept) > 10_000:
        raise RecipeError(f"{pattern!r} names {len(kept):,} files; 10,000 is the most.")
    return kept


def _read_images(content: dict[str, Any], where: str) -> Images:
    table = Table(content, where, _SENSOR)
    name = table.choice("name", tuple(SENSORS))
    facts = []
    for key, allowed in (
        ("item", ()),
        ("orbit_direction", DIRECTIONS),
        ("orbit_number", ()),
        ("baseline", ()),
        ("level", LEVELS[name]),
        ("backscatter", BACKSCATTER),
    ):
        if key in content:
            facts.append((key, read_fact(content[key], f"{where} {key}", allowed)))
    parts = table.tables("file")
    return Images(
        sensor=name,
        files=tuple(read_part(p, name, f"{where} file {i}") for i, p in enumerate(parts, 1)),
        units=table.choice("units", UNITS[name]),
        times=read_times(content.get("time"), where),
        scale=table.number("scale", 1.0),
        offset=table.number("offset", 0.0),
        db_offset=table.number("db_offset", 0.0),
        nodata=table.numbers("nodata"),
        masks=tuple(
            read_mask(m, f"{where} mask {i}") for i, m in enumerate(table.tables("mask"), 1)
        ),
        crs=table.text("crs", ""),
        bounds=table.bounds("bounds"),
        approximate=table.flag("approximate"),
        facts=tuple(facts),
        notes=table.texts("notes"),
    )


def _check_images(images: Images) -> None:
    """What no single key can show to be wrong."""
    spec = SENSORS[images.sensor]
    if not images.files:
        raise RecipeError(f"{spec.title}: there is no file. Add [[sensor.file]] with a path.")
    if images.units not in UNITS[images.sensor]:
        raise RecipeError(
            f"{spec.title}: units = {images.units!r}; use one of {list(UNITS[images.sensor])}."
        )
    names = [b.name for part in images.files for b in part.bands if b.name in spec.known]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise RecipeError(f"{spec.title}: {', '.join(twice)} is listed more than once.")
    if not names:
        raise RecipeError(f"{spec.title}: none of the listed bands is one of {list(spec.known)}.")
    if images.scale == 0:
        raise RecipeError(f"{spec.title}: scale = 0 would make every value the same.")
    if images.db_offset and images.sensor != "s1":
        raise RecipeError(f"{spec.title}: db_offset is for Sentinel-1; use offset.")
    if images.crs:
        read_crs(images.crs)
    if images.bounds is not None and not images.crs:
        raise RecipeError(f"{spec.title}: bounds need a crs, such as crs = 'EPSG:32632'.")
    if images.approximate and images.bounds is None:
        raise RecipeError(f"{spec.title}: approximate = true needs the guessed crs and bounds.")


def _folder(root: Path) -> Path:
    if not root.is_dir():
        raise RecipeError(
            f"the folder of its images, {root}, is not there. Correct `root`, or pass root=... to "
            "load_stack."
        )
    return root


def _listed(names: tuple[str, ...], most: int = 30) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
