"""Classes of one's own: mark places, see the map grow, check it on ground held out, keep it."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import panel as pn
import panel_material_ui as pmui

from app.classes import areas_km2
from app.drawings import colours_of
from app.flow import Flow
from app.panes.rows import Rows
from app.state import EMPTY, TOOLS
from app.theme import SEGMENTS
from app.words import block, safe, status_markup, tip
from skysense.errors import SkySenseError

_DO = {
    "point": "Click the map where you are sure of “{name}”",
    "area": "Choose the polygon at the top left of the map and draw around “{name}”",
    "erase": "Click a point or an area to take it away",
}


class Label:
    """Rows of classes, how to mark them, how good they are, and files in and out."""

    def __init__(self, flow: Flow, folder: Path) -> None:
        self.flow, self.state, self._folder = flow, flow.state, folder
        labels = flow.labels
        self._say = block(sizing_mode="stretch_width", min_height=58)  # what is below stands still
        self._rows = Rows(sizing_mode="stretch_width", margin=0)
        self._rows.on_pick = labels.pick
        self._name = pmui.TextInput(label="Class name", size="small", width=176, max_length=40)
        self._name.param.watch(self._add, "enter_pressed")
        self._tool = pmui.RadioButtonGroup(
            options={title: key for key, title in TOOLS.items()}, value=self.state.tool,
            size="small", sx=SEGMENTS, margin=0,
            description="What a click on the map does: mark a point, draw an area, or erase.",
        )  # fmt: skip
        self._tool.param.watch(lambda event: labels.choose_tool(event.new), "value")
        self._undo = _icon("undo", "Take back the latest change.", labels.undo)
        self._redo = _icon("redo", "Do again what was taken back.", labels.redo)
        self._live = pmui.Switch(label="Live", value=True, size="small", margin=(0, 4))
        self._live.param.watch(lambda event: labels.set_live(event.new), "value")
        self._now = _button("Segment", "auto_fix_high", "Make the map of classes from the marks.",
                            lambda: labels.refresh(now=True))  # fmt: skip
        self._promote = _button(
            "Class from selection", "add_circle_outline",
            "The selected cells become a class, by a sample of them as points.",
            lambda: self._with_name(labels.promote_selection),
        )  # fmt: skip
        self._fade = pmui.Switch.from_param(
            self.state.param.fade,
            label="Fade where unsure",
            description="",
            size="small",
            margin=(0, 8),
        )
        self._marks = pmui.Switch.from_param(
            self.state.param.marks, label="Show marks", description="", size="small", margin=(0, 8)
        )
        self._check = _button("Check accuracy", "grid_view",
                              "Train on some blocks of ground and test on the others, ten times.",
                              labels.check)  # fmt: skip
        self._score = block(sizing_mode="stretch_width", margin=(0, 8))
        self._results = pn.Column(
            pn.Row(
                tip(self._fade, "Draw a class fainter where another is nearly as likely."),
                tip(self._marks, "Draw the points and areas on the map."),
                margin=0,
            ),
            self._check, self._score, sizing_mode="stretch_width", margin=0,
        )  # fmt: skip
        self.view = pn.Column(
            pn.Row(
                self._tool, self._undo, self._redo,
                tip(self._live, "Follow every change at once; switch off on a slow machine."),
                self._now, margin=(2, 8),
            ),
            self._say,
            self._rows,
            pn.Row(
                self._name,
                _icon("add", "Add a class of this name; clicks then belong to it.", self._add),
                _icon("edit", "Give the marked class this name.", self._rename),
                _icon("delete_outline", "Take the marked class away, with its marks.",
                      lambda: labels.delete(self.state.active_class)),
                _icon("layers_clear", "Take away all marks; the classes stay.", labels.clear),
                margin=(4, 8),
            ),
            self._promote,
            self._results,
            pmui.Divider(sizing_mode="stretch_width", margin=(6, 0)),
            *self._files(),
            sizing_mode="stretch_both",
            scroll="y-auto",
            margin=(6, 8),
        )  # fmt: skip
        watch = self.state.param.watch
        watch(self._show_rows, ["classes", "active_class", "fields"])
        watch(self._show, ["statuses", "agreement", "features", "classes", "active_class", "score",
                           "tool", "mode", "live", "stale", "offered", "selection"])  # fmt: skip
        watch(self._offer, ["place"])
        self._offer()
        self._show_rows()
        self._show()

    def _files(self) -> list[Any]:
        """Controls that save and open."""
        self._file = pmui.FileInput(
            label="File", variant="outlined", accept=".geojson,.json,.gpkg,.tif,.tiff",
            max_file_size=20_000_000, size="small", width=110, margin=(4, 8),
            description="Labels saved here, or GeoJSON, GeoPackage or GeoTIFF of classes.",
        )  # fmt: skip
        self._column = pmui.TextInput(label="Column or band", size="small", width=132)
        use = _button("Open", "folder_open",
                      "Labels saved here come back as they were; other files give training points.",
                      self._use_file)  # fmt: skip
        self._own = pmui.MenuButton(
            label="Labels of this place", icon="fact_check", variant="text", items=[],
            visible=False, size="small",
            description="Train on labels that came with the images; score on the other cells.",
        )  # fmt: skip
        self._own.on_click(lambda item: self.flow.labels.use_own(item["label"]))
        self._saved = pn.Row(
            _download("Labels", "labels.geojson", "Classes, points and areas; opens here or in a "
                      "GIS.", self.flow.labels.labels_text),
            _download("Map, polygons", "classes.geojson", "The map of classes as polygons.",
                      lambda: self._map(".geojson")),
            _download("Map, GeoTIFF", "classes.tif", "The map of classes as a raster.",
                      lambda: self._map(".tif")),
            margin=0,
        )  # fmt: skip
        return [self._saved, pn.Row(self._file, self._column, use, margin=0), self._own]

    def _map(self, suffix: str) -> bytes:
        try:
            return self.flow.labels.map_file(suffix)
        except SkySenseError as error:
            self.flow.labels.refuse(str(error))
            return b""

    def _add(self, *_: Any) -> None:
        self._with_name(self.flow.labels.add_class)

    def _rename(self, *_: Any) -> None:
        self._with_name(lambda name: self.flow.labels.rename(self.state.active_class, name))

    def _with_name(self, use: Callable[[str], None]) -> None:
        """Use what was typed and empty the field, in one message: later it could erase new text."""
        with pn.io.hold():
            use(self._name.value_input or "")
            if self.state.status("label").kind != "failed":
                self._name.param.update(value="", value_input="")

    def _use_file(self, *_: Any) -> None:
        if not self._file.value:
            self.flow.labels.refuse("Choose a label file first.")
            return
        content = self._file.value
        name = self._file.filename or "labels"
        if isinstance(content, list):
            content, name = content[0], name[0]
        self.flow.labels.load_file(name, content, self._folder, self._column.value_input or "")

    def _show_rows(self, *_: Any) -> None:
        classes = self.state.classes
        areas = areas_km2(self.state.fields.get("classes"), classes)
        most = max(areas.values(), default=0.0) or 1.0
        rows = [
            {
                "name": each.name,
                "colour": colour,
                "note": marks_said(len(each.points), len(each.polygons), areas.get(each.name)),
                "active": number == self.state.active_class,
                "tip": "Clicks on the map belong to this class"
                + (f" (key {number + 1})." if number < 9 else "."),
                **({"share": areas[each.name] / most} if each.name in areas else {}),
            }
            for number, (each, colour) in enumerate(zip(classes, colours_of(classes), strict=True))
        ]
        if rows != self._rows.rows:
            self._rows.rows = rows

    def _offer(self, *_: Any) -> None:
        names = self.flow.labels.own
        self._own.items = [{"label": name} for name in names]
        self._own.visible = bool(names)

    def _show(self, *_: Any) -> None:
        state, labels = self.state, self.flow.labels
        status = state.status("label")
        self._say.object = status_markup(
            status if status.kind == "failed" else EMPTY, self._what_to_do()
        )
        self._tool.value = state.tool
        self._undo.disabled, self._redo.disabled = not labels.can_undo, not labels.can_redo
        self._live.value = state.live
        self._now.visible = state.stale and not state.live
        cells = state.selection if state.selection is not None else state.offered
        self._promote.visible = cells is not None
        if cells is not None:
            self._promote.label = f"Class from selection ({int(cells.sum()):,} cells)"
        mapped = len(labels.labels) > 1
        self._results.visible = mapped
        self._saved.visible = bool(labels.labels)
        self._score.object = self._scored()

    def _what_to_do(self) -> str:
        state = self.state
        if state.features is None:
            return "Encode the place first."
        if state.active_class >= len(state.classes):
            return "Add a class below."
        name = state.classes[state.active_class].name
        do = _DO[state.tool].format(name=name)
        marked = len(self.flow.labels.labels)
        if state.stale:
            return f"{do}. The map is of earlier marks: press Segment."
        if marked < 2:
            return f"{do}. Two classes with a mark each are enough to begin."
        return f"{do}; the map of classes follows."

    def _scored(self) -> str:
        state, parts = self.state, []
        status = state.status("score")
        if status.kind in ("working", "failed"):
            parts.append(status_markup(status, ""))
        elif state.score is not None:
            parts.append(score_markup(state.score))
        elif state.agreement is not None:
            parts.append(
                f"<b>Agreement with {safe(self.flow.labels.truth_name)}</b> {safe(state.agreement)}"
                ' <span class="quiet">on cells that were not trained on; those beside them were, '
                "so it flatters.</span>"
            )
        return "<br>".join(parts)


def score_markup(score: Any) -> str:
    """A spatial score in words: the numbers first, then what they rest on."""
    (iou, low, high), (right, least, most) = score.interval("miou"), score.interval("accuracy")
    found = sorted(score.recall.items(), key=lambda each: -each[1])
    each = ", ".join(f"{safe(name)} {share:.0%}" for name, share in found)
    few = ""
    if score.few:
        few = ('<br><span class="flag">few blocks</span> Read it as a hint, and mark places '
               "further apart.")  # fmt: skip
    if score.left_out:
        few += f'<br><span class="quiet">Not scored, in one corner each: {safe(", ".join(score.left_out))}.</span>'
    return (
        f"<b>Accuracy {right:.0%}</b> ({least:.0%} to {most:.0%}), <b>mean IoU {iou:.2f}</b> "
        f"({low:.2f} to {high:.2f})<br>"
        f'<span class="quiet">on blocks of {score.block:g} m held out: {score.tested:,} labelled '
        f"cells in {score.blocks} blocks, {len(score.miou)} splits.</span><br>"
        f"Found again: {each}.{few}"
    )


def marks_said(points: int, areas: int, km2: float | None) -> str:
    """How often a class was marked and how much of the map it takes, in words."""
    parts = [f"{n} {word}{'s' * (n > 1)}" for n, word in ((points, "point"), (areas, "area")) if n]
    said = ", ".join(parts) or "no marks yet"
    return said if km2 is None else f"{said} · {km2:.2f} km²"


def _icon(icon: str, sentence: str, do: Callable[..., Any]) -> Any:
    return pmui.IconButton(
        icon=icon, description=sentence, size="small", margin=(2, 2), align="center",
        on_click=lambda _: do(),
    )  # fmt: skip


def _button(label: str, icon: str, sentence: str, do: Callable[..., Any]) -> Any:
    return pmui.Button(
        label=label, icon=icon, variant="text", size="small", margin=(2, 4),
        description=sentence, on_click=lambda _: do(),
    )  # fmt: skip


def _download(label: str, filename: str, sentence: str, make: Callable[[], str | bytes]) -> Any:
    def content() -> io.BytesIO:
        made = make()
        return io.BytesIO(made.encode() if isinstance(made, str) else made)

    return pmui.FileDownload(
        label=label, filename=filename, callback=content, variant="text", size="small",
        icon="download", margin=(0, 2), description=sentence,
    )  # fmt: skip
