"""Sums and concatenations over the processes that train together, with their gradients.

In one process every function here gives its argument back. With several, all of them must call the
same functions in the same order with tensors of the same shape.

`DistributedDataParallel` averages gradients. A loss that is a mean over the global batch is therefore
written on each process as `world() * (its own sum) / total(its own count)`: the average over processes
of that, and of its gradient, is what one process would have had on the whole batch.
"""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def total(x: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """Sum over processes, the same on each of them; its gradient is the sum of their gradients."""
    return x if world() == 1 else _Total.apply(x)


def gathered(x: Shaped[Tensor, "n *rest"]) -> Shaped[Tensor, "all_n *rest"]:
    """Concatenation over processes along the first axis, in the order of their ranks.

    Each process gets back, as gradient of its own part, the sum of all processes' gradients of it.
    """
    if world() == 1:
        return x
    if x.dtype == torch.bool:  # which gloo cannot send
        return _Gathered.apply(x.byte()).bool()
    return _Gathered.apply(x)


def whole(x: Tensor) -> Tensor:
    """All of a tensor of which every process holds a share (FSDP2); others as they are.

    All processes must call it.
    """
    return x.full_tensor() if hasattr(x, "full_tensor") else x


def shared_like(x: Tensor, other: Tensor) -> Tensor:
    """This process's share of a whole tensor, cut and placed as `other` is."""
    x = x.to(other.device)
    if not hasattr(other, "full_tensor"):
        return x
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(x, other.device_mesh, other.placements, src_data_rank=None)


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.own = slice(rank() * len(x), (rank() + 1) * len(x))
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad[ctx.own]
