"""What a fused feature has to know: what the other view's dates saw of the same 10 m of ground.

Added to the paper. Contrast asks what two views have in common, and a small network in a short run
answers that with little: with where in its 40 m token a cell lies, for one. This term asks for what
only the ground can tell. A linear map makes of the fused feature f_u a curve over the year for every
band, and the curve is held against what view v saw, half of it on days that view u did not have:

    guess(t) = sum over k of phi_k(t) (W_k f_u + b_k)
    L_pred   = mean of huber(x_v(t) - guess(t)) + huber((c(x_v(t)) - c(guess(t))) / s)

phi are the constant, cosines and sines of the day of the year, as in the harmonic regression of a
pixel's series (Zhu and Woodcock 2014, https://doi.org/10.1016/j.rse.2014.01.011). c takes the mean of
an image from its cells and s is the deviation that is left, as masked autoencoders scale their targets
(He et al. 2022, https://arxiv.org/abs/2111.06377): season and haze are most of what a pixel shows, yet
fields of one image differ by less. Since the map is linear, it leaves the work to the encoder, and what
it reads, a linear probe can read too.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from skysense.batch import Batch
from skysense.encoders import normalised, token_validity
from skysense.pretrain.assignment import exact, full, inside
from skysense.pretrain.heads import standardised
from skysense.pretrain.parallel import total, world
from skysense.pretrain.terms import mean_of
from skysense.sensors import SENSORS

YEAR = 365.25
"""Days."""

LEAST = 0.1
"""Least deviation within an image by which its contrasts are measured."""


RIDGE = 300.0
"""Ridge of `fit`, in rows; an example of 16 pairs with 16 dates has up to 16,384."""


class Curves(nn.Module):
    """Fused features to one curve over the year for every band of every sensor.

    Args:
        dim: Width of the fused features, without context.
        sensors: Those to predict.
        count: Harmonics of the year.
    """

    def __init__(self, dim: int, sensors: Sequence[str], count: int) -> None:
        super().__init__()
        self.count = count
        terms = 1 + 2 * count
        self.read = nn.ModuleDict(
            {key: nn.Linear(dim, len(SENSORS[key].names) * terms) for key in sensors}
        )

    def forward(
        self, key: str, fused: Float[Tensor, "b m d"], doy: Int[Tensor, "b t"]
    ) -> Float[Tensor, "b t c m"]:
        """What a sensor should see on given days, in its standard deviations from its mean."""
        read = self.read[key](fused)
        with exact(read):
            terms = harmonics(doy, self.count).to(full(read).dtype)  # b t k
            curves = full(read).unflatten(-1, (-1, terms.shape[-1]))  # b m c k
            return torch.einsum("bmck,btk->btcm", curves, terms)


def harmonics(doy: Int[Tensor, "*shape"], count: int) -> Float[Tensor, "*shape k"]:
    """1, then the cosines and then the sines of 1 to `count` cycles a year.

    Of an unknown day (0) only the 1 is left: the mean over the year is what can be said of it.
    """
    cycles = torch.arange(1, count + 1, device=doy.device)
    angle = doy[..., None] * cycles * (2 * math.pi / YEAR)
    waves = torch.cat([angle.cos(), angle.sin()], -1) * (doy > 0)[..., None]
    return torch.cat([waves.new_ones(*doy.shape, 1), waves], -1)


def prediction_loss(
    curves: Curves,
    fused: Float[Tensor, "b m d"],
    seen: Bool[Tensor, "b m"],
    view: Batch,
    cells: Int[Tensor, "b m"],
) -> tuple[Tensor, dict[str, Tensor]]:
    """L_pred, summed over sensors.

    Args:
        curves: The map from features to curves.
        fused: The student's, of view u, at the matched cells; may hold anything where not `seen`.
            Standardised before they are read, as in the heads.
        seen: Cells of which view u saw something.
        view: View v.
        cells: Where the matched cells lie in it: row-major positions of 10 m cells.

    Returns:
        The loss, to be averaged over processes like the others; and for the log, without gradient
        and over all processes, `predict/<sensor>`.
    """
    fused = _readable(fused, seen)
    loss, terms = fused.new_zeros(()), {}
    for key, each in view.sensors.items():
        values, usable = observed(view, key, cells)  # b t c m, b t m
        guess = curves(key, fused, each.doy)
        values, usable = values.to(guess.dtype), usable & seen[:, None]
        apart, spread = contrasts(values, usable)
        misses = F.huber_loss(guess, values, reduction="none")
        guessed, _ = contrasts(guess, usable)
        misses = misses + F.huber_loss(guessed / spread, apart / spread, reduction="none")
        misses = misses.mean(2)[usable]  # bands first: b t m, then those that count
        mean, _ = mean_of(misses)
        loss = loss + mean
        terms[f"predict/{key}"] = total(mean.detach()) / world()
    return loss, terms


@torch.no_grad()
def fit(curves: Curves, examples: Sequence[tuple[Tensor, Tensor, Batch, Tensor]]) -> None:
    """The curves that least squares find: ridge regression of values and of contrasts together.

    Bands share one matrix of moments, so contrasts are measured in their mean deviation.

    Args:
        curves: They change in place; those of a sensor that no example holds stay as they are.
        examples: For each `fused`, `seen`, `view` and `cells` as in `prediction_loss`.
    """
    readable = [(_readable(fused, seen), seen, view, at) for fused, seen, view, at in examples]
    for key, read in curves.read.items():
        moments = []
        for fused, seen, view, cells in readable:
            if key not in view.sensors:
                continue
            values, usable = observed(view, key, cells)  # b t c m, b t m
            usable = usable & seen[:, None]
            terms = harmonics(view.sensors[key].doy, curves.count)  # b t k
            ones = torch.cat([fused, torch.ones_like(fused[..., :1])], -1)
            design = torch.einsum("bmd,btk->btdkm", ones, terms).flatten(2, 3)
            apart, spread = contrasts(values, usable)
            scale = 1 / spread.mean(2, keepdim=True)
            inner, _ = contrasts(design, usable)
            for told, wanted in ((design, values), (inner * scale, apart * scale)):
                x, y = told.mT[usable].double(), wanted.mT[usable].double()
                moments.append((x.T @ x, x.T @ y))
        if not moments:
            continue
        gram, moment = (torch.stack(each).sum(0) for each in zip(*moments, strict=True))
        found = torch.linalg.solve(gram + RIDGE * torch.eye(len(gram)).to(gram), moment)
        found = found.unflatten(0, (-1, 1 + 2 * curves.count)).permute(2, 1, 0)  # c k d+1
        read.weight.copy_(found[..., :-1].flatten(0, 1))
        read.bias.copy_(found[..., -1].flatten())


def _readable(fused: Float[Tensor, "b m d"], seen: Bool[Tensor, "b m"]) -> Float[Tensor, "b m d"]:
    """Fused features as curves read them: standardised, zeros where nothing was seen."""
    rows = standardised(fused[seen])
    return rows.new_zeros(fused.shape).masked_scatter(seen[..., None], rows)


def contrasts(
    values: Float[Tensor, "b t c m"], weight: Bool[Tensor, "b t m"]
) -> tuple[Float[Tensor, "b t c m"], Float[Tensor, "b t c 1"]]:
    """Cells less the mean of their image and date, and the standard deviation of these."""
    apart = inside(values.mT, weight).mT
    count = weight.sum(-1)[:, :, None, None].clamp(min=1)
    return apart, (apart.square().sum(-1, keepdim=True) / count).sqrt().clamp(min=LEAST)


def observed(
    view: Batch, key: str, cells: Int[Tensor, "b m"]
) -> tuple[Float[Tensor, "b t c m"], Bool[Tensor, "b t m"]]:
    """What a sensor saw of some 10 m cells, standardised, and where; of high resolution the mean."""
    values, usable = normalised(view, key)  # b t c h w
    if key == "hr":
        usable = token_validity(key, usable)
        side = values.shape[-1] // usable.shape[-1]
        values = F.avg_pool2d(values.flatten(0, 1), side).unflatten(0, values.shape[:2])
    values, usable = full(values).flatten(3), usable.flatten(2)
    at = cells[:, None].expand(-1, usable.shape[1], -1)  # b t m
    wide = at[:, :, None].expand(-1, -1, values.shape[2], -1)
    return values.gather(3, wide), usable.gather(2, at)
