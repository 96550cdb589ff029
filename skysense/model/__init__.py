"""SkySense V1 and V2 in plain PyTorch: dates encoded in space, fused in time, read by prototypes.

V1 follows Guo et al., "SkySense: A Multi-Modal Remote Sensing Foundation Model Towards Universal
Interpretation for Earth Observation Imagery", CVPR 2024, arXiv 2312.10115: an encoder for each sensor.
V2 follows Zhang et al., "SkySense V2: A Unified Foundation Model for Multi-modal Remote Sensing", ICCV
2025, arXiv 2507.13812: one for all.
"""

from skysense.model.config import (
    PRESETS,
    ModelConfig,
    SkySenseConfig,
    SkySenseV2Config,
    config_from_json,
)
from skysense.model.inputs import DateFeatures, SensorInput
from skysense.model.moe import Routed, balance_loss
from skysense.model.skysense import SkySense
from skysense.model.skysense_v2 import Pyramid, SkySenseV2
from skysense.model.temporal import TemporalModel

__all__ = [
    "PRESETS",
    "DateFeatures",
    "ModelConfig",
    "Pyramid",
    "Routed",
    "SensorInput",
    "SkySense",
    "SkySenseConfig",
    "SkySenseV2",
    "SkySenseV2Config",
    "TemporalModel",
    "balance_loss",
    "config_from_json",
    "make_model",
]


def make_model(config: ModelConfig) -> TemporalModel:
    """The model that a configuration describes, its parameters as torch makes them."""
    return SkySenseV2(config) if isinstance(config, SkySenseV2Config) else SkySense(config)
