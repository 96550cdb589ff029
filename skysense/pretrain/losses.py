"""Multi-granularity contrast and alignment between sensors (paper, Sec. 3.2): what is learned from.

A student sees view u of some places, a teacher, its moving average, view v. Where both see the same
ground on the same date, the student is to say what the teacher says, pixel by pixel, object by object
and image by image, for every sensor and for the fused features:

    L_FGCL(F, F') = L_pix + L_obj + L_img
    L_MGCL = sum over i of L_FGCL(F_i, F_i') + L_FGCL(F_fus, F_fus'),   i in {HR, S2, S1}
    L = L_MGCL + beta L_align

L_align is `skysense.pretrain.alignment`, the others are one function each below. Rows `n` are features
of any date and place, put together. `skysense.pretrain.prediction` adds one more term.

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
- L_pix compares features less the mean of their image. What all pixels of an image share is the
  business of L_img; left in L_pix, knowing the place would answer for each of its pixels.
- Fused features lose the mean of their phase too, see `skysense.pretrain.heads.standardised`.
- Losses take part with weights, so that each can be left out.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from skysense.errors import EncoderError
from skysense.pretrain import assignment
from skysense.pretrain.alignment import alignment
from skysense.pretrain.assignment import SHARPEST, clusters, exact, full, inside, pooled, targets
from skysense.pretrain.heads import Heads
from skysense.pretrain.parallel import total, world
from skysense.pretrain.terms import Features, LossConfig, Seen, Term, mean_of, nothing

PROBED = 256
"""At most so many rows of a term, evenly spaced, are looked at for entropy and agreement in the log."""


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
    return loss, logged(loss, terms)


def multi_granularity(
    student: Features, teacher: Features, setting: Setting
) -> tuple[Tensor, dict[str, Term]]:
    """L_MGCL: L_FGCL of every sensor and of the fused features, summed (paper, Sec. 3.2)."""
    loss, terms = nothing(student), {}
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
    """L_pix: mean over positions and dates of L_CL; of features less their image's mean."""
    weight = student.weight & teacher.weight
    weight = weight & (weight.sum(-1, keepdim=True) > 1)  # a lone pixel differs from nothing
    phases = [None if side.phase is None else side.phase[weight] for side in (student, teacher)]
    mine, theirs = (inside(side.values, weight)[weight] for side in (student, teacher))
    return _compared(key, "pixel", mine, theirs, setting, *phases)


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
    loss, count = mean_of(contrast(mine, target, config.temperature))
    with torch.no_grad():
        every = max(1, -(-len(mine) // PROBED))
        some = target[::every]
        agree = mine[::every].argmax(-1) == some.argmax(-1)
        probe = torch.stack(
            [count.new_tensor(len(some)), agree.sum(), assignment.entropy(some).sum()]
        )
    return Term(loss, count, probe)


def logged(loss: Tensor, terms: Mapping[str, Term]) -> dict[str, Tensor]:
    """For the log: `loss`, and of each term what `total_loss` says, means over all processes."""
    losses = torch.stack([loss.detach(), *(term.loss.detach() for term in terms.values())])
    losses = total(losses) / world()
    log = {"loss": losses[0]}
    if not terms:
        return log
    probes = total(torch.stack([term.probe for term in terms.values()]))
    shares = probes[:, 1:] / probes[:, :1].clamp(min=1)
    for (name, term), mean, share in zip(terms.items(), losses[1:], shares, strict=True):
        log |= {name: mean, f"{name}/count": term.count, f"{name}/agreement": share[0]}
        if not name.startswith(("align/", "text")):
            log[f"{name}/entropy"] = share[1]
    return log
