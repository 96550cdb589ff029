"""How rates move while a run goes on: a pure function of the step, so that a run can resume."""

import math
from dataclasses import dataclass

from skysense.pretrain.config import PretrainConfig


@dataclass(frozen=True)
class Rates:
    """What one step works with."""

    rate: float
    """Learning rate of the encoder and of the curves."""
    heads: float
    """Learning rate of the heads."""
    momentum: float
    """Of the teacher."""
    temperature: float
    """Of the teacher's targets."""


def rates(config: PretrainConfig, step: int) -> Rates:
    """Rates of a step, counted from 0.

    A learning rate rises linearly, then falls along half a cosine (Loshchilov and Hutter 2017), that
    of the encoder after the heads were alone; the teacher's momentum rises to 1 along half a cosine, its
    temperature linearly, as in DINO (Caron et al. 2021).
    """
    of_heads = config.rate if config.head_rate is None else config.head_rate
    first, last = config.temperature
    rising = min(1.0, step / max(1, round(config.temperature_warmup * config.steps)))
    return Rates(
        rate=config.rate * _rising_and_falling(config, step, min(config.alone, config.steps // 4)),
        heads=of_heads * _rising_and_falling(config, step, 0),
        momentum=1 - (1 - config.teacher) * _falling(step / config.steps),
        temperature=first + (last - first) * rising,
    )


def _rising_and_falling(config: PretrainConfig, step: int, wait: int) -> float:
    """Share of the highest rate: none while it waits, then up to 1, then down to `last_rate`."""
    warm = max(1, round(config.warmup * config.steps))
    if step < wait + warm:
        return max(0, step + 1 - wait) / warm
    done = (step - wait - warm) / max(1, config.steps - wait - warm)
    return config.last_rate + (1 - config.last_rate) * _falling(done)


def _falling(done: float) -> float:
    """From 1 at 0 to 0 at 1 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
