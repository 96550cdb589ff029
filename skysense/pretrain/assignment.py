"""Balanced assignments while learning: the teacher's targets and the objects of an image.

Rows of features are spread over prototypes, or over the centres of groups, such that all of these get
the same share: Sinkhorn's alternations (Cuturi 2013) on exp(cosine / epsilon). Nothing here has a
gradient.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from skysense.pretrain.parallel import total

SHARPEST = 0.025
"""Least epsilon: cosines differ by 2 at most, and exp(-2 / 0.025), its inverse and sums of either
still fit single precision."""


def full(x: Tensor) -> Tensor:
    """At least single precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def exact(x: Tensor) -> torch.autocast:
    """A context in which mixed precision does not touch the arithmetic on tensors like `x`."""
    return torch.autocast(x.device.type, enabled=False)


def unit(x: Float[Tensor, "*batch c"]) -> Float[Tensor, "*batch c"]:
    """Vectors scaled to length 1; zero stays zero."""
    return F.normalize(x, dim=-1)


@torch.no_grad()
def transport(
    cosines: Float[Tensor, "*batch n k"],
    epsilon: float,
    iterations: int,
    weight: Bool[Tensor, "*batch n"] | None = None,
    over: Callable[[Tensor], Tensor] | None = None,
) -> Float[Tensor, "*batch n k"]:
    """Sinkhorn's balanced soft assignment of n rows to k columns.

    It is `skysense.model.prototypes.sinkhorn` for cosines: since these are bounded, exponentials
    cannot leave single precision, and two vectors scale one matrix that is never copied.

    Args:
        cosines: Similarities, -1..1.
        epsilon: Entropy, at least `SHARPEST`.
        iterations: Alternations, columns first and rows last.
        weight: Rows that take part; None = all.
        over: Sum over the processes among which the rows are spread; None = they are all here.

    Returns:
        Rows that sum to 1 (0 where the weight is off), columns that about share the rows equally.
    """
    plan = full(cosines).sub(1.0).div_(epsilon).exp_()
    if weight is not None:
        plan.mul_(weight[..., None])
    tiny = torch.finfo(plan.dtype).tiny
    rows = plan.new_ones(*plan.shape[:-1], 1)  # n 1
    columns = plan.new_ones(1)
    with exact(plan):
        for _ in range(iterations):
            share = rows.mT @ plan  # 1 k
            columns = (share if over is None else over(share)).clamp_(min=tiny).reciprocal_()
            rows = (plan @ columns.mT).clamp_(min=tiny).reciprocal_()
    return plan.mul_(columns).mul_(rows)


def targets(
    cosines: Float[Tensor, "n k"], temperature: float, iterations: int
) -> Float[Tensor, "n k"]:
    """What the teacher says of each row: a distribution over prototypes, balanced over all processes.

    Sinkhorn centring (Caron et al. 2020; Oquab et al. 2024): every prototype gets the same share of
    the rows, so the teacher can neither say the same of all of them nor leave it open for long.

    Args:
        cosines: The teacher's, with its prototypes.
        temperature: Of the teacher; the epsilon of the assignment.
        iterations: Sinkhorn iterations.
    """
    return transport(cosines, temperature, iterations, over=total)


@torch.no_grad()
def clusters(
    features: Float[Tensor, "i m d"],
    weight: Bool[Tensor, "i m"],
    count: int,
    epsilon: float,
    iterations: int,
) -> Float[Tensor, "i m c"]:
    """Groups of the pixels of each image that look alike, as soft memberships.

    Args:
        features: Pixel features of i images, each on its own. Pixels are compared by their difference
            from their image's mean: what an image's pixels share says nothing about its objects.
        weight: Pixels that take part; others belong to no group.
        count: Groups (c). All get the same share of the pixels.
        epsilon: Entropy of the assignment.
        iterations: Sinkhorn iterations.

    Returns:
        Memberships that sum to 1 over groups. They do not depend on the order of the pixels, save
        for ties.
    """
    with exact(features):
        x = inside(features, weight)
        length = x.norm(dim=-1).masked_fill(~weight, -1.0)
        x = unit(x)
        centres = _apart(x, weight, length.argmax(1), count)  # i c d
        plan = transport(x @ centres.mT, epsilon, iterations, weight)
        centres = unit(plan.mT @ x)
        return transport(x @ centres.mT, epsilon, iterations, weight)


def inside(
    features: Float[Tensor, "*images m d"], weight: Bool[Tensor, "*images m"]
) -> Float[Tensor, "*images m d"]:
    """What tells the pixels of an image apart: features less their image's mean; 0 where off."""
    x = full(features).masked_fill(~weight[..., None], 0.0)
    mean = x.sum(-2, keepdim=True) / weight.sum(-1).clamp(min=1)[..., None, None]
    return (x - mean).masked_fill(~weight[..., None], 0.0)


def _apart(x: Tensor, weight: Tensor, first: Tensor, count: int) -> Tensor:
    """Features far from one another: the first, then always the one farthest from those taken."""
    images = torch.arange(len(x), device=x.device)
    taken = [x[images, first]]
    nearest = (x @ taken[0][:, :, None])[..., 0]  # i m
    for _ in range(count - 1):
        taken.append(x[images, nearest.masked_fill(~weight, torch.inf).argmin(1)])
        nearest = torch.maximum(nearest, (x @ taken[-1][:, :, None])[..., 0])
    return torch.stack(taken, 1)


def pooled(
    features: Float[Tensor, "i m d"], plan: Float[Tensor, "i m c"]
) -> Float[Tensor, "i c d"]:
    """Mean feature of each group, weighted by membership; with gradient to the features.

    Pixels that belong to no group may hold anything.
    """
    with exact(features):
        inside = plan.sum(-1, keepdim=True) > 0
        share = plan / plan.sum(1, keepdim=True).clamp_min(torch.finfo(plan.dtype).tiny)
        return share.mT @ full(features).masked_fill(~inside, 0.0)


def entropy(plan: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """Entropy of each row over that of a uniform one: 0 where one column has it all, 1 at a tie."""
    return torch.special.entr(plan).sum(-1) / math.log(plan.shape[-1])
