"""The pages `docs/evaluation*.md`: what was asked, what was answered, and whether the bar is passed."""

from collections.abc import Iterable, Sequence

from skysense.evaluation.bar import (
    Mean,
    choice,
    full,
    interval,
    networks,
    over_tasks,
    own_runs,
    real_maps,
    verdicts,
    worths,
)
from skysense.evaluation.run import Record
from skysense.evaluation.tasks import Skipped, Task

COLUMNS = {
    "linear": "linear",
    "knn": "k-NN",
    "shots1": "1 click",
    "shots5": "5 clicks",
    "shots20": "20 clicks",
    "shots": "few-shot",
    "map": "mAP",
    "ari": "ARI",
    "nmi": "NMI",
    "purity": "purity",
}

ORDER = (
    "raw",
    "percentiles",
    "features",
    "s2 tokens",
    "s1 tokens",
    "hr map",
    "fused",
    "fused + context",
)

MAIN = ("tokens", "fused", "fused + context", "features")
"""The outputs of a network that are shown map by map on the first page."""

PROTOCOL = """\
## Protocol

One protocol for every output of every encoder; the same cells, splits and clicks for all.

- **Cells.** Features of `embed` with its usual dates (up to 20 clear Sentinel-2 dates, 10 of Sentinel-1, one
  high-resolution image), on 10 m cells (20 m for the three places of 2.2 km, 40 m for patch sets: a sample of
  the 10 m cells); at most 6,000 labelled cells of a place. Features are standardised per place; where an output
  saw nothing it says "mean". A class with fewer than 60 cells (4 images) is left out.
- **Splits.** A place is cut into a checkerboard of 160 m (480 m for the three places of 2.2 km) with a random
  corner; a set by image, or by groups of images that lie together. No block trains and tests. Five seeds.
- **Linear**: ridge regression on one column per class, classes weighted equally, strength chosen between
  training blocks. **k-NN**: 5 nearest by cosine. **Clicks**: the logistic regression of `sky.segment` from 1, 5
  or 20 labelled cells per class, mean of 8, 4 or 2 draws; *few-shot* is the mean of the three. These are **mean
  IoU** over classes for maps, and **accuracy** for patches (1 and 5 labelled images per class), whose features
  are mean and deviation over the patch; **mAP** is that of the linear probe.
- **ARI, NMI**: k-means with as many groups as classes, against the labels. **Purity**: share of test cells whose
  prototype (of 32, `sky.fit_prototypes`, no labels) is of their class by the majority in the training blocks.
- **±** is half the 95 % interval of Student's t over the five seeds: it speaks of the draw of blocks and labels,
  not of the choice of places. All numbers are percent.
- **raw**: all dates stacked, gaps filled in time from the same pixel. **percentiles**: the `spectral` encoder
  (five levels per Sentinel-2 band, three per Sentinel-1 band). **noise**: random numbers, whose scores are chance.
  **position**: the cell's coordinates and nothing of what is seen there. Land cover is smooth, so this goes far,
  above all with k-NN: what it reaches is no merit of features. Outputs with position embeddings carry some of it.
  **tokens**: mean over dates of what a sensor's encoder makes of each, repeated to 10 m. **fused**: after temporal
  fusion. **untrained**: the same network with random weights, seed 0.
- Windows are encoded without knowing the split: what lies beside a test cell may reach it through the encoder,
  as it would in use. Labels of real places never enter training: `skysense.pretrain` refuses them.
"""


def page(
    records: Sequence[Record],
    tasks: Sequence[Task],
    skipped: Sequence[Skipped],
    facts: Sequence[str] = (),
    extra: str = "",
    name: str = "evaluation",
) -> str:
    """The page that one reads, as Markdown.

    Args:
        records: All scores.
        tasks: What was asked, for licences and notes.
        skipped: What was not, with reasons.
        facts: Sentences on this run.
        extra: Sections to keep at the end.
        name: Of this page and of the numbers beside it; with `-tasks` after it, of the page of `tasks_page`.
    """
    parts = [
        "# Evaluation",
        "Written by `skysense evaluate`; do not edit by hand above the last section. Task by task it goes on in "
        f"[{name}-tasks.md]({name}-tasks.md); all numbers, seed by seed, are in `{name}.json`.",
        *[f"{fact}  " for fact in facts],
        _bar(records),
        _worth(records),
        _maps_table(records),
        _means_table(records),
        _metrics_table(records),
        PROTOCOL,
        _sources(records, tasks, skipped),
        extra,
    ]
    return _joined(parts)


def tasks_page(records: Sequence[Record], name: str = "evaluation") -> str:
    """The page that one looks things up in: every task with every output of every network.

    Args:
        records: All scores.
        name: Of the first page.
    """
    parts = [
        "# Evaluation, task by task",
        "Written by `skysense evaluate`; what the words mean, and what the numbers are worth, is in "
        f"[{name}.md]({name}.md).",
        _details(records),
        _patches(records),
        _synthetic(records),
    ]
    return _joined(parts)


def _bar(records: Sequence[Record]) -> str:
    lines = ["## The bar"]
    found = verdicts(records)
    if not found:
        return "\n\n".join([*lines, "No trained network was evaluated."])
    rows = [
        [
            each.network,
            each.question,
            f"{_cell(each.difference)} ({each.detail})" if each.difference.tasks else each.detail,
            str(each.difference.tasks),
            f"**{each.word}**",
        ]
        for each in found
    ]
    lines.append("Mean few-shot mIoU over maps of real places, from all the sensors a place has.")
    lines.append(_table(["network", "bar", "difference", "tasks", ""], rows))
    return "\n\n".join(lines)


def _worth(records: Sequence[Record]) -> str:
    """Runs without one part beside the run that has it."""
    found = worths(records)
    if not found:
        return ""
    rows = []
    for each in found:
        unseen = "" if each.unseen is None else _difference(each.unseen)
        ahead = f"{each.better} of {each.every.tasks}"
        rows.append(
            [each.network, each.against, each.output, _difference(each.every), ahead, unseen]
        )
    head = ["network", "minus", "output", "all maps", "ahead on", "maps never seen in training"]
    title = "## What a part is worth"
    text = (
        "Few-shot mIoU of a run minus that of the run that it equals but for one part, on the same blocks and "
        "clicks, in points. Below zero the part helps. The interval speaks of blocks and clicks, not of the draw of "
        "a training run."
    )
    return "\n\n".join((title, text, _table(head, rows)))


def _maps_table(records: Sequence[Record]) -> str:
    """Few-shot mIoU of the main outputs, one column per map."""
    tasks = real_maps(records)
    rows = [["", "sensors", "", *(full(records)[task] for task in tasks)]]
    seen = {}
    for name in own_runs(records):
        seen.setdefault(tuple(_seen(records, task, name) for task in tasks), []).append(name)
    for answers, names in seen.items():
        what = "imagery seen in training"
        rows.append(["" if len(seen) == 1 else ", ".join(names), what, "", *answers])
    for name, outputs in (
        ("none", ("noise", "position", "raw", "percentiles")),
        *((each, MAIN) for each in (*networks(records, untrained=True), *own_runs(records))),
    ):
        for output in outputs:
            chosen = choice(records, name, output)
            if not chosen:
                continue
            values = over_tasks(chosen, "shots", tasks)
            mean = "" if values is None else f"**{_cell(interval(values))}**"
            cells = [_score([r for r in chosen if r.task == task], "shots") for task in tasks]
            rows.append(["" if name == "none" else name, output, mean, *cells])
    head = ["network", "output", "mean", *tasks]
    return "## Maps of real places, few-shot mIoU\n\n" + _table(head, rows)


def _means_table(records: Sequence[Record]) -> str:
    """Like with like: each output from each subset of sensors, mean over the maps that have them."""
    every = ["none", *networks(records, untrained=True), *own_runs(records)]
    real = [r for r in records if r.kind == "pixels" and not r.synthetic]
    rows = []
    for sensors in dict.fromkeys(("s2", "s1", "s2+s1", "hr", *(r.sensors for r in real))):
        for output in ORDER:
            here = [r for r in real if r.sensors == sensors and r.output == output]
            tasks = list(dict.fromkeys(r.task for r in here))
            if not tasks:
                continue
            cells = []
            for name in every:
                values = over_tasks([r for r in here if r.network == name], "shots", tasks)
                cells.append("" if values is None else _cell(interval(values)))
            rows.append([sensors, output, str(len(tasks)), *cells])
    head = ["sensors", "output", "maps", *("no network" if n == "none" else n for n in every)]
    title = "## Like with like: each output, each subset of sensors, mean few-shot mIoU"
    return f"{title}\n\n" + _table(head, rows)


def _metrics_table(records: Sequence[Record]) -> str:
    """Every metric, mean over all maps of real places."""
    tasks = real_maps(records)
    rows = []
    metrics = [m for m in COLUMNS if m != "map"]
    for name in ("none", *networks(records, untrained=True), *own_runs(records)):
        outputs = (
            ("noise", "position", "raw", "percentiles")
            if name == "none"
            else ("tokens", *ORDER[2:])
        )
        for output in outputs:
            chosen = choice(records, name, output)
            means = [over_tasks(chosen, metric, tasks) for metric in metrics]
            if any(m is not None for m in means):
                cells = ["" if m is None else _cell(interval(m)) for m in means]
                rows.append(["" if name == "none" else name, output, *cells])
    if not rows:
        return ""
    head = ["network", "output", *(COLUMNS[m] for m in metrics)]
    return "## Every question, mean over all maps of real places\n\n" + _table(head, rows)


def _patches(records: Sequence[Record]) -> str:
    some = [r for r in records if r.kind == "patches"]
    return _grouped(
        "## Patches, accuracy",
        some,
        ("linear", "map", "knn", "shots1", "shots5", "ari", "nmi", "purity"),
    )


def _synthetic(records: Sequence[Record]) -> str:
    some = [r for r in records if r.synthetic]
    title = (
        "## Synthetic scenes: every subset of sensors\n\nNo real place has all three sensors at a useful size. "
        "These scenes are invented; training saw others of the same generator."
    )
    return _grouped(title, some, ("linear", "knn", "shots1", "shots5", "shots20", "ari", "purity"))


def _details(records: Sequence[Record]) -> str:
    some = [r for r in records if r.kind == "pixels" and not r.synthetic]
    return _grouped("## Each map of a real place", some, tuple(m for m in COLUMNS if m != "map"))


def _grouped(title: str, records: Sequence[Record], metrics: Sequence[str]) -> str:
    """One table per task, a row per output."""
    if not records:
        return ""
    parts = [title]
    for task in dict.fromkeys(r.task for r in records):
        rows = []
        accuracy = any(r.task == task and r.kind == "patches" for r in records)
        for r in sorted((r for r in records if r.task == task), key=_rank):
            cells = [_cell(interval(r.scores[m])) if m in r.scores else "" for m in metrics]
            name = "" if r.network == "none" else r.network
            seen = "" if r.network == "none" or r.untrained else r.seen
            rows.append([r.output, r.sensors, name, seen, *cells])
        head = ["output", "sensors", "network", "imagery seen in training"]
        head += [
            "linear"
            if m == "linear"
            else COLUMNS[m].replace("click", "image" if accuracy else "click")
            for m in metrics
        ]
        note = next((r.note for r in records if r.task == task and r.note), "")
        parts.append(
            "\n\n".join(part for part in (f"### {task}", note, _table(head, rows)) if part)
        )
    return "\n\n".join(parts)


def _rank(record: Record) -> tuple:
    """Chance first, then no network, then like beside like."""
    place = ORDER.index(record.output) if record.output in ORDER else -1
    return place, record.sensors.count("+"), record.sensors, not record.untrained, record.network


def _sources(records: Sequence[Record], tasks: Sequence[Task], skipped: Sequence[Skipped]) -> str:
    used = {r.task for r in records}
    rows = [
        [t.name, f"{t.licence}. {t.credit}".strip(" ."), t.note] for t in tasks if t.name in used
    ]
    text = "## Imagery and labels\n\n" + _table(["task", "terms and credit", "note"], rows)
    if skipped:
        left = [[each.name, each.reason] for each in skipped]
        text += "\n\nNot evaluated:\n\n" + _table(["what", "why"], left)
    return text


def _seen(records: Iterable[Record], task: str, network: str) -> str:
    return next((r.seen for r in records if r.task == task and r.network == network), "unknown")


def _score(records: Sequence[Record], metric: str) -> str:
    return _cell(interval(records[0].scores[metric])) if records else ""


def _cell(mean: Mean) -> str:
    return f"{100 * mean.value:.1f} ± {100 * mean.half:.1f}"


def _difference(mean: Mean) -> str:
    points = round(100 * mean.value, 1) + 0.0  # no minus before a zero
    return f"{points:+.1f} ± {100 * mean.half:.1f}"


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [_line(head), _line(["---"] * len(head)), *(_line(row) for row in rows)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return (
        "| " + " | ".join(str(cell).replace("|", "/").replace("\n", " ") for cell in cells) + " |"
    )
