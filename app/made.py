"""What is made from the features of a place: colours, points, groups, likeness."""

from dataclasses import replace
from typing import TYPE_CHECKING

import xarray as xr

from app.jobs import Job
from app.places import Place
from app.state import Choices
from skysense import analysis, view

if TYPE_CHECKING:
    from app.flow import Flow


ENOUGH = 0.75
"""Colours are first fitted when less than this share of a coarse map is missing."""


class Made:
    """The steps after encoding, each in a worker, each with its own pane."""

    def __init__(self, flow: "Flow") -> None:
        self._flow, self._state = flow, flow.state
        self._basis: dict[tuple[str, bool], tuple[analysis.Projection, str]] = {}
        self._shown_part: object = None

    def everything(self) -> None:
        """All that can be made without asking the user."""
        self.colour()
        self.place_points()
        self.group()
        self._flow.banks.assign()

    def _now(self) -> tuple[Choices, xr.DataArray] | None:
        state = self._state
        if state.features is None or state.made_with is None:
            return None
        return state.made_with, state.features

    def colour(self, refit: bool = False) -> None:
        """Colour the features by a basis that is kept: of the first place, as long as it is real.

        What was fitted on a made-up scene colours made-up scenes only.
        """
        made = self._now()
        if made is None:
            return
        choices, features = made
        key = (choices.encoder, bool(features.attrs.get("synthetic")))
        kept = None if refit else self._basis.get(key)

        def work(_: Job) -> tuple[analysis.Projection, str, xr.DataArray]:
            basis, name = kept or (self._flow.compute.basis(choices, features), choices.place.name)
            return basis, name, basis(features)

        def done(result: tuple[analysis.Projection, str, xr.DataArray]) -> None:
            basis, name, colours = result
            self._basis[key] = basis, name
            self._state.basis_of = name
            self._state.set_field("features", colours)

        self._flow.run("features", "features", "Finding the colours", work, done)

    def preview(self, choices: Choices) -> None:
        """Show what is done so far of features that are being made, in colours that stay."""
        partial = self._flow.compute.partial(choices)
        if partial is None or partial is self._shown_part or choices.place != self._state.place:
            return
        coarse, fine = partial.coarse, partial.fine
        key = (choices.encoder, bool(coarse.attrs.get("synthetic")))
        kept = self._basis.get(key)
        if kept is None and fine is None and coarse.attrs["unfinished"] > ENOUGH:
            return  # colours fitted on a corner would fit nothing else
        self._shown_part = partial

        def work(_: Job) -> tuple[analysis.Projection, str, xr.DataArray]:
            basis, name = kept or (analysis.fit_pca(coarse, n=3), choices.place.name)
            colours = basis(coarse)
            if fine is not None:
                colours = view.beneath(colours, basis(fine))
            return basis, name, colours

        def done(result: tuple[analysis.Projection, str, xr.DataArray]) -> None:
            basis, name, colours = result
            self._basis.setdefault(key, (basis, name))
            if self._state.status("encode").kind == "working":
                self._state.basis_of = name
                self._state.set_field("features", colours)

        self._flow.run("features", "features", "Drawing what is done", work, done)

    def refit_colours(self) -> None:
        """Fit the colours on the place that is shown."""
        self.colour(refit=True)

    def place_points(self) -> None:
        """Lay the cells out for the scatter, by the axes that were chosen."""
        made = self._now()
        if made is None:
            return
        choices, features = made
        axes = self._state.axes

        def done(coordinates: xr.DataArray) -> None:
            self._state.coordinates = coordinates

        self._flow.run(
            "scatter",
            "scatter",
            f"Laying out the cells by {axes}",
            lambda job: self._flow.compute.coordinates(
                choices, features, axes, job.report, job.cancel
            ),
            done,
        )

    def group(self) -> None:
        """Cluster the cells."""
        made = self._now()
        if made is None:
            return
        choices, features = made
        n = self._state.groups
        self._flow.run(
            "groups",
            "groups",
            f"Finding {n} clusters",
            lambda _: self._flow.compute.clusters(choices, features, n),
            lambda field: self._state.set_field("groups", field),
        )

    def use_basis(self, choices: Choices, features: xr.DataArray) -> None:
        """Colour all places of the encoder by this one."""
        key = (choices.encoder, bool(features.attrs.get("synthetic")))
        self._basis[key] = self._flow.compute.basis(choices, features), choices.place.name
        self.colour()

    def forget(self) -> None:
        """Let go of the colours; the next place that is shown gives new ones."""
        self._basis.clear()

    def basis(self) -> analysis.Projection | None:
        """The colours of the features that are shown, or None before there are any."""
        made = self._now()
        if made is None:
            return None
        kept = self._basis.get((made[0].encoder, bool(made[1].attrs.get("synthetic"))))
        return None if kept is None else kept[0]

    def encoded_places(self) -> dict[Place, tuple[Choices, xr.DataArray]]:
        """Places in use whose features exist, made with what the shown ones were."""
        shown = self._state.made_with
        if shown is None:
            return {}
        found = {}
        for each in self._state.opened:
            choices = self._flow.compute.settled(replace(shown, place=each.place))
            features = self._flow.compute.known_features(choices)
            if features is not None:
                found[each.place] = choices, features
        return found

    def encoded(self) -> dict[str, xr.DataArray]:
        """The same by name, features only."""
        return {place.name: features for place, (_, features) in self.encoded_places().items()}
