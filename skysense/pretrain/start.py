"""Where learning begins: at seasonal means of each pixel, in a network of random weights.

Added to the paper, which had 875,000 steps to get there. A random network hides the ground: each of
the 16 cells of a token has an UPHead of its own, calendar rows of the usual deviation, 0.02, cannot be
heard beside the tokens, and random layers put noise on both. `start` changes random weights such that
the fused feature of a cell begins as means of its own pixel over the seasons:

- Branches of the layers start at a tenth of their random size, so that a token begins as its pixels
  (LayerScale, Touvron et al. 2021, https://arxiv.org/abs/2103.17239, folded into the weights).
- UPHeads start as decoders: the cell's pixel, found in its token by ridge regression, spread over the
  channels by one random matrix for all cells of a token (Aitken et al. 2017,
  https://arxiv.org/abs/1707.02937, for why they must not differ).
- The calendar starts as waves of the year, half as strong as a pixel.
- In the first two layers of fusion each head starts by looking at a season of its own.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from skysense.batch import Batch
from skysense.encoders import normalised, token_validity
from skysense.errors import EncoderError
from skysense.model import SkySense
from skysense.model.fusion import Calendar
from skysense.model.heads import UPHead
from skysense.pretrain.config import PretrainConfig
from skysense.pretrain.data import Place
from skysense.pretrain.loader import Loader, plan_step
from skysense.pretrain.prediction import harmonics
from skysense.sensors import SENSORS

RIDGE = 1e-3
"""Ridge of the decoders, in mean variances of what they read: fainter than that is noise."""

BRANCH = 0.1
"""Size of the layers' branches over that of random ones."""

CONTEXT = 0.25
"""Size of the part of an UPHead that all cells of a token share, over that of random weights."""

WAVES, SEASON = 4, 0.5
"""Cycles a year up to which the calendar starts, and the deviation of its rows; a pixel's is about 1."""

LOOKING, SHARPNESS = 2, 2.0
"""Layers whose heads look at seasons, and how sharply (the concentration of a von Mises density):
half of a season's weight lies within a month of its middle. Sharper seasons hold too few dates:
at 5 the mean IoU of six maps fell from 0.50 to 0.46 before the first step."""

SAMPLE = 20_000
"""At most so many cells and dates teach the heads what a season looks like."""

EXAMPLES = 6
"""Batches of views that a decoder is fitted to: of 16 pairs, some ten thousand tokens."""


def views_of(places: Sequence[Place], config: PretrainConfig) -> list[Batch]:
    """Views to start from, the same on every process: without augmentation, few of each sensor."""
    if not config.start:
        return []
    given = {"batch": config.batch, "seed": config.seed}
    loader = Loader(places, config.views, None, steps=50, **given)
    kept: list[Batch] = []
    count = dict.fromkeys((key for key in config.model.sensors if key != "hr"), 0)
    for step in range(len(loader)):
        plan = plan_step(loader.places, loader.groups, config.views, step=step, **given)
        if "hr" not in plan.sensors and any(
            count.get(key, EXAMPLES) < EXAMPLES for key in plan.sensors
        ):
            kept.append(loader[step].u)
            count = {key: n + (key in plan.sensors) for key, n in count.items()}
    return kept


@torch.no_grad()
def start(model: SkySense, examples: Sequence[Batch], generator: torch.Generator) -> None:
    """Change random weights as the top of this file says.

    Args:
        model: A model that nothing was taught; it changes in place.
        examples: Some views, without augmentation; a sensor that none of them holds keeps its random
            UPHead.
        generator: Source of the random matrices; advanced by the call.

    Raises:
        EncoderError: If a sensor was given but none of its tokens is usable.
    """
    for encoder in (model.s2, model.s1, model.fusion):
        for layer in encoder.layers if encoder is not None else ():
            layer.attn.proj.weight *= BRANCH
            layer.mlp.fc2.weight *= BRANCH
    if model.calendar is not None:
        _waves(model.calendar, generator)
    read, days = [], []
    for key, head in (("s2", model.head_s2), ("s1", model.head_s1)):
        if head is None:
            continue
        bands = len(SENSORS[key].names)
        lift = torch.randn(bands, head.out_dim, generator=generator) / math.sqrt(bands)
        if known := [batch for batch in examples if key in batch.sensors]:
            tokens, cells, doy = _tokens_and_cells(model, key, head.scale, known)
            _decode(head, tokens, cells, lift)
            read.append(_before_fusion(model, key, tokens, doy))
            days.append(doy)
    if model.fusion is None or model.calendar is None or not read:
        return
    x, day = torch.cat(read), torch.cat(days)
    if (day > 0).any():  # where no date is known, there are no seasons to look at
        heard = model.fusion.input.weight @ model.calendar.table[0].T  # c rows
        _seasons(model.fusion.layers[:LOOKING], x[day > 0], day[day > 0], heard)


def _waves(calendar: Calendar, generator: torch.Generator) -> None:
    """Every row a mix of cosines and sines of its day of the year."""
    _, rows, dim = calendar.table.shape
    waves = harmonics(torch.arange(1, rows + 1), WAVES)[:, 1:]  # rows 2*waves
    mix = torch.randn(2 * WAVES, dim, generator=generator) / math.sqrt(WAVES)
    calendar.table.copy_(SEASON * waves @ mix)


def _tokens_and_cells(
    model: SkySense, key: str, scale: int, examples: Sequence[Batch]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n cells c"], Int[Tensor, " n"]]:
    """Usable tokens of single dates, the pixels of the cells under each, and its day of the year."""
    tokens, cells, days = [], [], []
    for batch in examples:
        pixels, usable = normalised(batch, key)  # b t c h w
        valid = token_validity(key, usable)  # b t h/4 w/4
        found = model.encode_dates(key, pixels, valid)  # b t d h/4 w/4
        tokens.append(found.movedim(2, -1)[valid])
        rows = pixels.unflatten(4, (-1, scale)).unflatten(3, (-1, scale))  # b t c h/4 4 w/4 4
        cells.append(rows.permute(0, 1, 3, 5, 4, 6, 2).flatten(4, 5)[valid])  # n 16 c
        days.append(batch.sensors[key].doy[..., None, None].expand_as(valid)[valid])
    if not sum(map(len, tokens)):
        raise EncoderError(
            f"Nothing of sensor {key} is usable in the views the run would start from; look at the "
            "valid shares of its places."
        )
    return torch.cat(tokens), torch.cat(cells), torch.cat(days)


def _decode(
    head: UPHead,
    tokens: Float[Tensor, "n d"],
    cells: Float[Tensor, "n cells c"],
    lift: Float[Tensor, "c o"],
) -> None:
    """Give an UPHead the weights that find each cell's pixel, and a context that all cells share."""
    each = cells.shape[1]
    found, offset = _ridge(tokens, cells.flatten(1))
    context = CONTEXT * head.conv.weight.flatten(1).unflatten(0, (-1, each))[:, :1]  # o 1 d
    pixel = torch.einsum("dkc,co->okd", found.unflatten(1, (each, -1)), lift)
    head.conv.weight.copy_((context + pixel).flatten(0, 1)[..., None, None])
    head.conv.bias.copy_((offset.unflatten(0, (each, -1)) @ lift).T.flatten())


def _before_fusion(
    model: SkySense, key: str, tokens: Float[Tensor, "n d"], doy: Int[Tensor, " n"]
) -> Float[Tensor, "n c"]:
    """What the first layer of fusion reads of one cell of each token, after its norm."""
    fusion, head = model.fusion, getattr(model, f"head_{key}")
    x = F.linear(tokens, *head.phase(1, 1))
    if fusion.config.calendar in (key, "all"):
        x = x + model.calendar(doy)
    return fusion.layers[0].ln1(fusion.input(x))


def _seasons(
    layers: nn.ModuleList,
    x: Float[Tensor, "n c"],
    doy: Int[Tensor, " n"],
    heard: Float[Tensor, "c rows"],
) -> None:
    """Let the heads of some layers attend to seasons, all of them evenly spaced over the year.

    Two channels of each head's keys tell the cosine and the sine of the day; the query asks for those
    of the head's season, whatever the token. Values do not hear the calendar, so that a feature tells
    what was seen and not when the sky was clear.

    Args:
        layers: The first of fusion.
        x: Tokens as the first of them reads them; later ones read the same and more.
        doy: Their days, all known.
        heard: What the calendar adds to a token on every day.
    """
    calendar = torch.linalg.svd(heard, full_matrices=False).U[:, : 2 * WAVES]  # c 2*waves
    every = max(1, len(x) // SAMPLE)
    found, offset = _ridge(x[::every], harmonics(doy[::every], 1)[:, 1:])  # c 2
    for number, layer in enumerate(layers):
        weight, bias = layer.attn.qkv.weight, layer.attn.qkv.bias
        c, heads = weight.shape[1], layer.attn.heads
        width = c // heads
        layer.attn.proj.weight /= BRANCH
        weight[:c] *= BRANCH
        weight[2 * c :] -= weight[2 * c :] @ calendar @ calendar.T
        for head in range(heads):
            season = torch.tensor(2 * math.pi * (head + number / len(layers)) / heads)
            query, key = head * width, c + head * width
            weight[key : key + 2], bias[key : key + 2] = found.T, offset
            asked = torch.stack([season.cos(), season.sin()])
            bias[query : query + 2] = SHARPNESS * math.sqrt(width) * asked


def _ridge(x: Float[Tensor, "n d"], y: Float[Tensor, "n k"]) -> tuple[Tensor, Tensor]:
    """Weights (d, k) and offset (k,) of the ridge regression of y on x."""
    x, y, kind = x.double(), y.double(), x.dtype
    mean, middle = x.mean(0), y.mean(0)
    gram = (x - mean).T @ (x - mean)
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    found = torch.linalg.solve(gram + ridge, (x - mean).T @ (y - middle))
    return found.to(kind), (middle - mean @ found).to(kind)
