"""How the calendar and the first layers of fusion begin: `skysense.pretrain.start` says why."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from skysense.model.fusion import Calendar
from skysense.model.temporal import TemporalModel
from skysense.pretrain.prediction import harmonics
from skysense.pretrain.start_tokens import BRANCH, ridge

WAVES, SEASON = 4, 0.5
"""Cycles a year up to which the calendar starts, and the deviation of its rows; a pixel's is about 1."""

LOOKS = (("s2", 2.0), ("s2", 5.0), ("s1", 2.0))
"""For each of the first layers of fusion, which sensor its heads look at and how sharply at their
seasons (the concentration of a von Mises density): at 2, half of a season's weight lies within a month
of its middle. Heads that look at both sensors alike see little of Sentinel-2, which has fewer dates:
few clicks on six maps gave a mean IoU of 0.49 then, and 0.52 so."""

PREFERENCE = 3.0
"""How much higher the scores of the sensor a head looks at are, and how much lower the other's."""

SIDES = {"s2": 1.0, "s1": -1.0}
"""What tells the sensors apart in the keys of fusion."""

SAMPLE = 20_000
"""At most so many cells and dates teach the heads what a season looks like."""


def waves(calendar: Calendar, generator: torch.Generator) -> None:
    """Every row a mix of cosines and sines of its day of the year."""
    _, rows, dim = calendar.table.shape
    year = harmonics(torch.arange(1, rows + 1), WAVES)[:, 1:]  # rows 2*waves
    mix = torch.randn(2 * WAVES, dim, generator=generator) / math.sqrt(WAVES)
    calendar.table.copy_(SEASON * year @ mix)


def before_fusion(
    model: TemporalModel, key: str, tokens: Float[Tensor, "n d"], doy: Int[Tensor, " n"]
) -> Float[Tensor, "n c"]:
    """What the first layer of fusion reads of one cell of each token, after its norm."""
    fusion, head = model.fusion, getattr(model, f"head_{key}")
    x = F.linear(tokens, *head.phase(1, 1))
    if fusion.config.calendar in (key, "all"):
        x = x + model.calendar(doy)
    return fusion.layers[0].ln1(fusion.input(x))


def seasons(
    layers: nn.ModuleList,
    x: Float[Tensor, "n c"],
    doy: Int[Tensor, " n"],
    side: Float[Tensor, " n"],
    heard: Float[Tensor, "c rows"],
) -> None:
    """Let the heads of the first layers attend to seasons of a sensor, evenly spaced over the year.

    Three channels of each head's keys tell the cosine and the sine of the day, and the sensor; the query
    asks for those the head looks at, whatever the token. Values do not hear the calendar, so that a
    feature tells what was seen and not when the sky was clear.

    Args:
        layers: Of fusion.
        x: Tokens as the first of them reads them; later ones read the same and more.
        doy: Their days, all known.
        side: Their sensors, as in `SIDES`.
        heard: What the calendar adds to a token on every day.
    """
    calendar = torch.linalg.svd(heard, full_matrices=False).U[:, : 2 * WAVES]  # c 2*waves
    every = max(1, len(x) // SAMPLE)
    told = torch.cat([harmonics(doy[::every], 1)[:, 1:], side[::every, None]], 1)
    found, offset = ridge(x[::every], told)  # c 3
    chosen = list(zip(layers, LOOKS, strict=False))
    for number, (layer, (sensor, sharpness)) in enumerate(chosen):
        weight, bias = layer.attn.qkv.weight, layer.attn.qkv.bias
        c, heads = weight.shape[1], layer.attn.heads
        width = c // heads
        layer.attn.proj.weight /= BRANCH
        weight[:c] *= BRANCH
        weight[2 * c :] -= weight[2 * c :] @ calendar @ calendar.T
        for head in range(heads):
            season = torch.tensor(2 * math.pi * (head + number / len(chosen)) / heads)
            query, key = head * width, c + head * width
            weight[key : key + 3], bias[key : key + 3] = found.T, offset
            preferred = torch.tensor(PREFERENCE * SIDES[sensor])
            asked = torch.stack([sharpness * season.cos(), sharpness * season.sin(), preferred])
            bias[query : query + 3] = math.sqrt(width) * asked
