"""A session: which places, how they were encoded, what was labelled and named, and what is on screen.

Plain values that anyone can read, write and compare; nothing here opens an image. What is made of
them again must have the same values, so each place keeps the hash of its features, and the choices
keep what the hash depends on: weights, dates, device, precision, threads and batch.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import shapely
import xarray as xr
from shapely.geometry.base import BaseGeometry

from skysense import __version__
from skysense.analysis.pixels import check_features
from skysense.analysis.places import shape_of
from skysense.analysis.prototypes import check_bank
from skysense.checks import choice, number, shown, text, whole
from skysense.dates import Dates
from skysense.errors import EncoderError, SessionError
from skysense.geojson import as_geojson, parse_geojson
from skysense.hashes import feature_hash
from skysense.merging import said, schedule_of
from skysense.region import Region
from skysense.selected import cells_of
from skysense.sensors import SENSORS

MOST_PLACES = 64
MOST_CLASSES = 64
MOST_MARKS = 20_000
"""Points and polygons of one class."""

MOST_NUMBERS = 200_000
"""Coordinates of all outlines and marks together; more takes seconds to check."""

MOST_PROTOTYPES = 4_096
MOST_EXAMPLES = 30
NAME = 200
"""Longest name (characters)."""

HASH = re.compile(r"sha256:[0-9a-f]{64}")
COLOUR = re.compile(r"#[0-9a-f]{6}")
WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
DEVICE = re.compile(r"[a-z]{1,16}(:\d{1,3})?")
DTYPES = ("float32", "bfloat16", "float64")
RESOLUTIONS = (10, 20, 40)


@dataclass(frozen=True)
class SessionPlace:
    """One place of a session and where its images come from."""

    name: str
    """Unique within the session."""
    source: str = "synthetic"
    """What `load_stack` takes: `synthetic`, a catalogue, or the path of a recipe, image or stack."""
    region: Region | None = None
    """None means all that a file holds."""
    scene: str | None = None
    """One scene of a recipe with several."""
    sensors: tuple[str, ...] | None = None
    """Which of `hr`, `s2`, `s1` are loaded; None for what `load_stack` takes by itself."""
    features: str = ""
    """`feature_hash` of its features; empty if it has none yet."""

    def __post_init__(self) -> None:
        text("the name of a place", self.name, NAME, SessionError, least=1)
        text("source", self.source, 1_000, SessionError, least=1)
        if self.region is not None and not isinstance(self.region, Region):
            raise SessionError(
                f"region={shown(self.region)} of {self.name!r} is not a Region; make one with "
                "Region.around(...), or leave it out."
            )
        if self.region is not None:
            text("the name of a region", self.region.name, NAME, SessionError)
        if self.scene is not None:
            text("scene", self.scene, NAME, SessionError, least=1)
        if self.sensors is not None:
            keys = _sequence("sensors", self.sensors, len(SENSORS))
            for key in keys:
                choice("sensor", key, SENSORS, SessionError)
            object.__setattr__(self, "sensors", tuple(k for k in SENSORS if k in keys))
        _matching("features", self.features, HASH, "sha256: and 64 hexadecimal digits", empty=True)


@dataclass(frozen=True)
class SessionChoices:
    """Everything that decides what the features of a stack are, to the last bit."""

    encoder: str = "skysense-tiny"
    weights: str = ""
    """Identity of the weights: `sha256:...`, `random(seed=0)` or `none`; empty if not loaded yet."""
    checkpoint: str = ""
    """Folder of the weights, where `load_encoder` needs one."""
    dates: Dates = field(default_factory=Dates)
    resolution: int = 10
    """Spacing of the features (m)."""
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 1
    batch_size: int | None = None
    """Windows at once; None leaves it to the memory."""
    memory_gb: float = 4.0
    """What encoding may hold (GB)."""
    merge: str = ""
    """Before which stages SkySense V2 merges tokens of high resolution: `2,3,4`; empty for others."""

    def __post_init__(self) -> None:
        _matching("encoder", self.encoder, WORD, "letters, digits and dashes")
        text("weights", self.weights, NAME, SessionError)
        text("checkpoint", self.checkpoint, 1_000, SessionError)
        if self.merge:
            object.__setattr__(self, "merge", _merging(self.merge))
        if not isinstance(self.dates, Dates):
            raise SessionError(
                f"dates={shown(self.dates)} is not a rule; make one with Dates(...)."
            )
        if whole("resolution", self.resolution, 10, 40, SessionError) not in RESOLUTIONS:
            raise SessionError(f"resolution={self.resolution} m is not one of {RESOLUTIONS}.")
        _matching("device", self.device, DEVICE, "the name of a device such as cpu or cuda:0")
        choice("dtype", self.dtype, DTYPES, SessionError)
        whole("threads", self.threads, 1, 4_096, SessionError)
        if self.batch_size is not None:
            whole("batch_size", self.batch_size, 1, 1_000_000, SessionError)
        number("memory_gb", self.memory_gb, 0.01, 1e6, SessionError)

    @classmethod
    def of(
        cls, features: xr.DataArray, dates: Dates | None = None, **others: Any
    ) -> "SessionChoices":
        """The choices that features were made with.

        Args:
            features: (feature, y, x) from `embed`.
            dates: The rule that chose their dates.
            **others: `checkpoint` or `memory_gb`, which features do not say.

        Raises:
            SessionError: If the features do not say how they were made.
        """
        check_features(features)
        names = ("encoder", "weights", "resolution", "device", "dtype", "threads", "batch_size")
        absent = [name for name in names if name not in features.attrs]
        if absent:
            raise SessionError(
                f"These features do not say their {', '.join(absent)}; embed(stack, encoder) makes "
                "features that do."
            )
        facts = {name: features.attrs[name] for name in names}
        for name in ("resolution", "threads", "batch_size"):
            facts[name] = int(facts[name])
        facts["merge"] = features.attrs.get("merge", "")
        return cls(**facts, dates=dates or Dates(), **others)


def _merging(merge: str) -> str:
    try:
        return said(schedule_of(merge))
    except EncoderError as error:
        raise SessionError(str(error)) from error


@dataclass(frozen=True)
class SessionClass:
    """A class of the user: name, colour and what was marked for it, wherever it lies."""

    name: str
    colour: str = "#0072b2"
    """`#rrggbb`."""
    places: tuple[tuple[float, float] | BaseGeometry, ...] = ()
    """(lon, lat) points and polygons in degrees; GeoJSON is taken too."""

    def __post_init__(self) -> None:
        text("the name of a class", self.name, NAME, SessionError, least=1)
        _matching("colour", self.colour, COLOUR, "a colour such as #0072b2")
        given = _sequence(f"the marks of {self.name!r}", self.places, MOST_MARKS)
        object.__setattr__(self, "places", tuple(_mark(each) for each in given))


@dataclass(frozen=True)
class SessionView:
    """What is on the screen."""

    place: str = ""
    """Name of the place that is shown; empty for the first."""
    top: str = "features"
    """Layer on top."""
    opacity: float = 0.85
    axes: str = "PCA"
    """What the scatter plot shows."""
    groups: int = 8
    """How many clusters."""
    prototypes: int = 24
    """How many prototypes, where no bank is kept."""
    basis_of: str = ""
    """Name of the place whose features gave the colours; empty for the first that has some."""
    centre: tuple[float, float] | None = None
    """(lon, lat) of the middle of the map (degrees)."""
    zoom: float | None = None
    """Zoom of the web map, 0..24."""
    tab: str = "Scatter"
    """Panel beside the map."""
    like: tuple[tuple[float, float], ...] = ()
    """(lon, lat) of what is searched for (degrees)."""
    unlike: tuple[tuple[float, float], ...] = ()
    """(lon, lat) of what is not."""
    threshold: float | None = None
    """Least similarity that is found, -2..2: with counter-examples it is a difference."""
    selected: str = ""
    """Cells of the shown place that are selected, as `skysense.selected` writes them; empty for none."""

    def __post_init__(self) -> None:
        text("view: place", self.place, NAME, SessionError)
        text("view: basis_of", self.basis_of, NAME, SessionError)
        _matching("top", self.top, WORD, "the name of a layer")
        _matching("axes", self.axes, WORD, "the name of a projection")
        number("opacity", self.opacity, 0, 1, SessionError)
        whole("groups", self.groups, 2, 64, SessionError)
        whole("prototypes", self.prototypes, 2, MOST_PROTOTYPES, SessionError)
        if self.centre is not None:
            object.__setattr__(self, "centre", _point(self.centre))
        if self.zoom is not None:
            number("zoom", self.zoom, 0, 24, SessionError)
        _matching("tab", self.tab, WORD, "the name of a panel")
        for name in ("like", "unlike"):
            places = _sequence(f"view: {name}", getattr(self, name), MOST_EXAMPLES)
            object.__setattr__(self, name, tuple(_point(each) for each in places))
        if self.threshold is not None:
            number("threshold", self.threshold, -2, 2, SessionError)
        if self.selected != "":
            cells_of(self.selected)


@dataclass(frozen=True)
class Session:
    """All of it.

    Raises:
        SessionError: For a value that cannot be, two places or classes of one name, or names that
            nothing has.
    """

    places: tuple[SessionPlace, ...] = ()
    choices: SessionChoices = field(default_factory=SessionChoices)
    labels: tuple[SessionClass, ...] = ()
    prototypes: tuple[str, ...] = ()
    """Names of the prototypes, in the order of the bank."""
    bank: xr.DataArray | None = field(default=None, compare=False, repr=False)
    """(prototype, feature) float32 from `fit_prototypes`, with its `centre`; None for none yet."""
    view: SessionView = field(default_factory=SessionView)
    version: str = __version__
    """Of the package that it was made with."""

    def __post_init__(self) -> None:
        for name, kind, most in (
            ("places", SessionPlace, MOST_PLACES),
            ("labels", SessionClass, MOST_CLASSES),
            ("prototypes", str, MOST_PROTOTYPES),
        ):
            several = _sequence(name, getattr(self, name), most)
            if wrong := [each for each in several if not isinstance(each, kind)]:
                raise SessionError(f"{name}: {shown(wrong[0])} is not a {kind.__name__}.")
            object.__setattr__(self, name, several)
        for name in self.prototypes:
            text("the name of a prototype", name, NAME, SessionError)
        for what, several in (("places", self.places), ("classes", self.labels)):
            names = [each.name for each in several]
            if twice := [name for name in names if names.count(name) > 1]:
                raise SessionError(f"Two {what} are called {twice[0]!r}; give each its own name.")
        known = {place.name for place in self.places}
        for name, kind in (("choices", SessionChoices), ("view", SessionView)):
            if not isinstance(getattr(self, name), kind):
                raise SessionError(
                    f"{name}={shown(getattr(self, name))} is no {kind.__name__}; make one, or leave "
                    "it out."
                )
        text("version", self.version, 40, SessionError)
        known = {"", *(place.name for place in self.places)}
        for name in (self.view.place, self.view.basis_of):
            if name not in known:
                raise SessionError(
                    f"The view names a place {name!r} that the session does not have; leave it empty."
                )
        regions = [place.region.outline for place in self.places if place.region is not None]
        marks = [mark for each in self.labels for mark in each.places]
        shapes = [*regions, *(mark for mark in marks if not isinstance(mark, tuple))]
        corners = len(marks) + (shapely.get_num_coordinates(shapes).sum() if shapes else 0)
        check_count(2 * int(corners))
        if self.bank is not None:
            self._check_bank()

    def _check_bank(self) -> None:
        check_bank(self.bank)  # type: ignore[arg-type]
        count = self.bank.sizes["prototype"]  # type: ignore[union-attr]
        if self.prototypes and len(self.prototypes) != count:
            raise SessionError(
                f"There are {len(self.prototypes)} names for {count} prototypes; give one each."
            )

    def place(self, name: str) -> SessionPlace:
        """The place of a name.

        Raises:
            SessionError: If there is none.
        """
        for each in self.places:
            if each.name == name:
                return each
        raise SessionError(
            f"There is no place {shown(name)} in the session; it has "
            f"{', '.join(repr(p.name) for p in self.places) or 'none'}."
        )

    @property
    def encoded(self) -> tuple[SessionPlace, ...]:
        """The places that have features; all of them where none has."""
        return tuple(place for place in self.places if place.features) or self.places

    def only(self, names: Iterable[str]) -> "Session":
        """The session with some of its places; a view of another one becomes that of the first.

        Raises:
            SessionError: If a name is no place of the session.
        """
        kept = [self.place(name).name for name in names]
        looked_at = self.view.place or next((place.name for place in self.places), "")
        view = replace(
            self.view,
            selected=self.view.selected if looked_at in kept else "",
            place=self.view.place if self.view.place in kept else "",
            basis_of=self.view.basis_of if self.view.basis_of in kept else "",
        )
        return replace(self, places=tuple(p for p in self.places if p.name in kept), view=view)

    def with_features(self, features: Mapping[str, xr.DataArray]) -> "Session":
        """The session with the hashes of these features, {name of the place: features}."""
        hashes = {self.place(name).name: feature_hash(each) for name, each in features.items()}
        places = (replace(p, features=hashes.get(p.name, p.features)) for p in self.places)
        return replace(self, places=tuple(places))


def check_count(numbers: int) -> None:
    """Raise `SessionError` for more coordinates than a session may hold."""
    if numbers > MOST_NUMBERS:
        raise SessionError(
            f"Outlines and marks hold more than {MOST_NUMBERS:,} numbers, which is all that a session "
            "may hold. Simplify the polygons."
        )


def _matching(name: str, value: Any, rule: re.Pattern, words: str, empty: bool = False) -> None:
    if not (isinstance(value, str) and (rule.fullmatch(value) or (empty and not value))):
        raise SessionError(f"{name}={shown(value)} is not {words}; give one that is.")


def _sequence(name: str, value: Any, most: int) -> tuple:
    if not isinstance(value, list | tuple):
        raise SessionError(f"{name}: {shown(value)} is not a list; give one.")
    if len(value) > most:
        raise SessionError(f"{name}: {len(value):,} are more than the {most:,} a session may hold.")
    return tuple(value)


def _point(value: Any) -> tuple[float, float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise SessionError(f"{shown(value)} is not a place; give (lon, lat) in degrees.")
    lon = number("lon", value[0], -180, 180, SessionError)
    return lon, number("lat", value[1], -90, 90, SessionError)


def _mark(value: Any) -> tuple[float, float] | BaseGeometry:
    """A point as two numbers, or a polygon."""
    if isinstance(value, list | tuple):
        return _point(value)
    geometry = parse_geojson(value)[0] if isinstance(value, Mapping) else shape_of(value)
    if not isinstance(geometry, shapely.Polygon | shapely.MultiPolygon):
        raise SessionError(
            f"A mark is a {geometry.geom_type}; give (lon, lat) or a polygon in degrees."
        )
    return shape_of(geometry)


def mark_json(mark: tuple[float, float] | BaseGeometry) -> Any:
    """A mark of a class as JSON: [lon, lat] or a GeoJSON geometry."""
    return list(mark) if isinstance(mark, tuple) else as_geojson(mark)
