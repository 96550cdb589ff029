"""The steps behind the screen, each a pure function of hashable choices, kept in one store.

Everything here runs in worker threads and is shared by all sessions. Encoders live in a process of
their own (`app.worker`): this one never imports torch.
"""

import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import xarray as xr

import skysense
from app import encoding
from app.atlas import Atlas, described
from app.places import SYNTHETIC, Place
from app.state import Choices, is_v2
from app.store import Store
from app.worker import Worker
from skysense import analysis, view
from skysense.dates import choose_dates, summary
from skysense.errors import Cancelled, SourceError
from skysense.hashes import feature_hash
from skysense.sources import load_stack, synthetic
from skysense.sources.files_labels import read_labels
from skysense.sources.recipe import read_recipe
from skysense.stack import sensors_of

Progress = Callable[[int, int, str], None]

SHIPPED_V2 = "skysense-v2-tiny"
_V2_THERE = (Path(skysense.__file__).parent / "shipped" / SHIPPED_V2).is_dir()
ENCODERS: dict[str, str] = {
    "skysense-tiny": "SkySense tiny",
    **({SHIPPED_V2: "SkySense V2 tiny"} if _V2_THERE else {}),
    "spectral": "Spectral baseline",
    "skysense-tiny-untrained": "SkySense tiny, untrained",
    "skysense-v2-tiny-untrained": "SkySense V2 tiny, untrained",
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
    worker: Worker = field(default_factory=Worker)
    """The process that holds the encoders; it starts when it is first needed."""
    _partial: dict[Choices, encoding.Partial] = field(default_factory=dict, init=False)

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

    def facts(self, name: str) -> encoding.Facts:
        """What there is to say of an encoder; its weights are loaded for that."""
        path = self._path(name)
        return self.store.get(
            ("facts", name), lambda: self.worker.call(encoding.facts, name, path, beside=True)
        )

    def _path(self, name: str) -> Path | None:
        return self.weights if name == "skysense-v1" else None

    def known_features(self, choices: Choices) -> xr.DataArray | None:
        """Features that were made before, or None."""
        return self.store.peek(("features", self.settled(choices)))

    def settled(self, choices: Choices) -> Choices:
        """The choices without a merge schedule, if their place is open and has no high resolution."""
        stack = self.store.peek(("stack", choices.place)) if choices.merge else None
        none = stack is not None and "hr" not in sensors_of(stack)
        return replace(choices, merge="") if none else choices

    def partial(self, choices: Choices) -> encoding.Partial | None:
        """What is done so far of features that are being made."""
        return self._partial.get(choices)

    def features(
        self,
        choices: Choices,
        progress: Progress,
        cancel: threading.Event,
        centre: tuple[float, float] | None = None,
    ) -> xr.DataArray:
        """Features of a place; slow the first time.

        If it is cancelled on the way, what was done is given, but not kept for others: what was
        told last, if the worker does not stop in time and is ended.
        """
        known = self.known_features(choices)
        if known is not None:
            return known
        try:
            made = self._embedded(choices, progress, cancel, centre)
        except Cancelled:
            told = self._partial.get(choices)
            if told is None:
                raise
            made = told.coarse if told.fine is None else told.fine
        finally:
            self._partial.pop(choices, None)
        if not made.attrs.get("unfinished"):
            self.store.get(("features", self.settled(choices)), lambda: made)
        return made

    def _embedded(
        self,
        choices: Choices,
        progress: Progress,
        cancel: threading.Event,
        centre: tuple[float, float] | None,
    ) -> xr.DataArray:
        progress(0, 0, "Reading images")
        stack = self.stack(choices.place)

        def keep(partial: encoding.Partial) -> None:
            self._partial[choices] = partial

        return self.worker.call(
            encoding.embed_stack,
            stack,
            choices.encoder,
            self._path(choices.encoder),
            merge=choices.merge,
            resolution=choices.resolution,
            dates=choices.dates,
            memory_gb=memory_budget(),
            centre=centre,
            progress=progress,
            partial=keep,
            cancel=cancel,
        )

    def subsets(
        self,
        what: str,
        choices: Choices,
        progress: Progress,
        cancel: threading.Event,
        **options: Any,
    ) -> Any:
        """What features would be with other dates, or what becomes of tokens, on every 40 m.

        Args:
            what: A function of `skysense`, such as `sensitivity`, `half_features` or `experts`.
            choices: Whose features.
            progress: Called on the way.
            cancel: Set it to stop.
            options: Of that function.
        """

        def make() -> xr.DataArray:
            return self.worker.call(
                encoding.subsets,
                what,
                self.stack(choices.place),
                choices.encoder,
                self._path(choices.encoder),
                merge=choices.merge,
                dates=choices.dates,
                memory_gb=memory_budget(),
                progress=progress,
                cancel=cancel,
                **options,
            )

        return self.store.get((what, choices, *sorted(options.items())), make)

    def masks(
        self,
        choices: Choices,
        features: xr.DataArray,
        levels: xr.DataArray | None,
        cancel: threading.Event,
    ) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
        """What semantic queries look at, see `encoding.masks`."""
        path, name = self._path(choices.encoder), choices.place.name
        return self.worker.call(
            encoding.masks,
            features,
            choices.encoder,
            path,
            name,
            levels,
            cancel=cancel,
            beside=True,
        )

    def cost(self, choices: Choices) -> str:
        """What encoding will need, in words: windows, gigabytes, time.

        The speed of an encoder is measured here once, in a second or so; large ones take longer.

        Raises:
            SkySenseError: If these choices cannot be encoded at all.
        """
        stack = choose_dates(self.stack(choices.place), choices.dates)
        return self.worker.call(
            encoding.cost,
            encoding.outline_of(stack),
            choices.encoder,
            self._path(choices.encoder),
            choices.merge,
            choices.resolution,
            beside=True,
        )

    def close(self) -> None:
        """End the worker process."""
        self.worker.close()

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

    def hash_of(self, choices: Choices, features: xr.DataArray) -> str:
        """`feature_hash` of whole features."""
        return self.store.get(("hash", choices), lambda: feature_hash(features))

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
            bank = analysis.fit_prototypes({choices.place.name: features}, n=n)
            return bank, analysis.assign(features, bank)

        return self.store.get(("prototypes", choices, n), make)

    def assigned(
        self, choices: Choices, features: xr.DataArray, bank: xr.DataArray
    ) -> xr.DataArray:
        """The nearest prototype of each cell, of a bank fitted anywhere."""
        field = self.store.get(
            ("assigned", choices, analysis.bank_digest(bank)),
            lambda: analysis.assign(features, bank),
        )
        names = analysis.names_of(bank)
        return field if field.attrs["categories"] == names else field.assign_attrs(categories=names)

    def best_image(self, place: Place) -> xr.DataArray:
        """The clearest date of the closest view of a place, in true colour."""
        return self.store.get(
            ("image", place), lambda: view.true_colour_field(self._closest(place))
        )

    def _closest(self, place: Place) -> xr.Dataset:
        stack = self.stack(place)
        return stack[sensors_of(stack)[0]].to_dataset()

    def atlas(
        self, places: Mapping[Place, tuple[Choices, xr.DataArray]], bank: xr.DataArray
    ) -> Atlas:
        """What the prototypes of a bank look like, and where they fire in every place."""
        features = {place.name: each for place, (_, each) in places.items()}
        who = tuple(choices for choices, _ in places.values())
        return self.store.get(
            ("atlas", analysis.bank_digest(bank), who),
            lambda: described(
                features, {place.name: self._closest(place) for place in places}, bank
            ),
        )


def other_family(choices: Choices) -> Choices:
    """The same of a tiny SkySense V1 if the encoder is V2, else of a tiny V2."""
    v2 = SHIPPED_V2 if SHIPPED_V2 in ENCODERS else f"{SHIPPED_V2}-untrained"
    other = "skysense-tiny" if is_v2(choices.encoder) else v2
    return replace(choices, encoder=other, merge="", part="")


def _load(place: Place) -> xr.DataTree:
    if place.source.endswith(".toml"):
        return load_stack(place.region, place.sensors, place.source, scene=place.scene)
    if place.region is None:
        raise SourceError(f"{place.name} names no region. Draw or type one.")
    sensors = place.sensors
    if sensors is None and place.source == SYNTHETIC and place.region.area > CLOSE_KM2:
        sensors = ("s2", "s1")
    return load_stack(place.region, sensors, place.source)
