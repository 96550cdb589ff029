"""The menu *Keep*: the session as a file, a link, a notebook or code, and files for other tools."""

from pathlib import Path
from typing import Any

import panel as pn
import panel_material_ui as pmui

from app.downloads import DOWNLOADS
from app.flow import Flow
from app.panes.copytext import CopyText
from app.state import READY
from app.takehome import Kept
from app.words import block, safe, status_markup

OPEN = "open"

ITEMS: dict[str, tuple[str, str, str]] = {
    "session": (
        "Save session",
        "save",
        "Places, choices, labels, prototypes and view as one file that you can read. Open session "
        "brings the same screen back.",
    ),
    OPEN: (
        "Open session …",
        "folder_open",
        "A file from Save session. It replaces what is on the screen.",
    ),
    "link": (
        "Copy link",
        "link",
        "Place, encoder, dates and layer as an address. Labels and prototypes are not in it.",
    ),
    "notebook": (
        "Save as notebook",
        "auto_stories",
        "A notebook that loads and encodes the same again and checks that the values are the same.",
    ),
    "code": ("Copy as code", "code", "The lines of Python that make the same."),
    "features": (
        "Export features",
        "grid_on",
        "The features of this place: GeoTIFF, GeoParquet with clusters and classes, and a STAC "
        "item, as one zip.",
    ),
    "zarr": (
        "Export as Zarr",
        "view_in_ar",
        "The features of this place as a Zarr store with a STAC item, as one zip: unpacked, "
        "xarray.open_zarr and sky.open_features read it piece by piece.",
    ),
    "picture": (
        "Export picture",
        "image",
        "The layer on top with its legend and credit, as PNG and SVG.",
    ),
    "pack": (
        "Class pack",
        "inventory_2",
        "All places in use with images, features, bank and labels as one folder that opens without "
        "a network: sky.open_pack(folder).",
    ),
}
"""What can be kept: title, icon, and a sentence."""

MOST_LINES = 22


class Keep:
    """The menu in the header, and its dialog."""

    def __init__(self, flow: Flow, folder: Path, prefix: str = "") -> None:
        self.flow, self.state = flow, flow.state
        self._folder, self._prefix = folder, prefix
        self._what = ""
        self._offered: list[str] = []
        self.menu = pmui.MenuButton(
            label="Keep",
            icon="save_alt",
            variant="text",
            items=[{"label": title, "icon": icon} for title, icon, _ in ITEMS.values()],
            margin=(0, 0, 0, 6),
            description="Save or open a session, share it, or take files home.",
        )
        self.menu.on_click(self._chosen)
        self.view = pmui.Dialog(
            title="Keep",
            title_variant="h6",
            width_option="sm",
            show_close_button=True,
            close_on_click=True,
        )
        self._say = block(sizing_mode="stretch_width")
        self._result = pn.Column(sizing_mode="stretch_width", margin=0)
        self.state.param.watch(self._show, ["statuses"])

    def _chosen(self, item: dict[str, Any]) -> None:
        what = next((key for key, (title, *_) in ITEMS.items() if title == item["label"]), None)
        if what is None:
            return
        self._what = what
        title, _, sentence = ITEMS[what]
        self.state.set_status("keep", READY)
        self._result.objects = [self._file()] if what == OPEN else []
        self.view.objects = [
            block(f'<span class="quiet">{safe(sentence)}</span>', sizing_mode="stretch_width"),
            self._say,
            self._result,
        ]
        self.view.title = title.removesuffix(" …")
        self.view.open = True
        if what != OPEN:
            self.flow.files.make(what, self._folder, lambda made: self._made(what, made))

    def _made(self, what: str, made: Kept) -> None:
        for token in self._offered[:-8]:
            DOWNLOADS.drop(token)
        if what != self._what:
            return
        if made.text:
            text = self._address(made.text) if what == "link" else made.text
            rows = 3 if what == "link" else min(MOST_LINES, text.count("\n") + 1)
            self._result.objects = [CopyText(text=text, rows=rows, sizing_mode="stretch_width")]
            return
        lines = []
        for path in made.files:
            token = DOWNLOADS.put(path, path.name)
            self._offered.append(token)
            lines.append(
                f'<p><a class="download" href="{safe(self._prefix)}/keep/{token}" '
                f'download="{safe(path.name)}">{safe(path.name)}</a> '
                f'<span class="quiet">{_size(path.stat().st_size)}</span></p>'
            )
        self._result.objects = [block("".join(lines), sizing_mode="stretch_width")]

    def _address(self, query: str) -> str:
        location = pn.state.location
        whole = (location.href if location is not None else "") or ""
        return f"{whole.split('?')[0].split('#')[0]}?{query}"

    def _file(self) -> pmui.FileInput:
        chosen = pmui.FileInput(
            label="Choose a file",
            variant="outlined",
            accept=".json",
            max_file_size=20_000_000,
            size="small",
            width=180,
            description="A session file, up to 20 MB.",
        )
        chosen.param.watch(self._uploaded, "value")
        return chosen

    def _uploaded(self, event: Any) -> None:
        content = event.new[0] if isinstance(event.new, list) and event.new else event.new
        if content:
            self.flow.files.open(bytes(content), self._folder, self._close)

    def _close(self) -> None:
        self.view.open = False

    def _show(self, *_: Any) -> None:
        self._say.object = status_markup(self.state.status("keep"), "")

    def close(self) -> None:
        """Offer no file any more."""
        for token in self._offered:
            DOWNLOADS.drop(token)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{max(1, round(count / 1e3))} kB"
