"""Geo-context prototypes (paper, Sec. 3.3): what places of this cell of the Earth usually look like.

Each cell of the Earth has a bank of prototypes. Fused features read it by attention, and, during
training, the bank follows the features by a balanced (Sinkhorn) assignment and a moving average.
The official weights and code of this module were never released; where the paper leaves a choice
open it is said below.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from skysense.errors import EncoderError
from skysense.model.config import PrototypeConfig


def read_out(
    features: Float[Tensor, "b d h w"], bank: Float[Tensor, "b k d"]
) -> Float[Tensor, "b d h w"]:
    """Context of each place: softmax(Q Pᵀ / √d) P with the place's feature as the query.

    Args:
        features: Fused features Q.
        bank: Prototypes P of the cell each batch element lies in.
    """
    b, d, h, w = features.shape
    q = features.flatten(2).transpose(1, 2)  # b hw d
    scores = q @ bank.transpose(1, 2) / math.sqrt(d)  # b hw k
    context = scores.softmax(-1) @ bank  # b hw d
    return context.transpose(1, 2).reshape(b, d, h, w)


def sinkhorn(scores: Float[Tensor, "n k"], epsilon: float, iterations: int) -> Float[Tensor, "n k"]:
    """Balanced soft assignment of n features to k prototypes (Cuturi, NeurIPS 2013).

    Args:
        scores: Similarities; higher means closer.
        epsilon: Entropy, above 0; small values approach a hard assignment.
        iterations: Alternations of column and row scaling, at least 1.

    Returns:
        Rows that sum to 1, columns that sum to about n / k. Worked out in logarithms, so that no
        epsilon overflows.
    """
    log = scores / epsilon
    for _ in range(iterations):
        log = log - log.logsumexp(0, keepdim=True)  # every prototype gets the same share
        log = log - log.logsumexp(1, keepdim=True)  # every feature is spent once
    return log.exp()


@torch.no_grad()
def updated_bank(
    bank: Float[Tensor, "k d"], features: Float[Tensor, "n d"], config: PrototypeConfig
) -> Float[Tensor, "k d"]:
    """One step of the bank: P ← m P + (1 − m) P̄, with P̄ = Sᵀ F.

    S is the Sinkhorn assignment of the cosine similarities. The paper's Sᵀ F is read as a mean, each
    column of S scaled to sum 1, so that prototypes keep the scale of the features.

    Args:
        bank: Prototypes of one cell.
        features: Fused features seen there; rows with NaN are left out.
        config: Epsilon, iterations and momentum.
    """
    features = features[features.isfinite().all(1)].to(bank.dtype)
    if not len(features):
        return bank.clone()
    similarity = F.normalize(features, dim=1) @ F.normalize(bank, dim=1).T  # n k
    s = sinkhorn(similarity, config.epsilon, config.iterations)
    mean = (s / s.sum(0, keepdim=True).clamp_min(torch.finfo(s.dtype).tiny)).T @ features
    return config.momentum * bank + (1 - config.momentum) * mean


class Prototypes(nn.Module):
    """The banks of all cells, as buffers: they follow the features and get no gradient."""

    def __init__(self, config: PrototypeConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.bank: Tensor
        self.trained: Tensor
        self.register_buffer("bank", torch.zeros(config.cells, config.count, dim))
        self.register_buffer("trained", torch.zeros(config.cells, dtype=torch.bool))

    def forward(self, cell: Int[Tensor, " b"]) -> tuple[Float[Tensor, "b k d"], Bool[Tensor, " b"]]:
        """Banks of cells, and which of them were ever trained. Cell −1 means none."""
        if cell.numel() and not -1 <= int(cell.min()) <= int(cell.max()) < len(self.bank):
            raise EncoderError(
                f"Cells {int(cell.min())} to {int(cell.max())} were given, but this model holds "
                f"banks for cells 0 to {len(self.bank) - 1}; use -1 for a place outside them."
            )
        known = cell.clamp(min=0)
        return self.bank[known], self.trained[known] & (cell >= 0)

    @torch.no_grad()
    def update(self, features: Float[Tensor, "b d h w"], cell: Int[Tensor, " b"]) -> None:
        """Let the banks of the cells at hand follow these features.

        A cell's first bank is picked from its first features, evenly spaced; from then on the
        configured momentum moves it.
        """
        tokens = features.detach().permute(0, 2, 3, 1)  # b h w d
        for index in cell.unique().tolist():
            if index < 0:
                continue
            rows = tokens[cell == index].flatten(0, 2)
            rows = rows[rows.isfinite().all(1)]
            if not len(rows):
                continue
            if not self.trained[index]:
                k = self.config.count
                picks = torch.linspace(0, len(rows) - 1, k, device=rows.device).round().long()
                self.bank[index] = rows[picks].to(self.bank.dtype)
                self.trained[index] = True
            self.bank[index] = updated_bank(self.bank[index], rows, self.config)
