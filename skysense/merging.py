"""Merge schedules of SkySense V2: before which stages 2 × 2 tokens of high resolution become one.

Merging less makes finer tokens and costs more: by default tokens go from 1.25 m to 10 m, with `2,3` to
5 m, with `none` they stay. Features lie on the 10 m cells whatever the schedule.
"""

from collections.abc import Sequence
from typing import Any

from skysense.checks import shown
from skysense.errors import EncoderError

STAGES = (2, 3, 4)
"""Stages before which tokens can be merged."""

NONE = "none"
"""Says that they are merged before none."""

USUAL = "2,3,4"
"""What a SkySense V2 encoder does unless told otherwise: tokens of 10 m."""


def schedule_of(merge: Any) -> tuple[bool, ...]:
    """A schedule as a tuple of three.

    Args:
        merge: True or False for each of `STAGES`, or what `said` made of them.

    Raises:
        EncoderError: It is neither.
    """
    if isinstance(merge, str):
        words = [] if merge == NONE else merge.split(",")
        known = [str(stage) for stage in STAGES]
        if set(words) <= set(known) and len(set(words)) == len(words):
            return tuple(stage in words for stage in known)
    elif isinstance(merge, list | tuple) and [type(each) for each in merge] == [bool] * len(STAGES):
        return tuple(merge)
    raise EncoderError(
        f"merge={shown(merge)} is no schedule; give True or False for merging tokens before stages "
        "2, 3 and 4, or these stages in words, such as '2,3' or 'none'."
    )


def said(merge: Sequence[bool]) -> str:
    """A schedule in words: `2,3,4`, `2,3`, `none`, ..."""
    stages = [str(stage) for stage, yes in zip(STAGES, merge, strict=True) if yes]
    return ",".join(stages) or NONE
