"""Means over tasks, the bar that a trained network must pass, and what a part of it is worth."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from skysense.evaluation.run import Record

MARGIN = 0.15
"""By how much trained fused features must beat untrained ones (mean few-shot mIoU)."""


@dataclass(frozen=True)
class Mean:
    """A mean with the half width of its 95 % interval, 0..1."""

    value: float
    half: float
    tasks: int = 1


@dataclass(frozen=True)
class Verdict:
    """One line of the bar."""

    network: str
    question: str
    difference: Mean
    passed: bool
    detail: str
    least: float = 0.0
    """What the difference must reach."""

    @property
    def word(self) -> str:
        """Pass or fail, and whether the seeds leave a doubt."""
        doubt = abs(self.difference.value - self.least) < self.difference.half
        return ("pass" if self.passed else "FAIL") + (", within the interval" if doubt else "")


@dataclass(frozen=True)
class Worth:
    """A run without one part minus the run that has it, on the same blocks and clicks."""

    network: str
    against: str
    output: str
    every: Mean
    """Over all maps of real places."""
    unseen: Mean | None
    """Over those whose imagery training never saw; None if there is none."""
    better: int
    """On how many of the maps the run without the part is ahead."""


def interval(values: Sequence[float] | np.ndarray, tasks: int = 1) -> Mean:
    """Mean of the seeds with a 95 % interval of Student's t.

    The interval speaks of the draw of blocks and labels, not of the choice of places.
    """
    values = np.asarray(values, float)
    n = len(values)
    half = float(student.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    return Mean(float(values.mean()), half, tasks)


def over_tasks(records: Sequence[Record], metric: str, tasks: Iterable[str]) -> np.ndarray | None:
    """Per seed the mean over tasks (seeds,), or None unless there is one record of every task."""
    by_task = {each.task: each.scores[metric] for each in records if metric in each.scores}
    tasks = list(tasks)
    if not tasks or any(task not in by_task for task in tasks):
        return None
    return np.mean([by_task[task] for task in tasks], axis=0)


def full(records: Iterable[Record]) -> dict[str, str]:
    """Task to the sensors of its fullest fused (or raw) features."""
    widest: dict[str, str] = {}
    for each in records:
        if len(each.sensors.split("+")) > len(widest.get(each.task, "").split("+")) or (
            each.task not in widest
        ):
            widest[each.task] = each.sensors
    return widest


def tokens_of(sensors: str) -> str:
    """The per-date output that stands for a place: Sentinel-2 tokens where there are any."""
    have = sensors.split("+")
    return "s2 tokens" if "s2" in have else ("s1 tokens" if "s1" in have else "hr map")


def choice(records: Sequence[Record], network: str, output: str) -> list[Record]:
    """One row per task: an output from all the sensors a task has, or its tokens (`tokens`)."""
    widest = full(records)
    chosen = []
    for each in (r for r in records if r.network == network):
        if output == "tokens":
            if each.output == tokens_of(widest[each.task]):
                chosen.append(each)
        elif each.output == output and each.sensors == widest[each.task]:
            chosen.append(each)
    return chosen


def networks(records: Iterable[Record], untrained: bool) -> list[str]:
    """Names of the trained, or of the untrained networks, in order of appearance."""
    names = (each.network for each in records if each.network != "none")
    state = {each.network: each.untrained for each in records}
    return [name for name in dict.fromkeys(names) if state[name] == untrained]


def own_runs(records: Iterable[Record]) -> list[str]:
    """Trained networks that stand for themselves: all but those compared `against` another."""
    records = list(records)
    parts = {each.network for each in records if each.against}
    return [name for name in networks(records, untrained=False) if name not in parts]


def real_maps(records: Iterable[Record]) -> list[str]:
    """Tasks that count: maps of real places."""
    return list(dict.fromkeys(r.task for r in records if r.kind == "pixels" and not r.synthetic))


def verdicts(records: Sequence[Record], metric: str = "shots") -> list[Verdict]:
    """The bar, for every trained network that is not there to be compared with another.

    Trained fused minus untrained fused must be at least `MARGIN`; and trained fused must reach the
    best of raw dates, percentiles and untrained tokens, each from the sensors a task has: on the
    mean over all tasks, and on the mean over tasks whose imagery training never saw.
    """
    found: list[Verdict] = []
    for name in own_runs(records):
        fused = choice(records, name, "fused")
        null = next((r.null for r in fused if r.null), None)
        every = [t for t in real_maps(records) if any(r.task == t for r in fused)]
        unseen = [t for t in every if all(r.seen == "no" for r in fused if r.task == t)]
        ours = over_tasks(fused, metric, every)
        if ours is None:
            continue
        if null is not None:
            theirs = over_tasks(choice(records, null, "fused"), metric, every)
            if theirs is not None:
                mean = interval(ours - theirs, len(every))
                found.append(
                    Verdict(
                        name,
                        f"fused beats untrained fused by at least {100 * MARGIN:.0f} points",
                        mean,
                        mean.value >= MARGIN,
                        f"{_points(ours)} against {_points(theirs)}",
                        MARGIN,
                    )
                )
        for where, tasks in (("all tasks", every), ("tasks never seen in training", unseen)):
            mine = over_tasks(fused, metric, tasks)
            if mine is None:
                continue
            rivals = {
                "raw dates": over_tasks(choice(records, "none", "raw"), metric, tasks),
                "percentiles": over_tasks(choice(records, "none", "percentiles"), metric, tasks),
            }
            if null is not None:
                rivals["untrained tokens"] = over_tasks(
                    choice(records, null, "tokens"), metric, tasks
                )
            known = {k: v for k, v in rivals.items() if v is not None}
            if not known:
                continue
            best = max(known, key=lambda k: float(known[k].mean()))
            mean = interval(mine - known[best], len(tasks))
            found.append(
                Verdict(
                    name,
                    f"fused reaches the best of {', '.join(known)}, {where}",
                    mean,
                    mean.value >= 0,
                    f"{_points(mine)} against {_points(known[best])} of {best}",
                )
            )
        if not unseen:
            found.append(
                Verdict(
                    name,
                    "fused reaches the best of the others, tasks never seen in training",
                    Mean(float("nan"), float("nan"), 0),
                    False,
                    "no task is known to be unseen: the weights come without a list of their data",
                )
            )
    return found


def worths(records: Sequence[Record], metric: str = "shots") -> list[Worth]:
    """What every run that is compared `against` another scores more than it, output by output.

    Both answer the same questions, so the differences are taken seed by seed and the interval is that of
    the differences. It speaks of the draw of blocks and labels, not of the draw of a training run.
    """
    found: list[Worth] = []
    against = {r.network: r.against for r in records if r.against}
    for name, reference in against.items():
        for output in ("tokens", "fused", "fused + context"):
            ours = {r.task: r for r in choice(records, name, output)}
            theirs = {r.task: r for r in choice(records, reference, output)}
            gaps = {
                task: np.subtract(ours[task].scores[metric], theirs[task].scores[metric])
                for task in real_maps(ours.values())
                if task in theirs
            }
            if not gaps:
                continue
            unseen = [gap for task, gap in gaps.items() if ours[task].seen == "no"]
            found.append(
                Worth(
                    name,
                    reference,
                    output,
                    interval(np.mean(list(gaps.values()), axis=0), len(gaps)),
                    interval(np.mean(unseen, axis=0), len(unseen)) if unseen else None,
                    sum(float(gap.mean()) > 0 for gap in gaps.values()),
                )
            )
    return found


def _points(values: np.ndarray) -> str:
    return f"{100 * float(values.mean()):.1f}"
