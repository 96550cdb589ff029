"""One of several processes that learn from parts of one batch; run by `test_parallel.py`.

`python two_processes.py RANK WORLD MEETING OUT` writes loss, log and averaged gradients to OUT.
"""

import os
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from skysense.pretrain.heads import FUSED, HeadConfig, Heads
from skysense.pretrain.losses import total_loss
from skysense.pretrain.parallel import gathered, total
from skysense.pretrain.terms import Features, LossConfig, Seen

B, T, M = 6, 2, 5
DIMS = {"s2": 4, "s1": 3, FUSED: 6}
CONFIG = LossConfig(clusters=2, alignment_positions=3)


class Student(nn.Module):
    """A linear layer per sensor stands for the encoder."""

    def __init__(self, generator):
        super().__init__()
        self.encoder = nn.ModuleDict({k: nn.Linear(d, d) for k, d in DIMS.items()})
        self.heads = Heads(DIMS, HeadConfig(7, 6, 8), generator)
        self.double()
        with torch.no_grad():
            for p in self.encoder.parameters():
                p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))

    def features(self, inputs, place):
        parts = {}
        for key, (x, weight) in inputs.items():
            y = self.encoder[key](x)
            parts[key] = Seen(y, weight, y.mean(-2), weight.any(-1))
        return Features(parts, place)

    def forward(self, inputs, place, other, teacher):
        return total_loss(
            self.features(inputs, place), other, self.heads, teacher.heads, CONFIG, 0.06
        )


def batch(seed, rows):
    """Part of a batch whose second half never saw S1, and whose places 1 and 4 are one."""
    draw = torch.Generator().manual_seed(seed)
    seen = torch.Generator().manual_seed(99)  # the same in both views
    inputs = {}
    for key, d in DIMS.items():
        shape = (B, M) if key == FUSED else (B, T, M)
        weight = torch.rand(shape, generator=seen) < 0.7
        if key == "s1":
            weight[B // 2 :] = False
        x = torch.randn(*shape, d, generator=draw, dtype=torch.float64)
        inputs[key] = (x[rows], weight[rows])
    return inputs, torch.tensor([0, 1, 2, 3, 1, 5])[rows]


def run(rank, world):
    rows = slice(rank * B // world, (rank + 1) * B // world)
    student, teacher = (Student(torch.Generator().manual_seed(s)) for s in (1, 2))
    with torch.no_grad():
        known = teacher.features(*batch(8, rows))
    module = DistributedDataParallel(student) if world > 1 else student
    loss, log = module(*batch(7, rows), known, teacher)
    loss.backward()
    x = (torch.arange(3.0) + rank).requires_grad_()
    weights = torch.arange(3.0 * world) * (rank + 1)
    (total(x).square().sum() * (rank + 1) + (gathered(x) * weights).sum()).backward()
    return {
        "log": log,
        "grads": {name: p.grad for name, p in student.named_parameters()},
        "total": total(torch.tensor([1.0 + rank])),
        "gathered": gathered(torch.tensor([rank, 10 + rank])),
        "flags": gathered(torch.tensor([rank == 0, True])),
        "primitive": x.grad,
    }


if __name__ == "__main__":
    rank, world = int(sys.argv[1]), int(sys.argv[2])
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{sys.argv[3]}", rank=rank, world_size=world
    )
    torch.save(run(rank, world), sys.argv[4])
    dist.destroy_process_group()
