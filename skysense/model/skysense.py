"""SkySense V1: an encoder for each sensor, then what `skysense.model.temporal` does."""

from jaxtyping import Float
from torch import Tensor

from skysense.model.config import SkySenseConfig
from skysense.model.swin import Swin
from skysense.model.temporal import TemporalModel
from skysense.model.vit import ViT


class SkySense(TemporalModel):
    """SkySense V1. Parts that `config.parts` does not list are absent (None)."""

    def __init__(self, config: SkySenseConfig) -> None:
        super().__init__(config)
        have = set(config.parts)
        self.hr = Swin(config.hr) if "hr" in have else None
        self.s2 = ViT(config.s2) if "s2" in have else None
        self.s1 = ViT(config.s1) if "s1" in have else None
        self.add_fusion()

    def maps_of(
        self, sensor: str, images: Float[Tensor, "n bands h w"]
    ) -> Float[Tensor, "n hp wp c"]:
        """Some images of a sensor through its encoder, channels last."""
        return getattr(self, sensor)(images).permute(0, 2, 3, 1)
