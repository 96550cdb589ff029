"""What a session shows: plain parameters, no Panel, no computing.

Panes read these and are told when one changes; only `app.flow.Flow` writes them.
"""

from dataclasses import dataclass, field

import numpy as np
import param
import xarray as xr

from app.places import Place
from skysense.analysis import LabelClass, SpatialScore
from skysense.dates import Acquisition, Dates
from skysense.merging import NONE, USUAL
from skysense.stack import sensors_of

LAYERS: dict[str, str] = {
    "colour": "True colour",
    "features": "Features",
    "prototypes": "Prototypes",
    "groups": "Clusters",
    "classes": "Classes",
    "similarity": "Similarity",
    "change": "Change",
    "mattered": "Dates",
    "inside": "Inside",
}
"""What the map can show on top: key and what it is called on the screen."""

TABS = ("Scatter", "Prototypes", "Compare", "Search", "Time", "Inside", "Label")
"""Panels beside the map."""

ON_DEMAND = ("change", "mattered", "inside")
"""Layers that are offered once somebody has asked for them in the tab *Time* or *Inside*."""

MODES: dict[str, str] = {
    "inspect": "Inspect",
    "select": "Select",
    "label": "Label",
}
"""What a click or a drawing on the map means."""

TOOLS: dict[str, str] = {"point": "Point", "area": "Area", "erase": "Erase"}
"""What a click or a drawing does in the mode *label*."""
COMBINE: dict[str, str] = {"replace": "Replace", "add": "Add", "remove": "Remove"}
"""What a new shape does to a selection."""

MERGES: dict[str, str] = {USUAL: "10 m", "2,3": "5 m", "2": "2.5 m", NONE: "1.25 m"}
"""Merge schedules of SkySense V2 and how large its tokens of high resolution are with each."""


def is_v2(encoder: str) -> bool:
    """Whether an encoder, by its name, is SkySense V2."""
    return encoder.startswith("skysense-v2")


DRAWING_PLACE = "place"
"""The mode in which a drawing becomes a new place; entered from its dialog only."""


@dataclass(frozen=True)
class Status:
    """How one pane is doing."""

    kind: str = "empty"
    """`empty`, `working`, `ready` or `failed`."""
    sentence: str = ""
    """What is going on, or what failed and what to do."""
    share: float | None = None
    """How much of the work is done, 0..1; None if unknown."""


def working(sentence: str, share: float | None = None) -> Status:
    """Something is being computed."""
    return Status("working", sentence, share)


def failed(sentence: str) -> Status:
    """Something could not be done, and why."""
    return Status("failed", sentence)


READY = Status("ready")
EMPTY = Status("empty")


@dataclass(frozen=True)
class Example:
    """A place of a search: what is looked for, or what is not."""

    lon: float
    lat: float
    like: bool = True


@dataclass(frozen=True)
class Choices:
    """Everything that decides what the features of a place are; a key of caches."""

    place: Place
    encoder: str
    dates: Dates = field(default_factory=Dates)
    resolution: int = 10
    merge: str = ""
    """Before which stages SkySense V2 merges tokens of high resolution; empty for the usual
    schedule, and wherever it decides nothing."""
    part: str = ""
    """Names a run that was cancelled on the way, so that nothing made of its features is kept for
    those that are whole."""


@dataclass(frozen=True)
class Opened:
    """A place in use, and the colour that is its own in every pane."""

    place: Place
    colour: str
    """`#rrggbb`."""


class State(param.Parameterized):
    """One session."""

    places = param.List(default=[], item_type=Place, doc="Places that can be chosen.")
    place = param.ClassSelector(class_=Place, allow_None=True, default=None)
    opened = param.List(default=[], item_type=Opened, doc="Places in use, oldest first.")
    encoder = param.String("skysense-tiny", doc="Name of the encoder to encode with.")
    dates = param.ClassSelector(class_=Dates, default=Dates(), instantiate=False)
    resolution = param.Selector(default=10, objects=[10, 20, 40], doc="Spacing of features (m).")

    merge = param.Selector(default=USUAL, objects=list(MERGES), doc="Schedule of V2, if it counts.")

    stack = param.ClassSelector(class_=xr.DataTree, allow_None=True, default=None)
    rail = param.List(default=[], item_type=Acquisition, doc="Dates of the stack.")
    cost = param.String("", doc="What encoding will need, a sentence.")
    shown = param.Tuple(default=("", 0), length=2, doc="(sensor, date number) of the true colour.")

    features = param.ClassSelector(class_=xr.DataArray, allow_None=True, default=None)
    made_with = param.ClassSelector(class_=Choices, allow_None=True, default=None)
    fields = param.Dict(default={}, doc="Layer key to field.")
    coordinates = param.ClassSelector(class_=xr.DataArray, allow_None=True, default=None)
    axes = param.Selector(default="PCA", objects=["PCA", "UMAP"])
    bank = param.ClassSelector(class_=xr.DataArray, allow_None=True, default=None)
    groups = param.Integer(8, bounds=(2, 20), doc="How many clusters.")
    prototypes = param.Integer(24, bounds=(2, 64), doc="How many prototypes.")
    basis_of = param.String("", doc="Name of the place whose features gave the colours.")

    top = param.Selector(default="features", objects=list(LAYERS))
    opacity = param.Number(0.85, bounds=(0.0, 1.0))
    mode = param.Selector(default="inspect", objects=[*MODES, DRAWING_PLACE])
    selection = param.Array(default=None, allow_None=True, doc="(y, x) bool on the features' grid.")
    combine = param.Selector(default="replace", objects=list(COMBINE))
    points_by = param.String("", doc="Layer whose colours points have; empty: as on the map.")
    here = param.Tuple(default=None, allow_None=True, length=2, doc="(lon, lat) last clicked.")

    measured = param.String("", doc="Values of the shown date at `here`, in words.")

    classes = param.List(default=[], item_type=LabelClass)
    active_class = param.Integer(0, bounds=(0, None))
    agreement = param.Parameter(default=None, doc="How the classes agree with a label file.")
    score = param.ClassSelector(class_=SpatialScore, allow_None=True, default=None)
    tool = param.Selector(default="point", objects=list(TOOLS))
    live = param.Boolean(True, doc="Segment after every change of the labels.")
    stale = param.Boolean(False, doc="The map of classes is of labels that have changed since.")
    marks = param.Boolean(True, doc="Draw points and areas of the classes on the map.")
    probabilities = param.ClassSelector(class_=xr.DataArray, allow_None=True, default=None)
    fade = param.Boolean(False, doc="Draw classes fainter where they are less sure.")
    offered = param.Array(default=None, allow_None=True, doc="(y, x) bool, could become a class.")

    tab = param.Selector(default=TABS[0], objects=list(TABS), doc="Panel beside the map.")

    examples = param.List(default=[], item_type=Example, doc="Places of the search.")
    searching = param.Boolean(False, doc="Clicks on the map are examples of the search.")
    like = param.Boolean(True, doc="The next example is one of what is looked for.")
    threshold = param.Number(default=None, allow_None=True, doc="Least similarity that is found.")
    found = param.ClassSelector(class_=xr.DataArray, allow_None=True, default=None,
                                doc="The similarity where it reaches the threshold.")  # fmt: skip

    atlas = param.Parameter(default=None, doc="What the prototypes look like, or None.")

    comparison = param.Parameter(default=None, doc="Places seen through one bank, or None.")
    pair = param.Parameter(default=None, doc="(place, other) whose distance is looked into.")
    years = param.Dict(default={}, doc="Place to two years of it, compared.")
    gaps = param.Dict(default={}, doc="(place, other) to days between their dates in the year.")

    mattered = param.ClassSelector(class_=xr.DataArray, allow_None=True, default=None,
                                   doc="(dropped, y, x) what leaving each out changes.")  # fmt: skip
    change = param.Parameter(default=None, doc="An `app.closer.Change`, or None.")
    least_change = param.Number(0.1, bounds=(0.0, 2.0), doc="Cosine distance that counts.")
    doubt = param.ClassSelector(class_=xr.DataArray, allow_None=True, default=None)
    unsure = param.Boolean(False, doc="Draw the layer on top fainter where it is in doubt.")
    null = param.String("", doc="Null model shown instead of the layer on top, of `closer.NULLS`.")
    instead = param.ClassSelector(class_=xr.DataArray, allow_None=True, default=None,
                                  doc="What is drawn instead of the layer on top.")  # fmt: skip

    inside = param.Dict(default={}, doc="What was found inside the encoder: key to field.")
    looked = param.String("", doc="Which of it is the layer *Inside*.")

    large = param.Boolean(False, doc="Large type: for teaching, on a projector.")

    notice = param.String("", doc="What the user must know about the place that is shown.")
    statuses = param.Dict(default={}, doc="Pane to Status.")

    @property
    def choices(self) -> Choices | None:
        """What *Encode* would encode now."""
        if self.place is None:
            return None
        merge = self.merge if self.merges and self.merge != USUAL else ""
        return Choices(self.place, self.encoder, self.dates, self.resolution, merge)

    @property
    def merges(self) -> bool:
        """Whether a merge schedule decides anything: of SkySense V2, where there is high resolution."""
        there = self.stack is not None and "hr" in sensors_of(self.stack)
        return is_v2(self.encoder) and there and self.dates.hr > 0

    @property
    def drawing_areas(self) -> bool:
        """Whether drawings on the map are areas of the active class; clicks mean nothing then."""
        return self.mode == "label" and self.tool == "area"

    @property
    def top_field(self) -> xr.DataArray | None:
        """The field of the layer on top as the map draws it; the same object until it changes."""
        field = self.fields.get(self.top)
        if field is not None and self.instead is not None:
            return self.instead
        if field is not None and self.top == "classes" and self.fade:
            return self.probabilities
        if field is not None and self.top == "similarity" and self.found is not None:
            return self.found
        return field

    def status(self, pane: str) -> Status:
        """How a pane is doing."""
        return self.statuses.get(pane, EMPTY)

    def set_status(self, pane: str, status: Status) -> None:
        """Say how a pane is doing."""
        if self.status(pane) != status:
            self.statuses = {**self.statuses, pane: status}

    def set_field(self, layer: str, value: xr.DataArray | None) -> None:
        """Put a field under a layer, or take it away."""
        others = {key: each for key, each in self.fields.items() if key != layer}
        self.fields = others if value is None else {**others, layer: value}

    @property
    def selected_count(self) -> int:
        """How many cells are selected."""
        return 0 if self.selection is None else int(np.count_nonzero(self.selection))
