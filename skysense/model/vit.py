"""The Sentinel-2 and Sentinel-1 encoders: a plain ViT over one date's window (paper, Sec. 3.1)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from skysense.model.config import ViTConfig
from skysense.model.layers import Layer, Memo, Patches, drop_rates


class ViT(nn.Module):
    """Encodes each date's image by itself into one token per 4 × 4 pixels (40 m).

    There is no final norm: the residual stream itself is the feature, as in the official weights.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        side = config.image // config.patch
        self.patch = Patches(config.in_channels, config.dim, config.patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + side * side, config.dim))
        self.layers = nn.ModuleList(
            Layer(config.dim, config.heads, config.mlp_ratio, rate, config.eps)
            for rate in drop_rates(config.drop_path, config.layers)
        )
        self.memo = Memo()
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(self, pixels: Float[Tensor, "b bands h w"]) -> Float[Tensor, "b c hp wp"]:
        """The last layer's map, one token per patch.

        Args:
            pixels: Normalised images. Sides that are no multiple of the patch are zero-padded at
                the right and the bottom.
        """
        return self.levels(pixels, (self.config.layers - 1,))[0][0]

    def levels(
        self, pixels: Float[Tensor, "b bands h w"], indices: Sequence[int] | None = None
    ) -> list[tuple[Tensor, Tensor | None]]:
        """Maps of chosen layers.

        Args:
            pixels: As `forward`.
            indices: Layers, counted from 0; None = the configured ones.

        Returns:
            For each layer its map `(b, c, hp, wp)` and its class token `(b, c)`, the latter None
            when the class token is not in the sequence.
        """
        indices = self.config.out_indices if indices is None else indices
        wanted = set(indices or (self.config.layers - 1,))
        x = self.patch(pixels)  # b hp wp c
        b, hp, wp, c = x.shape
        x = torch.cat([self.cls_token.expand(b, -1, -1), x.flatten(1, 2)], dim=1)
        x = x + self.positions(hp, wp)
        lead = 1 if self.config.cls_token else 0
        x = x if lead else x[:, 1:]
        out = []
        for i, layer in enumerate(self.layers[: max(wanted) + 1]):
            x = layer(x)
            if i in wanted:
                grid = x[:, lead:].transpose(1, 2).reshape(b, c, hp, wp)
                out.append((grid, x[:, 0] if lead else None))
        return out

    def positions(self, rows: int, columns: int) -> Float[Tensor, "1 n c"]:
        """Learned positions for a grid of tokens, the class token's first; resized when needed."""
        side = self.config.image // self.config.patch
        if (rows, columns) == (side, side):
            return self.pos_embed
        return self.memo.get(
            (rows, columns), [self.pos_embed], lambda: self._resized(side, rows, columns)
        )

    def _resized(self, side: int, rows: int, columns: int) -> Tensor:
        grid = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (side, side))  # 1 c side side
        grid = F.interpolate(
            grid, size=(rows, columns), mode=self.config.resize, align_corners=False
        )
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
