"""Dense alignment of fused features with words (SkySense V2): what a cell is, by the name of its class.

    L_ITA = mean over labelled cells i of -log softmax_k(F_i · T_k / τ)[class of i]

F_i is the fused feature of a 10 m cell through a linear head, of length 1, T_k the vector of class k's
name (`skysense.pretrain.words`). The paper takes the classes of OpenStreetMap and the text encoder of
CLIP; ours are the classes of synthetic scenes, of which the truth is known to the cell. **No real place
has labels here**: `skysense.pretrain.data` refuses them, so that what is learnt about real ground is
learnt without any.

The head has no bias and reads standardised features, so that features which are the same everywhere
give every class the same share and the loss log K.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from skysense.pretrain.assignment import exact
from skysense.pretrain.heads import TextHead
from skysense.pretrain.terms import LossConfig, Term, mean_of

NONE = -1
"""Label of a cell without one."""


def text_loss(
    head: TextHead,
    fused: Float[Tensor, "b m d"],
    seen: Bool[Tensor, "b m"],
    labels: Int[Tensor, "b m"],
    config: LossConfig,
) -> Term:
    """L_ITA.

    Args:
        head: The student's.
        fused: The student's features without geo-context; may hold anything where not `seen`.
        seen: Cells of which the view saw something.
        labels: Class of each cell, `NONE` where there is none.
        config: The temperature τ.
    """
    rows = seen & (labels != NONE)
    cosines, label = head(fused[rows]), labels[rows]
    with exact(cosines):
        losses = F.cross_entropy(cosines / config.text_temperature, label, reduction="none")
    loss, count = mean_of(losses)
    right = (cosines.detach().argmax(-1) == label).sum()
    zero = count.new_zeros(())
    return Term(loss, count, torch.stack([count.new_tensor(len(losses)), right.to(count), zero]))
