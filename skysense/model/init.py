"""Random weights for a model that is not trained yet."""

import math

import torch
from torch import Tensor, nn

from skysense.model.backbone import Tokenizer
from skysense.model.layers import MLP, Attention
from skysense.model.swin import WindowAttention

SMALL = ("cls_token", "pos_embed", "table", "tokens", "k_bias")
"""Parameters that begin with deviation 0.02, by the last word of their names."""


@torch.no_grad()
def initialise(part: nn.Module, generator: torch.Generator, *, depth: int | None = None) -> None:
    """Fill one part of the model, parameter by parameter in the order of its state dict.

    Weights are truncated normal with deviation 1 / √fan-in, which keeps the scale of what passes
    through; the last layers of residual branches are divided by √(2 · depth), which keeps the sum
    of all branches at that scale (Radford et al. 2019). Gains are 1, biases 0, tokens, queries,
    positions and the calendar small (deviation 0.02), cosine attention starts at temperature 1/10
    as in Swin V2. Biases of SkySense V2's patches and keys are small too: a patch of which nothing is
    known would else be zeros, and zeros have gradients of 1e12 and more, as each branch of a Swin V2
    block ends in a norm and its attention divides by lengths.

    Args:
        part: A module whose parameters are in memory.
        generator: The source of randomness; advanced by the call.
        depth: Layers of the part; None = the length of its `layers`, or 1.
    """

    def normal(tensor: Tensor, deviation: float) -> None:
        nn.init.trunc_normal_(
            tensor, std=deviation, a=-2 * deviation, b=2 * deviation, generator=generator
        )

    tokenizer = isinstance(part, Tokenizer)
    depth = depth or len(getattr(part, "layers", [])) or 1
    gains, branch_ends = set(), set()
    for module in part.modules():
        if isinstance(module, nn.LayerNorm):
            gains.add(id(module.weight))
        elif isinstance(module, Attention | WindowAttention):
            branch_ends.add(id(module.proj.weight))
        elif isinstance(module, MLP):
            branch_ends.add(id(module.fc2.weight))
    for name, tensor in part.named_parameters():
        leaf = name.rpartition(".")[2]
        if leaf == "logit_scale":
            tensor.fill_(math.log(10.0))
        elif leaf in SMALL or "prompts." in name or (tokenizer and name == "patch.bias"):
            normal(tensor, 0.02)
        elif tensor.ndim == 1:
            tensor.fill_(1.0 if id(tensor) in gains else 0.0)
        else:
            shrink = math.sqrt(2 * depth) if id(tensor) in branch_ends else 1.0
            normal(tensor, 1 / math.sqrt(tensor[0].numel()) / shrink)
