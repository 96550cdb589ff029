"""Pieces that several modules share: attention, MLP, pre-norm layer, patches, remembered values."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

#: Tokens that pass an MLP at once when no gradient is wanted: its hidden layer, four times as wide
#: as everything else, then stays in the processor's cache and never sets the memory peak.
MLP_CHUNK = 8192
#: Tokens up to which attention is two plain products, where these are faster.
SHORT = 512


class Memo(nn.Module):
    """Remembers values computed from parameters, and forgets them when these may have changed.

    As a child module it hears of `to`, `train`, `eval` and `load_state_dict`; optimiser steps and
    other in-place writes are seen through the tensors' version counters. Only a write through
    `.data` stays unseen; call `forget` after one. With gradients on, or in training, nothing is
    remembered, so that the graph always reaches the parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[Any, tuple[tuple[Any, ...], Any]] = {}

    def get(self, name: Any, tensors: Sequence[Tensor], compute: Callable[[], Any]) -> Any:
        """The value called `name`, computed anew if one of `tensors` changed since."""
        if self.training or torch.is_grad_enabled():
            return compute()
        key = tuple((t.data_ptr(), _version(t), t.dtype, t.device) for t in tensors)
        if name not in self._values or self._values[name][0] != key:
            self._values[name] = (key, compute())
        return self._values[name][1]

    def forget(self) -> None:
        """Drop everything remembered."""
        self._values.clear()

    def train(self, mode: bool = True) -> "Memo":
        """Forget, then behave as any module."""
        self.forget()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Memo":
        self.forget()
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any) -> None:
        self.forget()
        super()._load_from_state_dict(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Memo":
        other = Memo()
        other.training = self.training
        memo[id(self)] = other
        return other

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_values": {}}


def _version(tensor: Tensor) -> int:
    """How often a tensor was written to; inference tensors do not count."""
    return -1 if tensor.is_inference() else tensor._version


class DropPath(nn.Module):
    """Stochastic depth: in training, drops a whole branch for some samples."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "b *rest"]) -> Float[Tensor, "b *rest"]:
        """Drop samples with probability `rate` and scale the others up to keep the mean."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(keep)
        return x * mask / keep


class MLP(nn.Module):
    """Two linear layers with exact GELU between."""

    def __init__(self, dim: int, ratio: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, int(dim * ratio))
        self.fc2 = nn.Linear(int(dim * ratio), dim)

    def forward(self, x: Float[Tensor, "*batch c"]) -> Float[Tensor, "*batch c"]:
        """Apply to each token by itself."""
        small = x[..., 0].numel() <= MLP_CHUNK or x.device.type in ("cuda", "meta")
        if torch.is_grad_enabled() or small or torch.is_autocast_enabled(x.device.type):
            return self.fc2(F.gelu(self.fc1(x)))
        flat = x.reshape(-1, x.shape[-1])
        out = torch.empty_like(flat)
        for part, into in zip(flat.split(MLP_CHUNK), out.split(MLP_CHUNK), strict=True):
            torch.addmm(self.fc2.bias, F.gelu(self.fc1(part)), self.fc2.weight.T, out=into)
        return out.view(x.shape)


class Attention(nn.Module):
    """Multi-head self-attention with one joint projection, as torch's MultiheadAttention."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self, x: Float[Tensor, "n s c"], valid: Bool[Tensor, "n s"] | None = None
    ) -> Float[Tensor, "n s c"]:
        """Attend from every token to every valid one.

        Args:
            x: Tokens.
            valid: Tokens that may be attended to. Each sequence must have at least one.
        """
        n, s, c = x.shape
        q, k, v = self.qkv(x).view(n, s, 3, self.heads, c // self.heads).unbind(2)  # n s h d
        return self._attend(q, k, v, valid)

    def first(
        self, x: Float[Tensor, "n s c"], valid: Bool[Tensor, "n s"] | None = None
    ) -> Float[Tensor, "n 1 c"]:
        """`forward(x)[:, :1]`, computing the query of the first token only."""
        n, s, c = x.shape
        d = c // self.heads
        w, b = self.qkv.weight, self.qkv.bias
        q = F.linear(x[:, :1], w[:c], b[:c]).view(n, 1, self.heads, d)
        k, v = F.linear(x, w[c:], b[c:]).view(n, s, 2, self.heads, d).unbind(2)
        return self._attend(q, k, v, valid)

    def first_weights(self, x: Float[Tensor, "n s c"]) -> Float[Tensor, "n s"]:
        """Where the first token looks, mean over the heads; rows sum to 1."""
        n, s, c = x.shape
        q, k, _ = self.qkv(x).view(n, s, 3, self.heads, c // self.heads).unbind(2)  # n s h d
        scores = torch.einsum("nhd,nshd->nhs", q[:, 0], k) * (c // self.heads) ** -0.5
        return scores.softmax(-1).mean(1)

    def shares(self, x: Float[Tensor, "n s c"], count: int) -> Float[Tensor, "n s count"]:
        """How much each token looks at each of the first `count`, mean over the heads.

        Queries go a few at a time, so that no table of all pairs is ever held.
        """
        n, s, c = x.shape
        q, k, _ = self.qkv(x).view(n, s, 3, self.heads, c // self.heads).unbind(2)  # n s h d
        q, k = q.transpose(1, 2) * (c // self.heads) ** -0.5, k.permute(0, 2, 3, 1)  # k: n h d s
        parts = [(part @ k).softmax(-1)[..., :count].mean(1) for part in q.split(SHORT, dim=2)]
        return torch.cat(parts, dim=1)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None) -> Tensor:
        mask = None if valid is None else valid[:, None, None, :]  # n 1 1 s
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # n h s d
        attend = _plain if _plain_is_faster(q, k) else F.scaled_dot_product_attention
        x = attend(q, k, v, mask)
        return self.proj(x.transpose(1, 2).flatten(2))


def _plain_is_faster(q: Tensor, k: Tensor) -> bool:
    """Whether two matrix products beat torch's fused attention.

    They do in bfloat16 on a processor, where the fused one takes 1.5 to 6 times as long up to 512
    tokens, its backward pass most of all.
    """
    return q.dtype == torch.bfloat16 and q.device.type == "cpu" and k.shape[2] <= SHORT


def _plain(
    q: Float[Tensor, "n h s d"],
    k: Float[Tensor, "n h t d"],
    v: Float[Tensor, "n h t d"],
    mask: Bool[Tensor, "n 1 1 t"] | None,
) -> Float[Tensor, "n h s d"]:
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)  # n h s t
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1).to(v.dtype) @ v


class Layer(nn.Module):
    """Pre-norm transformer layer; stochastic depth on the MLP branch only, as in the original.

    `mlp` may be something that stands in for the MLP.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        ratio: float,
        drop_path: float,
        eps: float,
        mlp: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, heads)
        self.ln2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = MLP(dim, ratio) if mlp is None else mlp
        self.drop = DropPath(drop_path)

    def forward(
        self, x: Float[Tensor, "n s c"], valid: Bool[Tensor, "n s"] | None = None
    ) -> Float[Tensor, "n s c"]:
        """All tokens to all tokens."""
        x = x + self.attn(self.ln1(x), valid)
        return x + self.drop(self.mlp(self.ln2(x)))

    def first(
        self, x: Float[Tensor, "n s c"], valid: Bool[Tensor, "n s"] | None = None
    ) -> Float[Tensor, "n 1 c"]:
        """`forward(x)[:, :1]` at a fraction of the cost, for a last layer read at one token."""
        y = x[:, :1] + self.attn.first(self.ln1(x), valid)
        return y + self.drop(self.mlp(self.ln2(y)))


def drop_rates(highest: float, layers: int) -> list[float]:
    """Stochastic-depth rates rising linearly from 0 at the first layer to `highest` at the last."""
    return [highest * i / max(layers - 1, 1) for i in range(layers)]


def drop_rates_by_stage(highest: float, depths: Sequence[int]) -> list[list[float]]:
    """`drop_rates` over all layers, those of each stage together."""
    rates = iter(drop_rates(highest, sum(depths)))
    return [list(itertools.islice(rates, depth)) for depth in depths]


class Patches(nn.Conv2d):
    """Non-overlapping patches, each projected to one token; zero-padded at the right and bottom."""

    def __init__(self, in_channels: int, dim: int, patch: int) -> None:
        super().__init__(in_channels, dim, patch, stride=patch)

    def forward(self, pixels: Float[Tensor, "b bands h w"]) -> Float[Tensor, "b hp wp c"]:
        """Tokens in channels-last order."""
        p = self.kernel_size[0]
        h, w = pixels.shape[-2:]
        if h % p or w % p:
            pixels = F.pad(pixels, (0, -w % p, 0, -h % p))
        b, c, h, w = pixels.shape
        x = pixels.reshape(b, c, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5)
        return F.linear(x.flatten(3), self.weight.flatten(1), self.bias)
