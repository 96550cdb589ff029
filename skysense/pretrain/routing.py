"""Experts while learning (SkySense V2): the loss that keeps them in use, and who goes to which.

The loss is that of the Switch Transformer over all sensors and all processes together
(`skysense.model.balance_loss`), so that sensors may prefer experts of their own. `experts/entropy` in
the log falls to 0 when every token goes to one expert.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from skysense.model import ModelConfig, Routed, SkySenseV2Config, balance_loss
from skysense.pretrain.assignment import entropy
from skysense.pretrain.parallel import total, world


def experts_of(config: ModelConfig) -> tuple[int, int] | None:
    """(blocks with experts, experts in each) of a model; None if it has none."""
    if not isinstance(config, SkySenseV2Config) or not config.backbone.moe_blocks:
        return None
    return config.backbone.moe_blocks, config.backbone.experts


def balance(routed: Routed, shape: tuple[int, int], device: torch.device) -> Tensor:
    """The loss of the tokens of all processes: 1 where all experts are equally used.

    Args:
        routed: What this process's tokens did.
        shape: As `experts_of`.
        device: Where the model is.
    """
    counts, sums = routed.totals() or (torch.zeros(shape, device=device),) * 2
    if world() > 1 and torch.is_grad_enabled() and not sums.requires_grad:
        # nothing was seen here: take part in sums of gradients with a process where something was
        sums = sums.detach().requires_grad_()
    return balance_loss(total(counts), total(sums))


@torch.no_grad()
def use(
    routed: Routed, sensors: Sequence[str], shape: tuple[int, int], device: torch.device
) -> dict[str, Tensor]:
    """For the log, over all processes; arguments as `balance`.

    Args:
        routed: What this process's tokens did.
        sensors: All that may have any, the same on all processes.
        shape: As `experts_of`.
        device: Where the model is.

    Returns:
        `experts/<sensor>/<block>/<expert>`: the share of a sensor's tokens, left out where it has none;
        and `experts/entropy`: of the use by all sensors together, 0..1, mean over the blocks.
    """
    none = torch.zeros(shape, device=device, dtype=torch.int64)
    counts = total(
        torch.stack([routed.counts.get(key, none) for key in sensors])
    )  # s blocks experts
    shares = counts / counts.sum(-1, keepdim=True).clamp(min=1)
    out = {
        f"experts/{key}/{block}/{expert}": share
        for key, of_sensor, seen in zip(sensors, shares, counts, strict=True)
        for block, of_block in enumerate(of_sensor)
        for expert, share in enumerate(of_block)
        if bool(seen[block].sum())
    }
    together = counts.sum(0)
    together = together / together.sum(-1, keepdim=True).clamp(min=1)
    return out | {"experts/entropy": entropy(together).mean()}
