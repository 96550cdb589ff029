"""Classes grown from clicks: points in, a live segmentation out, checked against a label file."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from app.cells import cell_at
from app.state import EMPTY, READY, LabelClass, State, failed
from skysense import analysis

if TYPE_CHECKING:
    from app.flow import Flow

MOST_CLASSES = 12
"""More colours than this cannot be told apart."""

PER_CLASS = 40
"""Training points taken from a label file, per class; the other cells are for the score."""

SUFFIXES = (".geojson", ".json", ".gpkg", ".tif", ".tiff")


class Labelling:
    """The verbs of the label panel."""

    def __init__(self, flow: "Flow") -> None:
        self._flow = flow
        self._history: list[list[LabelClass]] = []
        self.truth: Any = None
        """(y, x) categorical field of the label file, or None."""
        self.truth_name = ""

    @property
    def state(self) -> State:
        """The session's state."""
        return self._flow.state

    def reset(self) -> None:
        """Another place: classes keep their names, not their clicks."""
        self._history, self.truth = [], None
        kept = [LabelClass(each.name) for each in self.state.classes]
        self.state.param.update(
            classes=kept or [LabelClass("Class A"), LabelClass("Class B")],
            active_class=0,
            agreement=None,
        )

    def add_class(self, name: str) -> None:
        """One more class, and the one that clicks now belong to."""
        name = name.strip()[:40]
        names = [each.name for each in self.state.classes]
        if not name:
            self.state.set_status("label", failed("Give the class a name first."))
        elif name in names:
            self.state.set_status("label", failed(f"There is a class “{name}” already."))
        elif len(names) >= MOST_CLASSES:
            self.state.set_status(
                "label", failed(f"{MOST_CLASSES} classes is the most that colours can tell apart.")
            )
        else:
            self._remember()
            self.state.classes = [*self.state.classes, LabelClass(name)]
            self.state.active_class = len(names)
            self.state.set_status("label", READY if "classes" in self.state.fields else EMPTY)

    def rename(self, number: int, name: str) -> None:
        """Give a class another name."""
        name = name.strip()[:40]
        others = [each.name for i, each in enumerate(self.state.classes) if i != number]
        if not name or name in others:
            self.refuse("A class needs a name of its own. Type it first.")
            return
        self._replace(number, LabelClass(name, self.state.classes[number].points))

    def add_point(self, lon: float, lat: float) -> None:
        """A click for the active class."""
        number = self.state.active_class
        if number < len(self.state.classes):
            self._replace(number, self.state.classes[number].with_point(lon, lat))

    def undo(self) -> None:
        """Take back the latest change."""
        if self._history:
            self.state.classes = self._history.pop()
            self.state.active_class = min(self.state.active_class, len(self.state.classes) - 1)
            self.refresh()

    def clear(self) -> None:
        """Take away all points."""
        self._remember()
        self.state.classes = [LabelClass(each.name) for each in self.state.classes]
        self.refresh()

    def refresh(self) -> None:
        """Segment again from the points there are."""
        state = self.state
        places = {each.name: list(each.points) for each in state.classes if each.points}
        if state.features is None or len(places) < 2:
            state.set_field("classes", None)
            state.agreement = None
            state.set_status("label", EMPTY)
            return
        features, truth = state.features, self.truth

        def work(_: Any) -> tuple[xr.DataArray, Any]:
            found = analysis.classes(analysis.segment(features, places))
            if truth is None:
                return found, None
            taken = [point for points in places.values() for point in points]
            left = without(truth, taken)
            enough = bool((np.isfinite(left.values) & np.isfinite(found.values)).any())
            return found, analysis.agreement(found, left) if enough else None

        def done(result: tuple[xr.DataArray, Any]) -> None:
            state.set_field("classes", result[0])
            state.agreement = result[1]
            if state.top not in ("classes", "colour"):
                state.top = "classes"

        self._flow.run("classes", "label", "Segmenting", work, done)

    def refuse(self, sentence: str) -> None:
        """Say in the panel why something cannot be done."""
        self.state.set_status("label", failed(sentence))

    def load_file(self, name: str, content: bytes, folder: Path, column: str) -> None:
        """Training points from a label file that was uploaded."""
        suffix = Path(name).suffix.lower()
        if suffix not in SUFFIXES:
            self.refuse(f"“{name[:60]}” is not a label file. Use GeoJSON, GeoPackage or GeoTIFF.")
            return
        path = folder / f"labels{suffix}"
        path.write_bytes(content)
        which = int(column) if column.strip().isdigit() else column.strip() or None
        self._train(
            name[:60],
            lambda features: analysis.label_field(path, features, column=which),
        )

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
            self._remember()
            self.truth, self.truth_name = truth, name
            self.state.classes = [
                LabelClass(str(each), tuple(places)) for each, places in points.items()
            ]
            self.state.active_class = 0
            self.refresh()

        self._flow.run("label-file", "label", f"Reading {name}", work, done)

    def _replace(self, number: int, changed: LabelClass) -> None:
        self._remember()
        classes = list(self.state.classes)
        classes[number] = changed
        self.state.classes = classes
        self.refresh()

    def _remember(self) -> None:
        self._history = [*self._history[-99:], list(self.state.classes)]


def without(truth: xr.DataArray, points: list[tuple[float, float]]) -> xr.DataArray:
    """Labels less the cells that were trained on."""
    kept = truth.copy(deep=True)
    for lon, lat in points:
        cell = cell_at(truth, lon, lat)
        if cell is not None:
            kept.values[cell] = np.nan
    return kept
