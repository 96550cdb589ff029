"""What is made from the features of a place: colours, points, groups, prototypes, likeness."""

from dataclasses import replace
from typing import TYPE_CHECKING

import xarray as xr

from app.jobs import Job
from app.state import Choices, failed
from skysense import analysis

if TYPE_CHECKING:
    from app.flow import Flow


class Made:
    """The steps after encoding, each in a worker, each with its own pane."""

    def __init__(self, flow: "Flow") -> None:
        self._flow, self._state = flow, flow.state
        self._basis: dict[tuple[str, bool], tuple[analysis.Projection, str]] = {}

    def everything(self) -> None:
        """All that can be made without asking the user."""
        self.colour()
        self.place_points()
        self.group()
        self.fit_prototypes()

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

    def fit_prototypes(self) -> None:
        """Fit a bank of prototypes and find the nearest one of each cell."""
        made = self._now()
        if made is None:
            return
        choices, features = made
        n = self._state.prototypes

        def done(result: tuple[xr.DataArray, xr.DataArray]) -> None:
            self._state.bank = result[0]
            self._state.set_field("prototypes", result[1])

        self._flow.run(
            "prototypes",
            "prototypes",
            f"Fitting {n} prototypes",
            lambda _: self._flow.compute.prototypes(choices, features, n),
            done,
        )

    def encoded(self) -> dict[str, xr.DataArray]:
        """Places of this session whose features exist, made with what the shown ones were."""
        shown = self._state.made_with
        if shown is None:
            return {}
        found = {}
        for place in self._state.places:
            features = self._flow.compute.known_features(replace(shown, place=place))
            if features is not None:
                found[place.name] = features
        return found

    def compare(self, names: list[str]) -> None:
        """Compare encoded places through one bank fitted on all of them."""
        places = {name: each for name, each in self.encoded().items() if name in names}
        if len(places) < 2:
            self._state.set_status("compare", failed("Choose at least two encoded places."))
            return
        n = self._state.prototypes

        def work(_: Job) -> analysis.Comparison:
            return analysis.compare(places, analysis.fit_prototypes(places, n=n))

        def done(found: analysis.Comparison) -> None:
            self._state.comparison = found

        self._flow.run("compare", "compare", "Comparing", work, done)
