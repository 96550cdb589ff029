"""The encoder that all sensors share: two stages of Swin V2, two of plain attention (SkySense V2).

Zhang et al., "SkySense V2: A Unified Foundation Model for Multi-modal Remote Sensing", ICCV 2025,
arXiv 2507.13812. Between stages channels double, and 2 × 2 tokens are merged or every token is kept, by
the same weights (adaptive patch merging). In the plain stages learned tokens that tell the sensor go
before those of the image and are dropped at the end of the stage. `docs/decisions/v2.md` says what the
paper leaves open and what was decided.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from skysense.model.config_parts import BackboneConfig, TokenizerConfig
from skysense.model.layers import Layer, Memo, Patches, drop_rates_by_stage
from skysense.model.moe import RoutedLayer, Routing
from skysense.model.swin import Merge, Stage

#: Stages of Swin blocks; those after them are plain.
SWIN_STAGES = 2
#: Wavelengths (m) of the position code, from four tokens of 40 m to four windows of 640 m: shorter waves
#: would say of Sentinel's neighbours that they are far apart.
WAVES = (160.0, 2560.0)


class Mapped(NamedTuple):
    """What one stage made of some images."""

    map: Float[Tensor, "n h w c"]
    """Its tokens."""
    routings: list[Routing]
    """Where the image's tokens went in each of its blocks that has experts."""


class Tokenizer(nn.Module):
    """What one sensor has of its own: patches, their norm, and the tokens that tell it apart."""

    def __init__(self, config: TokenizerConfig, backbone: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.patch = Patches(config.in_channels, backbone.dim, backbone.patch)
        self.patch_norm = (
            nn.LayerNorm(backbone.dim, eps=backbone.eps) if backbone.token_norm else nn.Identity()
        )
        self.prompts = nn.ParameterList(
            nn.Parameter(torch.zeros(1, backbone.prompts, width))
            for width in backbone.widths[SWIN_STAGES:]
        )
        for prompts in self.prompts:
            nn.init.trunc_normal_(prompts, std=0.02)

    @property
    def spacing(self) -> float:
        """Side of a token on the ground (m)."""
        return self.config.pixel / self.config.repeat * self.patch.kernel_size[0]

    def forward(self, pixels: Float[Tensor, "n bands h w"]) -> Float[Tensor, "n hp wp c"]:
        """First tokens of normalised images."""
        if (times := self.config.repeat) > 1:
            pixels = pixels.repeat_interleave(times, 2).repeat_interleave(times, 3)
        return self.patch_norm(self.patch(pixels))


class PlainStage(nn.Module):
    """Merging or keeping, then pre-norm layers in which all tokens of an image meet."""

    def __init__(self, config: BackboneConfig, stage: int, rates: list[float], routed: int) -> None:
        super().__init__()
        width, heads = config.widths[stage], config.heads[stage]
        self.config = config
        self.downsample = Merge(width // 2, config.eps)
        self.layers = nn.ModuleList(
            Layer(width, heads, config.mlp_ratio, rate, config.eps)
            if i < len(rates) - routed
            else RoutedLayer(width, heads, config.mlp_ratio, rate, config.eps, config.experts)
            for i, rate in enumerate(rates)
        )
        self.memo = Memo()

    def forward(
        self,
        x: Float[Tensor, "n h w c"],
        prompts: Float[Tensor, "1 p c2"],
        spacing: float,
        merge: bool,
    ) -> Mapped:
        """One stage over a channels-last map.

        Args:
            x: The map of the stage before.
            prompts: The sensor's tokens for this stage, maybe none.
            spacing: Side of one of this stage's tokens on the ground (m).
            merge: Whether 2 × 2 tokens become one.
        """
        x, (h, w) = self.enter(x, prompts, spacing, merge)
        lead, routings = prompts.shape[1], []
        for layer in self.layers:
            x, routing = _through(layer, x)
            if routing is not None:
                routings.append(Routing(*(each[:, lead:] for each in routing)))
        return Mapped(x[:, lead:].unflatten(1, (h, w)), routings)

    def enter(
        self, x: Tensor, prompts: Tensor, spacing: float, merge: bool
    ) -> tuple[Float[Tensor, "n s c2"], tuple[int, int]]:
        """The sequence that the first layer reads, prompts first, and the sides of its map."""
        x = self.downsample(x) if merge else self.downsample.keep(x)
        h, w = x.shape[1:3]
        x = x.flatten(1, 2)
        if self.config.positions != "none":
            key = (h, w, spacing, x.dtype, x.device)
            x = x + self.memo.get(key, [], lambda: self._positions(h, w, spacing, x))
        return torch.cat([prompts.to(x.dtype).expand(len(x), -1, -1), x], dim=1), (h, w)

    def _positions(self, h: int, w: int, spacing: float, like: Tensor) -> Tensor:
        code = ground_code(h, w, spacing, like.shape[-1]) * math.sqrt(2)  # of deviation 1
        return (code * self.config.position_scale).to(like)


def _through(layer: nn.Module, x: Tensor) -> tuple[Tensor, Routing | None]:
    """A layer's tokens, and where they went if it has experts."""
    return layer(x) if isinstance(layer, RoutedLayer) else (layer(x), None)


def ground_code(h: int, w: int, spacing: float, width: int) -> Float[Tensor, "n width"]:
    """Sines and cosines of where a map's tokens lie, in metres from its top left corner.

    A quarter each: sine and cosine of the way down, of the way right, at wavelengths spaced evenly in
    their logarithm. The same place has the same code whatever the sensor and the size of its tokens.

    Args:
        h: Rows.
        w: Columns.
        spacing: Side of a token (m); its middle counts.
        width: A multiple of 4.
    """
    shortest, longest = WAVES
    lengths = torch.logspace(
        math.log10(shortest), math.log10(longest), width // 4, dtype=torch.float64
    )
    down, right = (
        (torch.arange(n, dtype=torch.float64) + 0.5)[:, None] * spacing * 2 * math.pi / lengths
        for n in (h, w)
    )
    rows = torch.cat([down.sin(), down.cos()], 1)[:, None].expand(h, w, -1)
    columns = torch.cat([right.sin(), right.cos()], 1)[None].expand(h, w, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


class Backbone(nn.Module):
    """First tokens of any sensor to maps of four stages."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        stages: list[nn.Module] = []
        for i, rates in enumerate(drop_rates_by_stage(config.drop_path, config.depths)):
            if i < SWIN_STAGES:
                stages.append(Stage(config.swin, i, rates, key_bias=True))
            else:
                routed = config.moe_blocks - sum(config.depths[i + 1 :])  # what later stages leave
                stages.append(PlainStage(config, i, rates, min(len(rates), max(0, routed))))
        self.stages = nn.ModuleList(stages)
        self.norm = nn.LayerNorm(config.widths[-1], eps=config.eps)

    def forward(
        self,
        x: Float[Tensor, "n h w c"],
        tokenizer: Tokenizer,
        merge: Sequence[bool],
    ) -> Iterator[Mapped]:
        """The maps of the stages, one after the other; the last is normalised.

        Args:
            x: What `tokenizer` made of some images.
            tokenizer: Of their sensor, for its prompts and the size of its tokens.
            merge: Whether 2 × 2 tokens are merged before stages 2, 3 and 4.
        """
        for i, stage in enumerate(self.stages):
            if i < SWIN_STAGES:
                mapped = Mapped(stage(x, i == 0 or merge[i - 1]), [])
            else:
                spacing = tokenizer.spacing * 2 ** sum(merge[:i])
                mapped = stage(x, tokenizer.prompts[i - SWIN_STAGES], spacing, merge[i - 1])
            x = mapped.map
            yield mapped if i + 1 < len(self.stages) else Mapped(self.norm(x), mapped.routings)

    def prompt_shares(
        self, x: Tensor, tokenizer: Tokenizer, merge: Sequence[bool], block: int
    ) -> Float[Tensor, "n h w p"]:
        """How much image tokens look at each prompt, in one block of the plain stages (from 0)."""
        stage, plain = SWIN_STAGES, list(self.stages)[SWIN_STAGES:]
        while block >= len(plain[stage - SWIN_STAGES].layers):
            block -= len(plain[stage - SWIN_STAGES].layers)
            stage += 1
        for before, mapped in enumerate(self.forward(x, tokenizer, merge)):
            if before == stage - 1:
                x = mapped.map
                break
        prompts = tokenizer.prompts[stage - SWIN_STAGES]
        spacing, last = tokenizer.spacing * 2 ** sum(merge[:stage]), self.stages[stage]
        x, (h, w) = last.enter(x, prompts, spacing, merge[stage - 1])
        for layer in last.layers[:block]:
            x, _ = _through(layer, x)
        layer, lead = last.layers[block], prompts.shape[1]
        return layer.attn.shares(layer.ln1(x), lead)[:, lead:].unflatten(1, (h, w))
