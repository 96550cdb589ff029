"""Which places a step learns from, and the pairs of views of every step.

Places are grouped by the sensors that saw them and by whether there are several dates, because one
step is one batch of tensors. A step draws a group, a size that fits some of its places, perhaps
fewer sensors, and one place for every sample of the global batch: all from (seed, step) alone.
"""

import math
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from skysense.cells import division
from skysense.errors import EncoderError
from skysense.pretrain.augment import AugmentConfig
from skysense.pretrain.data import Place
from skysense.pretrain.geometry import Turn
from skysense.pretrain.views import Pair, Plan, ViewConfig, pairs
from skysense.sensors import SENSORS

GROUPS = {
    "+".join(some) + several
    for n in range(1, len(SENSORS) + 1)
    for some in combinations(SENSORS, n)
    for several in ("", " series")
}
"""Every name a group can have."""


@dataclass(frozen=True)
class Group:
    """Places that one step can learn from together."""

    name: str
    """Sensors joined by `+`, and ` series` if one of them has several dates."""
    sensors: tuple[str, ...]
    places: tuple[int, ...]
    """Indices of its places."""
    weight: float
    """How often it is drawn, relative to other groups."""


def group_name(place: Place, config: ViewConfig) -> str:
    """The group a place belongs to, such as `s2+s1 series`."""
    several = any(len(each.doy) >= config.series for each in place.sensors.values())
    return "+".join(place.sensors) + (" series" if several else "")


def groups(places: Sequence[Place], config: ViewConfig) -> list[Group]:
    """Places by group, with weights.

    A group's default weight is the square root of what there is to see: the ground of its places in
    views of the first size the config names, times the dates a view of them holds. What there is of
    synthetic places counts apart, times `config.synthetic`. Places that fit no size are left out.

    Raises:
        EncoderError: If no place fits, or `config.weights` names no group or leaves none.
    """
    members: dict[str, list[int]] = {}
    for index, place in enumerate(places):
        if any(_fits(place, size, config) for size, _ in _sizes(tuple(place.sensors), config)):
            members.setdefault(group_name(place, config), []).append(index)
    if not members:
        raise EncoderError(
            f"None of {len(places)} places is as large as the smallest view: sizes "
            f"{config.sizes}, with high resolution {config.hr_sizes} (cells of 10 m)."
        )
    strangers = sorted(set(config.weights) - GROUPS)
    if strangers:
        raise EncoderError(
            f"weights names {', '.join(strangers)}, which no group can be called; here they are "
            f"{', '.join(members)}."
        )
    found = []
    for name, inside in members.items():
        sensors = tuple(places[inside[0]].sensors)
        real = sum(_views(places[i], config) for i in inside if not places[i].synthetic)
        made = sum(_views(places[i], config) for i in inside if places[i].synthetic)
        weight = config.weights.get(name, math.sqrt(real) + config.synthetic * math.sqrt(made))
        found.append(Group(name, sensors, tuple(inside), weight))
    if not any(group.weight > 0 for group in found):
        raise EncoderError(f"weights leaves nothing to learn from: {config.weights}.")
    return found


def plan_step(
    places: Sequence[Place],
    among: Sequence[Group],
    config: ViewConfig,
    batch: int,
    seed: int,
    step: int,
) -> Plan:
    """What one step learns from: a pure function of its arguments.

    Args:
        places: All places.
        among: Their groups, from `groups`.
        config: As for `groups`.
        batch: Samples of all processes together.
        seed: Of the run.
        step: Counted from 0.
    """
    rng = np.random.default_rng((seed, step))
    group = among[_pick([each.weight for each in among], rng)]
    sensors = group.sensors
    if len(sensors) > 1 and rng.random() < config.drop_sensor:
        kept = rng.permutation(len(sensors))[: rng.integers(1, len(sensors))]
        sensors = tuple(key for i, key in enumerate(sensors) if i in kept)
    sizes = [
        (size, weight, [i for i in group.places if _fits(places[i], size, config)])
        for size, weight in _sizes(sensors, config)
    ]
    sizes = [each for each in sizes if each[1] > 0 and each[2]]
    if not sizes:  # only without high resolution can views be too large for every place
        sensors = group.sensors
        sizes = [
            (size, 1.0, [i for i in group.places if _fits(places[i], size, config)])
            for size, _ in _sizes(sensors, config)
        ]
        sizes = [each for each in sizes if each[2]]
    size, _, fitting = sizes[_pick([weight for _, weight, _ in sizes], rng)]
    dates = {
        key: min(most, max(len(places[i].sensors[key].doy) for i in fitting))
        for key, most in config.dates
        if key in sensors
    }
    turns = [Turn(bool(rng.integers(2)), int(rng.integers(4))) for _ in range(2)]
    chosen = _drawn(places, fitting, config, batch, rng)
    return Plan(
        seed=seed,
        step=step,
        group=group.name,
        sensors=sensors,
        size=size,
        dates={key: dates[key] for key in sensors},
        shared={key: max(1, round(config.shared * dates[key])) for key in sensors},
        whole=bool(rng.random() >= config.loose),
        turn_u=turns[0],
        turn_v=turns[1],
        places=chosen,
    )


class Loader:
    """Iterates over the pairs of views of the steps `start_step` to `steps` - 1.

    A pair is a function of (places, configs, seed, batch, step, rank, world) and of nothing else:
    neither of the number of workers nor of the step it began with. The processes of a distributed
    run get consecutive parts of the same global batch.
    """

    def __init__(
        self,
        places: Sequence[Place],
        config: ViewConfig,
        noise: AugmentConfig | None,
        *,
        batch: int,
        steps: int,
        seed: int = 0,
        start_step: int = 0,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        """Check and group.

        Args:
            places: From `skysense.pretrain.data.open_places`.
            config: How views are cut.
            noise: What is done to pixels; None = nothing.
            batch: Pairs per step of all processes together.
            steps: Length of the run.
            seed: Of everything random here.
            start_step: First step to deliver.
            rank: Number of this process.
            world: Number of processes.
            workers: Processes that prepare pairs ahead; 0 = none.
            pin_memory: Whether tensors come in page-locked memory.

        Raises:
            EncoderError: If the batch cannot be divided, or places or weights do not fit.
        """
        if batch < 1 or batch % world or not 0 <= rank < world:
            raise EncoderError(
                f"A batch of {batch} cannot be divided among {world} processes (this is number "
                f"{rank}). Give a multiple."
            )
        self.places, self.config, self.noise = list(places), config, noise
        self.batch, self.seed = batch, seed
        self.start, self.stop = start_step, steps
        self.indices = range(rank * batch // world, (rank + 1) * batch // world)
        self.workers, self.pin_memory = workers, pin_memory
        self.groups = groups(self.places, config)
        self.cells = cells_of(self.places, config.cells)

    def __len__(self) -> int:
        """Number of steps."""
        return max(0, self.stop - self.start)

    def __getitem__(self, step: int) -> Pair:
        """The pairs of a step, cut now."""
        plan = plan_step(self.places, self.groups, self.config, self.batch, self.seed, step)
        return pairs(self.places, plan, self.indices, self.config, self.noise, self.cells)

    def __iter__(self) -> Iterator[Pair]:
        """The pairs of every step in order, prepared ahead by the workers."""
        fork = self.workers and "fork" in torch.multiprocessing.get_all_start_methods()
        yield from torch.utils.data.DataLoader(
            _Steps(self),
            batch_size=None,
            sampler=range(self.start, self.stop),
            num_workers=self.workers,
            pin_memory=self.pin_memory,
            # a mapped file goes to a forked worker as it is; pickled, it would be copied whole
            multiprocessing_context="fork" if fork else None,
            worker_init_fn=_deaf,
        )


def _deaf(number: int) -> None:
    """Leave signals, which a terminal sends to all processes, to the one that can save its state."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)


class _Steps(torch.utils.data.Dataset):
    """Steps by number."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __getitem__(self, step: int) -> Pair:
        return self.loader[step]


def cells_of(places: Sequence[Place], count: int) -> np.ndarray:
    """Geo-context cell of every place, int64; -1 where the position is unknown.

    A synthetic place lies nowhere, whatever it pretends: it teaches no cell.
    """
    if not count:
        return np.full(len(places), -1)
    known = np.array([not place.synthetic for place in places])
    lon, lat = np.array([place.lonlat for place in places]).T
    unknown = np.isnan(lon) | np.isnan(lat) | ~known
    return division(count).cell_of(np.where(unknown, np.nan, lon), np.where(unknown, np.nan, lat))


def _sizes(sensors: Sequence[str], config: ViewConfig) -> tuple[tuple[int, float], ...]:
    return config.hr_sizes if "hr" in sensors else config.sizes


def _fits(place: Place, size: int, config: ViewConfig) -> bool:
    return min(place.cells) >= config.fill * size


def _views(place: Place, config: ViewConfig) -> float:
    """What there is to see of a place: its ground in views of the first size, times their dates."""
    size = _sizes(tuple(place.sensors), config)[0][0]
    rows, columns = place.cells
    most = dict(config.dates)
    dates = sum(min(most[key], len(each.doy)) for key, each in place.sensors.items())
    return max(1.0, rows * columns / size**2) * dates


def _pick(weights: Sequence[float], rng: np.random.Generator) -> int:
    total = np.cumsum(weights)
    return int(np.searchsorted(total, rng.random() * total[-1], side="right"))


def _drawn(
    places: Sequence[Place],
    fitting: Sequence[int],
    config: ViewConfig,
    batch: int,
    rng: np.random.Generator,
) -> tuple[int, ...]:
    """A place for every sample: each as often as its share says, rounded up or down at random.

    So a place comes twice only where its share of the batch is more than one sample. Shares are
    the square roots of the numbers of different views, synthetic and real places apart.
    """
    share = np.array([math.sqrt(_views(places[i], config)) for i in fitting])
    made = np.array([places[i].synthetic for i in fitting])
    if made.any() and not made.all():
        share[made] *= config.synthetic / share[made].sum()
        share[~made] *= (1 - config.synthetic) / share[~made].sum()
    order = rng.permutation(len(fitting))
    borders = np.cumsum(share[order])
    points = (rng.random() + np.arange(batch)) / batch * borders[-1]
    drawn = np.asarray(fitting)[order][np.searchsorted(borders, points, side="right")]
    return tuple(rng.permutation(drawn).tolist())
