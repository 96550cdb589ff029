"""The UPHead: from one 40 m token to sixteen 10 m tokens."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class UPHead(nn.Module):
    """A 1 × 1 convolution to `scale²` times the channels, then a pixel shuffle.

    Channel `o · scale² + r · scale + c` of the convolution becomes channel `o` of the finer cell in
    row `r` and column `c` of its token. `phase` gives the part that makes one such cell, which is
    all a coarse lattice needs.
    """

    def __init__(self, in_dim: int, out_dim: int, scale: int) -> None:
        super().__init__()
        self.scale, self.out_dim = scale, out_dim
        self.conv = nn.Conv2d(in_dim, out_dim * scale * scale, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o hs ws"]:
        """The whole finer map."""
        return F.pixel_shuffle(self.conv(x), self.scale)

    def phase(self, row: int, column: int) -> tuple[Float[Tensor, "o c"], Float[Tensor, " o"]]:
        """Weight and bias that give the cell at (row, column) of each token."""
        i = row * self.scale + column
        step = self.scale * self.scale
        return self.conv.weight[i::step, :, 0, 0], self.conv.bias[i::step]
