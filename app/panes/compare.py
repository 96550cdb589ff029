"""Encoded places seen through one bank: how far apart, against which controls, and why."""

from typing import Any

import numpy as np
import panel as pn
import panel_material_ui as pmui

from app.comparing import MISMATCH, verdict
from app.flow import Flow
from app.panes.mapview import Web
from app.panes.rows import Rows
from app.panes.sidebyside import SideBySide
from app.places import SYNTHETIC
from app.state import EMPTY
from app.theme import rem
from app.words import block, flag, safe, status_markup
from skysense import view
from skysense.view.distances import payers_table

PAYERS = 8
"""Prototypes that are listed as paying for a distance."""


class Compare:
    """A verdict in words, the distance beside its controls, who pays for it, and the shares."""

    def __init__(self, flow: Flow, web: Web) -> None:
        self.flow, self.state = flow, flow.state
        self._side = SideBySide(flow, web)
        self._suggested: list[str] = []
        self._places = pmui.MultiChoice(
            label="Places", options=[], sizing_mode="stretch_width",
            margin=(14, 8, 4, 8),
        )  # fmt: skip
        self._go = pmui.Button(
            label="Compare", variant="contained", icon="compare_arrows", size="small",
            description="See all of them through the bank that is shown, and measure.",
            on_click=lambda _: flow.comparing.compare(list(self._places.value)),
        )  # fmt: skip
        self._look = pmui.Button(
            label="Side by side", variant="text", icon="view_column", size="small",
            description="Maps of all encoded places in the same colours at the same scale.",
            on_click=lambda _: self._side.show(),
        )  # fmt: skip
        self._year = pmui.Button(
            label="Another year", variant="text", icon="event_repeat", size="small",
            description="Control: encode the same months of two years of each place and compare "
            "a place with itself.",
            on_click=lambda _: flow.comparing.other_year(list(self._chosen())),
        )  # fmt: skip
        self._pair = pmui.Select(
            label="Pair", options=[], size="small", sizing_mode="stretch_width", visible=False,
            margin=(8, 8),
        )  # fmt: skip
        self._say = block(sizing_mode="stretch_width")
        self._result = block(sizing_mode="stretch_width", margin=(0, 8))
        self._distances = pn.Column(sizing_mode="stretch_width", margin=0)
        self._paying = block(sizing_mode="stretch_width", margin=(4, 8, 0, 8))
        self._payers = Rows(sizing_mode="stretch_width", margin=0)
        self._payers.on_pick = self._pick
        self._bars = pn.Column(sizing_mode="stretch_width", margin=0)
        self._notes = block(sizing_mode="stretch_width", margin=(0, 8, 8, 8))
        self._numbers: list[int] = []
        self._drawn: Any = None
        self.view = pn.Column(
            self._places,
            pmui.Row(self._go, self._year, self._look, margin=0),
            self._pair,
            self._say,
            self._result,
            self._distances,
            self._paying,
            self._payers,
            self._bars,
            self._notes,
            self._side.view,
            sizing_mode="stretch_both",
            scroll="y-auto",
            margin=(8, 8),
        )
        self._pair.param.watch(self._other_pair, "value")
        self.state.param.watch(self._offer, ["features", "made_with", "opened"])
        self.state.param.watch(
            self._show,
            ["features", "statuses", "comparison", "pair", "years", "selection", "opened"],
        )
        self._offer()
        self._show()

    def close(self) -> None:
        """Let go of the pictures."""
        self._side.close()

    def _offer(self, *_: Any) -> None:
        names = list(self.flow.made.encoded())
        kept = [name for name in self._places.value if name in names]
        if len(kept) < 2 or kept == self._suggested:
            kept = self._suggested = self._suggestion(names)
        self._places.param.update(options=names, value=kept)
        self._go.disabled = self._look.disabled = len(names) < 2
        if self.state.status("compare").kind == "failed":
            self.state.set_status("compare", EMPTY)

    def _suggestion(self, names: list[str]) -> list[str]:
        """The place that is shown and the one opened last before it; real ones if there are."""
        here = self.state.place
        made_up = {each.place.name for each in self.state.opened if each.place.source == SYNTHETIC}
        real = [name for name in names if name not in made_up]
        names = real if len(real) > 1 else names
        others = [name for name in names if here is None or name != here.name]
        return [*others[-1:], here.name] if here is not None and here.name in names else others[-2:]

    def _chosen(self) -> tuple[str, ...]:
        return self.state.pair or tuple(self._places.value)

    def _other_pair(self, event: Any) -> None:
        if event.new:
            self.state.pair = tuple(event.new)

    def _pick(self, row: int) -> None:
        self.flow.comparing.show_prototype(self._numbers[row])

    # ----------------------------------------------------------------------------------- showing

    def _show(self, *_: Any) -> None:
        state, found, pair = self.state, self.state.comparison, self.state.pair
        there = found is not None and pair is not None
        years = state.status("years")
        self._say.object = status_markup(
            state.status("compare"),
            "Choose places and press Compare."
            if len(self.flow.made.encoded()) > 1
            else "Encode a second place with the same encoder, then compare the two.",
        ) or (status_markup(years, "") if years.kind in ("working", "failed") else "")
        self._year.visible = self._payers.visible = there
        colours = self.flow.regions.colours()
        key = (id(found), pair, id(state.years), tuple(colours.items()))
        if key != self._drawn:
            self._drawn = key
            self._draw(found if there else None, colours)
        if there:
            self._show_payers(found, pair, colours)

    def _draw(self, found: Any, colours: dict[str, str]) -> None:
        if found is None:
            self._result.object = self._notes.object = self._paying.object = ""
            self._distances.objects, self._bars.objects = [], []
            self._pair.visible = False
            return
        pair, years = self.state.pair, self.state.years
        names = found.names
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        self._pair.visible = len(pairs) > 1
        self._pair.param.update(options={f"{a} – {b}": (a, b) for a, b in pairs}, value=pair)
        gap = self.state.gaps.get(pair, 0.0)
        self._result.object = verdict_markup(found, pair, years, gap, self.flow.banks.sentence())
        distances = view.comparison(found, pair=pair, years=years)
        lines = 4 + sum(name in years for name in pair)
        self._distances.objects = [_chart(distances.opts(title=""), 26 * lines + 52)]
        shares = view.usage(found.usage.sel(region=list(pair)), colours=colours)
        self._bars.objects = [_chart(shares.opts(show_legend=False), 190)]
        notes = [note for note in found.notes if not note.startswith("Season mismatch")]
        self._notes.object = "<br>".join(f'<span class="quiet">{safe(n)}</span>' for n in notes)

    def _show_payers(self, found: Any, pair: tuple[str, str], colours: dict[str, str]) -> None:
        table = payers_table(found, *pair, n=PAYERS)
        self._numbers = [int(n) for n in table["prototype"]]
        dots = "".join(
            f'<span class="chip" style="margin-left:10px"><span class="swatch" style="background:'
            f'{colours.get(name, "#888888")};border-radius:6px"></span>{safe(name)}</span>'
            for name in pair
        )
        self._paying.object = f"<b>Which prototypes pay for the distance</b><div style='margin-left:-10px'>{dots}</div>"
        field, chosen = self.state.fields.get("prototypes"), self.state.selection
        largest = max(float(table["part"].max()), 1e-9) if len(table) else 1.0
        self._payers.rows = [
            {
                "name": row["name"],
                "colour": row["colour"],
                "share": row["part"] / largest,
                "fill": colours.get(row["more_in"], "#888888"),
                "note": f"{row['part']:.0%}, more in {row['more_in']}"
                if row["more_in"]
                else f"{row['part']:.0%}",
                "active": field is not None
                and chosen is not None
                and np.array_equal(chosen, field.values == row["prototype"]),
                "tip": f"{row['difference']:+.1%} of the pixels from {pair[0]} to {pair[1]}. "
                "Click to show its cells on the map.",
            }
            for row in table.to_dict("records")
        ]


def _chart(element: Any, height: int) -> pn.pane.HoloViews:
    fonts = {"xticks": "9px", "yticks": "11px", "labels": "11px", "title": "8pt"}
    return pn.pane.HoloViews(
        element.opts(toolbar=None, default_tools=[], active_tools=[], fontsize=fonts),
        sizing_mode="stretch_width",
        height=height,
        linked_axes=False,
        margin=0,
    )


def verdict_markup(
    found: Any, pair: tuple[str, str], years: dict[str, Any], gap: float, bank: str
) -> str:
    """The verdict, what speaks against it, and the number with its interval."""
    at = {"region": pair[0], "other": pair[1]}
    distance, low, high = (float(each.sel(at)) for each in (found.distance, found.low, found.high))
    flags = [f"Season mismatch: {gap:.0f} days"] if gap >= MISMATCH else []
    flags += [
        note.removesuffix(".")
        for note in found.notes
        if "different sensors" in note and all(name in note for name in pair)
    ]
    interval = f", 95 % interval {low:.2f} to {high:.2f}" if np.isfinite(low) else ""
    held = {
        0: "No other year is known here; the controls are halves and shuffled blocks.",
        1: "One of them is checked against another year.",
        2: "Both are checked against another year.",
    }[sum(name in years for name in pair)]
    return (
        f'<div style="font-size:{rem(14)};font-weight:500;margin-bottom:3px">'
        f"{safe(verdict(found, pair, years))}.</div>"
        + "".join(f"<div style='margin:2px 0'>{flag(words)}</div>" for words in flags)
        + f"<div>Distance {distance:.2f}{interval}, on a scale from 0, the same, to 2. "
        f'<span class="quiet">{held} {safe(bank)}</span></div>'
    )
