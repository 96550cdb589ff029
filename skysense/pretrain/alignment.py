"""Alignment between sensors: the same ground seen by another sensor attracts (paper, Sec. 3.2).

L_align is symmetric InfoNCE on projected pixel features. Other places of the batch (of all processes)
repel; other positions of the same place do neither: fields of one crop lie side by side, so calling
them different would be wrong as often as right. Dates are averaged first, since sensors seldom pass
on the same day.
"""

from itertools import permutations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from skysense.pretrain.assignment import exact, full
from skysense.pretrain.heads import FUSED, Heads
from skysense.pretrain.parallel import gathered, rank
from skysense.pretrain.terms import Features, LossConfig, Seen, Term, mean_of, nothing


def alignment(
    student: Features, heads: Heads, config: LossConfig
) -> tuple[Tensor, dict[str, Term]]:
    """L_align: sum over sensors i != j of InfoNCE from i to j, within one view (paper, Sec. 3.2).

    A position counts where both sensors saw it and sensor j saw some other place of the batch:
    without a negative there is nothing to tell apart.
    """
    loss, terms = nothing(student), {}
    parts = {k: p for k, p in student.parts.items() if k != FUSED and getattr(config, k, 1.0)}
    if len(parts) < 2:
        return loss, terms
    here = {key: _ground(part, config.alignment_positions) for key, part in parts.items()}
    weight = {key: seen for key, (_, seen) in here.items()}  # b p
    z = {key: full(heads.projector(key)(values)) for key, (values, _) in here.items()}  # b p z
    place = student.place
    if place is None:
        b = len(next(iter(z.values())))
        place = torch.arange(b, device=loss.device) + rank() * b
    places = gathered(place)
    everywhere = {key: (gathered(z[key]), gathered(weight[key])) for key in z}
    for i, j in permutations(z, 2):
        others, seen = everywhere[j]
        away = (place[:, None] != places)[:, None, :, None] & seen  # b 1 all_b p
        away = away.expand(-1, z[i].shape[1], -1, -1).flatten(2).flatten(0, 1)  # n k
        positive = torch.arange(len(away), device=away.device) + rank() * len(away)
        rows = (weight[i] & weight[j]).flatten() & away.any(1)
        losses, nearest = info_nce(
            z[i].flatten(0, 1)[rows],
            others.flatten(0, 1),
            positive[rows],
            away[rows],
            config.alignment_temperature,
        )
        mean, count = mean_of(losses)
        probe = torch.stack([count.new_tensor(len(losses)), nearest.sum(), count.new_zeros(())])
        terms[f"align/{i}-{j}"] = Term(mean, count, probe)
        loss = loss + mean
    return loss, terms


def info_nce(
    anchors: Float[Tensor, "n z"],
    candidates: Float[Tensor, "k z"],
    positive: Int[Tensor, " n"],
    negative: Bool[Tensor, "n k"],
    temperature: float,
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """InfoNCE of each row (van den Oord et al. 2018; Chen et al. 2020).

    Args:
        anchors: Unit vectors.
        candidates: Unit vectors.
        positive: The candidate each anchor belongs to.
        negative: The candidates it does not belong to; all others are left out.
        temperature: Divides the cosines.

    Returns:
        -log of the positive's share among itself and the negatives, and whether it is nearest.
    """
    with exact(anchors):
        logits = anchors @ candidates.T / temperature  # n k
    own = logits.gather(1, positive[:, None])  # n 1
    logits = logits.masked_fill(~negative, -torch.inf)
    losses = torch.cat([own, logits], 1).logsumexp(1) - own[:, 0]
    return losses, own[:, 0] > logits.amax(1)


def _ground(part: Seen, positions: int) -> tuple[Float[Tensor, "b p d"], Bool[Tensor, "b p"]]:
    """What one sensor saw at some positions of each place: the mean over the dates that saw them."""
    m = part.values.shape[2]
    spots = torch.linspace(0, m - 1, min(m, positions), device=part.values.device).round().long()
    values, weight = part.values[:, :, spots], part.weight[:, :, spots]
    summed = full(values).masked_fill(~weight[..., None], 0.0).sum(1)
    return summed / weight.sum(1).clamp(min=1)[..., None], weight.any(1)
