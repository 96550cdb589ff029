"""Semantic queries: learned questions that are put to the fused features of a place (SkySense V2).

    z = q + attention(norm(q), norm(F)),   F_sa = z + MLP(norm(z))

One transformer decoder layer: m learned queries look at all fused features F of a view, and each comes
back with what it found. Query i of one view meets query i of another in the loss
`skysense.pretrain.semantics`, so that each learns to look for one kind of thing. What a query likes to
look at is a map of its own (`scores`): a soft mask without any label.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from skysense.model.config_parts import QueriesConfig
from skysense.model.layers import MLP, Attention


class CrossAttention(Attention):
    """Attention of some tokens to others, with the parameters of a self-attention."""

    def between(
        self,
        x: Float[Tensor, "n m c"],
        to: Float[Tensor, "n s c"],
        valid: Bool[Tensor, "n s"] | None = None,
    ) -> Float[Tensor, "n m c"]:
        """Attend from every token of `x` to every valid one of `to`, of which each row has one."""
        q, (k, v) = self._queries(x), self._pairs(to)
        return self._attend(q, k, v, valid)

    def logits(
        self, x: Float[Tensor, "1 m c"], to: Float[Tensor, "n s c"]
    ) -> Float[Tensor, "n h m s"]:
        """What the softmax of `between` is taken of, head by head."""
        q, (k, _) = self._queries(x), self._pairs(to)
        return torch.einsum("omhd,nshd->nhms", q, k) * q.shape[-1] ** -0.5

    def _queries(self, x: Tensor) -> Tensor:
        c = x.shape[-1]
        return F.linear(x, self.qkv.weight[:c], self.qkv.bias[:c]).unflatten(2, (self.heads, -1))

    def _pairs(self, to: Tensor) -> tuple[Tensor, Tensor]:
        c = to.shape[-1]
        both = F.linear(to, self.qkv.weight[c:], self.qkv.bias[c:])
        k, v = both.unflatten(2, (2, self.heads, -1)).unbind(2)  # n s h d
        return k, v


class Queries(nn.Module):
    """The learned queries and the one decoder layer that they go through."""

    def __init__(self, config: QueriesConfig, dim: int, eps: float) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Parameter(torch.zeros(1, config.count, dim))
        nn.init.trunc_normal_(self.tokens, std=0.02)
        if config.among:
            self.ln0 = nn.LayerNorm(dim, eps=eps)
            self.among = Attention(dim, config.heads)
        self.ln1 = nn.LayerNorm(dim, eps=eps)
        self.ln_fused = nn.LayerNorm(dim, eps=eps)
        self.attn = CrossAttention(dim, config.heads)
        self.ln2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = MLP(dim, config.mlp_ratio)

    def forward(
        self, fused: Float[Tensor, "b n d"], seen: Bool[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b m d"]:
        """What each query finds in the fused features of each view.

        Args:
            fused: Fused features without geo-context, in any order.
            seen: Which of them count; the others may hold anything. None = those that are not NaN.

        Returns:
            NaN for a view of which nothing counts.
        """
        if seen is None:
            seen = ~fused.isnan().any(-1)
        some = seen.any(1)
        # without NaN, whose gradient would be NaN too; and no softmax over nothing
        fused = fused.masked_fill(~seen[..., None], 0.0)
        valid = seen | ~some[:, None]
        x = self._asked().expand(len(fused), -1, -1)
        x = x + self.attn.between(self.ln1(x), self.ln_fused(fused), valid)
        x = x + self.mlp(self.ln2(x))
        return x.masked_fill(~some[:, None, None], torch.nan)

    def logits(self, fused: Float[Tensor, "b n d"]) -> Float[Tensor, "b h m n"]:
        """What the softmax of each head is taken of."""
        return self.attn.logits(self.ln1(self._asked()), self.ln_fused(fused))

    def scores(self, fused: Float[Tensor, "b n d"]) -> Float[Tensor, "b m n"]:
        """How much each query likes each feature: mean of `logits` over the heads.

        A feature's scores depend on nothing but that feature; where it is NaN, so are they. They may
        be compared between places, and differences between queries at one place mean less than those
        between places for one query, as each query has a constant of its own.
        """
        return self.logits(fused).mean(1)

    def _asked(self) -> Tensor:
        """The queries, after they met each other if they do."""
        if not self.config.among:
            return self.tokens
        return self.tokens + self.among(self.ln0(self.tokens))
