"""Pixels of a lazy stack into memory, date by date, losing only what cannot be read.

One broken file must neither stop a job of a hundred dates nor leave a hole that looks like a
cloud. So a date with an unreadable image is left out as a whole, and the stack's notes name it
with the reason; if a server stops answering, the rest is not tried and that is said too.
"""

import math
import threading
from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr
from dask import config

from skysense.errors import Cancelled, SourceError, StackError
from skysense.sensors import SENSORS
from skysense.sources.net import ReadError
from skysense.sources.radiometry import doubts
from skysense.stack import check_stack, sensors_of

READERS = 8
"""Images read at once; heavier users of public catalogues have been banned."""

GIVE_UP = 3
"""Dates in a row without any answer from the server, after which the rest is not tried."""

SAMPLE = 1_000_000
"""Pixels of a date, evenly spread, that are looked at to see whether its numbers can be right."""


def read_stack(
    tree: xr.DataTree,
    *,
    memory_gb: float = 4.0,
    progress: Callable[[int, int, str], None] | None = None,
    cancel: threading.Event | None = None,
) -> xr.DataTree:
    """The same stack with its pixels in memory.

    Choose dates first (`skysense.dates.choose_dates`): everything in `tree` is read.

    Args:
        tree: A stack, lazy or not.
        memory_gb: What may be held; more is refused before anything is read.
        progress: Called after each date with (done, total, sentence).
        cancel: Set it to stop.

    Returns:
        A stack without the dates that could not be read. Each is named in its sensor's `notes`,
        and dates whose numbers cannot be right are flagged there. A sensor of which nothing could
        be read is left out, and the stack's own `notes` say so.

    Raises:
        StackError: If it would not fit into memory.
        SourceError: If no date of any sensor could be read.
        Cancelled: If `cancel` was set.
    """
    check_stack(tree)
    keys = sensors_of(tree)
    size = sum(tree[k]["data"].nbytes + tree[k]["valid"].nbytes for k in keys) / 1e9
    if size > memory_gb:
        raise StackError(
            f"The stack is {size:.1f} GB, more than memory_gb={memory_gb:g}. Choose fewer dates "
            "(choose_dates), a smaller region, or raise memory_gb."
        )
    total = sum(tree[k].sizes["time"] for k in keys)
    done = 0
    notes = list(tree.attrs.get("notes", []))
    groups: dict[str, xr.Dataset] = {}
    reasons: list[str] = []
    for key in keys:

        def step(sentence: str) -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(done, total, sentence)

        group, reasons = _read_group(key, tree[key].to_dataset(), step, cancel)
        if group is None:
            notes.append(f"{SENSORS[key].title}: no date could be read. {reasons[0]}")
        else:
            groups[key] = group
    return _joined(tree, groups, notes, reasons)


def without(tree: xr.DataTree, lost: Mapping[str, Mapping[int, str]]) -> xr.DataTree:
    """The stack without dates that could not be read, named in the notes as `read_stack` does.

    Args:
        tree: A stack.
        lost: Sensor to index along `time` to the reason, a sentence.

    Raises:
        SourceError: If no date of any sensor is left.
    """
    notes = list(tree.attrs.get("notes", []))
    groups: dict[str, xr.Dataset] = {}
    said: list[str] = []
    for key in sensors_of(tree):
        group, days = tree[key].to_dataset(), days_of(tree[key].to_dataset())
        reasons = dict(sorted(lost.get(key, {}).items()))
        said = [f"{days[i]} left out: {why}" for i, why in reasons.items()]
        kept = [i for i in range(len(days)) if i not in reasons]
        if not kept:
            notes.append(f"{SENSORS[key].title}: no date could be read. {said[0]}")
            continue
        groups[key] = group.isel(time=kept) if said else group
        groups[key].attrs = {**group.attrs, "notes": [*group.attrs.get("notes", []), *said]}
    return _joined(tree, groups, notes, said)


def is_lazy(group: xr.Dataset) -> bool:
    """True if pixels are read when they are used, False if they are in memory."""
    return group["data"].chunks is not None or group["valid"].chunks is not None


def days_of(group: xr.Dataset) -> list[str]:
    """ISO day of each date, or `unknown`."""
    return ["unknown" if np.isnat(t) else str(t)[:10] for t in group["time"].values]


def _joined(
    tree: xr.DataTree, groups: Mapping[str, xr.Dataset], notes: list[str], reasons: list[str]
) -> xr.DataTree:
    if not groups:
        raise SourceError(f"No image could be read. {reasons[0]}")
    root = xr.Dataset(attrs={**tree.attrs, "notes": notes})
    return xr.DataTree.from_dict({"/": root, **{f"/{k}": g for k, g in groups.items()}})


def _read_group(
    key: str, group: xr.Dataset, step: Callable[[str], None], cancel: threading.Event | None
) -> tuple[xr.Dataset | None, list[str]]:
    """One sensor in memory, or None, and the sentences about what was lost or looks wrong."""
    count, days = group.sizes["time"], days_of(group)
    here = not is_lazy(group)
    data = group["data"].values if here else np.full(group["data"].shape, np.nan, "f4")
    valid = group["valid"].values if here else np.zeros(group["valid"].shape, bool)
    kept, lost, silent = [], [], 0
    for i in range(count):
        if cancel is not None and cancel.is_set():
            raise Cancelled
        if silent >= GIVE_UP:
            lost += [
                f"{day} left out: not tried, the server had stopped answering." for day in days[i:]
            ]
            break
        date = group[["data", "valid"]].isel(time=i)
        try:
            # Threads wait for the network, not for the processor: more of them than cores.
            with config.set(scheduler="threads", num_workers=READERS):
                date = date.compute()
        except ReadError as error:
            silent = silent + 1 if error.fault.server else 0
            lost.append(f"{days[i]} left out: {error}")
        else:
            silent = 0
            kept.append(i)
            if not here:
                data[i], valid[i] = date["data"].values, date["valid"].values
            del date
            every = slice(None, None, math.ceil(math.sqrt(valid[i].size / SAMPLE)))
            found = doubts(key, data[i, :, every, every], valid[i, every, every])
            lost += [f"{days[i]}: {sentence}" for sentence in found]
        step(f"{SENSORS[key].title} {days[i]}")
    if not kept:
        return None, lost
    read = group.isel(time=kept)
    chosen = slice(None) if len(kept) == count else kept
    read["data"] = (group["data"].dims, data[chosen], group["data"].attrs)
    read["valid"] = (group["valid"].dims, valid[chosen], group["valid"].attrs)
    read.attrs = {**group.attrs, "notes": [*group.attrs.get("notes", []), *lost]}
    return read, lost
