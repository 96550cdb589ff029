"""One process or several: joining them, wrapping the student, recomputing activations."""

import contextlib
import functools
import os
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from skysense.errors import EncoderError
from skysense.model.layers import Layer
from skysense.model.swin import Block
from skysense.pretrain.parallel import total, whole, world

WRAPS = ("ddp", "fsdp")

PATIENCE = timedelta(hours=2)
"""How long processes wait for one another: while the first one prepares data, the others do nothing."""

STARTED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What `torchrun` tells every process that it starts."""


@contextlib.contextmanager
def together(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that `torchrun` started, if it did, and leave them at the end of the block.

    Gloo carries tensors between processors, NCCL between GPUs. A block inside another changes
    nothing. One that fails does not take leave: others may be waiting for it, and `torchrun` ends
    them.

    Args:
        device: The kind of device to work on.

    Yields:
        The device of this process.

    Raises:
        EncoderError: If there are more processes than GPUs.
    """
    own = own_device(device)
    joined = dist.is_available() and not dist.is_initialized() and os.environ.keys() >= {*STARTED}
    if joined:
        gpu = own.type == "cuda"
        if gpu:
            torch.cuda.set_device(own)
        dist.init_process_group(
            "nccl" if gpu else "gloo", timeout=PATIENCE, device_id=own if gpu else None
        )
    yield own
    if joined:
        dist.destroy_process_group()


def own_device(device: torch.device) -> torch.device:
    """The device of this process: of several on one machine, each has a GPU of its own.

    Raises:
        EncoderError: If there are more processes than GPUs.
    """
    number = int(os.environ.get("LOCAL_RANK", "0"))
    if device.type != "cuda" or "LOCAL_RANK" not in os.environ:
        return device
    if number >= torch.cuda.device_count():
        raise EncoderError(
            f"This is process {number + 1} on a machine with {torch.cuda.device_count()} GPUs. Give "
            "torchrun at most as many with --nproc-per-node, or choose device=cpu."
        )
    return torch.device("cuda", number)


def wait() -> None:
    """Go on when all processes have come here."""
    if world() > 1:
        dist.barrier()


def anywhere(yes: bool, device: torch.device) -> bool:
    """Whether any process says yes; all of them must ask."""
    return bool(total(torch.tensor(float(yes), device=device)) > 0)


def wrapped(student: nn.Module, wrap: str) -> nn.Module:
    """The student as it is called: itself in one process, else with gradients that are averaged.

    Args:
        student: On its device.
        wrap: `ddp`: every process holds all of it. `fsdp` (FSDP2): between steps every process holds
            only its share of parameters, gradients and AdamW's moments; for a pass all of them are
            gathered. That fits larger models into each device, not yet one whose weights alone do
            not fit. Layers are not gathered one by one, since processes call them unequally often:
            places differ in dates without clouds. Tested as two processes at tiny size only.

    Raises:
        EncoderError: For another word.
    """
    if wrap not in WRAPS:
        raise EncoderError(f"wrap={wrap!r} is not one of {', '.join(WRAPS)}.")
    if world() == 1:
        return student
    if wrap == "ddp":
        # A batch without some sensor leaves its encoder out, on some processes or on all. Where one
        # saw nothing, its gradients are ready earlier among the sums inside the losses than another's:
        # in a group of their own they cannot be taken for one another.
        group = dist.new_group()
        return DistributedDataParallel(student, process_group=group, find_unused_parameters=True)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(next(student.parameters()).device.type, (world(),))
    return fully_shard(student, mesh=mesh, reshard_after_forward=False)


@contextlib.contextmanager
def in_one_piece(module: nn.Module) -> Iterator[None]:
    """Have all parameters of a student at hand outside its forward pass, to be read only."""
    if _shared(module):
        module.unshard()
    yield
    if _shared(module):
        module.reshard()


def synchronised(module: nn.Module, last: bool) -> contextlib.AbstractContextManager:
    """Average gradients over processes only in the last backward pass of a step."""
    if last or not isinstance(module, DistributedDataParallel):
        return contextlib.nullcontext()
    return module.no_sync()


def balance(loss: torch.Tensor, module: nn.Module) -> None:
    """Before a backward pass: a gradient of zero for what only other processes' losses depend on.

    FSDP adds up the gradients that there are, which must be the same ones on all processes. DDP sees
    to that itself.
    """
    if not _shared(module):
        return
    nodes, met, reached = [loss.grad_fn], set(), set()
    while nodes:
        node = nodes.pop()
        if node is not None and node not in met:
            met.add(node)
            reached.add(id(getattr(node, "variable", None)))
            nodes += [before for before, _ in node.next_functions]
    parameters = list(module.parameters())
    here = torch.tensor([float(id(p) in reached) for p in parameters], device=loss.device)
    for parameter, mine, all_of_us in zip(parameters, here, total(here), strict=True):
        if all_of_us and not mine:
            parameter.grad = torch.zeros_like(parameter)


def _shared(module: nn.Module) -> bool:
    """Whether every process holds only a share of it."""
    return hasattr(module, "unshard")


def clipped(module: nn.Module, largest: float) -> torch.Tensor:
    """Scale gradients down to a norm of at most `largest`, over all processes' shares; what it was."""
    return whole(nn.utils.clip_grad_norm_(module.parameters(), largest))


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
