"""Every number of the model in one frozen, nested dataclass, and the presets.

This file is the only place with architecture numbers. It imports no tensor library, so a
configuration can be read, compared and written without loading one.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from skysense.errors import EncoderError

#: Parts of a model, in the order in which they are written and reported.
PARTS = ("hr", "s2", "s1", "head_s2", "head_s1", "fusion", "calendar")
#: Sensors in the order in which their tokens enter the fusion sequence.
SENSOR_ORDER = ("hr", "s2", "s1")


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
class SkySenseConfig:
    """The whole model.

    Attributes:
        name: Name of the preset, or of the family a checkpoint belongs to.
        hr: High-resolution optical encoder.
        s2: Sentinel-2 encoder.
        s1: Sentinel-1 encoder.
        fusion: Heads, calendar and fusion transformer.
        prototypes: Geo-context prototypes.
        parts: The parts that exist, among `PARTS`; a checkpoint may hold fewer than all.
    """

    name: str
    hr: SwinConfig = field(default_factory=SwinConfig)
    s2: ViTConfig = field(default_factory=ViTConfig)
    s1: ViTConfig = field(default_factory=lambda: ViTConfig(in_channels=2))
    fusion: FusionConfig = field(default_factory=FusionConfig)
    prototypes: PrototypeConfig = field(default_factory=PrototypeConfig)
    parts: tuple[str, ...] = PARTS

    def __post_init__(self) -> None:
        """Refuse numbers that cannot describe a model."""
        check_config(self)

    @property
    def dim(self) -> int:
        """Width of the fused features, prototype read-out included."""
        return self.fusion.dim + (self.context_dim if self.prototypes.context else 0)

    @property
    def context_dim(self) -> int:
        """Width of a prototype, and so of the read-out."""
        return self.prototypes.dim or self.fusion.dim

    @property
    def sensors(self) -> tuple[str, ...]:
        """Sensors that can enter fusion: those with an encoder and, for s2 and s1, a head."""
        return tuple(
            s for s in SENSOR_ORDER if s in self.parts and (s == "hr" or f"head_{s}" in self.parts)
        )

    def to_json(self) -> str:
        """The configuration as JSON text; `from_json` gives back an equal object."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "SkySenseConfig":
        """Read what `to_json` wrote.

        Raises:
            EncoderError: The text is not JSON, or has missing, unknown or mistyped entries.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise EncoderError(
                f"This model configuration is not JSON ({error}); give the text that "
                "SkySenseConfig.to_json wrote."
            ) from error
        return _build(cls, values, "config")


def _build(kind: type, values: Any, where: str) -> Any:
    """Make the dataclass `kind` from plain JSON values, refusing anything that does not fit."""
    if not isinstance(values, Mapping):
        raise EncoderError(f"{where} is {values!r}, but must be an object with named entries.")
    hints = get_type_hints(kind)
    missing, unknown = sorted(hints.keys() - values.keys()), sorted(values.keys() - hints.keys())
    if missing or unknown:
        raise EncoderError(
            f"{where} does not describe a {kind.__name__}: missing entries {missing}, unknown "
            f"entries {unknown}. It may come from another version of this package."
        )
    return kind(**{k: _value(hints[k], values[k], f"{where}.{k}") for k in hints})


def _value(hint: Any, value: Any, where: str) -> Any:
    """One entry, turned into the declared type."""
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where)
    if hint in (tuple[int, ...], tuple[str, ...]):
        inner = int if hint == tuple[int, ...] else str
        if isinstance(value, list) and all(type(v) is inner for v in value):
            return tuple(value)
    elif type(value) is hint or (hint is float and type(value) is int):
        return hint(value)
    raise EncoderError(f"{where} is {value!r}, but must be of type {hint}.")


def check_config(config: SkySenseConfig) -> None:
    """Refuse a configuration that cannot be built.

    Raises:
        EncoderError: A width is not divisible by its heads, parts are unknown, or widths that
            must meet differ.
    """
    h, f, p = config.hr, config.fusion, config.prototypes
    widths = [(f"hr stage {i}", h.dim * 2**i, n) for i, n in enumerate(h.heads)]
    widths += [(n, v.dim, v.heads) for n, v in (("s2", config.s2), ("s1", config.s1))]
    widths.append(("fusion", f.dim, f.heads))
    problems = [
        f"the {name} width {dim} is not a multiple of its {heads} heads"
        for name, dim, heads in widths
        if heads < 1 or dim < 1 or dim % heads
    ]
    if not len(h.depths) == len(h.heads) == len(h.pretrained_windows):
        problems.append("hr depths, heads and pretrained_windows differ in length")
    elif "hr" in config.parts and "fusion" in config.parts and h.out_dim != f.in_dim:
        problems.append(f"hr ends {h.out_dim} wide, but fusion reads tokens {f.in_dim} wide")
    if h.stride != config.s2.patch * 8 or config.s2.patch != config.s1.patch:
        problems.append("32 high-resolution pixels must meet one Sentinel pixel of a 4-pixel patch")
    if f.calendar not in ("s2", "all", "none"):
        problems.append(f'fusion.calendar is {f.calendar!r}, not "s2", "all" or "none"')
    for name, vit in (("s2", config.s2), ("s1", config.s1)):
        if vit.resize not in ("bicubic", "bilinear"):
            problems.append(f'{name}.resize is {vit.resize!r}, not "bicubic" or "bilinear"')
    if unknown := sorted(set(config.parts) - set(PARTS)):
        problems.append(f"parts {unknown} are unknown (known: {', '.join(PARTS)})")
    if p.cells < 0 or p.count < 1 or p.dim < 0 or (p.cells and not p.context):
        problems.append(
            f"prototypes of {p.cells} cells of {p.count}, {p.dim} wide, with context={p.context} "
            "(banks need context=True, and at least one prototype each)"
        )
    if not p.epsilon > 0 or p.iterations < 1 or not 0 <= p.momentum < 1:
        problems.append(
            f"prototypes.epsilon {p.epsilon}, iterations {p.iterations} and momentum {p.momentum} "
            "must be above 0, at least 1, and from 0 to below 1"
        )
    if problems:
        raise EncoderError(
            f"The configuration {config.name!r} cannot be built: {'; '.join(problems)}."
        )


def _small(name: str, *, hr: SwinConfig, vit: ViTConfig, fusion: FusionConfig) -> SkySenseConfig:
    return SkySenseConfig(
        name=name, hr=hr, s2=vit, s1=dataclasses.replace(vit, in_channels=2), fusion=fusion
    )


#: "paper" is SkySense V1 (1.66 G parameters); "tiny" (4 M) runs a full window in seconds on two
#: cores; "base" (0.1 G) is between. All keep patches, strides and up-sampling.
PRESETS: dict[str, SkySenseConfig] = {
    "tiny": _small(
        "tiny",
        hr=SwinConfig(
            dim=24, depths=(2, 2, 2, 2), heads=(1, 2, 4, 8), extra_norm_every=2, drop_path=0.1
        ),
        vit=ViTConfig(dim=128, layers=4, heads=4, drop_path=0.1),
        fusion=FusionConfig(in_dim=192, dim=128, layers=4, heads=4, drop_path=0.1),
    ),
    "base": _small(
        "base",
        hr=SwinConfig(dim=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24), extra_norm_every=6),
        vit=ViTConfig(dim=384, layers=12, heads=6, drop_path=0.1),
        fusion=FusionConfig(in_dim=768, dim=384, layers=8, heads=6, drop_path=0.1),
    ),
    "paper": SkySenseConfig(name="paper"),
}
