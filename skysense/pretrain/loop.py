"""The training loop: plain, resumable, and honest about where its time goes."""

import contextlib
import copy
import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from skysense.disk import written
from skysense.encoders import best_device
from skysense.errors import Cancelled, EncoderError, WeightsError
from skysense.model.init import initialise
from skysense.pretrain import parallel, processes
from skysense.pretrain.config import PretrainConfig
from skysense.pretrain.data import Place, fingerprint, open_places
from skysense.pretrain.heads import FUSED, Heads
from skysense.pretrain.journal import cut_log, line_of, opening, sentence, write_line
from skysense.pretrain.loader import Loader
from skysense.pretrain.prediction import Curves
from skysense.pretrain.schedule import rates
from skysense.pretrain.start import start, start_curves, views_of
from skysense.pretrain.start_queries import start_queries
from skysense.pretrain.state import load_state, save_state
from skysense.pretrain.step import Student, follow, look
from skysense.pretrain.views import Pair
from skysense.pretrain.words import table
from skysense.weights import build_model, save_checkpoint

WEIGHTS, DATA = "weights", "data.json"
LICENCE = "Apache-2.0"

WATCH = 10
"""Signs of collapse are looked for every so many steps."""

ASKED = 4
"""Examples that the queries start from; of 16 pairs, some thousand cells."""

Report = Callable[[str], None]


@dataclasses.dataclass
class Run:
    """What a run holds in memory."""

    config: PretrainConfig
    student: Student
    teacher: Student
    optimiser: torch.optim.Optimizer
    device: torch.device
    module: nn.Module
    """The student as it is called: itself, or wrapped for several processes."""


def begin(
    config: PretrainConfig,
    device: str | None = None,
    wrap: str = "ddp",
    examples: Sequence[Pair] = (),
) -> Run:
    """Student, teacher and optimiser, the same for the same seed.

    Args:
        config: The run.
        device: The best there is if None.
        wrap: How several processes work together: `ddp`, each with a whole student, or `fsdp`,
            each with a share of it (`processes.wrapped`); the teacher, which needs neither gradients
            nor moments, is whole everywhere. One process needs neither.
        examples: Views to start from (`skysense.pretrain.start`); none = all weights at random.

    Raises:
        EncoderError: If the device is not there.
    """
    where = processes.own_device(best_device(device))
    model = build_model(config.model, seed=config.seed).requires_grad_(True)
    generator = torch.Generator().manual_seed(config.seed)
    if examples:
        start(model, [pair.u for pair in examples], generator)
        start_queries(model, examples[:ASKED])
    dims = {s: getattr(config.model, s).out_dim for s in config.model.sensors}
    plain = config.model.fusion.dim
    heads = Heads(
        {**dims, FUSED: config.model.dim},
        config.heads,
        generator,
        queries=plain if config.loss.query else 0,
        words=table(config.words) if config.loss.text else None,
        plain=plain,
    )
    curves = Curves(config.model.fusion.dim, config.model.sensors, config.heads.harmonics)
    initialise(curves, generator)
    if examples:
        start_curves(curves, model, examples)
    student = Student(model, heads, curves).to(where)
    teacher = copy.deepcopy(student).requires_grad_(False).eval()
    if student.model.prototypes is not None:  # one bank, which follows the student
        teacher.model.prototypes.share(student.model.prototypes)
    if config.checkpoint:
        processes.recompute(student)
    module = processes.wrapped(student, wrap)
    return Run(config, student, teacher, _optimiser(student, config), where, module)


def _optimiser(student: Student, config: PretrainConfig) -> torch.optim.Optimizer:
    """AdamW: two rates, that of heads and queries and that of the rest; vectors do not decay."""
    asking = student.model.queries
    heads = {id(p) for part in (student.heads, asking) if part for p in part.parameters()}
    groups: list[dict[str, Any]] = []
    for late in (True, False):
        those = [p for p in student.parameters() if (id(p) not in heads) == late]
        matrices = [p for p in those if p.ndim > 1 and min(p.shape) > 1]
        chosen = {id(p) for p in matrices}
        others = [p for p in those if id(p) not in chosen]
        groups += [
            {"params": matrices, "weight_decay": config.decay, "late": late},
            {"params": others, "weight_decay": 0.0, "late": late},
        ]
    return torch.optim.AdamW(groups, lr=config.rate)


def make_step(run: Run, pairs: Iterator[Pair], step: int) -> dict[str, Any]:
    """One optimiser step; what the log says of it, tensors still on their device.

    Raises:
        EncoderError: If the loss is not a number any more.
    """
    config, now = run.config, rates(run.config, step)
    for group in run.optimiser.param_groups:
        group["lr"] = now.rate if group["late"] else now.heads
    run.student.train()
    # stochastic depth: the same after a resume, another on every process
    torch.manual_seed(_seed(config.seed, step, parallel.rank()))
    kept: dict[str, list[Tensor]] = {}
    waited, total, group = 0.0, torch.zeros((), device=run.device), ""
    for part in range(config.accumulate):
        begun = time.perf_counter()
        pair = next(pairs).to(run.device)
        waited += time.perf_counter() - begun
        group = f"{pair.plan.group} {pair.plan.size}"
        last = part == config.accumulate - 1
        with processes.synchronised(run.module, last), _mixed(config, run.device):
            with torch.no_grad():
                seen = look(run.teacher.model, pair, 1)
            loss, terms, fused = run.module(
                pair, seen, run.teacher.heads, config.loss, now.temperature, step % WATCH == 0
            )
        processes.balance(loss, run.module)
        (loss / config.accumulate).backward()
        for name, value in terms.items():
            kept.setdefault(name, []).append(value)
        total += terms["loss"] / config.accumulate
        if run.student.model.prototypes is not None:
            with processes.in_one_piece(run.module):
                run.student.model.prototypes.update(fused.float(), pair.cell, total=parallel.total)
    if not bool(total.isfinite()):
        raise EncoderError(
            f"The loss is not a number at step {step + 1}. The last saved state is intact: go on "
            f"from it with a lower rate than {config.rate:g}, or in float32."
        )
    norm = processes.clipped(run.module, config.clip)
    run.optimiser.step()
    run.optimiser.zero_grad(set_to_none=True)
    with processes.in_one_piece(run.module):
        follow(run.teacher, run.student, now.momentum)
    means = {name: torch.stack(values).mean() for name, values in kept.items()}
    return line_of(step, total, means, now, norm, group) | {"waiting": waited}


def pretrain(
    config: PretrainConfig,
    data: str | Path,
    out: str | Path,
    *,
    workers: int = 1,
    save_every: int = 250,
    device: str | None = None,
    wrap: str = "ddp",
    report: Report = print,
    cancelled: Callable[[], bool] = lambda: False,
) -> Path:
    """Learn from places without labels; goes on where an earlier call for the same run stopped.

    Under `torchrun` every process calls this, and each returns when everything is written. A run may
    go on with another number of processes. A kill loses what was learnt since the last saved state
    and nothing else.

    Args:
        config: The run.
        data: A folder of places that `prepare` wrote.
        out: Folder of the run: `log.jsonl` (one line a step), the state, and at the end `weights`,
            a checkpoint folder of the teacher that `load_encoder(..., path=)` reads.
        workers: Processes that cut views ahead of the network; 0 = none.
        save_every: Steps between saved states.
        device: The best there is if None.
        wrap: `ddp` or `fsdp`, for several processes started with `torchrun`.
        report: Is told how it goes, in sentences.
        cancelled: Asked after every step; true, on any process, saves the state and stops.

    Returns:
        The folder of weights.

    Raises:
        EncoderError: If the loss is no number any more, or the device is not there.
        StackError: If `data` holds no places that this run can use.
        WeightsError: If `out` holds another run, or the weights cannot be written.
        Cancelled: If `cancelled` said so; the state is saved.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with processes.together(best_device(device)):
        places = open_places(data)
        run = begin(config, device, wrap, views_of(places, config))
        facts = {"configuration": json.loads(json.dumps(dataclasses.asdict(config)))}
        facts["data"] = fingerprint(data)
        first = load_state(out, run.student, run.teacher, run.optimiser, facts)
        lead = parallel.rank() == 0
        if lead:
            cut_log(out, first)
            report(opening(config, places, first))
        loader = Loader(
            places,
            config.views,
            config.augment,
            batch=config.batch,
            steps=config.steps * config.accumulate,
            seed=config.seed,
            start_step=first * config.accumulate,
            rank=parallel.rank(),
            world=parallel.world(),
            workers=workers,
        )
        pairs, since, waited = iter(loader), time.perf_counter(), 0.0
        for step in range(first, config.steps):
            begun = time.perf_counter()
            line = make_step(run, pairs, step)
            waited += line["waiting"]
            done, stop = step + 1, processes.anywhere(cancelled(), run.device)
            if lead:
                line["seconds"] = round(time.perf_counter() - begun, 3)
                write_line(out, line)
            if done % save_every == 0 or done == config.steps or stop:
                save_state(out, done, run.student, run.teacher, run.optimiser, facts)
            if lead and (done % 50 == 0 or done == config.steps):
                spent = time.perf_counter() - since
                report(sentence(config, line, done - first, spent, waited))
            if stop:
                processes.wait()
                raise Cancelled(f"Stopped after step {done} of {config.steps}; the state is saved.")
        if lead:
            _finish(run, places, out)
        processes.wait()  # whoever returns finds everything written
    return out / WEIGHTS


def _finish(run: Run, places: list[Place], out: Path) -> None:
    """Write the teacher, in half precision, as a checkpoint, and beside it what it learnt from."""
    if (out / WEIGHTS).exists():
        return
    model = copy.deepcopy(run.teacher.model).half()
    if model.prototypes is not None:
        model.prototypes.halve()
    model.untrained = ""
    made_up = sum(place.synthetic for place in places)
    seen = [
        {
            name: getattr(place, name)
            for name in ("name", "source", "credit", "licence", "synthetic")
        }
        for place in places
    ]
    with written(out / WEIGHTS, WeightsError) as folder:
        save_checkpoint(
            model,
            folder,
            licence=LICENCE,
            source=f"{run.config.steps} steps of `skysense pretrain {run.config.model.name}`, "
            f"seed {run.config.seed}",
            notes=(
                f"Learnt without labels from {len(places) - made_up} real and {made_up} synthetic "
                "places.",
            ),
        )
        (folder / DATA).write_text(json.dumps({"places": seen}, indent=1) + "\n", encoding="utf-8")


def _seed(seed: int, step: int, rank: int) -> int:
    """A seed of its own for every step and process."""
    return (seed * 1_000_003 + step + (rank << 48)) % 2**63


def _mixed(config: PretrainConfig, device: torch.device) -> contextlib.AbstractContextManager:
    """Mixed precision, where it is wanted."""
    return torch.autocast(
        device.type, torch.bfloat16, enabled=config.precision == "bfloat16", cache_enabled=False
    )
