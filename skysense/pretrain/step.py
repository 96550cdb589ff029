"""One step of learning: what a view looks like to the encoder, and how two views of one place differ.

The student sees view u, the teacher, its moving average, sees view v of the same ground; features at
matched positions meet in the losses of `skysense.pretrain.losses` (paper, Sec. 3.2 and 3.3).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from skysense.batch import Batch
from skysense.encoders import normalised, token_validity
from skysense.model import SkySense
from skysense.pretrain.heads import FUSED, Heads
from skysense.pretrain.losses import Features, LossConfig, Seen, total_loss
from skysense.pretrain.monitors import collapse
from skysense.pretrain.views import FUSED_STEP, Pair


class Student(nn.Module):
    """The encoder that learns, with its heads.

    One module, so that `DistributedDataParallel` sees every parameter at work in one forward pass.
    """

    def __init__(self, model: SkySense, heads: Heads) -> None:
        super().__init__()
        self.model = model
        self.heads = heads

    def forward(
        self,
        pair: Pair,
        teacher: "View",
        heads: Heads,
        config: LossConfig,
        temperature: float,
        watch: bool = False,
    ) -> tuple[Tensor, dict[str, Tensor], Float[Tensor, "b d h w"]]:
        """The loss of one pair of views.

        Args:
            pair: Two views of the same places.
            teacher: What the teacher made of view v.
            heads: The teacher's heads.
            config: Weights and temperatures of the losses.
            temperature: The teacher's, which rises while it warms up.
            watch: Whether to look for signs of collapse too.

        Returns:
            The loss to go backward from; named means and counts for the log, without gradient; and
            the fused map without context, which the prototypes follow.
        """
        mine = look(self.model, pair, 0)
        student, known = matched(mine, teacher, pair)
        loss, terms = total_loss(student, known, self.heads, heads, config, temperature)
        if watch:
            terms |= {
                name: loss.new_tensor(value) for name, value in collapse(student, known).items()
            }
        return loss, terms, mine.fused[:, : self.model.config.fusion.dim]


class View:
    """What an encoder made of one view: a map per sensor and date, and the fused map."""

    def __init__(
        self,
        dates: dict[str, Float[Tensor, "b t c h w"]],
        valid: dict[str, Tensor],
        fused: Float[Tensor, "b d h w"],
    ) -> None:
        self.dates, self.valid, self.fused = dates, valid, fused


def look(model: SkySense, pair: Pair, side: int) -> View:
    """Encode one view of a pair.

    Args:
        model: The student or the teacher.
        pair: Two views.
        side: 0 for u, 1 for v.
    """
    batch: Batch = (pair.u, pair.v)[side]
    inputs, dates, valid = {}, {}, {}
    for key, each in batch.sensors.items():
        pixels, usable = normalised(batch, key)
        valid[key] = token_validity(key, usable)  # b t h w
        dates[key] = model.encode_dates(key, pixels, valid[key])  # b t c h w
        inputs[key] = (dates[key], valid[key], each.doy)
    offset = (pair.offset_u, pair.offset_v)[side]
    context = {"cell": pair.cell} if model.prototypes is not None else {}
    fused = model.fuse(inputs, step=FUSED_STEP, offset=offset, **context)
    return View(dates, valid, fused)


def matched(u: View, v: View, pair: Pair) -> tuple[Features, Features]:
    """Features of both views where they show the same ground, in the same order.

    A position counts where both views saw it; an image's mean is over all that its view saw.
    """
    sides: tuple[dict[str, Seen], dict[str, Seen]] = ({}, {})
    for key in u.dates:
        places = pair.hr_cells if key == "hr" else pair.tokens
        taken = []
        for view, at, days in zip((u, v), places, pair.dates[key], strict=True):
            values = view.dates[key][:, days].flatten(3).transpose(2, 3)  # b s hw c
            seen = view.valid[key][:, days].flatten(2)  # b s hw
            taken.append(_taken(values, seen, at[:, None].expand(-1, len(days), -1)))
        _join(key, taken, sides)
    taken = []
    for view, at, offset in zip((u, v), pair.cells, (pair.offset_u, pair.offset_v), strict=True):
        values = view.fused.flatten(2).transpose(1, 2)  # b hw d
        seen = _fused_somewhere(view, offset).flatten(1)
        taken.append(_taken(torch.where(seen[..., None], values, 0.0), seen, at))
    _join(FUSED, taken, sides)
    return Features(sides[0], pair.place), Features(sides[1], pair.place)


def _fused_somewhere(view: View, offset: tuple[int, int]) -> Tensor:
    """Which fused cells (b, h, w) saw a usable token; elsewhere fused features are NaN on purpose."""
    seen = torch.zeros_like(view.fused[:, 0], dtype=torch.bool)
    for key, valid in view.valid.items():
        some = valid.any(1)  # b h w
        row, column = offset
        seen |= some[:, row::FUSED_STEP, column::FUSED_STEP] if key == "hr" else some
    return seen


def _taken(values: Tensor, seen: Tensor, at: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values (..., n, d) at positions (..., m), whether they were seen, their mean, if there is one."""
    index = at[..., None].expand(*at.shape, values.shape[-1])
    mean = (values * seen[..., None]).sum(-2) / seen.sum(-1, keepdim=True).clamp(min=1)
    return values.gather(-2, index), seen.gather(-1, at), mean, seen.any(-1)


def _join(
    key: str,
    taken: list[tuple[Tensor, Tensor, Tensor, Tensor]],
    sides: tuple[dict[str, Seen], dict[str, Seen]],
) -> None:
    """Give both sides what was taken of each, with weights that hold in both."""
    there, some = taken[0][1] & taken[1][1], taken[0][3] & taken[1][3]
    for side, (pixels, _, image, _) in zip(sides, taken, strict=True):
        side[key] = Seen(pixels, there, image, some)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """The teacher's weights: t <- m t + (1 - m) s, an exponential moving average."""
    for mine, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
        mine.lerp_(theirs, 1.0 - momentum)  # in place, not through .data: the memo must hear of it
