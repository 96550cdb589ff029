"""One step of learning: what a view looks like to the encoder, and how two views of one place differ.

The student sees view u, the teacher, its moving average, sees view v of the same ground; features at
matched positions meet in the losses of `skysense.pretrain.losses` (paper, Sec. 3.2 and 3.3).
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from skysense.batch import Batch
from skysense.encoders import normalised, token_validity
from skysense.model import Routed, TemporalModel
from skysense.pretrain.geometry import TOKEN_CELLS
from skysense.pretrain.heads import FUSED, Heads
from skysense.pretrain.losses import logged, total_loss
from skysense.pretrain.monitors import collapse, likeness
from skysense.pretrain.prediction import Curves, prediction_loss
from skysense.pretrain.routing import balance, experts_of, use
from skysense.pretrain.semantics import Found, apart_loss, semantic_loss
from skysense.pretrain.terms import Features, LossConfig, Seen
from skysense.pretrain.texts import text_loss
from skysense.pretrain.views import Pair

SPREAD = 32
"""Fused cells spread evenly over each view, matched or not: for its mean, and for the prototypes."""


class Student(nn.Module):
    """The encoder that learns, with its heads and the curves it predicts by.

    One module, so that `DistributedDataParallel` sees every parameter at work in one forward pass.
    """

    def __init__(self, model: TemporalModel, heads: Heads, curves: Curves) -> None:
        super().__init__()
        self.model = model
        self.heads = heads
        self.curves = curves

    def forward(
        self,
        pair: Pair,
        teacher: "View",
        heads: Heads,
        config: LossConfig,
        temperature: float,
        watch: bool = False,
    ) -> tuple[Tensor, dict[str, Tensor], Float[Tensor, "b d n 1"]]:
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
            the fused features (b, d, n, 1) without context of cells spread over the view, which the
            prototypes follow.
        """
        mine = look(self.model, pair, 0)
        student, known = matched(mine, teacher, pair)
        loss, terms = self.compared(mine, teacher, student, known, pair, heads, config, temperature)
        if watch:
            terms |= {
                name: loss.new_tensor(value) for name, value in collapse(student, known).items()
            }
            if self.model.queries is not None and bool(mine.seen.any()):
                terms["query/alike"] = self._alike(mine)
            if mine.routed is not None and (shape := experts_of(self.model.config)):
                terms |= use(mine.routed, list(mine.dates), shape, loss.device)
        width = self.model.config.fusion.dim
        spread = torch.where(mine.seen[..., None], mine.fused, torch.nan)[:, -SPREAD:, :width]
        return loss, terms, spread.transpose(1, 2)[..., None].detach()

    @torch.no_grad()
    def _alike(self, view: "View") -> Tensor:
        """How alike the queries are, in what this process sees."""
        plain = view.fused[..., : self.model.config.fusion.dim][view.seen]
        return likeness(self.model.queries.scores(plain[None])[0].T)

    def compared(
        self,
        u: "View",
        v: "View",
        student: Features,
        teacher: Features,
        pair: Pair,
        heads: Heads,
        config: LossConfig,
        temperature: float,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """All losses, from what student and teacher made of their views: arguments as `forward`."""
        loss, terms = total_loss(student, teacher, self.heads, heads, config, temperature)
        width, m = self.model.config.fusion.dim, pair.cells[0].shape[1]
        fused, seen = u.fused[:, :m, :width], u.seen[:, :m]  # without context
        if config.prediction:
            missed, more = prediction_loss(self.curves, fused, seen, pair.v, pair.cells[1])
            loss, terms = loss + config.prediction * missed, terms | more
            terms["loss"] = terms["loss"] + config.prediction * sum(more.values())
        own = {}
        if config.query and u.found is not None and v.found is not None:
            two = (self.heads.queries, heads.queries)
            own["query"] = semantic_loss(u.found, v.found, *two, config, temperature)
        if config.text and self.heads.text is not None:
            own["text"] = text_loss(self.heads.text, fused, seen, pair.labels, config)
        for name, term in own.items():
            weight = getattr(config, name)
            more = logged(term.loss, {name: term})
            loss, terms["loss"] = loss + weight * term.loss, terms["loss"] + weight * more[name]
            terms |= {key: value for key, value in more.items() if key != "loss"}
        whole = {}  # those that are not means over rows
        if config.apart and self.model.queries is not None:
            likes = self.model.queries.scores(u.fused[..., :width][u.seen][None])[0].T
            whole["apart"] = apart_loss(likes)
        shape = experts_of(self.model.config)
        if config.balance and u.routed is not None and shape:
            whole["balance"] = balance(u.routed, shape, loss.device)
        for name, value in whole.items():
            weight, terms[name] = getattr(config, name), value.detach()
            loss, terms["loss"] = loss + weight * value, terms["loss"] + weight * terms[name]
        return loss, terms


class View:
    """What an encoder made of one view.

    A map per sensor and date, and fused features at the matched cells and then at `SPREAD` cells
    spread over the view; of a model that has them what its queries found and its experts did.
    """

    def __init__(
        self,
        dates: dict[str, Float[Tensor, "b t c h w"]],
        valid: dict[str, Bool[Tensor, "b t h w"]],
        fused: Float[Tensor, "b n d"],
        seen: Bool[Tensor, "b n"],
        found: Found | None = None,
        routed: Routed | None = None,
    ) -> None:
        self.dates, self.valid, self.fused, self.seen = dates, valid, fused, seen
        self.found, self.routed = found, routed


def look(model: TemporalModel, pair: Pair, side: int) -> View:
    """Encode one view of a pair.

    Args:
        model: The student or the teacher.
        pair: Two views.
        side: 0 for u, 1 for v.
    """
    batch: Batch = (pair.u, pair.v)[side]
    inputs, dates, valid = {}, {}, {}
    routed = Routed() if experts_of(model.config) else None
    counted = {} if routed is None else {"routed": routed}
    for key, each in batch.sensors.items():
        pixels, usable = normalised(batch, key)
        valid[key] = token_validity(key, usable)  # b t h w
        dates[key] = model.encode_dates(key, pixels, valid[key], **counted)  # b t c h w
        inputs[key] = (dates[key], valid[key], each.doy)
    n, matches = pair.plan.size, pair.cells[side]
    spread = torch.linspace(0, n * n - 1, SPREAD, device=matches.device).round().long()
    at = torch.cat([matches, spread.expand(len(matches), -1)], dim=1)  # b m+SPREAD
    context = {"cell": pair.cell} if model.prototypes is not None else {}
    fused = model.fuse(inputs, at=at, **context)[..., 0].transpose(1, 2)  # b n d
    # NaN is what fusion gives where nothing was seen, and there only it is expected
    seen = torch.zeros_like(at, dtype=torch.bool)
    tokens = at // n // TOKEN_CELLS * (n // TOKEN_CELLS) + at % n // TOKEN_CELLS
    for key, each in valid.items():
        seen |= each.any(1).flatten(1).gather(1, at if key == "hr" else tokens)
    found = None
    if model.queries is not None:
        m, plain = matches.shape[1], fused[..., : model.config.fusion.dim]
        asked = [(plain[:, part], seen[:, part]) for part in (slice(m, None), slice(m))]
        found = Found(*(model.queries(*each) for each in asked))
    return View(dates, valid, fused, seen, found, routed)


def matched(u: View, v: View, pair: Pair) -> tuple[Features, Features]:
    """Features of both views where they show the same ground, in the same order.

    A position counts where both views saw it; an image's mean is over what its view saw, for fused
    features over the cells spread over it. Where views are not whole tokens apart, no token counts, and
    fused features keep the mean of their phase: one piece of ground has two, so it is no answer.
    """
    sides: tuple[dict[str, Seen], dict[str, Seen]] = ({}, {})
    for key in u.dates:
        places = pair.cells if key == "hr" else pair.tokens
        taken = []
        for view, at, days in zip((u, v), places, pair.dates[key], strict=True):
            values = view.dates[key][:, days].flatten(3).transpose(2, 3)  # b s hw c
            seen = view.valid[key][:, days].flatten(2)  # b s hw
            met = seen if pair.plan.whole or key == "hr" else torch.zeros_like(seen)
            index = at[:, None].expand(-1, len(days), -1)  # b s m
            wide = index[..., None].expand(*index.shape, values.shape[-1])
            taken.append((values.gather(2, wide), met.gather(2, index), *_mean(values, seen)))
        _join(key, taken, sides)
    taken, m = [], pair.cells[0].shape[1]
    for view in (u, v):
        values = torch.where(view.seen[..., None], view.fused, 0.0)
        mean = _mean(values[:, m:], view.seen[:, m:])
        taken.append((values[:, :m], view.seen[:, :m], *mean))
    _join(FUSED, taken, sides)
    for side, at in zip(sides, pair.cells, strict=True):
        if pair.plan.whole:
            side[FUSED] = side[FUSED]._replace(phase=phase_of(at, pair.plan.size))
    return Features(sides[0], pair.place), Features(sides[1], pair.place)


def phase_of(cells: Int[Tensor, "b m"], n: int) -> Int[Tensor, "b m"]:
    """Which of the 16 cells of its token each cell of an n × n view is, row by row."""
    return cells // n % TOKEN_CELLS * TOKEN_CELLS + cells % n % TOKEN_CELLS


def _mean(values: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over what was seen, (..., n, d) to (..., d), and whether there was anything."""
    total = (values * seen[..., None]).sum(-2)
    return total / seen.sum(-1, keepdim=True).clamp(min=1), seen.any(-1)


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
