"""The guide: everything that hand and keys can do, on one screen; and the menu that opens it."""

from typing import Any

import panel_material_ui as pmui

from app.state import State
from app.words import block

MOUSE = (
    ("Drag, wheel", "move and zoom the map or the scatter"),
    ("Click", "inspect a place, or the cell of a point"),
    ("Lasso, box", "select cells; the other pane shows them too"),
    ("Shift + draw", "add to the selection"),
    ("Alt + draw", "remove from the selection"),
)

KEYS = (
    ("Esc", "let go of the selection, leave a drawing, close a dialog"),
    ("I · S · B", "Inspect · Select · put label points"),
    ("1 … 9", "choose a class to label"),
    ("E · L", "erase label points · segment live or not"),
    ("Ctrl/⌘ Z, Y", "undo, redo a label"),
    ("[ · ]", "fainter · stronger layer"),
    ("Tab, Enter", "go from control to control, press it"),
    ("?", "this guide"),
)

PANELS = (
    ("Scatter", "every cell a point: what lies near is alike to the encoder"),
    ("Prototypes", "what the place is made of, and how much of each"),
    ("Compare", "encoded places side by side, with a control"),
    ("Search", "where else it looks like this, and unlike that"),
    ("Time", "which date mattered, what changed between two periods"),
    ("Inside", "experts and queries of SkySense V2, and what V1 and V2 do not share"),
    ("Label", "click examples, get a map of classes"),
    ("Dates", "every acquisition; blue ones went into the features; click to see one"),
    ("How it was made", "encoder, weights, dates, licences, notes"),
)

_BOTH = "More"
_LARGE, _NORMAL = "Large type", "Normal type"
_GUIDE = "Guide: mouse and keys (?)"


class Guide:
    """The dialog, and the menu *More* at the end of the header."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.view = pmui.Dialog(
            title="Guide",
            title_variant="h6",
            width_option="md",
            show_close_button=True,
            close_on_click=True,
        )
        self.menu = pmui.MenuButton(
            label=_BOTH,
            icon="more_vert",
            variant="text",
            items=self._items(),
            margin=(0, 0, 0, 6),
            description="Type for a projector, and a guide to mouse and keys.",
        )
        self.menu.on_click(self._chosen)
        state.param.watch(lambda _: setattr(self.menu, "items", self._items()), "large")

    def show(self) -> None:
        """Open the guide; it is filled when it is first asked for."""
        if not self.view.objects:
            self.view.objects = [block(guide_markup(), sizing_mode="stretch_width")]
        self.view.open = True

    def _items(self) -> list[dict[str, Any]]:
        large = self._state.large
        return [
            {"label": _NORMAL if large else _LARGE, "icon": "format_size"},
            {"label": _GUIDE, "icon": "keyboard"},
        ]

    def _chosen(self, item: dict[str, Any]) -> None:
        if item["label"] == _GUIDE:
            self.show()
        else:
            self._state.large = item["label"] == _LARGE


def guide_markup() -> str:
    """Three short tables: hands, keys, panels."""

    def table(title: str, rows: tuple[tuple[str, str], ...]) -> str:
        lines = "".join(f"<dt>{name}</dt><dd>{what}</dd>" for name, what in rows)
        return f"<section><h3>{title}</h3><dl>{lines}</dl></section>"

    parts = table("Mouse", MOUSE) + table("Keys", KEYS) + table("Panels", PANELS)
    return f'<div class="guide">{parts}</div>'
