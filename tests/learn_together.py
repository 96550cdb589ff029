"""Two processes that learn together; run by `test_processes.py`.

`python learn_together.py PLACES LABELLED OUT PORT` splits in two, once for all imports, as `torchrun`
would start them; both learn in OUT and write what they got to `OUT/RANK.pt`. Everything is in double precision: in
single precision AdamW makes whole steps of the rounding in gradients that are zero, and no two ways of
adding up agree for long.
"""

import dataclasses
import multiprocessing
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from small_run import MODEL, RUN, RUN_V2

from skysense.errors import Cancelled
from skysense.pretrain.data import open_places
from skysense.pretrain.loader import Loader
from skysense.pretrain.loop import begin, make_step, pretrain
from skysense.pretrain.parallel import rank, whole, world
from skysense.pretrain.processes import together

SHORT = dataclasses.replace(RUN, steps=4)
SHORT_V2 = dataclasses.replace(RUN_V2, steps=4)
BANKS = dataclasses.replace(MODEL.prototypes, dim=8)  # reached by a map that is learned too
TWICE = dataclasses.replace(
    RUN, accumulate=2, checkpoint=True, model=dataclasses.replace(MODEL, prototypes=BANKS)
)
SEED = 24
"""With it the four passes of `steps_that_see_unequally` see both sensors, S1, both, and S2."""


def learn(places, out, wrap, cancelled=lambda: False, config=SHORT):
    """A run as from the command line."""
    pretrain(config, places, out, workers=0, wrap=wrap, report=lambda _: None, cancelled=cancelled)


def learn_in_two_sittings(places, out, wrap):
    """Again, but the last process has enough after two steps, and then goes on."""
    asked = iter([False, rank() == world() - 1])
    try:
        learn(places, out, wrap, lambda: next(asked))
    except Cancelled:
        learn(places, out, wrap)


def steps_that_see_unequally(places, wrap):
    """Losses and weights of a student that accumulates, where half of the batch never sees S1."""
    run = begin(TWICE, "cpu", wrap)
    loader = Loader(
        open_places(places), RUN.views, RUN.augment, batch=RUN.batch, steps=4, seed=SEED,
        rank=rank(), world=world(),
    )  # fmt: skip
    pairs = map(half_blind, loader)
    lines = [make_step(run, pairs, step) for step in range(2)]
    sensors = [loader[step].plan.sensors for step in range(4)]
    weights = {k: whole(v).clone() for k, v in run.student.state_dict().items()}
    return {"lines": lines, "sensors": sensors, "weights": weights}


def half_blind(pair):
    b = len(pair.place)
    blind = torch.arange(b) + rank() * b >= RUN.batch // 2

    def view(batch):
        sensors = dict(batch.sensors)
        if "s1" in sensors:
            valid = sensors["s1"].valid & ~blind[:, None, None, None]
            sensors["s1"] = dataclasses.replace(sensors["s1"], valid=valid)
        return dataclasses.replace(batch, sensors=sensors)

    return dataclasses.replace(pair, u=view(pair.u), v=view(pair.v))


def take_part(number, places, labelled, out, port):
    """What one of the two processes does."""
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    got = {}
    with together(torch.device("cpu")):
        learn(places, out / "ddp", "ddp")
        learn_in_two_sittings(places, out / "fsdp", "fsdp")
        for wrap in ("ddp", "fsdp"):
            learn(labelled, out / f"v2-{wrap}", wrap, config=SHORT_V2)
        for wrap in ("ddp", "fsdp"):
            got[wrap] = steps_that_see_unequally(places, wrap)
    torch.save({**got, "left": not dist.is_initialized()}, out / f"{number}.pt")


if __name__ == "__main__":
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    given = (sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4])
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=take_part, args=(i, *given), daemon=True) for i in range(2)]
    for each in both:
        each.start()
    while any(each.is_alive() for each in both):
        if any(each.exitcode for each in both):  # the other may wait for this one for hours
            sys.exit(1)
        both[0].join(0.05)
        both[1].join(0.05)
    sys.exit(any(each.exitcode for each in both))
