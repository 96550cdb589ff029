"""Banks that several processes move together: run by `test_prototypes`, in it and beside it."""

import datetime
import sys
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist

from skysense.model.config import PrototypeConfig
from skysense.model.prototypes import Prototypes, sinkhorn


class Outcome(NamedTuple):
    state: dict
    done: list
    plan: torch.Tensor


def followed(batches, rank, world, total):
    """What one of `world` processes ends with after its part of every batch."""
    banks = Prototypes(PrototypeConfig(context=True, cells=4, count=6, momentum=0.9), 8)
    banks.bank, banks.usage = banks.bank.double(), banks.usage.double()
    done = []
    for features, cell in batches:
        part = slice(rank * len(cell) // world, (rank + 1) * len(cell) // world)
        done.append(tuple(banks.update(features[part], cell[part], total)))
    scores = batches[0][0][rank * 6 // world : (rank + 1) * 6 // world, :5, 0, 0]
    return Outcome(banks.state_dict(), done, sinkhorn(scores, 0.3, 4, total))


def with_another(folder, rank):
    """The same, as one of two processes that meet in a folder."""
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )

    def total(x):
        x = x.clone()
        dist.all_reduce(x)
        return x

    try:
        return followed(torch.load(Path(folder) / "batches.pt"), rank, 2, total)
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    torch.save(tuple(with_another(sys.argv[1], int(sys.argv[2]))), f"{sys.argv[1]}/1.pt")
