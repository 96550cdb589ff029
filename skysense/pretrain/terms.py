"""What losses are computed from, what they give, and how much each of them counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from skysense.errors import EncoderError
from skysense.pretrain.assignment import SHARPEST
from skysense.pretrain.heads import FUSED, GRANULARITIES
from skysense.pretrain.parallel import total, world

OTHERS = ("prediction", "alignment", "query", "apart", "text", "balance")
"""Losses beside L_MGCL, as `LossConfig` names their weights."""


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
        query: Weight of L_QSACL, of SkySense V2. Its weights are unpublished; 1, as one granularity
            of one sensor. 0 = the model has no queries.
        apart: Weight of what keeps queries apart (`semantics.apart_loss`), not in the paper. In 300
            steps of queries and heads on fixed features L_QSACL alone made all queries one (mean
            correlation 0.96 to 0.99); at 1 it stayed at 0.30, as at 5.
        text: Weight of L_ITA, of SkySense V2: the same.
        text_temperature: 0.07, where CLIP's begins.
        balance: Weight of the loss that keeps experts in use, of SkySense V2 with experts: 0.01, the
            Switch Transformer's.
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
    query: float = 0.0
    apart: float = 0.0
    text: float = 0.0
    text_temperature: float = 0.07
    balance: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers that make no loss."""
        problems = [
            f"{name}={getattr(self, name)!r} must be at least 1"
            for name in ("iterations", "clusters", "alignment_positions")
            if not getattr(self, name) >= 1
        ]
        problems += [
            f"{name}={getattr(self, name)!r} must be above 0"
            for name in ("temperature", "alignment_temperature", "text_temperature")
            if not getattr(self, name) > 0
        ]
        problems += [
            f"{name}={getattr(self, name)!r} must not be negative (0 leaves it out)"
            for name in (*GRANULARITIES, "hr", "s2", "s1", FUSED, *OTHERS)
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


def mean_of(losses: Float[Tensor, " n"]) -> tuple[Tensor, Tensor]:
    """Loss and count of a `Term`, from the losses of this process's rows."""
    count = total(losses.detach().new_tensor(float(len(losses))))
    return world() * losses.sum() / count.clamp(min=1), count


def nothing(features: Features) -> Tensor:
    """A loss of 0 that can be gone backward from."""
    device = next((part.values.device for part in features.parts.values()), None)
    return torch.zeros((), device=device, requires_grad=True)
