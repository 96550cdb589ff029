"""The official semantics, spelled out the slow way: what the benchmark compares with.

Written from the description of the architecture, with the habits of the public code that cost
time: attention weights computed and returned, sequence-first transposes, the relative position
bias and the shift mask worked out again in every block of every call, windows by roll, pad and
copy, every up-sampled channel made before the projection, and all fusion tokens in every layer.
Parameters are taken from our modules, so both compute the same function.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skysense.model.fusion import FusionTransformer
from skysense.model.heads import UPHead
from skysense.model.layers import Layer
from skysense.model.moe import Experts
from skysense.model.swin import Block, Swin
from skysense.model.vit import ViT


class ReferenceLayer(nn.Module):
    """Pre-norm layer around torch's MultiheadAttention, attention weights returned."""

    def __init__(self, ours: Layer) -> None:
        super().__init__()
        dim = ours.ln1.normalized_shape[0]
        self.ln1, self.ln2, self.mlp = ours.ln1, ours.ln2, ours.mlp
        with torch.device("meta"):
            self.attn = nn.MultiheadAttention(dim, ours.attn.heads)
        self.attn.in_proj_weight, self.attn.in_proj_bias = ours.attn.qkv.weight, ours.attn.qkv.bias
        self.attn.out_proj.weight = ours.attn.proj.weight
        self.attn.out_proj.bias = ours.attn.proj.bias

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln1(x).transpose(0, 1)
        x = x + self.attn(y, y, y)[0].transpose(0, 1)
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.ln2(x))))


class ReferenceViT(nn.Module):
    """One date's window to a map of tokens."""

    def __init__(self, ours: ViT) -> None:
        super().__init__()
        self.ours = ours
        self.layers = nn.ModuleList(ReferenceLayer(layer) for layer in ours.layers)

    def forward(self, pixels: Tensor) -> Tensor:
        patch = self.ours.patch
        x = F.conv2d(pixels, patch.weight, patch.bias, stride=patch.stride)
        b, c, h, w = x.shape
        x = torch.cat([self.ours.cls_token.expand(b, -1, -1), x.flatten(2).transpose(1, 2)], 1)
        x = x + self.ours.pos_embed
        for layer in self.layers:
            x = layer(x)
        return x[:, 1:].transpose(1, 2).reshape(b, c, h, w).contiguous()


class ReferenceSwin(nn.Module):
    """A high-resolution image to its last map."""

    def __init__(self, ours: Swin) -> None:
        super().__init__()
        self.ours = ours

    def forward(self, pixels: Tensor) -> Tensor:
        ours = self.ours
        x = F.conv2d(pixels, ours.patch.weight, ours.patch.bias, stride=ours.patch.stride)
        b, _, h, w = x.shape
        x = ours.patch_norm(x.flatten(2).transpose(1, 2))
        for i, stage in enumerate(ours.stages):
            if i:
                grid = x.transpose(1, 2).reshape(b, -1, h, w)
                x = F.unfold(grid, 2, stride=2).transpose(1, 2)
                x = stage.downsample.norm(stage.downsample.reduction(x))
                h, w = h // 2, w // 2
            for block in stage.blocks:
                x = _block(block, x, h, w)
        x = ours.norms[str(len(ours.stages) - 1)](x)
        return x.transpose(1, 2).reshape(b, -1, h, w).contiguous()


def _block(block: Block, x: Tensor, h: int, w: int) -> Tensor:
    x = x + block.norm1(_window_attention(block, x, h, w))
    x = x + block.norm2(block.mlp.fc2(F.gelu(block.mlp.fc1(x))))
    return x if block.norm3 is None else block.norm3(x)


def _window_attention(block: Block, x: Tensor, h: int, w: int) -> Tensor:
    attn, side = block.attn, block.attn.window
    b, _, c = x.shape
    shift = side // 2 if block.shifted and min(h, w) > side else 0
    x = F.pad(x.view(b, h, w, c), (0, 0, 0, -w % side, 0, -h % side))
    ph, pw = x.shape[1:3]
    mask = None
    if shift:
        x = torch.roll(x, (-shift, -shift), (1, 2))
        regions = torch.zeros(1, ph, pw, 1, dtype=x.dtype)
        spans = (slice(0, -side), slice(-side, -shift), slice(-shift, None))
        for i, (rows, columns) in enumerate((r, c) for r in spans for c in spans):
            regions[:, rows, columns] = i
        regions = _partition(regions, side).squeeze(-1)
        apart = regions[:, None] - regions[:, :, None]
        mask = apart.masked_fill(apart != 0, -100.0).masked_fill(apart == 0, 0.0)
    windows = _partition(x, side)  # (b windows) n c
    n, heads = side * side, attn.heads
    bias = torch.cat([attn.q_bias, torch.zeros_like(attn.v_bias), attn.v_bias])
    qkv = F.linear(windows, attn.qkv.weight, bias)
    q, k, v = qkv.reshape(len(windows), n, 3, heads, -1).permute(2, 0, 3, 1, 4)
    scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
    scores = scores * torch.clamp(attn.logit_scale, max=math.log(100.0)).exp()
    scores = scores + _bias(block).unsqueeze(0)
    if mask is not None:
        many = len(mask)
        scores = scores.view(-1, many, heads, n, n) + mask[None, :, None]
        scores = scores.view(-1, heads, n, n)
    windows = (scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, n, c)
    windows = attn.proj(windows)
    x = windows.view(b, ph // side, pw // side, side, side, c)
    x = x.permute(0, 1, 3, 2, 4, 5).contiguous().view(b, ph, pw, c)
    if shift:
        x = torch.roll(x, (shift, shift), (1, 2))
    return x[:, :h, :w].contiguous().view(b, h * w, c)


def _partition(x: Tensor, side: int) -> Tensor:
    b, h, w, c = x.shape
    x = x.view(b, h // side, side, w // side, side, c).permute(0, 1, 3, 2, 4, 5).contiguous()
    return x.view(-1, side * side, c)


def _bias(block: Block) -> Tensor:
    attn, side = block.attn, block.attn.window
    steps = torch.arange(-(side - 1), side, dtype=torch.float32)
    table = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1) / (side - 1) * 8
    table = torch.sign(table) * torch.log2(table.abs() + 1) / math.log2(8)
    values = attn.cpb_mlp(table.to(attn.proj.weight)).view(-1, attn.heads)
    grid = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"))
    apart = grid.flatten(1)[:, :, None] - grid.flatten(1)[:, None, :] + side - 1
    index = apart[0] * (2 * side - 1) + apart[1]
    n = side * side
    return 16 * torch.sigmoid(values[index.view(-1)].view(n, n, -1).permute(2, 0, 1).contiguous())


class ReferenceExperts(nn.Module):
    """Top-1 experts as they are often written: every expert passes all tokens, masks choose."""

    def __init__(self, ours: Experts) -> None:
        super().__init__()
        self.ours = ours

    def forward(self, x: Tensor) -> Tensor:
        probabilities = self.ours.router(x).softmax(-1)
        chosen, out = probabilities.argmax(-1), torch.zeros_like(x)
        for i, mlp in enumerate(self.ours.experts):
            mask = (chosen == i)[..., None]
            out = out + mask * probabilities[..., i : i + 1] * mlp.fc2(F.gelu(mlp.fc1(x)))
        return out


class ReferenceFusion(nn.Module):
    """Encoded Sentinel-2 dates to fused features, one neck level."""

    def __init__(self, head: UPHead, ours: FusionTransformer) -> None:
        super().__init__()
        self.head, self.ours = head, ours
        self.layers = nn.ModuleList(ReferenceLayer(layer) for layer in ours.layers)

    def forward(self, dates: Tensor) -> Tensor:
        b, t = dates.shape[:2]
        x = F.pixel_shuffle(self.head.conv(dates.flatten(0, 1)), self.head.scale)
        h, w = x.shape[-2:]
        x = x.view(b, t, -1, h, w).permute(0, 3, 4, 1, 2).contiguous().flatten(0, 2)
        x = self.ours.input(x)
        x = torch.cat([self.ours.cls_token.expand(len(x), -1, -1), x], 1)
        for layer in self.layers:
            x = layer(x)
        return x[:, 0].view(b, h, w, -1).permute(0, 3, 1, 2).contiguous()
