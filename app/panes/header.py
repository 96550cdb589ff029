"""The top of the page: where, with what, the one primary action, and the places in use."""

from typing import Any

import panel as pn
import panel_material_ui as pmui

from app.flow import Flow
from app.panes.newplace import NewPlace
from app.panes.placechips import PlaceChips
from app.state import MERGES
from app.theme import rem
from app.words import block, flag, safe, tip

_STANDING = {
    "encoded": "encoded with these choices; click to see it.",
    "working": "being encoded.",
    "not yet": "not encoded with these choices yet; click to see it.",
}


_SHRINKS = """
:host { flex-shrink: 1 !important; min-width: 110px !important }
.tooltip { width: 100% !important; min-width: 0 !important }
"""
"""What gives way where the page is narrow, as in a cell of a notebook."""


class Header:
    """Place, encoder, resolution, *Encode* and *Cancel*; below them the chips and what is going on."""

    def __init__(self, flow: Flow, new_place: NewPlace) -> None:
        self.flow, self.state = flow, flow.state
        state = self.state
        self._place = pmui.Select(
            label="Place",
            options=self._place_options(),
            value=state.place.key if state.place else None,
            size="small",
            width=175,
            margin=(0, 6),
        )
        add = pmui.Button(
            label="Region",
            icon="add",
            variant="text",
            margin=(0, 6),
            description="Add a region of your own: typed, drawn or from a file.",
            on_click=lambda _: new_place.show(),
        )
        self._encoder = pmui.Select.from_param(
            state.param.encoder,
            label="Encoder",
            description="",
            options={title: name for name, title in flow.compute.encoders.items()},
            size="small",
            width=218,
            margin=(0, 6),
        )
        self._resolution = pmui.Select.from_param(
            state.param.resolution,
            label="Resolution",
            description="",
            options={"10 m": 10, "20 m": 20, "40 m": 40},
            size="small",
            width=100,
            margin=(0, 6),
        )
        self._merge = tip(
            pmui.Select.from_param(
                state.param.merge,
                label="HR tokens",
                description="",
                options={title: key for key, title in MERGES.items()},
                size="small",
                width=100,
                margin=(0, 6),
            ),
            "Side of SkySense V2's tokens of high resolution. Smaller ones see more and take much more "
            "time; features stay on 10 m cells.",
        )
        self._encode = tip(
            pmui.Button(
                label="Encode",
                icon="play_arrow",
                variant="contained",
                margin=(0, 6),
                on_click=lambda _: flow.encode(),
            ),
            "Run the encoder on the chosen dates of this place.",
        )
        self._cancel = tip(
            pmui.Button(
                label="Cancel",
                icon="stop",
                variant="outlined",
                margin=(0, 6),
                on_click=lambda _: flow.cancel(),
            ),
            "Stop encoding; what is shown stays.",
        )
        self._cancel.visible = False
        self._bar = pmui.LinearProgress(
            value=0, visible=False, width=120, margin=(0, 8), align="center"
        )
        self._note = block(margin=(0, 8), align="center", width=620)
        self._chips = PlaceChips(
            sizing_mode="stretch_width", styles={"min-height": rem(30)}, margin=(0, 6, 0, 0)
        )
        self._chips.on_open, self._chips.on_close = flow.regions.open, flow.regions.close
        title = pmui.Typography(
            "SkySense Explorer",
            variant="h6",
            margin=0,
            sx={
                "whiteSpace": "nowrap",
                "marginRight": "18px",
                "@media (max-width: 1100px)": {"display": "none"},
            },
        )
        self.bar = pmui.Row(
            title,
            _shrinking(
                self._place, "Every place there is to choose: demos, recipes, and your own."
            ),
            add,
            pmui.Column(sizing_mode="stretch_width", margin=0),
            _shrinking(self._encoder, "What turns the images into features."),
            tip(self._resolution, "Spacing of the features; coarser ones are samples, not means."),
            self._merge,
            self._encode,
            self._cancel,
            sizing_mode="stretch_width",
            align="center",
            height=48,
            margin=0,
        )
        using = pmui.Row(
            self._chips,
            self._bar,
            self._note,
            sizing_mode="stretch_width",
            align="center",
            styles={"min-height": rem(30)},
            margin=0,
        )
        self.view = pn.Column(self.bar, using, sizing_mode="stretch_width", margin=(10, 0, 4, 0))
        self._place.param.watch(self._chosen, "value")
        state.param.watch(self._show_places, ["places", "place"])
        state.param.watch(self._show_work, ["statuses", "cost", "features", "encoder", "merge"])
        state.param.watch(self._show_merge, ["stack", "encoder", "dates"])
        state.param.watch(
            self._show_chips,
            ["opened", "place", "statuses", "made_with", "encoder", "dates", "resolution", "merge"],
        )
        self._show_merge()
        self._show_work()
        self._show_chips()

    def _show_merge(self, *_: Any) -> None:
        if self._merge.visible != self.state.merges:
            self._merge.visible = self.state.merges

    def _place_options(self) -> dict[str, str]:
        return {place.name: place.key for place in self.state.places}

    def _chosen(self, event: Any) -> None:
        current = self.state.place.key if self.state.place else None
        if event.new and event.new != current:
            self.flow.open_place(next(p for p in self.state.places if p.key == event.new))

    def _show_places(self, *_: Any) -> None:
        key = self.state.place.key if self.state.place else None
        self._place.param.update(options=self._place_options(), value=key)

    def _show_chips(self, *_: Any) -> None:
        state, opened = self.state, self.state.opened
        chips = [
            {
                "key": each.place.key,
                "name": each.place.name,
                "colour": each.colour,
                "standing": (standing := self.flow.regions.standing(each.place)),
                "active": each.place == state.place,
                "closes": len(opened) > 1,
                "tip": f"{each.place.name}: {_STANDING[standing]}",
            }
            for each in opened
        ]
        if chips != self._chips.chips:
            self._chips.chips = chips

    def _show_work(self, *_: Any) -> None:
        state = self.state
        status, cost = state.status("encode"), state.status("cost")
        busy = status.kind == "working"
        stale = state.features is not None and state.made_with != state.choices
        with pn.io.hold():
            self._encode.visible, self._cancel.visible = not busy, busy
            self._bar.visible = busy
            self._bar.value = -1 if status.share is None else round(100 * status.share)
        if busy:
            text = safe(status.sentence)
        elif status.kind == "failed":
            text = f'<span style="color:#a3261b">{safe(status.sentence)}</span>'
        elif cost.kind == "failed":
            text = f'<span style="color:#a3261b">{safe(cost.sentence)}</span>'
        elif state.cost:
            text = f'<span class="quiet" title="{safe(state.cost)}">{safe(state.cost)}</span>'
        elif stale and state.made_with is not None and state.made_with.part:
            text = flag("unfinished; Encode goes on")
        elif stale:
            text = flag("shown features are of other choices")
        else:
            text = ""
        self._note.object = f'<div class="line" style="text-align:right">{text}</div>'


def _shrinking(control: pmui.Select, sentence: str) -> pmui.Tooltip:
    """A list with its tip that gives way where the page is narrow."""
    made = tip(control, sentence)
    made.stylesheets = [_SHRINKS]
    control.param.update(width=None, sizing_mode="stretch_width")
    return made
