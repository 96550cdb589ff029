"""Every number of the models in frozen, nested dataclasses, and the presets.

This file and `skysense.model.config_parts` are the only places with architecture numbers. They import
no tensor library, so a configuration can be read, compared and written without loading one.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args, get_type_hints

from skysense.errors import EncoderError
from skysense.model.config_parts import (
    KEPT_S1,
    KEPT_S2,
    MERGED_HR,
    BackboneConfig,
    FusionConfig,
    PrototypeConfig,
    QueriesConfig,
    Reads,
    SwinConfig,
    TokenizerConfig,
    ViTConfig,
)

#: Parts of a model, in the order in which they are written and reported.
PARTS = ("hr", "s2", "s1", "head_s2", "head_s1", "fusion", "calendar")
#: Parts of a model with one backbone for all sensors.
V2_PARTS = (
    "hr", "s2", "s1", "backbone", "head_s2", "head_s1", "fusion", "calendar", "queries",
)  # fmt: skip
#: Sensors in the order in which their tokens enter the fusion sequence.
SENSOR_ORDER = ("hr", "s2", "s1")
#: What the `family` of a V2 configuration says; one of V1 says nothing.
V2 = "skysense-v2"


class ModelConfig:
    """What the configurations of both models have in common: whatever follows the encoders.

    `hr`, `s2` and `s1` say of each sensor at least what `Reads` does.
    """

    name: str
    fusion: FusionConfig
    prototypes: PrototypeConfig
    parts: tuple[str, ...]

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
    def from_json(cls, text: str) -> Any:
        """Read what `to_json` wrote.

        Raises:
            EncoderError: The text is not JSON, or has missing, unknown or mistyped entries.
        """
        return _build(cls, _values(text), "config")


@dataclass(frozen=True)
class SkySenseConfig(ModelConfig):
    """The whole of SkySense V1.

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


@dataclass(frozen=True)
class SkySenseV2Config(ModelConfig):
    """The whole of SkySense V2.

    Attributes:
        name: Name of the preset.
        backbone: The encoder of all sensors.
        tokens_hr: How high resolution enters it: merging from 1.25 m tokens to 10 m.
        tokens_s2: How Sentinel-2 does: 40 m tokens that stay.
        tokens_s1: How Sentinel-1 does.
        fusion: Heads, calendar and fusion transformer, as V1's.
        prototypes: Geo-context prototypes, as V1's.
        queries: Semantic queries.
        parts: The parts that exist, among `V2_PARTS`.
        family: Tells a file of this configuration from one of V1; always `V2`.
    """

    name: str
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    tokens_hr: TokenizerConfig = MERGED_HR
    tokens_s2: TokenizerConfig = KEPT_S2
    tokens_s1: TokenizerConfig = KEPT_S1
    fusion: FusionConfig = field(default_factory=FusionConfig)
    prototypes: PrototypeConfig = field(default_factory=PrototypeConfig)
    queries: QueriesConfig = field(default_factory=QueriesConfig)
    parts: tuple[str, ...] = V2_PARTS
    family: str = V2

    def __post_init__(self) -> None:
        """Refuse numbers that cannot describe a model."""
        check_v2(self)

    def tokens(self, sensor: str) -> TokenizerConfig:
        """How a sensor enters the backbone."""
        return getattr(self, f"tokens_{sensor}")

    @property
    def hr(self) -> Reads:
        """What high-resolution pixels must be, and what becomes of them."""
        return self._reads("hr")

    @property
    def s2(self) -> Reads:
        """The same of Sentinel-2."""
        return self._reads("s2")

    @property
    def s1(self) -> Reads:
        """The same of Sentinel-1."""
        return self._reads("s1")

    @property
    def sensors(self) -> tuple[str, ...]:
        """Sensors that can enter fusion: those with a tokenizer and, for s2 and s1, a head."""
        return super().sensors if "backbone" in self.parts else ()

    def _reads(self, sensor: str) -> Reads:
        given, patch = self.tokens(sensor), self.backbone.patch
        stride = patch * 8 if sensor == "hr" else patch
        return Reads(given.in_channels, patch / given.repeat, stride, self.backbone.widths[-1])


def config_from_json(text: str) -> SkySenseConfig | SkySenseV2Config:
    """Read what `to_json` of either configuration wrote; errors as there."""
    values = _values(text)
    later = isinstance(values, Mapping) and "family" in values
    return _build(SkySenseV2Config if later else SkySenseConfig, values, "config")


def _values(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise EncoderError(
            f"This model configuration is not JSON ({error}); give the text that "
            "SkySenseConfig.to_json wrote."
        ) from error


def _build(kind: type, values: Any, where: str) -> Any:
    """Make the dataclass `kind` from plain JSON values, refusing anything that does not fit."""
    if not isinstance(values, Mapping):
        raise EncoderError(f"{where} is {values!r}, but must be an object with named entries.")
    named = get_type_hints(kind)
    hints = {f.name: named[f.name] for f in dataclasses.fields(kind)}
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
    if hint in (tuple[int, ...], tuple[str, ...], tuple[bool, ...]):
        inner = get_args(hint)[0]
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
    h, f = config.hr, config.fusion
    widths = [(f"hr stage {i}", h.dim * 2**i, n) for i, n in enumerate(h.heads)]
    widths += [(n, v.dim, v.heads) for n, v in (("s2", config.s2), ("s1", config.s1))]
    problems = _indivisible([*widths, ("fusion", f.dim, f.heads)])
    if not len(h.depths) == len(h.heads) == len(h.pretrained_windows):
        problems.append("hr depths, heads and pretrained_windows differ in length")
    elif "hr" in config.parts and "fusion" in config.parts and h.out_dim != f.in_dim:
        problems.append(f"hr ends {h.out_dim} wide, but fusion reads tokens {f.in_dim} wide")
    if h.stride != config.s2.patch * 8 or config.s2.patch != config.s1.patch:
        problems.append("32 high-resolution pixels must meet one Sentinel pixel of a 4-pixel patch")
    for name, vit in (("s2", config.s2), ("s1", config.s1)):
        if vit.resize not in ("bicubic", "bilinear"):
            problems.append(f'{name}.resize is {vit.resize!r}, not "bicubic" or "bilinear"')
    _refuse(config, problems + _after_the_encoders(config, PARTS))


def check_v2(config: SkySenseV2Config) -> None:
    """Refuse a configuration that cannot be built; errors as `check_config`."""
    b, f = config.backbone, config.fusion
    plain = sum(b.depths[2:])
    widths = [
        (f"backbone stage {i + 1}", *pair)
        for i, pair in enumerate(zip(b.widths, b.heads, strict=False))
    ]
    widths += [("fusion", f.dim, f.heads), ("queries'", f.dim, config.queries.heads)]
    problems = _indivisible(widths)
    if config.queries.count < 1:
        problems.append(f"{config.queries.count} queries ask nothing; there must be at least 1")
    if len(b.depths) != 4 or len(b.heads) != 4:
        problems.append("the backbone has four stages, so four depths and four numbers of heads")
    elif {"hr", "fusion", "backbone"} <= set(config.parts) and b.widths[-1] != f.in_dim:
        problems.append(f"the backbone ends {b.widths[-1]} wide, but fusion reads {f.in_dim}")
    if b.patch != 4:
        problems.append(f"patches of {b.patch} pixels do not lead to tokens of 10 m and 40 m; 4 do")
    if b.positions not in ("metres", "none"):
        problems.append(f'backbone.positions is {b.positions!r}, not "metres" or "none"')
    if b.prompts < 0 or b.experts < 1 or not 0 <= b.moe_blocks <= plain:
        problems.append(
            f"{b.prompts} prompts, and {b.experts} experts in the last {b.moe_blocks} blocks, cannot "
            f"be: experts may be in up to {plain} blocks, those of the last two stages"
        )
    for sensor in SENSOR_ORDER:
        given = config.tokens(sensor)
        if len(given.merge) != 3 or given.repeat < 1 or not given.pixel > 0:
            problems.append(
                f"tokens_{sensor} needs three times yes or no in merge, and positive pixel and repeat"
            )
    if config.family != V2:
        problems.append(f"its family is {config.family!r}, not {V2!r}")
    _refuse(config, problems + _after_the_encoders(config, V2_PARTS))


def _indivisible(widths: list[tuple[str, int, int]]) -> list[str]:
    return [
        f"the {name} width {dim} is not a multiple of its {heads} heads"
        for name, dim, heads in widths
        if heads < 1 or dim < 1 or dim % heads
    ]


def _after_the_encoders(config: ModelConfig, known: tuple[str, ...]) -> list[str]:
    """What is wrong with fusion, parts and prototypes."""
    f, p, problems = config.fusion, config.prototypes, []
    if f.calendar not in ("s2", "all", "none"):
        problems.append(f'fusion.calendar is {f.calendar!r}, not "s2", "all" or "none"')
    if unknown := sorted(set(config.parts) - set(known)):
        problems.append(f"parts {unknown} are unknown (known: {', '.join(known)})")
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
    return problems


def _refuse(config: ModelConfig, problems: list[str]) -> None:
    if problems:
        raise EncoderError(
            f"The configuration {config.name!r} cannot be built: {'; '.join(problems)}."
        )


def _small(name: str, *, hr: SwinConfig, vit: ViTConfig, fusion: FusionConfig) -> SkySenseConfig:
    return SkySenseConfig(
        name=name, hr=hr, s2=vit, s1=dataclasses.replace(vit, in_channels=2), fusion=fusion
    )


#: "paper" is SkySense V1 (1.66 G parameters); "tiny" (4 M) runs a full window in seconds on two
#: cores; "base" (0.1 G) is between. All keep patches, strides and up-sampling. "v2-paper" is SkySense
#: V2 (1.2 G), "v2-paper-moe" with eight experts in the last six blocks (2.6 G, of which a token meets
#: as many as before); "v2-tiny" (6 M) has experts too.
PRESETS: dict[str, SkySenseConfig | SkySenseV2Config] = {
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
    "v2-tiny": SkySenseV2Config(
        name="v2-tiny",
        backbone=BackboneConfig(
            dim=28, depths=(2, 2, 4, 1), heads=(1, 2, 2, 4), drop_path=0.1, moe_blocks=2, experts=4
        ),
        fusion=FusionConfig(in_dim=224, dim=128, layers=4, heads=4, drop_path=0.1),
    ),
    "v2-paper": SkySenseV2Config(name="v2-paper"),
    "v2-paper-moe": SkySenseV2Config(
        name="v2-paper-moe", backbone=BackboneConfig(moe_blocks=6, experts=8)
    ),
}
