"""Several forms of one computation, timed in turns, so that all of them meet the same machine."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

WARM_UPS = 2
"""Rounds that do not count."""


def compare(
    case: str,
    forms: Mapping[str, Callable[[], Any]],
    errors: Mapping[str, float],
    runs: int,
) -> list[dict[str, Any]]:
    """Time all forms, print and return a row for each.

    Args:
        case: What is computed.
        forms: By name, the peer first.
        errors: How far each is off from float64, relative.
        runs: Rounds that count.

    Returns:
        For each form `case`, `form`, `seconds` (median), `ratio` (the peer's seconds over its own),
        `best` and `error`.
    """
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(WARM_UPS + runs):
        for name, form in forms.items():
            start = time.perf_counter()
            form()
            seconds[name].append(time.perf_counter() - start)
    peer = statistics.median(seconds[next(iter(forms))][WARM_UPS:])
    rows = []
    for name, times in seconds.items():
        middle, best = statistics.median(times[WARM_UPS:]), min(times)
        rows.append(
            {
                "case": case,
                "form": name,
                "seconds": middle,
                "ratio": peer / middle,
                "best": best,
                "error": errors[name],
            }
        )
        print(
            f"  {name:30s} {middle * 1e3:9.1f} ms   {peer / middle:5.2f} ×   "
            f"(best {best * 1e3:.1f} ms; off from float64 by {errors[name]:.1e})"
        )
    return rows
