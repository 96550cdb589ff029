"""Contrast of what semantic queries find (SkySense V2): the same query asks for the same kind of thing.

    L_QSACL = 1/(2m) Σ_i [ CL(z_i^g, z_i^l') + CL(z_i^l, z_i^g') ]

z_i is what query i found in fused features, primes are the teacher's. Two crops that show different
things need not agree as a whole, only query by query.

Differs from or adds to the paper, of which readers give the formula and the 16 queries:

- Nothing is encoded for it. *Global* are the cells spread over a view (`step.SPREAD`), *local* the cells
  at which it meets the other view: g and l' thus come from two views, and l' from their common ground.
- A query's vector holds what it found and which query it is. The second is the same everywhere, both
  views agree on it at once, and with targets balanced over all rows every query could keep prototypes
  of its own and look at nothing. So the mean of each query over the batch is taken away before the
  head, and targets are balanced for each query by itself: over the places of a batch every prototype
  gets the same share of query i. A query that finds the same everywhere then has uniform targets, and
  the highest loss there is; knowing which query asks tells nothing of its target.
- Nothing in it asks queries to differ, and left alone they all come to look at the same ground. So a
  second loss keeps what they like apart (`apart_loss`).
- A place of which one of the four sets saw nothing takes no part.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from skysense.pretrain import assignment
from skysense.pretrain.assignment import exact, full, transport
from skysense.pretrain.losses import contrast
from skysense.pretrain.parallel import total, world
from skysense.pretrain.terms import LossConfig, Term, mean_of

FAINT = 1e-6
"""Keeps queries whose scores never change from being divided by zero."""


class Found(NamedTuple):
    """What each query found in one view; NaN where nothing was seen."""

    spread: Float[Tensor, "b m d"]
    """Global: in the cells spread over the view."""
    met: Float[Tensor, "b m d"]
    """Local: in the cells where it meets the other view."""


def semantic_loss(
    student: Found,
    teacher: Found,
    head_student: nn.Module,
    head_teacher: nn.Module,
    config: LossConfig,
    temperature: float,
) -> Term:
    """L_QSACL, mean over places.

    Args:
        student: Of view u; gradients flow into it.
        teacher: Of view v; gets no gradient, nor does its head.
        head_student: The head of what queries find.
        head_teacher: The teacher's.
        config: Temperatures.
        temperature: The teacher's.
    """
    some = ~torch.stack([z.isnan().any(-1).any(-1) for z in (*student, *teacher)]).any(0)  # b
    losses, agreed, entropies = [], [], []
    for mine, theirs in ((student.spread, teacher.met), (student.met, teacher.spread)):
        with torch.no_grad():
            told = _cosines(head_teacher, theirs, some).transpose(0, 1)  # m n k
            target = transport(told, temperature, config.iterations, over=total)
            target = target.transpose(0, 1).flatten(0, 1)
        said = _cosines(head_student, mine, some).flatten(0, 1)
        losses.append(contrast(said, target, config.temperature))
        with torch.no_grad():
            agreed.append(said.argmax(-1) == target.argmax(-1))
            entropies.append(assignment.entropy(target))
    loss, count = mean_of(torch.cat(losses))
    rows, agree = torch.cat(entropies), torch.cat(agreed)
    return Term(loss, count, torch.stack([count.new_tensor(len(rows)), agree.sum(), rows.sum()]))


def apart_loss(scores: Float[Tensor, "n m"]) -> Float[Tensor, ""]:
    """How much queries like the same cells: mean square of the correlation of two queries' scores.

    Args:
        scores: Of the m queries at n cells of this process.

    Returns:
        0..1, over the cells of all processes: 0 where no two queries have to do with each other.
    """
    x = full(scores)
    if torch.is_grad_enabled() and not x.requires_grad and world() > 1:
        # nothing was seen here: take part in sums of gradients with a process where something was
        x = x.detach().requires_grad_()
    with exact(x):
        count = total(x.detach().new_tensor(float(len(x)))).clamp(min=1)
        x = x - total(x.sum(0)) / count
        shared = total(x.T @ x)
    variance = shared.diagonal()
    squares = shared.square() / (variance[:, None] * variance + FAINT)
    pairs = len(shared) * (len(shared) - 1) / 2
    return squares.triu(1).sum() / max(1.0, pairs)


def _cosines(
    head: nn.Module, found: Float[Tensor, "b m d"], some: Bool[Tensor, " b"]
) -> Float[Tensor, "n m k"]:
    """Cosines with the prototypes, of what was found less the mean of its query."""
    rows, m = full(found[some]), found.shape[1]
    query = torch.arange(m, device=rows.device).repeat(len(rows))
    return head(rows.flatten(0, 1), query, m).unflatten(0, (-1, m))
