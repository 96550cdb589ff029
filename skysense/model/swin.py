"""The high-resolution optical encoder: Swin Transformer V2 (Liu et al., CVPR 2022, 2111.09883).

It differs from the published Swin V2 where the official weights need it: patch merging flattens
each 2 × 2 block channel-major and normalises after the reduction, padded tokens are not masked, the
shift is dropped for a whole map when its shorter side equals the window, and some blocks end with a
third norm. Attention never builds a mask of the whole map: only windows in the last row and the
last column are masked, so four small tables per block do.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from skysense.errors import EncoderError
from skysense.model.config import SwinConfig
from skysense.model.layers import MLP, DropPath, Memo, Patches, drop_rates_by_stage

#: What the original adds to the scores of token pairs that must not see each other.
MASKED = -100.0
#: Length below which queries and keys pass on a gradient as if they were so long. Ordinary ones have a
#: length of √channels; a padded token's is that of the bias, at first 0, where the gradient has no bound.
SHORTEST = 0.1


class WindowAttention(nn.Module):
    """Scaled cosine attention inside windows, with a continuous relative position bias.

    Queries and values have a bias, keys have one only if `key_bias` says so.
    """

    def __init__(
        self, dim: int, heads: int, window: int, pretrained_window: int, key_bias: bool = False
    ) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.pretrained_window = pretrained_window
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10.0)))
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.k_bias = nn.Parameter(torch.zeros(dim)) if key_bias else None
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.cpb_mlp = nn.Sequential(
            nn.Linear(2, 512), nn.ReLU(), nn.Linear(512, heads, bias=False)
        )
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)
        self.memo = Memo()

    def forward(
        self, x: Float[Tensor, "b windows n c"], areas: tuple[int, ...]
    ) -> Float[Tensor, "b windows n c"]:
        """Attend inside each window.

        Args:
            x: Tokens, grouped in windows of `n = window²` tokens each.
            areas: How many of the windows lie inside a shifted map, in its last column, in its
                last row and in its corner, in this order; the latter three mix tokens from both
                ends of the map, which are kept apart. One number only if nothing was shifted.
        """
        b, windows, n = x.shape[:3]
        k_bias = torch.zeros_like(self.q_bias) if self.k_bias is None else self.k_bias
        bias = torch.cat([self.q_bias, k_bias, self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias).view(b, windows, n, 3, self.heads, -1)
        q, k, v = qkv.unbind(3)  # b windows n h d
        scale = self.logit_scale.clamp(max=math.log(100.0)).exp().view(self.heads, 1)
        (q, q_norm), (k, k_norm) = _with_norm(q), _with_norm(k)
        q, k = q * (scale / q_norm), k / k_norm
        split = (t.split(areas, dim=1) for t in (q, k, v))
        parts = zip(*split, self.tables(len(areas) > 1), strict=True)
        out = [_attend(*part) for part in parts if part[0].numel()]
        return self.proj(torch.cat(out, dim=1) if len(out) > 1 else out[0])

    def tables(self, shifted: bool) -> list[Tensor]:
        """What is added to the scores: `[(h, n, n)]`, or four of them when shifted.

        The four are for windows inside the map, in its last column, in its last row and in the
        corner. Computed once and remembered when no gradient is wanted.
        """
        tensors = [*self.cpb_mlp.parameters()]
        return self.memo.get(shifted, tensors, lambda: self._tables(shifted))

    def _tables(self, shifted: bool) -> list[Tensor]:
        w = self.window
        weight = self.cpb_mlp[0].weight
        coordinates = _relative_coordinates(w, self.pretrained_window).to(weight)
        values = self.cpb_mlp(coordinates).view(-1, self.heads)
        bias = values[_relative_index(w).to(weight.device).flatten()]
        bias = 16.0 * torch.sigmoid(bias.view(w * w, w * w, self.heads).permute(2, 0, 1))
        if not shifted:
            return [bias.contiguous()]
        late = torch.arange(w, device=weight.device) >= w - w // 2  # came from the other end
        down, right = late[:, None].expand(w, w).flatten(), late.expand(w, w).flatten()
        apart_down = (down[:, None] != down) * MASKED
        apart_right = (right[:, None] != right) * MASKED
        apart_both = ((down[:, None] != down) | (right[:, None] != right)) * MASKED
        return [(bias + m).contiguous() for m in (0.0, apart_right, apart_down, apart_both)]


def _with_norm(x: Tensor) -> tuple[Tensor, Tensor]:
    """Queries or keys as they are, and what to divide them by for unit length.

    Where they are short, less of the gradient passes: as much as if they were `SHORTEST` long.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        with torch.no_grad():
            share = (x.norm(dim=-1, keepdim=True).clamp_min(1e-12) / SHORTEST).clamp_max(1.0)
        x = torch.lerp(x.detach(), x, share.to(x.dtype))  # the same numbers
    return x, x.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def _attend(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    """Softmax(q kᵀ + table) v of `(b, windows, n, h, d)`, as `(b, windows, n, h · d)`."""
    b, windows = q.shape[:2]
    q, k, v = (t.flatten(0, 1).transpose(1, 2) for t in (q, k, v))  # windows h n d
    d = q.shape[-1]
    if q.is_cuda and d % 8:
        # Fused kernels want rows of 16 bytes; zeros change neither scores nor the kept columns.
        q, k, v = (F.pad(t, (0, -d % 8)) for t in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=table[None], scale=1.0)
    return out[..., :d].transpose(1, 2).flatten(2).unflatten(0, (b, windows))


def _relative_coordinates(window: int, pretrained: int) -> Float[Tensor, "m m 2"]:
    """Log-spaced relative positions of two tokens of a window, in -1..1 at the window's size."""
    steps = torch.arange(-(window - 1), window, dtype=torch.float32)
    steps = steps / ((pretrained if pretrained > 0 else window) - 1) * 8
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1)
    return torch.sign(grid) * torch.log2(grid.abs() + 1.0) / math.log2(8)


def _relative_index(window: int) -> Int[Tensor, "n n"]:
    """Row of the relative position table for every pair of tokens."""
    rows, columns = (
        g.flatten()
        for g in torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    )
    dy = rows[:, None] - rows + window - 1
    dx = columns[:, None] - columns + window - 1
    return dy * (2 * window - 1) + dx


class Block(nn.Module):
    """Window attention and MLP, each followed by its norm before it joins the residual stream."""

    def __init__(
        self,
        config: SwinConfig,
        stage: int,
        *,
        shifted: bool,
        extra_norm: bool,
        drop_path: float,
        key_bias: bool = False,
    ) -> None:
        super().__init__()
        dim = config.dim * 2**stage
        self.shifted, self.pad_small_map = shifted, config.pad_small_map
        self.attn = WindowAttention(
            dim, config.heads[stage], config.window, config.pretrained_windows[stage], key_bias
        )
        self.norm1 = nn.LayerNorm(dim, eps=config.eps)
        self.mlp = MLP(dim, config.mlp_ratio)
        self.norm2 = nn.LayerNorm(dim, eps=config.eps)
        self.norm3 = nn.LayerNorm(dim, eps=config.eps) if extra_norm else None
        self.drop = DropPath(drop_path)
        self.memo = Memo()

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        """One block over a channels-last map."""
        x = x + self.norm1(self.drop(self.attend(x)))
        x = x + self.norm2(self.drop(self.mlp(x)))
        return x if self.norm3 is None else self.norm3(x)

    def attend(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        """Window attention over a map of any size.

        Raises:
            EncoderError: The map is smaller than a window and `pad_small_map` is off.
        """
        h, w = x.shape[1:3]
        side = self.attn.window
        if min(h, w) < side and not self.pad_small_map:
            raise EncoderError(
                f"A map of {h} × {w} tokens is smaller than the attention window of {side} × "
                f"{side} tokens; give an image of at least {side * 32} × {side * 32} pixels, or set "
                "pad_small_map=True, or use a smaller window."
            )
        # The original drops the shift of the whole map when its shorter side is one window.
        shifted = self.shifted and (self.pad_small_map or min(h, w) > side)
        if h % side or w % side:
            x = F.pad(x, (0, 0, 0, -w % side, 0, -h % side))
        padded = x.shape[1:3]
        order, back, areas = self.memo.get(
            (padded, shifted, x.device),
            [],
            lambda: _window_order(*padded, side, shifted, x.device),
        )
        x = x.flatten(1, 2).index_select(1, order)  # b tokens c, window by window
        x = self.attn(x.unflatten(1, (-1, side * side)), areas)
        x = x.flatten(1, 2).index_select(1, back).unflatten(1, padded)
        return x[:, :h, :w]


def _window_order(
    h: int, w: int, side: int, shifted: bool, device: torch.device
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Positions of a map's tokens in window order, the way back, and windows per area.

    When shifted, the map is rolled by half a window first, and windows inside it come before those
    of its last column, of its last row and its corner.
    """
    index = torch.arange(h * w, device=device).view(h, w)
    index = index.roll((-(side // 2),) * 2, (0, 1)) if shifted else index
    grid = index.view(h // side, side, w // side, side).transpose(1, 2).flatten(2)
    areas = [grid]
    if shifted:
        areas = [g for rows in (grid[:-1], grid[-1:]) for g in (rows[:, :-1], rows[:, -1:])]
    order = torch.cat([a.flatten() for a in areas])
    return order, torch.argsort(order), tuple(a.shape[0] * a.shape[1] for a in areas)


class Merge(nn.Module):
    """Halves the map: 2 × 2 tokens, flattened channel-major, become one of twice the width.

    Or keeps it, making each token twice as wide by the same weights.
    """

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(2 * dim, eps=eps)
        self.memo = Memo()

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h2 w2 c2"]:
        """Zero-pads odd sides at the right and the bottom."""
        h, w = x.shape[1:3]
        if h % 2 or w % 2:
            x = F.pad(x, (0, 0, 0, w % 2, 0, h % 2))
        b, h, w, c = x.shape
        x = x.reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 5, 2, 4)  # b h w c 2 2
        return self.norm(self.reduction(x.flatten(3)))

    def keep(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c2"]:
        """What `forward` makes of four copies of each token, at its own place.

        The four blocks of the weights are summed, so on a map of identical neighbours this is
        `forward`, repeated.
        """
        weight = self.reduction.weight
        whole = self.memo.get("keep", [weight], lambda: weight.unflatten(1, (-1, 4)).sum(-1))
        return self.norm(F.linear(x, whole))


class Stage(nn.Module):
    """Merging (from the second stage on) and the blocks after it."""

    def __init__(
        self, config: SwinConfig, stage: int, rates: list[float], *, key_bias: bool = False
    ) -> None:
        super().__init__()
        dim = config.dim * 2**stage
        every = config.extra_norm_every if stage == config.extra_norm_stage else 0
        self.downsample = Merge(dim // 2, config.eps) if stage else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(
                config,
                stage,
                shifted=i % 2 == 1,
                extra_norm=every > 0 and (i + 1) % every == 0,
                drop_path=rate,
                key_bias=key_bias,
            )
            for i, rate in enumerate(rates)
        )

    def forward(
        self, x: Float[Tensor, "b h w c"], merge: bool = True
    ) -> Float[Tensor, "b h2 w2 c2"]:
        """One stage over a channels-last map, which it halves first unless `merge` is off."""
        x = self.downsample(x) if merge else self.downsample.keep(x)
        for block in self.blocks:
            x = block(x)
        return x


class Swin(nn.Module):
    """Encodes a high-resolution image into one token per 32 × 32 pixels (10 m at 0.3125 m)."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.patch = Patches(config.in_channels, config.dim, config.patch)
        self.patch_norm = nn.LayerNorm(config.dim, eps=config.eps)
        rates = drop_rates_by_stage(config.drop_path, config.depths)
        self.stages = nn.ModuleList(Stage(config, i, own) for i, own in enumerate(rates))
        self.norms = nn.ModuleDict(
            {str(i): nn.LayerNorm(config.dim * 2**i, eps=config.eps) for i in config.out_indices}
        )

    def forward(self, pixels: Float[Tensor, "b bands h w"]) -> Float[Tensor, "b c hp wp"]:
        """The last configured map, normalised.

        Args:
            pixels: Normalised images; both sides at least 32 times the window (256 pixels for the
                published model) unless `pad_small_map` is set.
        """
        return self.levels(pixels)[-1]

    def levels(self, pixels: Float[Tensor, "b bands h w"]) -> list[Tensor]:
        """The maps `(b, c, h, w)` of every stage in `out_indices`, at strides 4, 8, 16 and 32."""
        x = self.patch_norm(self.patch(pixels))
        out = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.config.out_indices:
                out.append(self.norms[str(i)](x).permute(0, 3, 1, 2))
        return out
