"""What a run says of itself: one JSON line a step, and a sentence now and then."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from skysense.errors import WeightsError
from skysense.pretrain.config import PretrainConfig
from skysense.pretrain.data import Place
from skysense.pretrain.schedule import Rates

LOG = "log.jsonl"


def line_of(
    step: int, loss: Tensor, terms: Mapping[str, Tensor], now: Rates, norm: Tensor, group: str
) -> dict[str, Any]:
    """One line of the log: the step counted from 1, losses, rates and the collapse monitors."""
    return {
        "step": step + 1,
        "group": group,
        "loss": round(float(loss), 5),
        **{name: round(float(value), 5) for name, value in sorted(terms.items())},
        "gradient": round(float(norm), 4),
        "rate": now.rate,
        "momentum": now.momentum,
        "temperature": now.temperature,
    }


def cut_log(folder: Path, step: int) -> None:
    """Drop what was logged after the state that a run goes on from; those steps are made again."""
    lines = [line for line in read_log(folder) if line["step"] <= step]
    unfinished = folder / f"{LOG}.part"
    unfinished.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    unfinished.replace(folder / LOG)


def read_log(folder: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's log, oldest first; empty where there is none.

    A half line at the end, which a kill leaves behind, is not one.

    Raises:
        WeightsError: If a line before the last is no JSON.
    """
    file = Path(folder) / LOG
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").split("\n")
    out = []
    for number, text in enumerate(
        lines[:-1], 1
    ):  # what stands after the last newline is unfinished
        try:
            out.append(json.loads(text))
        except ValueError as error:
            raise WeightsError(f"Line {number} of {file} is not JSON; it was edited.") from error
    return out


def write_line(folder: Path, line: Mapping[str, Any]) -> None:
    """Append one line, at once on disk."""
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def opening(config: PretrainConfig, places: Iterable[Place], first: int) -> str:
    """What a run begins with."""
    places = list(places)
    made_up = sum(place.synthetic for place in places)
    goes_on = f", going on after {first}" if first else ""
    return (
        f"{config.model.name}: {config.steps} steps of {config.batch * config.accumulate} pairs from "
        f"{len(places)} places, {made_up} of them synthetic{goes_on}."
    )


def sentence(config: PretrainConfig, line: Mapping[str, Any], steps: int, spent: float,
             waited: float) -> str:  # fmt: skip
    """How a run goes.

    Args:
        config: The run.
        line: Its latest line.
        steps: Steps made since it began or went on.
        spent: Seconds they took.
        waited: Seconds of those in which nothing but data was waited for.
    """
    each = spent / max(1, steps)
    left = each * (config.steps - line["step"]) / 60
    return (
        f"step {line['step']}/{config.steps}: loss {line['loss']:.3f}, {each:.2f} s a step, "
        f"{waited / max(spent, 1e-9):.0%} of it waiting for data, {left:.0f} min left"
    )
