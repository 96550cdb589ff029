"""How rates move while a run goes on: a pure function of the step, so that a run can resume."""

import math
from dataclasses import dataclass

from skysense.pretrain.config import PretrainConfig


@dataclass(frozen=True)
class Rates:
    """What one step works with."""

    rate: float
    """Learning rate."""
    momentum: float
    """Of the teacher."""
    temperature: float
    """Of the teacher's targets."""


def rates(config: PretrainConfig, step: int) -> Rates:
    """Rates of a step, counted from 0.

    The learning rate rises linearly, then falls along half a cosine (Loshchilov and Hutter 2017);
    the teacher's momentum rises to 1 along half a cosine, its temperature linearly, as in DINO
    (Caron et al. 2021).
    """
    warm = max(1, round(config.warmup * config.steps))
    if step < warm:
        rate = config.rate * (step + 1) / warm
    else:
        done = (step - warm) / max(1, config.steps - warm)
        low = config.last_rate * config.rate
        rate = low + (config.rate - low) * _falling(done)
    momentum = 1 - (1 - config.teacher) * _falling(step / config.steps)
    first, last = config.temperature
    rising = min(1.0, step / max(1, round(config.temperature_warmup * config.steps)))
    return Rates(rate, momentum, first + (last - first) * rising)


def _falling(done: float) -> float:
    """From 1 at 0 to 0 at 1 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
