"""Multi-granularity contrast and alignment between sensors (paper, Sec. 3.2): what is learned from.

A student sees view u of some places, a teacher, its moving average, view v. Where both see the same
ground on the same date, the student is to say what the teacher says, pixel by pixel, object by object
and image by image, for every sensor and for the fused features:

    L_FGCL(F, F') = L_pix + L_obj + L_img
    L_MGCL = sum over i of L_FGCL(F_i, F_i') + L_FGCL(F_fus, F_fus'),   i in {HR, S2, S1}
    L = L_MGCL + beta L_align

`skysense.pretrain.prediction` adds one more term. Each of them is one function below. Rows `n` are features of any date and place, put together.

Differs from or adds to the paper, which leaves temperatures, heads and the form of L_CL open:

- L_CL is the self-distillation of the DINO family: cross-entropy between softmax over prototypes and
  the teacher's, which is balanced by Sinkhorn's iterations over the rows of all processes, as in
  DINOv2 (Oquab et al. 2024). There are no negatives in it, as in the paper.
- Means are over all rows of the batch that exist, not first within each sample: a position that one
  of the views did not see, a date or a sensor that is missing takes no part. With nothing at all a
  term is 0, has gradient 0 and counts 0.
- Objects are groups of the teacher's pixel features of one image, told apart by their difference from
  the image's mean, seeded far from one another, assigned by Sinkhorn's iterations and assigned once
  more to the centres of the first assignment. That assignment pools the student's features too, so
  centre i meets centre i without matching.
- L_align is symmetric InfoNCE on projected pixel features: the same ground seen by another sensor
  attracts, other places of the batch (of all processes) repel. Other positions of the same place do
  neither: fields of one crop lie side by side, so calling them different would be wrong as often as
  right. Dates are averaged first, since sensors seldom pass on the same day.
- Losses take part with weights, so that each can be left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from skysense.errors import EncoderError
from skysense.pretrain import assignment
from skysense.pretrain.assignment import SHARPEST, clusters, exact, full, pooled, targets
from skysense.pretrain.heads import FUSED, GRANULARITIES, Heads
from skysense.pretrain.parallel import gathered, rank, total, world

PROBED = 256
"""At most so many rows of a term, evenly spaced, are looked at for entropy and agreement in the log."""


@dataclass(frozen=True)
class LossConfig:
    """Weights and temperatures of the losses. Nothing here is published.

    Attributes:
        temperature: The student's. 0.1 throughout the DINO family; the teacher's lower one, given
            with each call (0.04, rising to 0.07), is what sharpens.
        iterations: Of Sinkhorn, for targets and objects. 3, as DINOv2 and SwAV; more change little.
        pixel: Weight of L_pix. The paper sums the three granularities, hence 1 each.
        object: Weight of L_obj.
        image: Weight of L_img.
        hr: Weight of the high-resolution sensor in L_MGCL. The paper sums, hence 1 each.
        s2: Weight of Sentinel-2.
        s1: Weight of Sentinel-1.
        fused: Weight of the fused features.
        clusters: Objects per image. Of 64 matched positions each centre of 8 averages 8; 16 would
            leave 4, hardly steadier than pixels.
        cluster_epsilon: Entropy of the assignment of pixels to objects. 0.05 is SwAV's.
        prediction: Of L_pred. At 10 it falls as fast beside nine cross-entropies as alone.
        alignment: Weight beta of L_align. At 0.5 the two directions between two sensors weigh
            together as much as one granularity of one sensor.
        alignment_temperature: 0.1, SimCLR's.
        alignment_positions: Most positions per place in L_align, evenly spaced: neighbours tell
            little more, and its cost grows with the square.
    """

    temperature: float = 0.1
    iterations: int = 3
    pixel: float = 1.0
    object: float = 1.0
    image: float = 1.0
    hr: float = 1.0
    s2: float = 1.0
    s1: float = 1.0
    fused: float = 1.0
    clusters: int = 8
    cluster_epsilon: float = 0.05
    prediction: float = 10.0
    alignment: float = 0.5
    alignment_temperature: float = 0.1
    alignment_positions: int = 16

    def __post_init__(self) -> None:
        """Refuse numbers that make no loss."""
        problems = [
            f"{name}={getattr(self, name)!r} must be at least 1"
            for name in ("iterations", "clusters", "alignment_positions")
            if not getattr(self, name) >= 1
        ]
        problems += [
            f"{name}={getattr(self, name)!r} must be above 0"
            for name in ("temperature", "alignment_temperature")
            if not getattr(self, name) > 0
        ]
        problems += [
            f"{name}={getattr(self, name)!r} must not be negative (0 leaves it out)"
            for name in (*GRANULARITIES, "hr", "s2", "s1", FUSED, "prediction", "alignment")
            if not getattr(self, name) >= 0
        ]
        if not self.cluster_epsilon >= SHARPEST:
            problems.append(f"cluster_epsilon={self.cluster_epsilon!r} must be at least {SHARPEST}")
        if problems:
            raise EncoderError(f"These losses cannot be computed: {'; '.join(problems)}.")


class Seen(NamedTuple):
    """Features of one sensor; fused ones have no axis t."""

    values: Float[Tensor, "b t m d"]
    """Pixel features at m positions that both views see; position j is one piece of ground, the same
    for every sensor of both views. May hold anything where the weight is off."""
    weight: Bool[Tensor, "b t m"]
    """Where both views saw it."""
    image: Float[Tensor, "b t d"]
    """Mean over all positions the view saw."""
    image_weight: Bool[Tensor, "b t"]
    """Where there were any in both views."""
    phase: Int[Tensor, "b m"] | None = None
    """Which of the 16 cells of its 40 m token each position is in this view; None = a whole token."""


@dataclass(frozen=True)
class Features:
    """What a network made of one view."""

    parts: Mapping[str, Seen]
    """By sensor, and `"fused"`; the same keys, in the same order, on all processes."""
    place: Int[Tensor, " b"] | None = None
    """Numbers of the places, equal where the ground is; None = all places differ."""


class Term(NamedTuple):
    """One loss on this process's part of the batch."""

    loss: Tensor
    """`world() * sum here / count`: the mean over processes is the mean over the global batch."""
    count: Tensor
    """Rows it is a mean over, of all processes."""
    probe: Tensor
    """(3,): rows of this process looked at; how often teacher and student (in alignment: the sensors)
    agree on what is nearest; sum of the entropies of the teacher's targets."""


class Setting(NamedTuple):
    """What a pair of views is compared with."""

    student: Heads
    teacher: Heads
    config: LossConfig
    temperature: float
    """The teacher's, at least `SHARPEST`."""


def total_loss(
    student: Features,
    teacher: Features,
    heads_student: Heads,
    heads_teacher: Heads,
    config: LossConfig,
    temperature: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """L = L_MGCL + beta L_align (paper, Sec. 3.2), and everything worth a line in the log.

    Args:
        student: Of view u; gradients flow into it.
        teacher: Of view v, with the same keys; gets no gradient, nor do its heads.
        heads_student: The student's heads.
        heads_teacher: The teacher's.
        config: Weights and temperatures.
        temperature: The teacher's, at least 0.025.

    Returns:
        The loss to go backward from: on several processes the average of it and of its gradients is
        that of the global batch. And for the log, without gradient and over all processes: `loss`,
        and for each term (`s2/pixel`, ..., `fused/image`, `align/s2-s1`) its mean under its own
        name, its rows (`.../count`), `.../agreement` and, for granularities, `.../entropy`. The last
        two come from a sample of rows and are 0 where there were none.

    Raises:
        EncoderError: The temperature is too low, the views hold different sensors, or there is no
            head for one of them.
    """
    if student.parts.keys() != teacher.parts.keys():
        raise EncoderError(
            f"The student saw {', '.join(student.parts) or 'nothing'} and the teacher "
            f"{', '.join(teacher.parts) or 'nothing'}; give both the same sensors."
        )
    if not temperature >= SHARPEST:
        raise EncoderError(
            f"A teacher's temperature of {temperature} is too sharp to be balanced; give at least "
            f"{SHARPEST}."
        )
    setting = Setting(heads_student, heads_teacher, config, temperature)
    loss, terms = multi_granularity(student, teacher, setting)
    if config.alignment:
        aligned, more = alignment(student, heads_student, config)
        loss, terms = loss + config.alignment * aligned, terms | more
    return loss, _log(loss, terms)


def multi_granularity(
    student: Features, teacher: Features, setting: Setting
) -> tuple[Tensor, dict[str, Term]]:
    """L_MGCL: L_FGCL of every sensor and of the fused features, summed (paper, Sec. 3.2)."""
    loss, terms = _nothing(student), {}
    for key, mine in student.parts.items():
        if weight := getattr(setting.config, key, 1.0):
            own, more = fine_grained(key, mine, teacher.parts[key], setting)
            loss = loss + weight * own
            terms |= {f"{key}/{name}": term for name, term in more.items()}
    return loss, terms


def fine_grained(
    key: str, student: Seen, teacher: Seen, setting: Setting
) -> tuple[Tensor, dict[str, Term]]:
    """L_FGCL = L_pix + L_obj + L_img of one sensor, or of the fused features (paper, Sec. 3.2)."""
    losses = {"pixel": pixel_loss, "object": object_loss, "image": image_loss}
    terms = {
        name: function(key, student, teacher, setting)
        for name, function in losses.items()
        if getattr(setting.config, name)
    }
    loss = student.values.new_zeros(())
    for name, term in terms.items():
        loss = loss + getattr(setting.config, name) * term.loss
    return loss, terms


def pixel_loss(key: str, student: Seen, teacher: Seen, setting: Setting) -> Term:
    """L_pix: mean over positions and dates of L_CL between features of the same ground."""
    weight = student.weight & teacher.weight
    phases = [None if side.phase is None else side.phase[weight] for side in (student, teacher)]
    return _compared(key, "pixel", student.values[weight], teacher.values[weight], setting, *phases)


def object_loss(key: str, student: Seen, teacher: Seen, setting: Setting) -> Term:
    """L_obj: mean over the groups of each image and date of L_CL between their mean features.

    The groups are those of the teacher's pixels (`clusters`); the same memberships pool both views.
    """
    config = setting.config
    weight = (student.weight & teacher.weight).flatten(0, -2)  # i m: images of any date
    mine, theirs = student.values.flatten(0, -3), teacher.values.flatten(0, -3)  # i m d
    plan = clusters(theirs, weight, config.clusters, config.cluster_epsilon, config.iterations)
    some = weight.any(1, keepdim=True).expand(-1, config.clusters)  # i c
    mine, theirs = pooled(mine, plan), pooled(theirs.detach(), plan)
    return _compared(key, "object", mine[some], theirs[some], setting)


def image_loss(key: str, student: Seen, teacher: Seen, setting: Setting) -> Term:
    """L_img: mean over images and dates of L_CL between their spatial means."""
    weight = student.image_weight & teacher.image_weight
    return _compared(key, "image", student.image[weight], teacher.image[weight], setting)


def contrast(
    cosines: Float[Tensor, "n k"], target: Float[Tensor, "n k"], temperature: float
) -> Float[Tensor, " n"]:
    """L_CL of each row: -sum over k of target log softmax(cosines / temperature).

    Cross-entropy of self-distillation (Caron et al. 2021): student's cosines, teacher's target.
    """
    with exact(cosines):
        return -(target * (full(cosines) / temperature).log_softmax(-1)).sum(-1)


def _compared(
    key: str, granularity: str, student: Tensor, teacher: Tensor, setting: Setting, *phases: Any
) -> Term:
    """Mean of L_CL over rows (n, d); `phases` as heads take them, the student's and the teacher's."""
    config, (of_mine, of_theirs) = setting.config, phases or (None, None)
    with torch.no_grad():
        theirs = setting.teacher.head(key, granularity)(teacher, of_theirs)  # n k
        target = targets(theirs, setting.temperature, config.iterations)
    mine = setting.student.head(key, granularity)(student, of_mine)  # n k
    loss, count = _mean(contrast(mine, target, config.temperature))
    with torch.no_grad():
        every = max(1, -(-len(mine) // PROBED))
        some = target[::every]
        agree = mine[::every].argmax(-1) == some.argmax(-1)
        probe = torch.stack(
            [count.new_tensor(len(some)), agree.sum(), assignment.entropy(some).sum()]
        )
    return Term(loss, count, probe)


def alignment(
    student: Features, heads: Heads, config: LossConfig
) -> tuple[Tensor, dict[str, Term]]:
    """L_align: sum over sensors i != j of InfoNCE from i to j, within one view (paper, Sec. 3.2).

    A position counts where both sensors saw it and sensor j saw some other place of the batch:
    without a negative there is nothing to tell apart.
    """
    loss, terms = _nothing(student), {}
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
        mean, count = _mean(losses)
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


def _mean(losses: Float[Tensor, " n"]) -> tuple[Tensor, Tensor]:
    """This process's share of the mean over all processes' rows, and their number."""
    count = total(losses.detach().new_tensor(float(len(losses))))
    return world() * losses.sum() / count.clamp(min=1), count


def _nothing(features: Features) -> Tensor:
    """A loss of 0 that can be gone backward from."""
    device = next((part.values.device for part in features.parts.values()), None)
    return torch.zeros((), device=device, requires_grad=True)


def _log(loss: Tensor, terms: Mapping[str, Term]) -> dict[str, Tensor]:
    """Means over all processes."""
    losses = torch.stack([loss.detach(), *(term.loss.detach() for term in terms.values())])
    losses = total(losses) / world()
    log = {"loss": losses[0]}
    if not terms:
        return log
    probes = total(torch.stack([term.probe for term in terms.values()]))
    shares = probes[:, 1:] / probes[:, :1].clamp(min=1)
    for (name, term), mean, share in zip(terms.items(), losses[1:], shares, strict=True):
        log |= {name: mean, f"{name}/count": term.count, f"{name}/agreement": share[0]}
        if not name.startswith("align/"):
            log[f"{name}/entropy"] = share[1]
    return log
