"""Where learning begins: random weights, but for two things that gradients are slow to find.

Added to the paper, which had 875,000 steps to find them in.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from skysense.batch import Batch
from skysense.encoders import normalised, token_validity
from skysense.errors import EncoderError
from skysense.model import SkySense
from skysense.model.fusion import Calendar
from skysense.model.heads import UPHead
from skysense.pretrain.config import PretrainConfig
from skysense.pretrain.data import Place
from skysense.pretrain.loader import Loader, plan_step
from skysense.pretrain.prediction import YEAR
from skysense.sensors import SENSORS

RIDGE = 1e-3
"""Ridge of the decoder, in mean variances of a token's channels: what is fainter than that is noise."""

CONTEXT = 0.5
"""Deviation of the part of an UPHead that all cells of a token share, over that of random weights."""

WAVES = 6
"""Cycles a year up to which the calendar starts: days two months apart are told apart at once."""


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


SEASON = 0.5
"""Deviation of the calendar's rows; that of the tokens they are added to is about 1."""


@torch.no_grad()
def start(model: SkySense, examples: Sequence[Batch], generator: torch.Generator) -> None:
    """Change random weights such that fused features begin with the pixels and the season.

    - The UPHeads begin as decoders: the cell's pixel, found in its token by ridge regression, is
      spread over the channels by one random matrix for all cells of a token. A token of random weights
      holds its 16 pixels (a linear map finds nine tenths of how they differ), but along directions
      thousands of times fainter than the main ones. With random UPHeads for each cell the map begins
      with a chequer that hides the ground (Aitken et al. 2017, https://arxiv.org/abs/1707.02937).
    - The calendar begins as waves of the year that can be heard beside the tokens. Random rows of
      the usual deviation, 0.02, cannot.

    Args:
        model: A model that nothing was taught; it changes in place.
        examples: Some views, without augmentation; a sensor that none of them holds keeps random
            weights in its UPHead.
        generator: Source of the random matrices; advanced by the call.

    Raises:
        EncoderError: If a sensor was given but none of its tokens is usable.
    """
    if model.calendar is not None:
        _seasons(model.calendar, generator)
    for key, head in (("s2", model.head_s2), ("s1", model.head_s1)):
        if head is None:
            continue
        bands = len(SENSORS[key].names)
        lift = torch.randn(bands, head.out_dim, generator=generator) / math.sqrt(bands)
        if known := [batch for batch in examples if key in batch.sensors]:
            _decode(head, *_tokens_and_cells(model, key, head.scale, known), lift)


def _seasons(calendar: Calendar, generator: torch.Generator) -> None:
    """Every row a mix of cosines and sines of its day of the year."""
    _, rows, dim = calendar.table.shape
    day = torch.arange(1, rows + 1)[:, None]
    angle = day * torch.arange(1, WAVES + 1) * (2 * math.pi / YEAR)  # rows waves
    mix = SEASON * torch.randn(2 * WAVES, dim, generator=generator) / math.sqrt(WAVES)
    calendar.table.copy_(torch.cat([angle.cos(), angle.sin()], 1) @ mix)


def _tokens_and_cells(
    model: SkySense, key: str, scale: int, examples: Sequence[Batch]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n cells c"]]:
    """Usable tokens of single dates, and the pixels of the cells under each."""
    tokens, cells = [], []
    for batch in examples:
        pixels, usable = normalised(batch, key)  # b t c h w
        valid = token_validity(key, usable)
        found = model.encode_dates(key, pixels, valid)  # b t d h/4 w/4
        tokens.append(found.movedim(2, -1)[valid])
        rows = pixels.unflatten(4, (-1, scale)).unflatten(3, (-1, scale))  # b t c h/4 4 w/4 4
        cells.append(rows.permute(0, 1, 3, 5, 4, 6, 2).flatten(4, 5)[valid])  # n 16 c
    if not sum(map(len, tokens)):
        raise EncoderError(
            f"Nothing of sensor {key} is usable in the views the run would start from; look at the "
            "valid shares of its places."
        )
    return torch.cat(tokens).double(), torch.cat(cells).double()


def _decode(
    head: UPHead,
    tokens: Float[Tensor, "n d"],
    cells: Float[Tensor, "n cells c"],
    lift: Float[Tensor, "c o"],
) -> None:
    """Give an UPHead the weights that find each cell's pixel, and a context that all cells share."""
    n, each, _ = cells.shape
    target = cells.flatten(1)
    mean, middle = tokens.mean(0), target.mean(0)
    x = tokens - mean
    gram = x.T @ x / n
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    found = torch.linalg.solve(gram + ridge, x.T @ (target - middle) / n)  # d cells*c
    offset = (middle - mean @ found).unflatten(0, (each, -1))  # cells c
    found = found.unflatten(1, (each, -1))  # d cells c
    lift = lift.double()
    context = CONTEXT * head.conv.weight.flatten(1).unflatten(0, (-1, each))[:, :1]  # o 1 d
    weight = context + torch.einsum("dkc,co->okd", found, lift)
    head.conv.weight.copy_(weight.flatten(0, 1)[..., None, None])
    head.conv.bias.copy_((offset @ lift).T.flatten())
