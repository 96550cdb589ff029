"""Models of both kinds, small enough to be checked in float64, and inputs for them."""

import dataclasses

import torch

from skysense.model import SensorInput, SkySenseConfig, SkySenseV2Config
from skysense.model.config_parts import BackboneConfig, FusionConfig, SwinConfig, ViTConfig
from skysense.weights import build_model

VIT = ViTConfig(image=16, dim=32, layers=2, heads=2)
MINI = SkySenseConfig(
    name="mini",
    hr=SwinConfig(
        dim=8, depths=(2, 2, 2, 2), heads=(1, 2, 4, 8), window=4, extra_norm_every=2, drop_path=0.1
    ),
    s2=VIT,
    s1=dataclasses.replace(VIT, in_channels=2),
    fusion=FusionConfig(in_dim=64, dim=32, layers=2, heads=2),
)
MINI_V2 = SkySenseV2Config(
    name="mini-v2",
    backbone=BackboneConfig(
        dim=8, depths=(2, 2, 2, 2), heads=(1, 2, 2, 4), window=4, drop_path=0.1, moe_blocks=3,
        experts=3,
    ),
    fusion=FusionConfig(in_dim=64, dim=32, layers=2, heads=2),
)  # fmt: skip
DENSE_V2 = dataclasses.replace(
    MINI_V2, backbone=dataclasses.replace(MINI_V2.backbone, moe_blocks=0)
)
BOTH = {"V1": MINI, "V2": MINI_V2}


def make_model(config=MINI, seed=0):
    """A mini model in float64, with biases and gains that are not their trivial start."""
    model = build_model(config, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise, alpha=0.05)
    return model


def make_inputs(seed=1):
    """Two windows of 80 m: two HR dates, four of Sentinel-2, three of Sentinel-1, with gaps."""
    g = torch.Generator().manual_seed(seed)

    def sensor(t, bands, side, cells):
        return SensorInput(
            torch.randn(2, t, bands, side, side, generator=g, dtype=torch.float64),
            torch.rand(2, t, cells, cells, generator=g) < 0.7,
            torch.randint(0, 367, (2, t), generator=g),
        )

    # Place (0, 0) of window 0 sees nothing of any sensor.
    made = {"hr": sensor(2, 3, 256, 8), "s2": sensor(4, 10, 8, 2), "s1": sensor(3, 2, 8, 2)}
    for each in made.values():
        each.valid[0, :, 0, 0] = False
    made["hr"].valid[0, :, :4, :4] = False
    made["hr"].valid[0, 0, 3, 3] = True
    return made
