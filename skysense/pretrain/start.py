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
  (LayerScale, Touvron et al. 2021, https://arxiv.org/abs/2103.17239, folded into the weights).
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
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from skysense.batch import Batch
from skysense.encoders import normalised, token_validity
from skysense.errors import EncoderError
from skysense.model import SkySense
from skysense.model.fusion import Calendar
from skysense.model.heads import UPHead
from skysense.model.layers import Patches
from skysense.pretrain.config import PretrainConfig
from skysense.pretrain.data import Place
from skysense.pretrain.loader import Loader, plan_step
from skysense.pretrain.prediction import Curves, fit, harmonics
from skysense.pretrain.step import look
from skysense.pretrain.views import Pair
from skysense.sensors import SENSORS

RIDGE = 1e-3
"""Ridge of the decoders, in mean variances of what they read: fainter than that is noise."""

WHITENED, FAINTEST = 0.5, 1e-3
"""How far patches are whitened, 0 to 1, and what is added to the variances, in mean ones. Wholly white
the mean IoU of few clicks on six maps was 2 points lower before the first step."""

BRANCH = 0.1
"""Size of the layers' branches over that of random ones."""

CONTEXT = 0.1
"""Size of the part of an UPHead that all cells of a token share, over that of random weights."""

WAVES, SEASON = 4, 0.5
"""Cycles a year up to which the calendar starts, and the deviation of its rows; a pixel's is about 1."""

MARK = 0.5
"""Deviation of the vector that marks a sensor."""

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
def start(model: SkySense, examples: Sequence[Batch], generator: torch.Generator) -> None:
    """Change random weights as the top of this file says.

    Args:
        model: A model that nothing was taught; it changes in place.
        examples: Some views, without augmentation; a sensor that none of them holds keeps its random
            patches and UPHead.
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
    read, days, sides = [], [], []
    for key, side in SIDES.items():
        head, known = getattr(model, f"head_{key}"), [b for b in examples if key in b.sensors]
        if head is None:
            continue
        if known:
            _whiten(getattr(model, key).patch, _patches(key, head.scale, known), generator)
        bands = len(SENSORS[key].names)
        lift = torch.randn(bands, head.out_dim, generator=generator) / math.sqrt(bands)
        if known:
            tokens, cells, doy = _tokens_and_cells(model, key, head.scale, known)
            mark = MARK * torch.randn(head.out_dim, generator=generator)
            _decode(head, tokens, cells, lift, mark)
            read.append(_before_fusion(model, key, tokens, doy))
            days.append(doy)
            sides.append(torch.full_like(doy, side))
    if model.fusion is None or model.calendar is None or not read:
        return
    x, day, side = torch.cat(read), torch.cat(days), torch.cat(sides)
    if (day > 0).any():  # where no date is known, there are no seasons to look at
        heard = model.fusion.input.weight @ model.calendar.table[0].T  # c rows
        _seasons(model.fusion.layers, x[day > 0], day[day > 0], side[day > 0], heard)


@torch.no_grad()
def start_curves(curves: Curves, model: SkySense, examples: Sequence[Pair]) -> None:
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


def _waves(calendar: Calendar, generator: torch.Generator) -> None:
    """Every row a mix of cosines and sines of its day of the year."""
    _, rows, dim = calendar.table.shape
    waves = harmonics(torch.arange(1, rows + 1), WAVES)[:, 1:]  # rows 2*waves
    mix = torch.randn(2 * WAVES, dim, generator=generator) / math.sqrt(WAVES)
    calendar.table.copy_(SEASON * waves @ mix)


def _cells(pixels: Float[Tensor, "b t c h w"], scale: int) -> Float[Tensor, "b t hp wp s s c"]:
    """The pixels of the cells under each token."""
    rows = pixels.unflatten(4, (-1, scale)).unflatten(3, (-1, scale))  # b t c hp s wp s
    return rows.permute(0, 1, 3, 5, 4, 6, 2)


def _patches(key: str, scale: int, examples: Sequence[Batch]) -> Float[Tensor, "n c s s"]:
    """Patches of which a token is made, where it is usable."""
    found = []
    for batch in examples:
        pixels, usable = normalised(batch, key)  # b t c h w
        found.append(_cells(pixels, scale)[token_validity(key, usable)].movedim(-1, 1))
    if not sum(map(len, found)):
        raise EncoderError(
            f"Nothing of sensor {key} is usable in the views the run would start from; look at the "
            "valid shares of its places."
        )
    return torch.cat(found)


def _whiten(patch: Patches, examples: Float[Tensor, "n c s s"], generator: torch.Generator) -> None:
    """Give patches weights that make all their components more alike, of variance 1 on average."""
    x, width = examples.flatten(1).double(), patch.out_channels
    variance, axes = torch.linalg.eigh(torch.cov(x.T))
    variance, axes = variance.flip(0)[:width], axes.flip(1)[:, :width]  # the strongest
    scale = (variance + FAINTEST * variance.mean()) ** (-WHITENED / 2)
    scale /= (variance * scale.square()).mean().sqrt()
    turn = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q[:, : len(scale)]
    turn = turn.double() * math.sqrt(width / len(scale))
    weight = turn @ (scale[:, None] * axes.T)
    patch.weight.copy_(weight.view_as(patch.weight))
    patch.bias.copy_(-(weight @ x.mean(0)))


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
        cells.append(_cells(pixels, scale)[valid].flatten(1, 2))  # n 16 c
        days.append(batch.sensors[key].doy[..., None, None].expand_as(valid)[valid])
    return torch.cat(tokens), torch.cat(cells), torch.cat(days)


def _decode(
    head: UPHead,
    tokens: Float[Tensor, "n d"],
    cells: Float[Tensor, "n cells c"],
    lift: Float[Tensor, "c o"],
    mark: Float[Tensor, " o"],
) -> None:
    """Give an UPHead the weights that find each cell's pixel, and what all cells share: context, mark."""
    each = cells.shape[1]
    found, offset = _ridge(tokens, cells.flatten(1))
    context = CONTEXT * head.conv.weight.flatten(1).unflatten(0, (-1, each))[:, :1]  # o 1 d
    pixel = torch.einsum("dkc,co->okd", found.unflatten(1, (each, -1)), lift)
    head.conv.weight.copy_((context + pixel).flatten(0, 1)[..., None, None])
    head.conv.bias.copy_((offset.unflatten(0, (each, -1)) @ lift + mark).T.flatten())


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
    found, offset = _ridge(x[::every], told)  # c 3
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


def _ridge(x: Float[Tensor, "n d"], y: Float[Tensor, "n k"]) -> tuple[Tensor, Tensor]:
    """Weights (d, k) and offset (k,) of the ridge regression of y on x."""
    x, y, kind = x.double(), y.double(), x.dtype
    mean, middle = x.mean(0), y.mean(0)
    gram = (x - mean).T @ (x - mean)
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    found = torch.linalg.solve(gram + ridge, (x - mean).T @ (y - middle))
    return found.to(kind), (middle - mean @ found).to(kind)
