"""The protocol: every output of every network on every task, the same splits and clicks for all."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits  # comes with scikit-learn
from torch import Tensor

from skysense.encoders import Encoder
from skysense.errors import AnalysisError, SkySenseError
from skysense.evaluation import probes
from skysense.evaluation.outputs import (
    Network,
    Output,
    bundle,
    restricted,
    subsets,
    weightless,
)
from skysense.evaluation.splits import CLICKS, Draw, draws
from skysense.evaluation.tasks import (
    POSITION,
    Images,
    Skipped,
    Task,
    encode,
    pooled,
    position,
    seen_by,
)
from skysense.sensors import SENSORS

PROTOCOL = 1
"""Raised when scores of another version can no longer be compared; part of every cached name."""

SAMPLE = 6_000
"""Cells of a place that take part."""

LEAST = {"pixels": 60, "patches": 4}
"""A class with fewer rows is left out, and said."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Record:
    """What one output scored on one task."""

    network: str
    """`none` for raw dates, percentiles and noise."""
    output: str
    sensors: str
    """Joined by +."""
    task: str
    site: str
    kind: str
    synthetic: bool
    seen: str
    """Whether the network's training saw this imagery: yes, no, unknown."""
    untrained: bool
    weights: str
    null: str = ""
    """Name of the same network with random weights; empty if it was not run."""
    against: str = ""
    """Name of the run that this one equals but for one part; empty for a run of its own."""
    note: str = ""
    """Classes, rows, and what was left out."""
    scores: dict[str, list[float]] = field(default_factory=dict)
    """Metric to one value per seed, 0..1."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes a record one row of the tables."""
        return self.task, self.network, self.output, self.sensors


@dataclass(frozen=True)
class Questions:
    """A task as rows and splits, ready to be asked of any features."""

    cells: np.ndarray
    """Which cells (pixels) or all images (patches)."""
    classes: np.ndarray
    names: tuple[str, ...]
    draws: list[Draw]
    note: str
    """Classes and rows in words, and which classes are left out."""


def evaluate(
    models: Sequence[Network | Encoder],
    tasks: Sequence[Task],
    *,
    cache: Path | None = None,
    say: Say = lambda _: None,
) -> tuple[list[Record], list[Skipped]]:
    """Scores of all outputs of all models, and of raw dates, percentiles and noise beside them.

    Args:
        models: Networks of ours, each output of which is scored; any other `Encoder` is scored as
            it is.
        tasks: What to ask.
        cache: Folder that keeps finished scores; None keeps nothing.
        say: Called with a line of progress.

    Returns:
        The records, and the tasks that turned out to be impossible, with the reason.
    """
    records: list[Record] = []
    skipped: list[Skipped] = []
    sites = [list(group) for _, group in groupby(tasks, lambda task: task.site)]
    for number, of_site in enumerate(sites, start=1):
        say(f"{number} of {len(sites)}: {of_site[0].site}")
        try:
            made, left = _site(models, of_site, cache, say)
        except (SkySenseError, OSError) as error:
            skipped += [Skipped(task.name, str(error)) for task in of_site]
            continue
        records += made
        skipped += left
    return records, skipped


def _site(
    models: Sequence[Network | Encoder], tasks: Sequence[Task], cache: Path | None, say: Say
) -> tuple[list[Record], list[Skipped]]:
    images = tasks[0].load()
    asked, skipped = {}, []
    for task in tasks:
        try:
            asked[task.name] = questions(task, images)
        except AnalysisError as error:
            skipped.append(Skipped(task.name, str(error)))
    records = []
    for model in (None, *models):
        candidates = _outputs(model, images, tasks[0].sensors)
        waiting: dict[int, list[tuple[Task, Path | None]]] = {}
        for i, output in enumerate(candidates):
            for task in (t for t in tasks if t.name in asked):
                file = _file(cache, output, task, asked[task.name])
                if file is not None and file.exists():
                    scores = json.loads(file.read_text(encoding="utf-8"))
                    records.append(_record(model, output, task, asked[task.name], scores))
                else:
                    waiting.setdefault(i, []).append((task, file))
        if not waiting:
            continue
        started = time.perf_counter()
        chosen = [candidates[i] for i in waiting]
        values = _values(images, chosen)
        encoded = time.perf_counter() - started
        first = 0
        for output, todo in zip(chosen, waiting.values(), strict=True):
            part = values[:, first : first + output.dim]
            first += output.dim
            rows = pooled(part, images.image) if todo[0][0].kind == "patches" else part
            for task, file in todo:
                with threadpool_limits(1):  # small problems: threads only wait for each other
                    scores = score(rows, asked[task.name], task.kind)
                if file is not None:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(json.dumps(scores), encoding="utf-8")
                records.append(_record(model, output, task, asked[task.name], scores))
        took = time.perf_counter() - started
        say(
            f"  {model.name if model is not None else 'without a network'}: {len(chosen)} outputs, "
            f"{took:.0f} s, of which {encoded:.0f} s encoding"
        )
    return records, skipped


def whereabouts(sensors: Sequence[str]) -> Output:
    """The null model that knows only where a cell lies; an encoder is never told, so the run is."""

    def look(*_: object) -> Tensor:
        raise AnalysisError("The position of a cell is not in its pixels; see tasks.position.")

    named = tuple(key for key in SENSORS if key in sensors)
    return Output("position", named, POSITION, look, weights="position")


def _values(images: Images, chosen: Sequence[Output]) -> np.ndarray:
    """Features of several outputs side by side, (n, sum of dims)."""
    read = [each for each in chosen if each.weights != "position"]
    parts = [position(images)] if len(read) < len(chosen) else []
    if read:
        parts.append(encode(images, bundle(read)))
    return np.concatenate(parts, axis=1)


def _outputs(
    model: Network | Encoder | None, images: Images, sensors: Sequence[str]
) -> list[Output]:
    """What there is to score for a place with these sensors."""
    dates = images.dates
    there = [key for key in sensors if key in dates]
    if model is None:
        place = [whereabouts(there)] if images.stack is not None else []
        return [*place, *weightless(there, dates)]
    if isinstance(model, Network):
        return model.outputs(there)
    usable = [key for key in there if key in model.sensors]
    return [restricted(model, each) for each in subsets(usable)]


def questions(task: Task, images: Images) -> Questions:
    """Rows, classes and splits of a task.

    Raises:
        AnalysisError: If fewer than two classes have enough rows, or no split is fair.
    """
    labels = images.labels[task.labels]
    rows = np.flatnonzero(labels.index >= 0)
    if len(rows) > SAMPLE:
        rows = np.sort(np.random.default_rng(0).choice(rows, SAMPLE, replace=False))
    number = np.bincount(labels.index[rows], minlength=len(labels.classes))
    patches = task.kind == "patches"
    group = images.group if patches else images.group[images.image]
    spread = [len(np.unique(group[rows][labels.index[rows] == i])) for i in range(len(number))]
    lone = [task.block == 0 and n < 2 for n in spread]
    keep = [i for i, n in enumerate(number) if n >= LEAST[task.kind] and not lone[i]]
    few = [f"{labels.classes[i]} ({n})" for i, n in enumerate(number) if n and i not in keep]
    note = f"Left out, too few or in one place: {', '.join(few)}." if few else ""
    unit = "images" if patches else f"cells of {images.resolution} m"
    kept = ", ".join(f"{labels.classes[i]} {number[i]:,}" for i in keep)
    title = f"{len(keep)} classes in {sum(number[i] for i in keep):,} {unit}: {kept}."
    if len(keep) < 2:
        raise AnalysisError(f"Fewer than two classes have enough labels. {note}".strip())
    rows = rows[np.isin(labels.index[rows], keep)]
    classes = np.searchsorted(keep, labels.index[rows])
    metres = np.zeros((len(rows), 2)) if patches else images.metres[rows]
    made = draws(task.name, classes, metres, group[rows], task.block)
    return Questions(
        rows, classes, tuple(labels.classes[i] for i in keep), made, f"{title} {note}".strip()
    )


def score(values: np.ndarray, asked: Questions, kind: str) -> dict[str, list[float]]:
    """All metrics of one output on one task, one value per seed.

    Args:
        values: (n, d) features of all cells or images; NaN where nothing was seen.
        asked: The task.
        kind: `pixels` or `patches`.

    Returns:
        `linear`, `knn`, `shots1`, `shots5`, `shots20` (mean IoU, or accuracy for patches; `shots`
        is their mean), `ari`, `nmi`, `purity`, and for patches `map`.
    """
    rows, truth = probes.standardised(values[asked.cells]), asked.classes
    count = len(asked.names)
    metric = probes.mean_iou if kind == "pixels" else probes.accuracy
    out: dict[str, list[float]] = {}
    for seed, draw in enumerate(asked.draws):
        train, test = rows[draw.train], rows[draw.test]
        ours, theirs = truth[draw.train], truth[draw.test]
        marks = probes.linear_scores(train, ours, draw.inner, test, count)
        result = {"linear": metric(marks.argmax(1), theirs, count)}
        if kind == "patches":
            result["map"] = probes.mean_precision(marks, theirs)
        result["knn"] = metric(probes.neighbours(train, ours, test, count), theirs, count)
        for clicks in CLICKS if kind == "pixels" else CLICKS[:2]:
            each = [
                metric(probes.few_shot(rows[c], truth[c], test), theirs, count)
                for c in draw.clicks[clicks]
            ]
            result[f"shots{clicks}"] = float(np.mean(each))
        result["shots"] = float(np.mean([v for k, v in result.items() if k.startswith("shots")]))
        result["ari"], result["nmi"] = probes.group_agreement(
            np.concatenate([train, test]), np.concatenate([ours, theirs]), seed
        )
        result["purity"] = probes.purity(train, ours, test, theirs, seed)
        for name, value in result.items():
            out.setdefault(name, []).append(round(value, 5))
    return out


def _record(
    model: Network | Encoder | None,
    output: Output,
    task: Task,
    asked: Questions,
    scores: dict[str, list[float]],
) -> Record:
    seen = seen_by(task, model.seen) if isinstance(model, Network) else "no"
    if model is not None and not isinstance(model, Network):
        seen = seen_by(task, () if model.weights == "none" else None)
    return Record(
        "none" if model is None else model.name,
        output.name,
        "+".join(output.sensors),
        task.name,
        task.site,
        task.kind,
        task.synthetic,
        seen,
        output.untrained,
        output.weights,
        model.null if isinstance(model, Network) else "",
        model.against if isinstance(model, Network) else "",
        asked.note,
        scores,
    )


def _file(cache: Path | None, output: Output, task: Task, asked: Questions) -> Path | None:
    """Where the scores of one output on one task are kept; another question is another name."""
    if cache is None:
        return None
    whole = hashlib.sha256()
    for part in (asked.cells, asked.classes, *(draw.train for draw in asked.draws)):
        whole.update(np.ascontiguousarray(part).tobytes())
    name = [PROTOCOL, output.weights, output.name, output.sensors, output.dim, str(output.dtype)]
    whole.update(json.dumps([*name, task.name, task.kind]).encode())
    return cache / f"{whole.hexdigest()[:32]}.json"


def to_json(records: Sequence[Record], skipped: Sequence[Skipped]) -> str:
    """All numbers, one record a line, so that runs can be merged and compared by hand."""
    lines = ",\n".join("  " + json.dumps(asdict(each), ensure_ascii=False) for each in records)
    left = ",\n".join("  " + json.dumps(asdict(each), ensure_ascii=False) for each in skipped)
    return (
        f'{{"protocol": {PROTOCOL},\n "records": [\n{lines}\n ],\n "skipped": [\n{left}\n ]\n}}\n'
    )


def from_json(text: str) -> list[Record]:
    """Records that `to_json` wrote.

    Raises:
        AnalysisError: If they are not, or come from another version of the protocol.
    """
    try:
        content = json.loads(text)
        if content["protocol"] != PROTOCOL:
            raise AnalysisError(
                f"These scores follow protocol {content['protocol']}, not {PROTOCOL}; they cannot be "
                "compared. Run the evaluation again."
            )
        return [Record(**each) for each in content["records"]]
    except (ValueError, KeyError, TypeError) as error:
        raise AnalysisError(f"This is not a file of scores: {error}.") from error


def merged(*several: Sequence[Record]) -> list[Record]:
    """Records of several runs; of the same row the last one counts."""
    return list({each.key: each for records in several for each in records}.values())
