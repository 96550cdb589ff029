"""Every choice of a pre-training run in one frozen dataclass, and what we start from.

The paper fixes the losses, the teacher as a moving average, 20 Sentinel-2 and 10 Sentinel-1 dates, a
batch of 240 and 875,000 steps; it leaves out rates, temperatures, heads and schedules. What stands
here for those is a choice of ours, with its reason beside it.
"""

from dataclasses import dataclass, field, replace

from skysense.errors import EncoderError
from skysense.model.config import PRESETS, PrototypeConfig, SkySenseConfig, SkySenseV2Config
from skysense.pretrain.augment import AugmentConfig
from skysense.pretrain.heads import GRANULARITIES, HeadConfig
from skysense.pretrain.routing import experts_of
from skysense.pretrain.terms import OTHERS, LossConfig
from skysense.pretrain.views import ViewConfig


@dataclass(frozen=True)
class PretrainConfig:
    """One run. Sizes of steps and batches are global: over all processes.

    Attributes:
        model: The network that learns.
        steps: Optimiser steps.
        batch: Pairs of views per backward pass.
        accumulate: Backward passes per step.
        rate: Highest learning rate of AdamW, of the encoder. At 1e-3 the share of fused variance that
            lies within places fell from 0.6 to 0.04 in 420 steps, at 3e-4 to 0.5 in 300.
        head_rate: That of the heads, and of semantic queries, which learn from nothing; None = the
            encoder's.
        alone: Steps, at most a quarter of them all, in which only heads and queries learn: as long as they are
            random, what they ask of the encoder undoes what it starts with. Four points of few-shot mean
            IoU after 320 steps.
        last_rate: Learning rate at the end of the cosine, as a share of the highest.
        warmup: Share of the steps in which a rate rises from 0.
        decay: Weight decay of matrices; vectors, tokens, positions and tables have none.
        clip: Largest norm of the gradient.
        teacher: Momentum of the teacher at the start; it rises to 1 along a cosine. 0.996 is usual
            for hundreds of thousands of steps; a run of thousands needs a teacher that follows. Tried
            once with this rate and once with 0.98 and twice the rate, so the two are not told apart: the
            Sentinel-2 pixel loss after 90 steps was 4.90 and 5.13.
        temperature: Temperature of the teacher's targets at the start and after the warm-up. Of
            0.04 rising to 0.07, which is usual, a short run of small heads gets targets that are
            nearly uniform (entropy 0.93 of the most) and learns little.
        temperature_warmup: Share of the steps over which it rises.
        start: Whether patches, UPHeads, calendar, fusion and curves start as `skysense.pretrain.start`
            says, not at random. Of what tells fused cells of one image apart on other dates a linear map
            then reads 0.43 before the first step, against 0.08 from random weights, 0.31 after 300 steps
            from UPHeads that were only even, and 0.44 from each pixel's own harmonics.
        precision: "bfloat16" (mixed) or "float32".
        checkpoint: Whether activations are recomputed in the backward pass to save memory.
        words: Folder of a text encoder for the names of classes, see `skysense.pretrain.words.table`;
            empty = our own table. Only for a run with L_ITA.
        seed: Of weights, views, augmentations and stochastic depth.
        views: Crops, dates and matched positions.
        augment: What is done to pixels.
        heads: Sizes of the projection heads.
        loss: Weights and temperatures of the losses.
    """

    model: SkySenseConfig | SkySenseV2Config
    steps: int = 3000
    batch: int = 16
    accumulate: int = 1
    rate: float = 5e-4
    head_rate: float | None = None
    alone: int = 0
    last_rate: float = 0.01
    warmup: float = 0.08
    decay: float = 0.04
    clip: float = 3.0
    teacher: float = 0.9
    temperature: tuple[float, float] = (0.03, 0.04)
    temperature_warmup: float = 0.2
    start: bool = True
    precision: str = "bfloat16"
    checkpoint: bool = False
    words: str = ""
    seed: int = 0
    views: ViewConfig = field(default_factory=ViewConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    heads: HeadConfig = field(default_factory=HeadConfig)
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be a run."""
        problems = [
            f"{name}={getattr(self, name)!r} must be at least 1"
            for name in ("steps", "batch", "accumulate")
            if getattr(self, name) < 1
        ]
        problems += [
            f"{name}={getattr(self, name)!r} must lie between 0 and 1"
            for name in ("last_rate", "warmup", "teacher", "temperature_warmup")
            if not 0 <= getattr(self, name) <= 1
        ]
        problems += [
            f"{name}={getattr(self, name)!r} must be positive"
            for name in ("rate", "head_rate", "clip")
            if (value := getattr(self, name)) is not None and not value > 0
        ]
        if self.alone < 0:
            problems.append(f"alone={self.alone!r} must not be negative")
        if self.precision not in ("bfloat16", "float32"):
            problems.append(f'precision={self.precision!r} is not "bfloat16" or "float32"')
        problems += [
            f"loss.{name}={weight!r}, but the model has no semantic queries"
            for name in ("query", "apart")
            if (weight := getattr(self.loss, name)) and "queries" not in self.model.parts
        ]
        if self.loss.balance and experts_of(self.model) is None:
            problems.append(f"loss.balance={self.loss.balance!r}, but the model has no experts")
        if self.words and not self.loss.text:
            problems.append(
                f"words={self.words!r}, but loss.text is 0, so no words are learnt from"
            )
        if problems:
            raise EncoderError(f"This run cannot be made: {'; '.join(problems)}.")


#: What `tiny` sees. Views of 320 and 480 m are shifted against each other, which those as large as
#: most places, 640 m, cannot be; some of these keep the learned positions at the size they serve.
#: Time decides the weights: a step of 64 cells costs as much as three of 32, one of 16 cells with high
#: resolution as much as ten.
TINY_SIZES = ((32, 4.0), (48, 1.0), (64, 0.2))
TINY_HR_SIZES = ((8, 1.0),)
TINY_DATES = (("hr", 2), ("s2", 16), ("s1", 8))
#: Series carry what fusion learns and are few, so they are drawn more often than their number says.
TINY_WEIGHTS = {
    "s2+s1 series": 60.0,
    "s2 series": 8.0,
    "s2+s1": 12.0,
    "s2": 12.0,
    "hr+s2+s1 series": 2.0,
    "hr": 1.0,
    "hr series": 0.5,
    "s1": 1.0,
    "s1 series": 1.0,
}

#: What V2 learns from beyond V1. Weights of the three losses are unpublished; the sum is plain, as among
#: V1's.
V2_LOSS = LossConfig(query=1.0, apart=1.0, text=1.0, balance=0.01)

#: Parts of a run that an ablation leaves out, as `--without` names them: losses and prototypes, and of
#: SkySense V2 prompts, merging by sensor, experts.
PARTS = (
    "pixel", "object", "image", "prediction", "alignment", "prototypes", "queries", "text", "balance",
    "prompts", "merging", "experts",
)  # fmt: skip


def pretraining(name: str) -> PretrainConfig:
    """The run that belongs to a model preset.

    `tiny` and `v2-tiny` are what one core can run in an hour; their weights are shipped. The others
    keep the papers' published sizes where there are any and were never run to the end by us.

    Raises:
        EncoderError: There is no such preset.
    """
    if name not in PRESETS:
        raise EncoderError(f"There is no model {name!r} to train; there are {', '.join(PRESETS)}.")
    network = PRESETS[name]
    made = _tiny(name) if name.endswith("tiny") else _published(name)
    if not isinstance(network, SkySenseV2Config):
        return made
    loss = V2_LOSS if experts_of(network) else replace(V2_LOSS, balance=0.0)
    return replace(made, loss=loss)


def _tiny(name: str) -> PretrainConfig:
    """What one core can run in an hour, of either model."""
    later, network = name == "v2-tiny", PRESETS[name]
    # V2 has more parameters: with 8 prototypes a cell its file stays below 15 MB
    banks = PrototypeConfig(context=True, cells=1024, count=8 if later else 16)
    # as in the paper's formula: without it, dates of Sentinel-1 are not told apart
    fusion = replace(network.fusion, calendar="all")
    return PretrainConfig(
        replace(network, prototypes=banks, fusion=fusion),
        steps=500 if later else 1000,  # of V2 they take twice as long
        rate=3e-4,
        head_rate=1e-3,
        alone=100,
        views=ViewConfig(
            sizes=TINY_SIZES,
            hr_sizes=TINY_HR_SIZES,
            dates=TINY_DATES,
            weights=TINY_WEIGHTS,
            loose=0.7,  # at 0, 1,600 steps made a chequer of the cells of each token
            cells=1024,
        ),
        heads=HeadConfig(hidden=256, out=128, prototypes=512),
    )


def _published(name: str) -> PretrainConfig:
    """A run of published size; rates and batch of V2 are those that readers of its paper report."""
    later = isinstance(PRESETS[name], SkySenseV2Config)
    banks = PrototypeConfig(context=True, cells=4096, count=100, dim=512 if name == "paper" else 0)
    return PretrainConfig(
        replace(PRESETS[name], prototypes=banks),
        steps=600_000 if later else 875_000,
        batch=1024 if later else 240,
        rate=2e-4,
        last_rate=0.005 if later else 0.01,
        warmup=0.01,
        teacher=0.996,
        temperature=(0.04, 0.07),
        temperature_warmup=0.03,
        checkpoint=True,
        views=ViewConfig(
            sizes=((64, 1.0),),
            hr_sizes=((64, 1.0),),
            dates=(("hr", 1), ("s2", 20), ("s1", 10)),
            cells=banks.cells,
        ),
        heads=HeadConfig(hidden=2048, out=256, prototypes=65_536),
    )


def without(config: PretrainConfig, parts: tuple[str, ...]) -> PretrainConfig:
    """The same run without some parts, for an ablation.

    Without `queries` the model has none; without `experts` it is dense; without `merging` all sensors
    merge alike, Sentinel pixels being repeated 8 times (`docs/decisions/v2.md`).

    Args:
        config: A run.
        parts: Of `PARTS`.

    Raises:
        EncoderError: For a part that does not exist, or that this run does not have.
    """
    if unknown := sorted(set(parts) - set(PARTS)):
        raise EncoderError(f"{', '.join(unknown)} cannot be left out; {', '.join(PARTS)} can be.")
    have = _parts_of(config)
    if absent := [part for part in parts if part not in have]:
        raise EncoderError(
            f"A run of {config.model.name!r} has no {' and no '.join(absent)} to leave out; it has "
            f"{', '.join(have)}."
        )
    network, views = config.model, config.views
    weights = {WEIGHTS.get(part, part): 0.0 for part in parts if WEIGHTS.get(part, part) in LOSSES}
    if "prototypes" in parts:
        network, views = replace(network, prototypes=PrototypeConfig()), replace(views, cells=0)
    if "queries" in parts:
        weights["apart"] = 0.0
        network = replace(network, parts=tuple(p for p in network.parts if p != "queries"))
    if "prompts" in parts:
        network = replace(network, backbone=replace(network.backbone, prompts=0))
    if "experts" in parts:
        network = replace(network, backbone=replace(network.backbone, moe_blocks=0))
        weights["balance"] = 0.0
    if "merging" in parts:
        alike = {"merge": network.tokens_hr.merge, "repeat": 8}
        network = replace(
            network,
            tokens_s2=replace(network.tokens_s2, **alike),
            tokens_s1=replace(network.tokens_s1, **alike),
        )
    return replace(config, model=network, views=views, loss=replace(config.loss, **weights))


LOSSES = (*GRANULARITIES, *OTHERS)
WEIGHTS = {"queries": "query"}
"""Weights in `LossConfig` whose part has another name."""


def _parts_of(config: PretrainConfig) -> tuple[str, ...]:
    """Of `PARTS`, those a run has."""
    network = config.model
    there = {part for part in PARTS if getattr(config.loss, WEIGHTS.get(part, part), 0.0)}
    if network.prototypes.context:
        there.add("prototypes")
    if isinstance(network, SkySenseV2Config):
        backbone = network.backbone
        there |= {"prompts"} if backbone.prompts else set()
        there |= {"experts"} if backbone.moe_blocks else set()
        there |= {"merging"} if network.tokens_s2.merge != network.tokens_hr.merge else set()
    return tuple(part for part in PARTS if part in there)
