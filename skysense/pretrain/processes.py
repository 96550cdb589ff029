"""One process or several: joining them, wrapping the student, recomputing activations."""

import contextlib
import functools
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from skysense.errors import EncoderError
from skysense.model.layers import Layer
from skysense.model.swin import Block
from skysense.pretrain.parallel import world

WRAPS = ("ddp", "fsdp")


def join(device: torch.device) -> torch.device:
    """Join the processes that `torchrun` started, if it did; the device of this one.

    Gloo carries tensors between processors, NCCL between GPUs.
    """
    if "RANK" not in os.environ or not dist.is_available():
        return device
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    return device


def wrapped(student: nn.Module, wrap: str) -> nn.Module:
    """The student as it is called: itself in one process, else with gradients that are averaged.

    Args:
        student: On its device.
        wrap: `ddp`: every process holds all of it. `fsdp`: every process holds a share of each
            layer and gathers it when its turn comes (FSDP2); made for models too large for one
            device, tested as two processes at tiny size only.

    Raises:
        EncoderError: For another word.
    """
    if wrap not in WRAPS:
        raise EncoderError(f"wrap={wrap!r} is not one of {', '.join(WRAPS)}.")
    if world() == 1:
        return student
    if wrap == "ddp":
        # a batch without some sensor leaves its encoder out, on all processes alike
        return DistributedDataParallel(student, find_unused_parameters=True)
    from torch.distributed.fsdp import fully_shard

    for module in student.modules():
        if isinstance(module, Layer | Block):
            fully_shard(module)
    return fully_shard(student)


def synchronised(module: nn.Module, last: bool) -> contextlib.AbstractContextManager:
    """Average gradients over processes only in the last backward pass of a step."""
    if last or not isinstance(module, DistributedDataParallel):
        return contextlib.nullcontext()
    return module.no_sync()


def recompute(module: nn.Module) -> None:
    """Keep no activations inside the layers; the backward pass computes them again."""
    for layer in module.modules():
        if isinstance(layer, Layer | Block):
            for name in ("forward", "first"):
                if hasattr(layer, name):
                    plain = getattr(layer, name)
                    setattr(layer, name, functools.partial(_again, plain))


def _again(plain: object, *inputs: object) -> object:
    return checkpoint(plain, *inputs, use_reentrant=False)
