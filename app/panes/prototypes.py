"""Prototypes and clusters: the atlas of the bank, and how much of the place each group takes."""

import io
from typing import Any

import numpy as np
import panel as pn
import panel_material_ui as pmui

from app.atlas import Atlas
from app.flow import Flow
from app.panes.atlasrows import AtlasRows
from app.panes.mapview import Web
from app.panes.rows import Rows
from app.state import LAYERS
from app.theme import SEGMENTS
from app.words import block, press_encode, safe, status_markup, tip
from skysense import analysis, view

KEPT = 4
"""Sheets of chips that stay on the server."""

LARGEST_BANK = 20_000_000
"""Bytes of a bank file that a browser may send."""


class Prototypes:
    """Two lists; a click on a row selects its cells, and unfolds what the prototype is."""

    def __init__(self, flow: Flow, web: Web) -> None:
        self.flow, self.state, self._web = flow, flow.state, web
        state = self.state
        self._which = pmui.RadioButtonGroup(
            options={"Prototypes": "prototypes", "Clusters": "groups"},
            value="prototypes",
            size="small",
            sx=SEGMENTS,
            description="Prototypes are shared by all places, clusters belong to this one.",
        )
        self._many = pmui.IntSlider(
            label="How many",
            start=2,
            end=64,
            value=state.prototypes,
            size="small",
            width=150,
            margin=(0, 16),
        )
        self._all = pmui.Button(
            label="Fit on all places",
            icon="hub",
            variant="text",
            size="small",
            margin=0,
            description="Fit the bank anew on every encoded place together; names start anew.",
            on_click=lambda _: flow.banks.fit(),
        )
        self._keep = pmui.FileDownload(
            callback=self._text,
            filename="prototypes.json",
            label="Keep bank",
            icon="download",
            variant="text",
            size="small",
            margin=0,
            embed=False,
            auto=True,
            description="Download the prototypes with their names, as a file you can read.",
        )
        self._load = pmui.FileInput(
            label="Load bank",
            variant="text",
            accept=".json",
            max_file_size=LARGEST_BANK,
            size="small",
            margin=0,
            icon="upload",
            icon_size="1.2em",
            sx={"fontSize": "0.75rem"},
            description="Assign this and every other place to a bank that was kept.",
        )
        self._load.param.watch(self._loaded, "value")
        self._files = pmui.Row(
            self._all, self._keep, self._load, sizing_mode="stretch_width", margin=(0, 0, 2, 0)
        )
        self._of = block(sizing_mode="stretch_width", margin=(0, 8, 4, 8))
        self._say = block(sizing_mode="stretch_width")
        self._atlas = AtlasRows(sizing_mode="stretch_width", margin=0)
        self._atlas.on_pick = self._pick_prototype
        self._atlas.on_name = flow.banks.rename
        self._rows = Rows(sizing_mode="stretch_width", margin=0, visible=False)
        self._rows.on_pick = self._pick_group
        self._numbers: list[int] = []
        self._tokens: list[str] = []
        self._sheet_of: Atlas | None = None
        self._drawn: Any = None
        self._picked: int | None = None
        self.view = pn.Column(
            pmui.Row(
                self._which,
                tip(self._many, "How many to fit; fitting starts when you let go."),
                align="center",
            ),
            self._files,
            self._of,
            self._say,
            pn.Column(
                self._atlas, self._rows, sizing_mode="stretch_both", scroll="y-auto", margin=0
            ),
            sizing_mode="stretch_both",
            margin=(8, 8),
        )
        self._which.param.watch(self._switch, "value")
        self._many.param.watch(self._refit, "value_throttled")
        state.param.watch(self._show, ["fields", "statuses", "atlas", "bank", "opened"])
        state.param.watch(self._follow, ["prototypes"])
        flow.banks.show()
        self._show()

    def close(self) -> None:
        """Let go of the pictures."""
        for token in self._tokens:
            self._web.overlays.drop(token)

    # ------------------------------------------------------------------------------------- hands

    def _text(self) -> io.BytesIO:
        return io.BytesIO(self.flow.banks.text().encode())

    def _loaded(self, event: Any) -> None:
        content = event.new
        if isinstance(content, list):
            content = content[0] if content else None
        if content:
            self.flow.banks.load(bytes(content))

    def _switch(self, *_: Any) -> None:
        layer = self._which.value
        value = self.state.prototypes if layer == "prototypes" else self.state.groups
        self._many.param.update(end=64 if layer == "prototypes" else 20, value=value)
        self._files.visible = self._atlas.visible = layer == "prototypes"
        self._rows.visible = layer == "groups"
        self.flow.show_layer(layer)
        self._picked, self._drawn = None, None
        self._show()

    def _refit(self, event: Any) -> None:
        if self._which.value == "prototypes":
            self.flow.banks.refit(event.new)
        else:
            self.state.groups = event.new
            self.flow.made.group()

    def _pick_group(self, row: int) -> None:
        self._pick("groups", self._numbers[row])

    def _pick_prototype(self, number: int) -> None:
        self._pick("prototypes", number)

    def _pick(self, layer: str, number: int) -> None:
        again = number == self._picked
        self.flow.show_layer(layer)
        self._picked = None if again else number
        if again:
            self.flow.select(None)
        else:
            self.flow.select_category(layer, number)
        self._show()

    def _follow(self, event: Any) -> None:
        """A bank that was loaded has a number of its own."""
        if self._which.value == "prototypes":
            self._many.value = event.new

    # ----------------------------------------------------------------------------------- showing

    def _show(self, *_: Any) -> None:
        layer = self._which.value
        state = self.state
        self._say.object = status_markup(
            state.status(layer), press_encode(state, f"{LAYERS[layer]} are found")
        ) or (self._waiting() if layer == "prototypes" else "")
        if layer == "prototypes":
            said = [self.flow.banks.sentence(), self.flow.banks.apart()]
            self._of.object = "<br>".join(
                f'<span class="quiet">{safe(words)}</span>' for words in said if words
            )
            self._keep.visible = self._all.visible = state.bank is not None
            self._all.disabled = len(self.flow.made.encoded()) < 2
        else:
            self._of.object = ""
        field = state.fields.get(layer)
        key = (layer, id(field), id(state.atlas), id(state.bank), self._picked, len(state.opened))
        if key == self._drawn:
            return
        self._drawn = key
        if layer == "groups":
            self._rows.rows = [] if field is None else self._rows_of(field)
        else:
            self._draw_atlas(field)

    def _waiting(self) -> str:
        """What is going on with the bank or its examples, or why it could not be done."""
        found = (status_markup(self.state.status(pane), "") for pane in ("bank", "atlas"))
        return next((markup for markup in found if markup), "")

    def _rows_of(self, field: Any) -> list[dict[str, Any]]:
        shares = analysis.usage(field).values
        colours = [colour for _, colour in view.legend(field)]
        widest = max(float(shares.max()), 1e-9)
        order = np.argsort(-shares, kind="stable")
        self._numbers = [int(number) for number in order if shares[number] > 0]
        return [
            {
                "name": str(field.attrs["categories"][number]),
                "colour": colours[number],
                "share": float(shares[number]) / widest,
                "note": f"{shares[number]:.1%}",
                "active": number == self._picked,
                "tip": "Show its cells on the map and in the scatter.",
            }
            for number in self._numbers
        ]

    def _draw_atlas(self, field: Any) -> None:
        found = self.state.atlas
        if field is None or self.state.bank is None:
            self._atlas.param.update(rows=[], picked=-1)
            return
        if found is not None and found is not self._sheet_of:
            self._show_sheet(found)
        place = self.state.place
        self._atlas.param.update(
            rows=atlas_rows(
                field,
                analysis.names_of(self.state.bank),
                found,
                self.flow.regions.colours(),
                "" if place is None else place.name,
            ),
            picked=-1 if self._picked is None else self._picked,
        )

    def _show_sheet(self, found: Atlas) -> None:
        self._sheet_of = found
        if found.chips is None:
            self._atlas.sheet = {}
            return
        token = self._web.overlays.put(found.chips.png)
        self._atlas.sheet = {
            "url": f"{self._web.prefix}/overlay/{token}.png",
            "rows": len(found.chips.prototypes),
            "columns": found.chips.columns,
            "crisp": found.chips.crisp,
        }
        self._tokens.append(token)
        while len(self._tokens) > KEPT:  # the browser may still be fetching the one before
            self._web.overlays.drop(self._tokens.pop(0))


def atlas_rows(
    field: Any, names: list[str], found: Atlas | None, colours: dict[str, str], here: str
) -> list[dict[str, Any]]:
    """Rows for `AtlasRows`: prototypes by their share of the place that is shown.

    Args:
        field: (y, x) nearest prototype.
        names: Of the prototypes.
        found: The atlas of their bank, once it is there.
        colours: {name of a place: its colour}.
        here: Name of the place that is shown.
    """
    mine = analysis.usage(field).values
    hues = [colour for _, colour in view.legend(field)]
    if found is None or found.table.sizes["prototype"] != len(names):
        table, regions = None, [here]
        shares = mine[None]
    else:
        table = found.table
        regions = [str(name) for name in table["region"].values]
        shares = table["share"].values
    widest = max(float(shares.max()), 1e-9)
    sheet = found.chips if found is not None and table is not None else None
    rows_of = {} if sheet is None else {n: i for i, n in enumerate(sheet.prototypes)}

    def said(number: int, region: int) -> str:
        share = f"{shares[region, number]:.1%}"
        if table is None or not shares[region, number]:
            return share
        strength, spread = (float(table[k][region, number]) for k in ("strength", "spread"))
        return f"{share}, strength {strength:.2f}, spread {spread:.2f}"

    return [
        {
            "number": number,
            "name": names[number],
            "colour": hues[number],
            "note": f"{mine[number]:.1%}",
            "sheet": rows_of.get(number, -1),
            "count": 0 if number not in rows_of or sheet is None else sheet.counts[rows_of[number]],
            "bars": [
                {
                    "name": region,
                    "colour": colours.get(region, view.PALETTE[0]),
                    "share": float(shares[i, number]) / widest,
                    "note": said(number, i),
                }
                for i, region in enumerate(regions)
            ],
            "near": []
            if table is None
            else [
                {
                    "number": int(other),
                    "name": names[int(other)],
                    "colour": hues[int(other)],
                    "note": f"{float(cosine):.2f}",
                }
                for other, cosine in zip(
                    table["nearest"].values[number], table["cosine"].values[number], strict=True
                )
            ],
        }
        for number in (int(n) for n in np.argsort(-mine, kind="stable"))
        if mine[number] > 0 or shares[:, number].max() > 0
    ]
