"""A run small enough for a test: two sensors, series and single dates, prototypes of the Earth.

As a script, `python small_run.py DATA OUT STEPS`, it learns in a process of its own, alone or under
`torchrun`.
"""

import dataclasses
import sys

import torch

from skysense.model import SkySenseV2Config
from skysense.model.config import (
    FusionConfig,
    PrototypeConfig,
    SkySenseConfig,
    SwinConfig,
    ViTConfig,
)
from skysense.model.config_parts import BackboneConfig, QueriesConfig
from skysense.pretrain.augment import AugmentConfig
from skysense.pretrain.config import PretrainConfig
from skysense.pretrain.heads import HeadConfig
from skysense.pretrain.loop import pretrain
from skysense.pretrain.terms import LossConfig
from skysense.pretrain.views import ViewConfig

VIT = ViTConfig(image=16, dim=16, layers=2, heads=2, drop_path=0.0)
MODEL = SkySenseConfig(
    name="small",
    hr=SwinConfig(dim=4, depths=(1, 1, 2, 1), heads=(1, 1, 2, 4), window=4, extra_norm_every=2),
    s2=VIT,
    s1=dataclasses.replace(VIT, in_channels=2),
    fusion=FusionConfig(in_dim=32, dim=16, layers=2, heads=2, drop_path=0.0),
    prototypes=PrototypeConfig(context=True, cells=64, count=4),
)
RUN = PretrainConfig(
    MODEL,
    steps=6,
    batch=4,
    precision="float32",
    views=ViewConfig(
        sizes=((16, 1.0),), dates=(("hr", 1), ("s2", 3), ("s1", 2)), positions=8, cells=64
    ),
    augment=AugmentConfig(hr_jitter=0.0, hr_blur=0.0),
    heads=HeadConfig(hidden=16, out=8, prototypes=16),
    loss=LossConfig(clusters=2, alignment_positions=4),
)
MODEL_V2 = SkySenseV2Config(
    name="small-v2",
    backbone=BackboneConfig(
        dim=4, depths=(1, 1, 2, 1), heads=(1, 1, 2, 4), window=4, drop_path=0.0, prompts=2,
        moe_blocks=2, experts=2,
    ),
    fusion=MODEL.fusion,
    prototypes=MODEL.prototypes,
    queries=QueriesConfig(count=3, heads=2),
)  # fmt: skip
RUN_V2 = dataclasses.replace(
    RUN,
    model=MODEL_V2,
    start=False,
    loss=dataclasses.replace(RUN.loss, query=1.0, apart=1.0, text=1.0, balance=0.01),
)


if __name__ == "__main__":
    torch.set_num_threads(1)
    data, out, steps = sys.argv[1:4]
    wrap = sys.argv[4] if len(sys.argv) > 4 else "ddp"
    pretrain(
        dataclasses.replace(RUN, steps=int(steps)),
        data, out, workers=0, save_every=2, wrap=wrap, report=lambda _: None,
    )  # fmt: skip
