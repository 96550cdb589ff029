"""SkySense V2: one backbone for every sensor, then what `skysense.model.temporal` does.

    pixels ── tokenizer ──▶ tokens ── backbone ──▶ four maps ── last one, on the lattice ──▶ a date

High resolution merges tokens down to 10 m, Sentinel keeps its tokens of 40 m, unless a call gives
another schedule. Whatever the schedule, `encode_dates` gives tokens of 10 m and 40 m: finer maps are
averaged, coarser ones repeated, so that fusion never knows.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from skysense.errors import EncoderError
from skysense.merging import schedule_of
from skysense.model.backbone import Backbone, Mapped, Tokenizer
from skysense.model.config import SENSOR_ORDER, SkySenseV2Config
from skysense.model.inputs import check_pixels
from skysense.model.moe import Routed
from skysense.model.queries import Queries
from skysense.model.temporal import TemporalModel


class Pyramid(NamedTuple):
    """Everything the backbone makes of some images."""

    levels: list[Tensor]
    """The maps (n, c, h, w) of the four stages, each twice as wide as the one before; the last is
    normalised. With the usual schedule at strides 4, 8, 16 and 32 for hr, 4 throughout for s2 and s1."""
    pooled: Tensor
    """(n, c), mean of the last map."""


class SkySenseV2(TemporalModel):
    """SkySense V2. Parts that `config.parts` does not list are absent (None)."""

    def __init__(self, config: SkySenseV2Config) -> None:
        super().__init__(config)
        have = set(config.parts)
        for sensor in SENSOR_ORDER:
            part = Tokenizer(config.tokens(sensor), config.backbone) if sensor in have else None
            setattr(self, sensor, part)
        self.backbone = Backbone(config.backbone) if "backbone" in have else None
        self.add_fusion()
        f = config.fusion
        self.queries = Queries(config.queries, f.dim, f.eps) if "queries" in have else None

    def maps_of(
        self,
        sensor: str,
        images: Float[Tensor, "n bands h w"],
        *,
        merge: Sequence[bool] | None = None,
        routed: Routed | None = None,
    ) -> Float[Tensor, "n hp wp c"]:
        """Some images of a sensor, encoded, on the lattice of fusion; channels last.

        Args:
            sensor: "hr", "s2" or "s1".
            images: Normalised.
            merge: Whether tokens are merged before stages 2, 3 and 4; the sensor's own schedule if
                None. `encode_dates` hands it on.
            routed: Where to count what the experts did, for the loss that balances them.

        Raises:
            EncoderError: The schedule is none, or the backbone is absent.
        """
        *_, last = self._stages(sensor, images, merge, routed)
        stride = getattr(self.config, sensor).stride
        return on_lattice(last.map, images.shape[2] // stride, images.shape[3] // stride)

    def pyramid(
        self,
        sensor: str,
        images: Float[Tensor, "n bands h w"],
        *,
        merge: Sequence[bool] | None = None,
    ) -> Pyramid:
        """The maps of all stages, as they are; arguments and errors as `maps_of`."""
        self._check(sensor, images)
        maps = [mapped.map.permute(0, 3, 1, 2) for mapped in self._stages(sensor, images, merge)]
        return Pyramid(maps, maps[-1].mean((2, 3)))

    def experts(
        self,
        sensor: str,
        images: Float[Tensor, "n bands h w"],
        *,
        block: int = -1,
        merge: Sequence[bool] | None = None,
    ) -> Int[Tensor, "n hp wp"]:
        """The expert that each image token went to.

        Args:
            sensor: As `maps_of`.
            images: As `maps_of`.
            block: Which of the blocks with experts, from 0; -1 = the last.
            merge: As `maps_of`.

        Returns:
            Numbers from 0, on the grid of that block's stage.

        Raises:
            EncoderError: There is no such block; else as `maps_of`.
        """
        self._check(sensor, images)
        wanted = _numbered(block, self.config.backbone.moe_blocks, "blocks with experts")
        found = [
            routing.expert.unflatten(1, mapped.map.shape[1:3])
            for mapped in self._stages(sensor, images, merge)
            for routing in mapped.routings
        ]
        return found[wanted]

    def prompt_attention(
        self,
        sensor: str,
        images: Float[Tensor, "n bands h w"],
        *,
        block: int = -1,
        merge: Sequence[bool] | None = None,
    ) -> Float[Tensor, "n p hp wp"]:
        """How much each image token attends to the sensor's prompts, mean over the heads.

        Args:
            sensor: As `maps_of`.
            images: As `maps_of`.
            block: Which block of the plain stages, from 0; -1 = the last.
            merge: As `maps_of`.

        Returns:
            0..1 for each prompt, on the grid of that block's stage; what is missing from 1 a token
            gives to tokens of the image.

        Raises:
            EncoderError: There is no such block, or there are no prompts; else as `maps_of`.
        """
        self._check(sensor, images)
        config = self.config.backbone
        if not config.prompts:
            raise EncoderError(
                f"The model {self.config.name!r} has no prompt tokens, so nothing attends to them."
            )
        number = _numbered(block, sum(config.depths[2:]), "blocks of plain attention")
        schedule, tokenizer = self._schedule(sensor, merge), getattr(self, sensor)
        x = tokenizer(images.to(self.dtype))
        return self.backbone.prompt_shares(x, tokenizer, schedule, number).permute(0, 3, 1, 2)

    def query_scores(self, fused: Float[Tensor, "b d h w"]) -> Float[Tensor, "b m h w"]:
        """How much each semantic query likes each place of a map of fused features.

        Args:
            fused: What `forward` or `fuse` gave; context after the first `config.fusion.dim` channels
                is left aside.

        Returns:
            `Queries.scores`: logits, each of its place alone; NaN where the features are.

        Raises:
            EncoderError: The model has no queries, or the features are too narrow.
        """
        width = self.config.fusion.dim
        if self.queries is None:
            raise EncoderError(
                f"The model {self.config.name!r} has no semantic queries (it has "
                f"{', '.join(self.config.parts)}), so nothing scores its features."
            )
        if fused.ndim != 4 or fused.shape[1] < width:
            raise EncoderError(
                f"Features of shape {tuple(fused.shape)} cannot be scored; give (batch, at least "
                f"{width} channels, rows, columns), as the model's own calls return."
            )
        places = fused[:, :width].to(self.dtype).flatten(2).mT  # b n d
        return self.queries.scores(places).unflatten(2, fused.shape[2:])

    def _stages(
        self,
        sensor: str,
        images: Tensor,
        merge: Sequence[bool] | None,
        routed: Routed | None = None,
    ) -> list[Mapped]:
        """What every stage makes of some images."""
        schedule, tokenizer = self._schedule(sensor, merge), getattr(self, sensor)
        stages = list(self.backbone(tokenizer(images.to(self.dtype)), tokenizer, schedule))
        if routed is not None:
            routed.add(sensor, [r for mapped in stages for r in mapped.routings])
        return stages

    def _schedule(self, sensor: str, merge: Sequence[bool] | None) -> tuple[bool, ...]:
        """A checked schedule, the sensor's own if none is given."""
        if self.backbone is None:
            raise EncoderError(
                f"The model {self.config.name!r} has no backbone (it has "
                f"{', '.join(self.config.parts)}), so it encodes nothing."
            )
        return schedule_of(self.config.tokens(sensor).merge if merge is None else merge)

    def _check(self, sensor: str, images: Tensor) -> None:
        check_pixels(self.config, sensor, images[None], None)


def on_lattice(x: Float[Tensor, "n h w c"], rows: int, columns: int) -> Float[Tensor, "n r k c"]:
    """A map on a grid of so many rows and columns: finer tokens averaged, coarser ones repeated."""
    if x.shape[1] > rows:
        side = x.shape[1] // rows
        return F.avg_pool2d(x.permute(0, 3, 1, 2), side).permute(0, 2, 3, 1)
    if x.shape[1] < rows or x.shape[2] < columns:
        side = 2 ** math.ceil(math.log2(max(rows / x.shape[1], columns / x.shape[2])))
        x = x.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, :rows, :columns]
    return x


def _numbered(block: int, count: int, what: str) -> int:
    """A block counted from 0.

    Raises:
        EncoderError: There is none of this number.
    """
    if not -count <= block < count:
        raise EncoderError(f"There is no block {block}; this model has {count} {what}.")
    return block % count
