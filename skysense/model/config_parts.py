"""The parts of a model in numbers: encoders, fusion, prototypes.

Together with `skysense.model.config` the only place with architecture numbers; neither imports a tensor
library.
"""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class SwinConfig:
    """The high-resolution optical encoder (Swin Transformer V2, post-norm).

    Attributes:
        in_channels: Input bands (red, green, blue).
        dim: Width of the first stage; each later stage doubles it.
        depths: Blocks per stage.
        heads: Attention heads per stage.
        window: Side of an attention window, in tokens.
        pretrained_windows: Window side each stage was first trained with; 0 = the same.
        patch: Side of a patch, in pixels.
        extra_norm_every: In the stage `extra_norm_stage`, every so many blocks end with a third norm.
        extra_norm_stage: The stage that carries these extra norms.
        mlp_ratio: Hidden width of the MLP over its width.
        drop_path: Highest stochastic-depth rate, reached linearly at the last block.
        eps: Epsilon of every LayerNorm.
        out_indices: Stages returned, each through an outer LayerNorm of its own.
        pad_small_map: Whether a map smaller than the window is padded (True) or refused.
    """

    in_channels: int = 3
    dim: int = 352
    depths: tuple[int, ...] = (2, 2, 18, 2)
    heads: tuple[int, ...] = (8, 16, 32, 64)
    window: int = 8
    pretrained_windows: tuple[int, ...] = (0, 0, 0, 0)
    patch: int = 4
    extra_norm_every: int = 6
    extra_norm_stage: int = 2
    mlp_ratio: float = 4.0
    drop_path: float = 0.2
    eps: float = 1e-5
    out_indices: tuple[int, ...] = (3,)
    pad_small_map: bool = False

    @property
    def out_dim(self) -> int:
        """Width of the last map."""
        return self.dim * 2 ** (len(self.depths) - 1)

    @property
    def stride(self) -> int:
        """Pixels per cell of the last map."""
        return self.patch * 2 ** (len(self.depths) - 1)


@dataclass(frozen=True)
class ViTConfig:
    """The encoder of one Sentinel sensor (plain pre-norm ViT, one date at a time).

    Attributes:
        in_channels: Input bands.
        image: Side in pixels of the window whose positions were learned.
        patch: Side of a patch, in pixels.
        dim: Token width.
        layers: Transformer layers.
        heads: Attention heads.
        mlp_ratio: Hidden width of the MLP over `dim`.
        drop_path: Highest stochastic-depth rate (MLP branch only).
        eps: Epsilon of every LayerNorm. Official v1 code has 1e-5, SkySense++ 1e-6 for the same
            weights; which of them pre-training used is unknown.
        cls_token: Whether the class token stays in the sequence (v1) or is removed after the
            positions were added (SkySense++). Parameters are the same in both cases.
        resize: "bicubic" (v1) or "bilinear": how positions are resized to another token grid.
        out_indices: Layers returned; empty means the last.
    """

    in_channels: int = 10
    image: int = 64
    patch: int = 4
    dim: int = 1024
    layers: int = 24
    heads: int = 16
    mlp_ratio: float = 4.0
    drop_path: float = 0.3
    eps: float = 1e-5
    cls_token: bool = True
    resize: str = "bicubic"
    out_indices: tuple[int, ...] = ()

    @property
    def out_dim(self) -> int:
        """Width of the map."""
        return self.dim

    @property
    def stride(self) -> int:
        """Pixels per token of the map."""
        return self.patch


@dataclass(frozen=True)
class FusionConfig:
    """The up-sampling heads, the calendar embedding and the temporal fusion transformer.

    Attributes:
        in_dim: Width of the tokens before the input projection (equals the HR width).
        dim: Width of the transformer and of the fused features.
        layers: Transformer layers.
        heads: Attention heads.
        mlp_ratio: Hidden width of the MLP over `dim`.
        drop_path: Highest stochastic-depth rate (MLP branch only).
        eps: Epsilon of every LayerNorm.
        cls_token: Whether the extra token F_e is prepended.
        up_scale: Up-sampling of the Sentinel tokens, 40 m to 10 m.
        calendar: Tokens that get a day-of-year embedding: "s2" (what the code does), "all" (what
            the paper's formula says) or "none".
        calendar_rows: Rows of the day-of-year table.
    """

    in_dim: int = 2816
    dim: int = 1024
    layers: int = 24
    heads: int = 16
    mlp_ratio: float = 4.0
    drop_path: float = 0.3
    eps: float = 1e-5
    cls_token: bool = True
    up_scale: int = 4
    calendar: str = "s2"
    calendar_rows: int = 365


@dataclass(frozen=True)
class PrototypeConfig:
    """The geo-context prototypes: one bank per cell of the Earth.

    The weights were never released; the paper's sizes are 4096 cells of 100 prototypes, and its 215
    million parameters fit a width of 512.

    Attributes:
        context: Whether the read-out is concatenated to the fused features.
        cells: Cells whose banks the model holds itself; 0 = banks are given with each call.
        count: Prototypes per cell.
        epsilon: Entropy of the balanced assignment (unpublished; 0.05 is a common choice).
        iterations: Sinkhorn iterations (unpublished).
        momentum: Weight of the old bank in an update (unpublished).
        dim: Width of the prototypes, to which a learned linear map brings the fused features; 0 =
            the width of the fused features, without such a map.
        division: The rule that divides the Earth into `cells`, among `skysense.cells.RULES`.
    """

    context: bool = False
    cells: int = 0
    count: int = 100
    epsilon: float = 0.05
    iterations: int = 3
    momentum: float = 0.99
    dim: int = 0
    division: str = "lon-sinlat"


@dataclass(frozen=True)
class QueriesConfig:
    """The semantic queries of SkySense V2: one decoder layer over fused features, as wide as these.

    Attributes:
        count: Learned queries. 16, as readers of the paper report.
        heads: Attention heads (unpublished). Few, since what is shown of a query is the mean over
            its heads, and many would look at different things.
        mlp_ratio: Hidden width of the MLP over the width of the features; 4, as everywhere.
        among: Whether queries first attend to each other (unpublished; the figure shows attention to
            fused features only).
    """

    count: int = 16
    heads: int = 4
    mlp_ratio: float = 4.0
    among: bool = False


class Reads(NamedTuple):
    """What a sensor's pixels must be, and what an encoder makes of them.

    `SwinConfig` and `ViTConfig` say the same of their sensor under the same names.
    """

    in_channels: int
    """Bands."""
    patch: float
    """Side of a first token (pixels)."""
    stride: int
    """Pixels per token that enters fusion: 10 m for hr, 40 m for s2 and s1."""
    out_dim: int
    """Width of these tokens."""


@dataclass(frozen=True)
class TokenizerConfig:
    """How one sensor enters the backbone that all sensors share.

    Attributes:
        in_channels: Input bands.
        pixel: Side of a pixel on the ground (m).
        merge: Whether tokens are merged before stages 2, 3 and 4, unless a call says otherwise.
        repeat: Times each pixel is repeated along both axes first. 8, with merging before every stage,
            is s2 and s1 without adaptive merging: one schedule for all sensors, and tokens of 40 m all
            the same.
    """

    in_channels: int
    pixel: float
    merge: tuple[bool, ...]
    repeat: int = 1


MERGED_HR = TokenizerConfig(3, 0.3125, (True, True, True))
KEPT_S2 = TokenizerConfig(10, 10.0, (False, False, False))
KEPT_S1 = TokenizerConfig(2, 10.0, (False, False, False))


@dataclass(frozen=True)
class BackboneConfig:
    """SkySense V2's transformer for every sensor: two stages of Swin V2, two of plain attention.

    Attributes:
        dim: Width of the first stage; each later stage doubles it, merging or not.
        depths: Blocks per stage.
        heads: Attention heads per stage (unpublished; 44 channels each in the Swin stages, as in the
            family's Swin V2 Huge, 64 in the plain ones).
        window: Side of an attention window in the Swin stages, in tokens.
        patch: Side of a patch, in pixels.
        mlp_ratio: Hidden width of an MLP over the width of its stage.
        drop_path: Highest stochastic-depth rate, reached linearly at the last block; unpublished.
        eps: Epsilon of every LayerNorm.
        token_norm: Whether patches are normalised before the first stage, as in Swin V2.
        prompts: Learned tokens per sensor before those of the image, in each of the plain stages.
        positions: "metres", a fixed wave code of where on the ground a token lies in its window, or
            "none"; in the plain stages, as the Swin stages have a relative bias. Unpublished.
        position_scale: Deviation of that code; tokens have about 1.
        moe_blocks: How many of the last blocks have experts in place of an MLP; 0 = dense.
        experts: Experts in each of them, of which each token takes one.
    """

    dim: int = 352
    depths: tuple[int, ...] = (2, 2, 18, 2)
    heads: tuple[int, ...] = (8, 16, 22, 44)
    window: int = 8
    patch: int = 4
    mlp_ratio: float = 4.0
    drop_path: float = 0.2
    eps: float = 1e-5
    token_norm: bool = True
    prompts: int = 4
    positions: str = "metres"
    position_scale: float = 0.1
    moe_blocks: int = 0
    experts: int = 8

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of each stage."""
        return tuple(self.dim * 2**i for i in range(len(self.depths)))

    @property
    def swin(self) -> SwinConfig:
        """The Swin stages as those of V1's encoder, with maps smaller than a window allowed."""
        return SwinConfig(
            dim=self.dim,
            depths=self.depths,
            heads=self.heads,
            window=self.window,
            patch=self.patch,
            extra_norm_every=0,
            mlp_ratio=self.mlp_ratio,
            drop_path=self.drop_path,
            eps=self.eps,
            pad_small_map=True,
        )
