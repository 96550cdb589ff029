"""Where learning begins: at seasonal means of each pixel, in a network of random weights.

Added to the paper, which had 875,000 steps to get there. A random network hides the ground: each of
the 16 cells of a token has an UPHead of its own, calendar rows of the usual deviation, 0.02, cannot be
heard beside the tokens, and random layers put noise on both. `start` changes random weights such that
the fused feature of a cell begins as means of its own pixel over the seasons:

- Patches start half white: a turned principal component analysis of them, each component divided by
  the square root of its deviation (weights from data: Krähenbühl et al. 2016,
  https://arxiv.org/abs/1511.06856). In a random projection what tells the cells of a token apart is a
  thousand times fainter than how bright they are, and steps of Adam, all of one size, wash it out:
  150 steps of L_pred took the mean IoU of few clicks on six maps from 0.50 to 0.39, and left it at
  0.49 after a start that was half white and had curves fitted.
- Branches of the layers start at a tenth of their random size, so that a token begins as its pixels
  (LayerScale, Touvron et al. 2021, https://arxiv.org/abs/2103.17239, folded into the weights). In Swin
  blocks, whose branches end in a norm, it is the norm's weight; of experts, each has its own.
- In SkySense V2 tokens begin with 28 channels, and a norm. One channel, in a random direction, starts
  constant and twice as large as the rest together, so that norms leave the token's length readable: of
  cells' pixels a linear map of tokens then reads 0.96 on views it was not fitted to, 0.84 without, where
  26 principal components hold 0.97 (a random V2 0.63, V1 after its start 1.00). Merging starts as
  orthogonal directions: a kept token passes whole; of four, the mean and as many contrasts as fit.
- In SkySense V1 biases of high-resolution patches are faint, not zero (in V2 they are in every random
  model). A patch at the sensor's mean, such as a gap, would else be zeros, and the gradient inf: on four
  images, five eighths of them such gaps, the norm of the encoder's whole gradient is 0.89 with them.
- UPHeads start as decoders: the cell's pixel, found in its token by ridge regression, spread over the
  channels by one random matrix for all cells of a token (Aitken et al. 2017,
  https://arxiv.org/abs/1707.02937, for why they must not differ). One random vector marks the sensor.
- The calendar starts as waves of the year, half as strong as a pixel.
- In the first three layers of fusion each head starts by looking at a season of its own, of one sensor.
- The curves of `skysense.pretrain.prediction` start as the ridge regression of what they are to tell.
"""

import math
from collections.abc import Sequence

import torch

from skysense.batch import Batch
from skysense.model import SkySenseV2, TemporalModel
from skysense.pretrain.config import PretrainConfig
from skysense.pretrain.data import Place
from skysense.pretrain.loader import Loader, plan_step
from skysense.pretrain.prediction import Curves, fit
from skysense.pretrain.start_fusion import SIDES, before_fusion, seasons, waves
from skysense.pretrain.start_tokens import (
    MARK,
    carry,
    decode,
    patches_of,
    quieten,
    tokens_and_cells,
    unsettle,
    whiten,
)
from skysense.pretrain.step import look
from skysense.pretrain.views import Pair
from skysense.sensors import SENSORS

EXAMPLES = 6
"""Pairs of batches that weights are fitted to: of 16 pairs, some ten thousand tokens."""


def views_of(places: Sequence[Place], config: PretrainConfig) -> list[Pair]:
    """Views to start from, the same on every process: without augmentation, few of each sensor."""
    if not config.start:
        return []
    given = {"batch": config.batch, "seed": config.seed}
    loader = Loader(places, config.views, None, steps=50, **given)
    kept: list[Pair] = []
    count = dict.fromkeys((key for key in config.model.sensors if key != "hr"), 0)
    for step in range(len(loader)):
        plan = plan_step(loader.places, loader.groups, config.views, step=step, **given)
        if "hr" not in plan.sensors and any(
            count.get(key, EXAMPLES) < EXAMPLES for key in plan.sensors
        ):
            kept.append(loader[step])
            count = {key: n + (key in plan.sensors) for key, n in count.items()}
    return kept


@torch.no_grad()
def start(model: TemporalModel, examples: Sequence[Batch], generator: torch.Generator) -> None:
    """Change random weights as the top of this file says.

    Args:
        model: A model that nothing was taught; it changes in place.
        examples: Some views, without augmentation; a sensor that none of them holds keeps its random
            patches and UPHead.
        generator: Source of the random matrices; advanced by the call.

    Raises:
        EncoderError: If a sensor was given but none of its tokens is usable.
    """
    later = isinstance(model, SkySenseV2)
    encoders = [model.backbone] if later else [model.s2, model.s1]
    for part in (*encoders, model.fusion):
        if part is not None:
            quieten(part)
    if later and model.backbone is not None:
        for stage in list(model.backbone.stages)[1:]:
            carry(stage.downsample, generator)
    if not later and model.hr is not None:
        unsettle(model.hr.patch)
    if model.calendar is not None:
        waves(model.calendar, generator)
    read, days, sides = [], [], []
    for key, side in SIDES.items():
        head, known = getattr(model, f"head_{key}"), [b for b in examples if key in b.sensors]
        if head is None:
            continue
        if known:
            part = getattr(model, key)
            repeat = part.config.repeat if later else 1
            seen = patches_of(key, head.scale, repeat, known)
            whiten(part.patch, seen, generator, normed=later)
        bands = len(SENSORS[key].names)
        lift = torch.randn(bands, head.out_dim, generator=generator) / math.sqrt(bands)
        if known:
            tokens, cells, doy = tokens_and_cells(model, key, head.scale, known)
            mark = MARK * torch.randn(head.out_dim, generator=generator)
            decode(head, tokens, cells, lift, mark)
            read.append(before_fusion(model, key, tokens, doy))
            days.append(doy)
            sides.append(torch.full_like(doy, side))
    if model.fusion is None or model.calendar is None or not read:
        return
    x, day, side = torch.cat(read), torch.cat(days), torch.cat(sides)
    if (day > 0).any():  # where no date is known, there are no seasons to look at
        heard = model.fusion.input.weight @ model.calendar.table[0].T  # c rows
        seasons(model.fusion.layers, x[day > 0], day[day > 0], side[day > 0], heard)


@torch.no_grad()
def start_curves(curves: Curves, model: TemporalModel, examples: Sequence[Pair]) -> None:
    """Fit the curves to what the model begins with: its view u against what view v saw.

    Args:
        curves: They change in place.
        model: A model that was started.
        examples: Pairs of views, without augmentation.
    """
    known, width = [], model.config.fusion.dim
    for pair in examples:
        m, view = pair.cells[0].shape[1], look(model, pair, 0)
        known.append((view.fused[:, :m, :width], view.seen[:, :m], pair.v, pair.cells[1]))
    fit(curves, known)
