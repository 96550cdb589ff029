"""Classes grown from clicks: marks in, a live segmentation out, scored on ground held out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from app.classes import coloured, file_of, without
from app.history import History
from app.state import EMPTY, READY, TOOLS, LabelClass, State, failed
from skysense import analysis, labels_file
from skysense.analysis.marks import points_of
from skysense.analysis.places import nearest_mark
from skysense.errors import RegionError, SkySenseError
from skysense.geojson import parse_geojson

if TYPE_CHECKING:
    from app.flow import Flow

MOST_CLASSES = 12
"""More colours than this cannot be told apart."""

PER_CLASS = 40
"""Training points taken from a label file, per class; the other cells are for the score."""

SUFFIXES = (".geojson", ".json", ".gpkg", ".tif", ".tiff")

REACH = 3.0
"""How many cells beside a mark a click may be to erase it."""

FIRST_NAMES = ("Class A", "Class B")


class Labelling:
    """The verbs of the label panel."""

    def __init__(self, flow: "Flow") -> None:
        self._flow = flow
        self._history: History[tuple[tuple[LabelClass, ...], int]] = History()
        self.truth: Any = None
        """(y, x) categorical field of the label file, or None."""
        self.truth_name = ""

    @property
    def state(self) -> State:
        """The session's state."""
        return self._flow.state

    @property
    def labels(self) -> analysis.Labels:
        """The classes with their marks."""
        return analysis.Labels(tuple(self.state.classes))

    def reset(self) -> None:
        """Another place: classes keep their names and colours, not their marks."""
        self._history.clear()
        self.truth = None
        kept = [each.empty for each in self.state.classes]
        self.state.param.update(
            classes=kept or coloured([LabelClass(name) for name in FIRST_NAMES]),
            active_class=0, agreement=None, score=None, probabilities=None, stale=False,
            offered=None,
        )  # fmt: skip

    # ----------------------------------------------------------------------------------- classes

    def pick(self, number: int) -> None:
        """Clicks belong to this class from now on; a number without a class changes nothing."""
        if 0 <= number < len(self.state.classes):
            tool = "point" if self.state.tool == "erase" else self.state.tool
            self.state.param.update(active_class=number, mode="label", tool=tool)

    def choose_tool(self, tool: str) -> None:
        """What a click does: `point`, `area` or `erase`."""
        if tool in TOOLS:
            self.state.param.update(tool=tool, mode="label")

    def add_class(self, name: str) -> None:
        """One more class, and the one that clicks now belong to."""
        made = self._new_class(name)
        if made is not None:
            self._change([*self.state.classes, made], len(self.state.classes))
            self.state.set_status("label", READY if "classes" in self.state.fields else EMPTY)

    def _new_class(self, name: str) -> LabelClass | None:
        name = name.strip()[:40]
        classes = self.state.classes
        if not name:
            self.refuse("Give the class a name first.")
        elif name in [each.name for each in classes]:
            self.refuse(f"There is a class “{name}” already.")
        elif len(classes) >= MOST_CLASSES:
            self.refuse(f"{MOST_CLASSES} classes is the most that colours can tell apart.")
        else:
            return coloured([*classes, LabelClass(name)])[-1]
        return None

    def rename(self, number: int, name: str) -> None:
        """Give a class another name."""
        name = name.strip()[:40]
        others = [each.name for i, each in enumerate(self.state.classes) if i != number]
        if not name or name in others:
            self.refuse("A class needs a name of its own. Type it first.")
            return
        self._replace(number, replace(self.state.classes[number], name=name))

    def delete(self, number: int) -> None:
        """Take a class away with its marks; the others keep their colours."""
        kept = [each for i, each in enumerate(self.state.classes) if i != number]
        if kept and len(kept) < len(self.state.classes):
            active = self.state.active_class
            self._change(kept, min(active - (number < active), len(kept) - 1))
            self.refresh()

    # ------------------------------------------------------------------------------------- marks

    def click(self, lon: float, lat: float) -> None:
        """A click on the map: a point of the active class, or the end of a mark."""
        if self.state.tool == "erase":
            self.erase(lon, lat)
        elif self.state.tool == "point":
            self.add_point(lon, lat)

    def add_point(self, lon: float, lat: float) -> None:
        """A point for the active class."""
        number = self.state.active_class
        if number < len(self.state.classes):
            self._replace(number, self.state.classes[number].with_point(lon, lat))

    def add_area(self, geometry: dict[str, Any]) -> None:
        """A polygon (GeoJSON, degrees) for the active class."""
        try:
            polygon, _ = parse_geojson(geometry)
        except RegionError as error:
            self.refuse(str(error))
            return
        number = self.state.active_class
        if number < len(self.state.classes):
            self._replace(number, self.state.classes[number].with_polygon(polygon))

    def erase(self, lon: float, lat: float) -> None:
        """Take away the nearest mark within a few cells."""
        features, classes = self.state.features, self.state.classes
        if features is None:
            return
        reach = REACH * abs(float(features.odc.geobox.resolution.x))
        places = [(i, j, place) for i, c in enumerate(classes) for j, place in enumerate(c.places)]
        found = nearest_mark(features, [place for *_, place in places], lon, lat, reach)
        if found is None:
            self.refuse(f"No point or area is within {reach:g} m of that click.")
            return
        number, which, _ = places[found]
        self._replace(number, classes[number].without(which))

    def clear(self) -> None:
        """Take away all marks."""
        self._change([each.empty for each in self.state.classes], self.state.active_class)
        self.refresh()

    def promote(self, cells: np.ndarray, name: str) -> None:
        """Make a class of a group of cells, (y, x) bool, by a sample of them as points."""
        features = self.state.features
        if features is None:
            self.refuse("Encode the place first; a class is made of its cells.")
            return
        try:
            points = points_of(cells, features)
        except SkySenseError as error:
            self.refuse(str(error))
            return
        classes = list(self.state.classes)
        unused = [
            i for i, each in enumerate(classes) if not each.places and each.name in FIRST_NAMES
        ]
        taken = [each.name for each in classes]
        name = next(n for i in range(99) if (n := f"{name} {i + 1}" if i else name) not in taken)
        if unused:  # the names that a page begins with wait for a first use
            number = unused[0]
            classes[number] = replace(classes[number], name=name, points=points)
        else:
            made = self._new_class(name)
            if made is None:
                return
            number = len(classes)
            classes.append(replace(made, points=points))
        self._change(classes, number)
        self.state.offered = None
        self.refresh()

    def offer(self, cells: np.ndarray | None) -> None:
        """Remember a selection that is let go of when labelling begins: it may become a class."""
        self.state.offered = cells

    def promote_selection(self, name: str = "") -> None:
        """Make a class of the selected cells, or of those selected before labelling began."""
        cells = self.state.selection if self.state.selection is not None else self.state.offered
        if cells is None:
            self.refuse("Select cells first: with the lasso, a prototype or a cluster.")
            return
        self.promote(cells, name.strip()[:40] or "Selection")

    def promote_category(self, layer: str, number: int, name: str = "") -> None:
        """Make a class of the cells of one prototype or cluster."""
        field = self.state.fields.get(layer)
        if field is not None and field.ndim == 2:
            self.promote(field.values == number, name or str(field.attrs["categories"][number]))

    # ----------------------------------------------------------------------------------- history

    def undo(self) -> None:
        """Take back the latest change."""
        self._go(self._history.back(self._now()))

    def redo(self) -> None:
        """Do again what was taken back."""
        self._go(self._history.forth(self._now()))

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to take back."""
        return self._history.can_back

    @property
    def can_redo(self) -> bool:
        """Whether there is a change to do again."""
        return self._history.can_forth

    def _now(self) -> tuple[tuple[LabelClass, ...], int]:
        return tuple(self.state.classes), self.state.active_class

    def _go(self, to: tuple[tuple[LabelClass, ...], int] | None) -> None:
        if to is not None:
            self.state.param.update(classes=list(to[0]), active_class=to[1])
            self.refresh()

    def _change(self, classes: Sequence[LabelClass], active: int) -> None:
        self._history.keep(self._now())
        self.state.param.update(classes=list(classes), active_class=active)

    def _replace(self, number: int, changed: LabelClass) -> None:
        classes = list(self.state.classes)
        classes[number] = changed
        self._change(classes, self.state.active_class)
        self.refresh()

    # ------------------------------------------------------------------------------------ results

    def set_live(self, live: bool) -> None:
        """Whether the map follows every change; when it begins to again, it catches up."""
        self.state.live = live
        if live and self.state.stale:
            self.refresh()

    def refresh(self, now: bool = False, lift: bool = True) -> None:
        """Segment from the marks there are, only `now` if not live; `lift` puts the map on top."""
        state, labels = self.state, self.labels
        state.score = None
        if state.features is None or len(labels) < 2:
            self._flow.drop("classes", "label")
            state.set_field("classes", None)
            state.param.update(agreement=None, probabilities=None, stale=False)
            return
        if not (state.live or now):
            state.stale = True
            return
        choices, features, truth = state.made_with, state.features, self.truth

        def work(_: Any) -> tuple[xr.DataArray, xr.DataArray, Any]:
            chances = self._flow.compute.segmenter(choices, features)(labels)
            found = analysis.classes(chances)
            if truth is None:
                return chances, found, None
            taken = [point for each in labels.classes for point in each.points]
            left = without(truth, taken)
            enough = bool((np.isfinite(left.values) & np.isfinite(found.values)).any())
            return chances, found, analysis.agreement(found, left) if enough else None

        def done(result: tuple[xr.DataArray, xr.DataArray, Any]) -> None:
            state.param.update(probabilities=result[0], agreement=result[2], stale=False)
            state.set_field("classes", result[1])
            if lift and state.top not in ("classes", "colour"):
                state.top = "classes"

        self._flow.run("classes", "label", "Segmenting", work, done)

    def check(self) -> None:
        """Score the classes on blocks of ground that are held out in turn."""
        state, labels, truth = self.state, self.labels, self.truth
        if state.features is None or len(labels) < 2:
            self.refuse("Mark two classes first; then their map can be scored.")
            return
        choices, features = state.made_with, state.features

        def work(_: Any) -> analysis.SpatialScore:
            segmenter = self._flow.compute.segmenter(choices, features)
            if truth is None:
                return analysis.spatial_score(segmenter, labels)
            return analysis.spatial_score(segmenter, truth, per_class=PER_CLASS)

        def done(score: analysis.SpatialScore) -> None:
            state.score = score

        self._flow.run("score", "score", "Holding out blocks", work, done)

    def refuse(self, sentence: str) -> None:
        """Say in the panel why something cannot be done."""
        self.state.set_status("label", failed(sentence))

    # -------------------------------------------------------------------------------------- files

    def labels_text(self) -> str:
        """The labels as GeoJSON, to be opened again here or in a GIS."""
        features = self.state.features
        about = {} if features is None else {
            key: features.attrs[key] for key in ("encoder", "weights", "resolution", "region")
            if key in features.attrs
        }  # fmt: skip
        return labels_file.labels_text(self.labels, about)

    def map_file(self, suffix: str) -> bytes:
        """The map of classes as `.geojson` polygons or as a `.tif`.

        Raises:
            AnalysisError: If there is no map of classes.
        """
        return file_of(self.state.fields.get("classes"), suffix)

    def load_file(self, name: str, content: bytes, folder: Path, column: str) -> None:
        """Labels that were saved here, or training points from any label file."""
        suffix = Path(name).suffix.lower()
        if suffix not in SUFFIXES:
            self.refuse(f"“{name[:60]}” is not a label file. Use GeoJSON, GeoPackage or GeoTIFF.")
            return
        if suffix in labels_file.LABEL_FILES and labels_file.holds_labels(content):
            self._open(content)
            return
        path = folder / f"labels{suffix}"
        path.write_bytes(content)
        which = int(column) if column.strip().isdigit() else column.strip() or None
        self._train(
            name[:60],
            lambda features: analysis.label_field(path, features, column=which),
        )

    def _open(self, content: bytes) -> None:
        """Classes, colours and marks as they were saved."""
        try:
            labels = labels_file.labels_from(content)
        except SkySenseError as error:
            self.refuse(str(error))
            return
        if len(labels.classes) > MOST_CLASSES:
            self.refuse(f"{len(labels.classes)} classes; {MOST_CLASSES} is the most here.")
            return
        self.truth, self.truth_name = None, ""
        self._change(coloured(labels.classes), 0)
        self.refresh()

    @property
    def own(self) -> list[str]:
        """Names of the labels that came with the images of the place."""
        place = self.state.place
        return [] if place is None else self._flow.compute.label_names(place)

    def use_own(self, name: str) -> None:
        """Training points from labels that came with the images."""
        place = self.state.place
        if place is not None:
            self._train(name, lambda features: self._flow.compute.labels(place, name, features))

    def _train(self, name: str, read: Callable[[xr.DataArray], xr.DataArray]) -> None:
        features = self.state.features
        if features is None:
            self.refuse("Encode the place first; labels are points on it.")
            return

        def work(_: Any) -> tuple[xr.DataArray, dict[str, list[tuple[float, float]]]]:
            truth = read(features)
            return truth, analysis.training_points(truth, features, per_class=PER_CLASS)

        def done(result: tuple[xr.DataArray, dict[str, list[tuple[float, float]]]]) -> None:
            truth, points = result
            if len(points) > MOST_CLASSES:
                self.refuse(f"{name} has {len(points)} classes; {MOST_CLASSES} is the most here.")
                return
            made = coloured([LabelClass(str(n), tuple(at)) for n, at in points.items()])
            self.truth, self.truth_name = truth, name
            self._change(made, 0)
            self.refresh()

        self._flow.run("label-file", "label", f"Reading {name}", work, done)
