"""Is learning still alive? What a collapse would show in first (none of this has a gradient).

A network that says the same of every place has a low loss and is worthless. These numbers see it: the
deviation and rank of the features fall to 0 and 1, and the other view of a place is no nearer than
any place. `fused/phase` sees a chequer of the 16 cells of a token, which no loss but L_pred minds within
views that lie whole tokens apart. `query/alike` says whether semantic queries became one. The entropy of the teacher's targets and its agreement with the student are in the log of
`skysense.pretrain.losses.total_loss`.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from skysense.pretrain.assignment import exact, full, inside, unit
from skysense.pretrain.geometry import TOKEN_CELLS
from skysense.pretrain.terms import Features, Seen

ROWS = 2048
"""At most so many features, evenly spaced, are looked at."""


@torch.no_grad()
def collapse(student: Features, teacher: Features) -> dict[str, float]:
    """Signs of collapse in what this process sees of a batch.

    Returns:
        For each sensor and the fused features `.../deviation` and `.../rank` of the student's pixels
        and `.../overlap` between the views; of features with a phase `.../phase`; left out where
        nothing was seen.
    """
    out = {}
    for key, part in student.parts.items():
        mine = _sampled(part.values[part.weight], ROWS)
        if len(mine) and bool(mine.isfinite().all()):
            out[f"{key}/deviation"] = float(feature_deviation(mine))
            out[f"{key}/rank"] = float(effective_rank(mine))
        if part.phase is not None:
            rows = inside(part.values, part.weight)[part.weight]
            out[f"{key}/phase"] = float(phase_share(rows, part.phase[part.weight]))
        two = [_by_place(p[key]) for p in (student.parts, teacher.parts)]
        out[f"{key}/overlap"] = float(neighbour_overlap(*two[0], *two[1], student.place))
    return {name: value for name, value in out.items() if not math.isnan(value)}


def feature_deviation(features: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Standard deviation of L2-normalised features, mean over channels, times sqrt(d).

    1 where features point everywhere alike, 0 where all point the same way (Chen and He 2021).
    """
    x = unit(full(features))
    return x.std(0, correction=0).mean() * math.sqrt(x.shape[1])


def effective_rank(features: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Directions that features really use: exp of the entropy of their covariance's spectrum.

    1..d, 1 for features that differ along one line or not at all (Roy and Vetterli 2007).
    """
    with exact(features):
        x = full(features)
        x = x - x.mean(0)
        values = torch.linalg.eigvalsh(x.T @ x).clamp(min=0)
    share = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    return torch.special.entr(share).sum().exp()


def phase_share(features: Float[Tensor, "n d"], phase: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Share of the features' variance that their place in the token makes, mean over channels.

    0..1, NaN of fewer rows than phases; less what as many groups of any rows would make.

    Args:
        features: Less the mean of their image.
        phase: Which of the 16 cells of its token each is.
    """
    groups = TOKEN_CELLS**2
    if len(features) <= groups:
        return torch.full((), torch.nan)
    with exact(features):
        x = full(features)
        x = x - x.mean(0)
        member = F.one_hot(phase, groups).to(x)  # n 16
        between = ((member.T @ x).square() / member.sum(0)[:, None].clamp(min=1)).sum(0)
        share = between / x.square().sum(0).clamp(min=torch.finfo(x.dtype).tiny)
    chance = (groups - 1) / (len(x) - 1)
    return ((share - chance) / (1 - chance)).clamp(min=0).mean()


def likeness(scores: Float[Tensor, "n m"]) -> Float[Tensor, ""]:
    """How alike the m semantic queries are: mean of |correlation| of what two of them like.

    0..1, 1 where all queries ask for one thing; NaN of fewer than two rows or queries.

    Args:
        scores: Logits of each query at n cells.
    """
    n, m = scores.shape
    if min(n, m) < 2:
        return torch.full((), torch.nan)
    with exact(scores):
        x = full(scores)
        x = unit((x - x.mean(0)).T)  # m n
        pairs = (x @ x.T).abs().triu(1).sum()
    return pairs / (m * (m - 1) / 2)


def neighbour_overlap(
    u: Float[Tensor, "b m d"],
    seen_u: Bool[Tensor, "b m"],
    v: Float[Tensor, "b m d"],
    seen_v: Bool[Tensor, "b m"],
    place: Tensor | None = None,
) -> Float[Tensor, ""]:
    """Share of u's features whose nearest feature of v (by cosine) is of the same place.

    Chance is 1 / b where all places differ and saw alike.

    Args:
        u: Features of one view.
        seen_u: Those that count.
        v: Features of the other view, from the same encoder or its moving average.
        seen_v: Those that count.
        place: Numbers of the places, (b,); None = all differ.

    Returns:
        0..1, NaN where either view saw nothing.
    """
    place = torch.arange(len(u), device=u.device) if place is None else place
    of_u = place[:, None].expand_as(seen_u)[seen_u]
    of_v = place[:, None].expand_as(seen_v)[seen_v]
    if not len(of_u) or not len(of_v):
        return torch.full((), torch.nan)
    with exact(u):
        near = (unit(full(u[seen_u])) @ unit(full(v[seen_v])).T).argmax(1)
    return (of_v[near] == of_u).double().mean()


def _by_place(part: Seen) -> tuple[Tensor, Tensor]:
    """Features of any date, at most `ROWS` of all, by place: (b, m, d) and which count (b, m)."""
    values, weight = part.values.flatten(1, -2), part.weight.flatten(1)
    each = max(1, ROWS // max(1, len(values)))
    return _sampled(values, each, 1), _sampled(weight, each, 1)


def _sampled(x: Tensor, most: int, axis: int = 0) -> Tensor:
    """At most so many entries of an axis, evenly spaced."""
    n = x.shape[axis]
    spots = torch.linspace(0, n - 1, min(n, most), device=x.device).round().long()
    return x.index_select(axis, spots)
