"""The steps behind the screen, each a pure function of hashable choices, kept in one store.

Everything here runs in worker threads and is shared by all sessions.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import xarray as xr

from app.places import SYNTHETIC, Place
from app.state import Choices
from app.store import Store
from skysense import analysis, view
from skysense.dates import choose_dates, summary
from skysense.errors import Cancelled, SourceError
from skysense.sources import load_stack, synthetic
from skysense.sources.files_labels import read_labels
from skysense.sources.recipe import read_recipe

Progress = Callable[[int, int, str], None]

ENCODERS: dict[str, str] = {
    "skysense-tiny": "SkySense tiny",
    "spectral": "Spectral baseline",
    "skysense-tiny-untrained": "SkySense tiny, untrained",
    "skysense-base": "SkySense base, untrained",
}
"""Encoders on offer: name and what they are called on the screen."""


LOADED_BYTES = 600_000_000
"""Local stacks smaller than this are read at once, so that every later look at them is quick."""

CLOSE_KM2 = 1.0
"""Made-up scenes larger than this have no high resolution: inventing it takes a minute."""

LEAST_MEMORY = 4.0
"""What encoding may hold (GB) where nobody knows how much the machine has; `embed`'s own default."""

TRUTH = "truth of the synthetic scene"


def memory_budget() -> float:
    """What encoding may hold (GB): half of this machine's memory, and at least what Python allows.

    The full model's weights alone need more than the 4 GB that a script may take unasked.
    """
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not a POSIX system
        return LEAST_MEMORY
    return max(LEAST_MEMORY, pages * size / 2e9)


@dataclass
class Compute:
    """Steps that remember what they made."""

    store: Store = field(default_factory=Store)
    weights: Path | None = None
    """Official SkySense weights, if there are any; they add the encoder `skysense-v1`."""

    @property
    def encoders(self) -> dict[str, str]:
        """Encoders on offer: name to title."""
        extra = {"skysense-v1": "SkySense V1 (official)"} if self.weights else {}
        return {**ENCODERS, **extra}

    def stack(self, place: Place) -> xr.DataTree:
        """The images of a place; in memory if they are small and on this computer."""

        def make() -> xr.DataTree:
            stack = _load(place)
            if place.local and summary(stack).nbytes < LOADED_BYTES:
                stack = stack.load()
            return stack

        return self.store.get(("stack", place), make)

    def encoder(self, name: str) -> object:
        """An encoder, loaded once."""
        from skysense.encoders import load_encoder

        path = self.weights if name == "skysense-v1" else None
        return self.store.get(("encoder", name), lambda: load_encoder(name, path=path))

    def known_features(self, choices: Choices) -> xr.DataArray | None:
        """Features that were made before, or None."""
        return self.store.peek(("features", choices))

    def features(
        self, choices: Choices, progress: Progress, cancel: threading.Event
    ) -> xr.DataArray:
        """Features of a place; slow the first time."""

        def make() -> xr.DataArray:
            from skysense.embedding import embed

            progress(0, 0, "Reading images")
            stack = self.stack(choices.place)
            progress(0, 0, "Loading the encoder")
            encoder = self.encoder(choices.encoder)
            begun = time.perf_counter()

            def timed(done: int, total: int, sentence: str) -> None:
                spent = time.perf_counter() - begun
                progress(done, total, f"{sentence}{_left(spent, done, total)}")

            return embed(
                stack,
                encoder,  # type: ignore[arg-type]
                resolution=choices.resolution,
                dates=choices.dates,
                progress=timed,
                cancel=cancel,
                memory_gb=memory_budget(),
            )

        return self.store.get(("features", choices), make)

    def cost(self, choices: Choices) -> str:
        """What encoding will need, in words: windows, gigabytes, time.

        The speed of an encoder is measured here once, in a second or so; large ones take longer.

        Raises:
            SkySenseError: If these choices cannot be encoded at all.
        """
        from skysense.cost import speed
        from skysense.embedding import forecast, usable_sensors

        encoder = self.encoder(choices.encoder)
        stack = choose_dates(self.stack(choices.place), choices.dates)
        sensors = usable_sensors(stack, encoder)  # type: ignore[arg-type]
        need = forecast(stack, encoder, resolution=choices.resolution)  # type: ignore[arg-type]
        pace = self.store.get(
            ("speed", choices.encoder, tuple(sensors)),
            lambda: speed(encoder, sensors),  # type: ignore[arg-type]
        )
        return need.sentence(pace)

    def label_names(self, place: Place) -> list[str]:
        """Labels that come with the images of a place."""
        if place.source == SYNTHETIC:
            return [TRUTH]
        if place.source.endswith(".toml"):
            return [name for name, _ in read_recipe(place.source).labels]
        return []

    def labels(self, place: Place, name: str, features: xr.DataArray) -> xr.DataArray:
        """Labels that come with a place, on the grid of its features: categorical (y, x)."""
        if place.source == SYNTHETIC and place.region is not None:
            return analysis.label_field(synthetic.truth_for(place.region), features)
        found = read_labels(place.source, name, place.scene)
        if isinstance(found, xr.DataArray):
            return analysis.label_field(found, features)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.geojson"
            found.to_crs("EPSG:4326").to_file(path, driver="GeoJSON")
            return analysis.label_field(path, features, column="class")

    def picture(self, place: Place, sensor: str, number: int) -> view.Overlay:
        """One date of one sensor in true colour, ready for the map."""

        def make() -> view.Overlay:
            group = self.stack(place)[sensor].to_dataset()
            return view.overlay(view.true_colour_field(group, number))

        return self.store.get(("picture", place, sensor, number), make)

    # ---------------------------------------------------------------- what is made from features

    def basis(self, choices: Choices, features: xr.DataArray) -> analysis.Projection:
        """Colours of one place's features."""
        return self.store.get(("basis", choices), lambda: analysis.fit_pca(features, n=3))

    def coordinates(
        self,
        choices: Choices,
        features: xr.DataArray,
        axes: str,
        progress: Progress,
        cancel: threading.Event,
    ) -> xr.DataArray:
        """Two coordinates for every cell: (component, y, x)."""

        def make() -> xr.DataArray:
            if axes == "UMAP":

                def watched(done: int, total: int, sentence: str) -> None:
                    if cancel.is_set():
                        raise Cancelled
                    progress(done, total, sentence)

                return analysis.fit_umap(features, n=2, progress=watched)(features)
            return analysis.fit_pca(features, n=2)(features)

        return self.store.get(("coordinates", choices, axes), make)

    def segmenter(self, choices: Choices, features: xr.DataArray) -> analysis.Segmenter:
        """Features laid out for the classes that grow from clicks."""
        return self.store.get(("segmenter", choices), lambda: analysis.Segmenter.of(features))

    def clusters(self, choices: Choices, features: xr.DataArray, n: int) -> xr.DataArray:
        """Groups of like cells."""
        return self.store.get(("clusters", choices, n), lambda: analysis.cluster(features, n=n))

    def prototypes(
        self, choices: Choices, features: xr.DataArray, n: int
    ) -> tuple[xr.DataArray, xr.DataArray]:
        """(bank, nearest prototype of each cell)."""

        def make() -> tuple[xr.DataArray, xr.DataArray]:
            bank = analysis.fit_prototypes(features, n=n)
            return bank, analysis.assign(features, bank)

        return self.store.get(("prototypes", choices, n), make)


def _load(place: Place) -> xr.DataTree:
    if place.source.endswith(".toml"):
        return load_stack(place.region, source=place.source, scene=place.scene)
    if place.region is None:
        raise SourceError(f"{place.name} names no region. Draw or type one.")
    if place.source == SYNTHETIC and place.region.area > CLOSE_KM2:
        return load_stack(place.region, ("s2", "s1"), SYNTHETIC)
    return load_stack(place.region, source=place.source)


def _left(spent: float, done: int, total: int) -> str:
    left = spent / max(done, 1) * (total - done)
    return f", {_duration(left)} left" if left >= 2 else ""


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
