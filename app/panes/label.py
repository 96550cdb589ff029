"""Classes of one's own: click places, see the segmentation grow, check it against a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import panel as pn
import panel_material_ui as pmui

from app.flow import Flow
from app.panes.rows import Rows
from app.state import EMPTY
from app.words import block, safe, status_markup
from skysense import view


class Label:
    """Rows of classes, what to do with them, and labels from a file."""

    def __init__(self, flow: Flow, folder: Path) -> None:
        self.flow, self.state, self._folder = flow, flow.state, folder
        self._say = block(sizing_mode="stretch_width", min_height=58)  # what is below stands still
        self._rows = Rows(sizing_mode="stretch_width", margin=0)
        self._rows.on_pick = self._pick
        self._name = pmui.TextInput(label="Class name", size="small", width=180, max_length=40)
        add = pmui.Button(
            label="Add",
            icon="add",
            variant="text",
            margin=(5, 0),
            description="Add a class; the next clicks on the map belong to it.",
            on_click=self._add,
        )
        rename = pmui.Button(
            label="Rename", icon="edit", variant="text", margin=(5, 0),
            description="Give the marked class this name.", on_click=self._rename,
        )  # fmt: skip
        self._name.param.watch(self._add, "enter_pressed")
        undo = pmui.Button(
            label="Undo", icon="undo", variant="text", margin=(5, 0),
            description="Take back the latest click.", on_click=lambda _: flow.labels.undo(),
        )  # fmt: skip
        clear = pmui.Button(
            label="Clear", icon="delete_outline", variant="text", margin=(5, 0),
            description="Take away all clicks.", on_click=lambda _: flow.labels.clear(),
        )  # fmt: skip
        self._file = pmui.FileInput(
            label="File",
            variant="outlined",
            accept=".geojson,.json,.gpkg,.tif,.tiff",
            max_file_size=20_000_000,
            size="small",
            width=110,
            description="GeoJSON, GeoPackage or GeoTIFF of classes, up to 20 MB.",
        )
        self._column = pmui.TextInput(label="Column or band", size="small", width=140)
        use = pmui.Button(
            label="Train",
            variant="text",
            description="Take training points from the file; score on the cells not taken.",
            on_click=self._use_file,
        )
        self._own = pmui.MenuButton(
            label="Labels of this place",
            icon="fact_check",
            variant="text",
            items=[],
            visible=False,
            description="Train on labels that came with the images; score on the other cells.",
        )
        self._own.on_click(lambda item: flow.labels.use_own(item["label"]))
        self._score = block(sizing_mode="stretch_width")
        self.view = pn.Column(
            self._say,
            self._rows,
            pn.Row(self._name, add, rename, margin=0),
            pn.Row(undo, clear, margin=0),
            self._score,
            pmui.Divider(sizing_mode="stretch_width", margin=(8, 0)),
            block('<span class="quiet">Or train on labels you have</span>', margin=(0, 8)),
            pn.Row(self._file, self._column, use, margin=0),
            self._own,
            sizing_mode="stretch_both",
            scroll="y-auto",
            margin=(8, 8),
        )
        self.state.param.watch(self._show_rows, ["classes", "active_class"])
        self.state.param.watch(
            self._show, ["statuses", "agreement", "features", "classes", "active_class"]
        )
        self.state.param.watch(self._offer, ["place"])
        self._offer()
        self._show_rows()
        self._show()

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
        colours = view.palette(len(self.state.classes))
        self._rows.rows = [
            {
                "name": each.name,
                "colour": colours[number],
                "note": _points(len(each.points)),
                "active": number == self.state.active_class,
                "tip": "Clicks on the map belong to this class.",
            }
            for number, each in enumerate(self.state.classes)
        ]

    def _pick(self, number: int) -> None:
        self.state.active_class = number
        self.state.mode = "label"

    def _offer(self, *_: Any) -> None:
        names = self.flow.labels.own
        self._own.items = [{"label": name} for name in names]
        self._own.visible = bool(names)

    def _show(self, *_: Any) -> None:
        state = self.state
        status = state.status("label")
        self._say.object = status_markup(
            EMPTY if status.kind == "ready" else status, self._what_to_do()
        )
        self._score.object = self._scored()

    def _what_to_do(self) -> str:
        state = self.state
        if state.features is None:
            return "Encode the place first."
        if "classes" in state.fields and state.active_class < len(state.classes):
            name = state.classes[state.active_class].name
            return f"Clicks on the map belong to “{name}”; the map of classes follows them."
        return (
            "Choose a class below and click the map where you are sure of it. Two classes with a "
            "click each are enough to begin."
        )

    def _scored(self) -> str:
        found = self.state.agreement
        if found is None:
            return ""
        return (
            f"<b>Agreement with {safe(self.flow.labels.truth_name)}</b><br>{safe(found)}"
            '<br><span class="quiet">On cells that were not trained on; cells beside them were, '
            "so read it as an upper bound.</span>"
        )


def _points(count: int) -> str:
    return "no points yet" if count == 0 else f"{count} point{'s' * (count > 1)}"
