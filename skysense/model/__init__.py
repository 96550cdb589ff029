"""SkySense V1 in plain PyTorch: three spatial encoders, a temporal fusion and a prototype read-out.

The architecture follows Guo et al., "SkySense: A Multi-Modal Remote Sensing Foundation Model
Towards Universal Interpretation for Earth Observation Imagery", CVPR 2024, arXiv 2312.10115.
"""

from skysense.model.config import PRESETS, SkySenseConfig
from skysense.model.inputs import DateFeatures, SensorInput
from skysense.model.skysense import SkySense

__all__ = ["PRESETS", "DateFeatures", "SensorInput", "SkySense", "SkySenseConfig"]
