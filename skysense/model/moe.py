"""Mixture of experts: each token passes one of several MLPs, which a linear router chooses.

    y = G_i(x) · E_i(x),   i = argmax G(x),   G(x) = softmax(W x)

Every token is served, whatever the others choose (no capacity), and the probability of the chosen expert
multiplies its output and is never renormalised: with one expert per token that factor is all that lets
a gradient reach the router. Tokens are sorted by expert, so that each expert reads one contiguous piece.
The loss that keeps experts in use is that of the Switch Transformer (Fedus et al., JMLR 2022,
arXiv 2101.03961, eq. 4).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from skysense.model.layers import MLP, Layer


class Routing(NamedTuple):
    """Where one block sent its tokens."""

    expert: Int[Tensor, "n s"]
    """The expert of each token, from 0."""
    probabilities: Float[Tensor, "n s experts"]
    """What the router gave each expert; rows sum to 1. Carries the router's gradient."""


class Experts(nn.Module):
    """Several MLPs of which each token passes one. With one of them, exactly that MLP."""

    def __init__(self, dim: int, ratio: float, count: int) -> None:
        super().__init__()
        self.router = nn.Linear(dim, count, bias=False)
        self.experts = nn.ModuleList(MLP(dim, ratio) for _ in range(count))

    def forward(self, x: Float[Tensor, "n s c"]) -> tuple[Float[Tensor, "n s c"], Routing]:
        """Each token through the expert the router likes best; of equals the first."""
        flat = x.flatten(0, 1)
        probabilities = self.route(flat)
        gate, expert = probabilities.max(-1)
        order = expert.argsort(stable=True)
        counts = expert.bincount(minlength=len(self.experts)).tolist()
        parts = flat.index_select(0, order).split(counts)
        # With gradients even an expert that nobody chose takes part, so that on every process the same
        # parameters get one, if only zeros.
        every = torch.is_grad_enabled()
        made = [
            mlp(part) for mlp, part in zip(self.experts, parts, strict=True) if every or len(part)
        ]
        y = torch.cat(made)
        y = torch.zeros_like(y).index_copy(0, order, y) * gate[:, None].to(y.dtype)
        routing = Routing(expert.view(x.shape[:2]), probabilities.view(*x.shape[:2], -1))
        return y.view(x.shape), routing

    def route(self, tokens: Float[Tensor, "m c"]) -> Float[Tensor, "m experts"]:
        """The router's probabilities, in single precision at least: rounding must not choose."""
        exact = torch.promote_types(tokens.dtype, torch.float32)
        with torch.autocast(tokens.device.type, enabled=False):
            scores = F.linear(tokens.to(exact), self.router.weight.to(exact))
            return scores.softmax(-1)


class RoutedLayer(Layer):
    """A pre-norm layer with experts in place of its MLP."""

    def __init__(
        self, dim: int, heads: int, ratio: float, drop_path: float, eps: float, experts: int
    ) -> None:
        super().__init__(dim, heads, ratio, drop_path, eps, Experts(dim, ratio, experts))

    def forward(self, x: Float[Tensor, "n s c"]) -> tuple[Float[Tensor, "n s c"], Routing]:
        """All tokens to all tokens, then each through its expert."""
        x = x + self.attn(self.ln1(x))
        y, routing = self.mlp(self.ln2(x))
        return x + self.drop(y), routing


class Routed:
    """Sums over what blocks with experts did, to be filled by `SkySenseV2.encode_dates(routed=...)`.

    Image tokens only: prompt tokens are routed as well, but say nothing about an image.
    """

    def __init__(self) -> None:
        self._counts: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}

    def add(self, sensor: str, routings: list[Routing]) -> None:
        """Count what one pass of some images of a sensor did, a routing for each block."""
        if not routings:
            return
        experts = routings[0].probabilities.shape[-1]
        counts = torch.stack([r.expert.flatten().bincount(minlength=experts) for r in routings])
        sums = torch.stack([r.probabilities.flatten(0, 1).sum(0) for r in routings])
        for kept, new in ((self._counts, counts), (self._sums, sums)):
            kept[sensor] = kept[sensor] + new if sensor in kept else new

    @property
    def counts(self) -> dict[str, Int[Tensor, "blocks experts"]]:
        """Tokens that each expert of each block got, by sensor: the histograms."""
        return dict(self._counts)

    def totals(
        self,
    ) -> tuple[Float[Tensor, "blocks experts"], Float[Tensor, "blocks experts"]] | None:
        """Tokens and summed probabilities of all sensors together; None if nothing was routed.

        The second carries gradients. Both may be summed over processes before `balance_loss`.
        """
        if not self._counts:
            return None
        counts = torch.stack(list(self._counts.values())).sum(0)
        sums = torch.stack(list(self._sums.values())).sum(0)
        return counts.to(sums.dtype), sums

    def balance(self) -> Float[Tensor, ""] | None:
        """`balance_loss` of all sensors together, so that sensors may prefer different experts."""
        totals = self.totals()
        return None if totals is None else balance_loss(*totals)


def balance_loss(
    counts: Float[Tensor, "blocks experts"], sums: Float[Tensor, "blocks experts"]
) -> Float[Tensor, ""]:
    """How unevenly experts are used: E Σ_i f_i P_i, mean over the blocks (Switch, eq. 4 without α).

    Args:
        counts: Tokens that each expert got; f is their share.
        sums: Its probabilities, summed over all tokens; P is their mean.

    Returns:
        1 if all experts are equally used, as many as there are experts if all tokens surely go to one.
    """
    used = counts / counts.sum(1, keepdim=True).clamp(min=1)
    liked = sums / counts.sum(1, keepdim=True).clamp(min=1)
    return (used * liked).sum(1).mul(counts.shape[1]).mean()
