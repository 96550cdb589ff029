"""How the ground is cut into encoder windows, so that a place always gets the same value.

A window is 640 m on a side (64 Sentinel-2 pixels, 2,048 high-resolution pixels). Its outer 80 m
are halo: the encoder sees them, their values are thrown away. Which window a place belongs to is
fixed by the *source*, never by the rectangle somebody drew: absolute multiples of 480 m in UTM for
a catalogue, the file's own corner for a file. What is inside a window may differ only if the
source differs.

Along one axis of a catalogue (core 480 m, window 640 m)::

    core    |---- i ----|--- i+1 ---|
    window |------ i ------|
                     |------ i+1 -----|
"""

import itertools
import math
from dataclasses import dataclass

from skysense.checks import as_number, shown
from skysense.errors import StackError
from skysense.sensors import CELL, TOKEN, WINDOW

HALO = 80.0
"""Width of the rim of a window that is seen but not kept (m)."""

SMALLEST = 80.0
"""Windows of small files are multiples of this (m): 256 high-resolution pixels."""

HR_MARGIN = 4
"""High-resolution source pixels that are read beyond each side of a window.

Resampling to the window's grid looks at neighbours, so a source loads as many around the windows
of a region as reading a window takes; the other sensors are copied and need none.
"""

Bounds = tuple[float, float, float, float]
"""(left, bottom, right, top) in metres of the lattice's CRS."""


@dataclass(frozen=True)
class Lattice:
    """Where the windows of a source begin."""

    crs: str
    """A UTM zone, `EPSG:326zz` or `EPSG:327zz`."""
    x0: float = 0.0
    """Left edge (m)."""
    y0: float = 0.0
    """Top edge (m)."""
    width: float = 0.0
    """Extent to the right (m); 0 means without end."""
    height: float = 0.0
    """Extent downwards (m); 0 means without end."""

    @property
    def bounded(self) -> bool:
        """True for a file, False for a catalogue."""
        return self.width > 0 and self.height > 0

    @property
    def bounds(self) -> Bounds:
        """Extent of a bounded lattice (m)."""
        return self.x0, self.y0 - self.height, self.x0 + self.width, self.y0

    def attrs(self) -> dict[str, str | float]:
        """Flat attributes, as a stack stores them."""
        return {
            "lattice_crs": self.crs,
            "lattice_x0": float(self.x0),
            "lattice_y0": float(self.y0),
            "lattice_width": float(self.width),
            "lattice_height": float(self.height),
        }

    @classmethod
    def from_attrs(cls, attrs: dict) -> "Lattice":
        """Read back what `attrs` wrote.

        Raises:
            StackError: If the attributes are missing, or not what `attrs` writes.
        """
        names = [f"lattice_{key}" for key in ("crs", "x0", "y0", "width", "height")]
        absent = [name for name in names if name not in attrs]
        if absent:
            raise StackError(
                f"The stack has no attribute {absent[0]!r}; it was not made by load_stack or "
                "make_stack, so the windows of its source are unknown. Make it with "
                "skysense.stack.make_stack."
            )
        crs, x0, y0, width, height = (attrs[name] for name in names)
        metres = [as_number(value) for value in (x0, y0, width, height)]
        if not all(map(math.isfinite, metres)) or min(metres[2:]) < 0 or not isinstance(crs, str):
            given = {name: attrs[name] for name in names}
            raise StackError(
                f"The stack's windows cannot be read from {shown(given)}: they are a zone such as "
                "'EPSG:32631' and four numbers in metres. Load the stack again."
            )
        return cls(crs, *metres)


@dataclass(frozen=True)
class Window:
    """One encoder window."""

    bounds: Bounds
    """What the encoder sees (m)."""
    core: Bounds
    """What is kept of it (m)."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of 10 m cells the encoder sees."""
        left, bottom, right, top = self.bounds
        return round((top - bottom) / CELL), round((right - left) / CELL)


def plan_windows(lattice: Lattice, bounds: Bounds) -> list[Window]:
    """The windows whose cores touch `bounds`, row by row from the top left.

    Args:
        lattice: Where the source's windows begin.
        bounds: (left, bottom, right, top) in the lattice's CRS (m).

    Returns:
        Windows whose cores tile the lattice without overlap. Those of a file smaller than a window
        shrink to a multiple of 80 m; those at its far edges are shifted inward.
    """
    left, bottom, right, top = bounds
    columns = _spans(left - lattice.x0, right - lattice.x0, lattice.width)
    rows = _spans(lattice.y0 - top, lattice.y0 - bottom, lattice.height)
    windows = []
    for row_span, row_core in rows:
        for column_span, column_core in columns:
            windows.append(
                Window(
                    _to_bounds(lattice, column_span, row_span),
                    _to_bounds(lattice, column_core, row_core),
                )
            )
    return windows


def cover(lattice: Lattice, bounds: Bounds) -> Bounds:
    """Everything the windows of `bounds` see: what a source has to load (m)."""
    windows = plan_windows(lattice, bounds)
    if not windows:
        raise StackError(f"The bounds {bounds} lie outside the source.")
    lefts, bottoms, rights, tops = zip(*(w.bounds for w in windows), strict=True)
    return min(lefts), min(bottoms), max(rights), max(tops)


def _to_bounds(lattice: Lattice, x: tuple[float, float], y: tuple[float, float]) -> Bounds:
    return lattice.x0 + x[0], lattice.y0 - y[1], lattice.x0 + x[1], lattice.y0 - y[0]


def _spans(
    low: float, high: float, extent: float
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """(window, core) intervals along one axis, measured from the lattice's corner (m)."""
    step = WINDOW - 2 * HALO
    if extent <= 0:
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        return [
            ((i * step - HALO, (i + 1) * step + HALO), (i * step, (i + 1) * step))
            for i in range(first, last)
        ]
    if extent <= WINDOW:
        size = math.ceil(extent / SMALLEST - 1e-9) * SMALLEST
        spans = [((0.0, size), (0.0, extent))]
    else:
        final = math.ceil((extent - WINDOW) / TOKEN - 1e-9) * TOKEN
        starts = [i * step for i in range(math.ceil(final / step - 1e-9))] + [final]
        cuts = [0.0]
        for start, following in itertools.pairwise(starts):
            middle = (following + start + WINDOW) / 2
            cuts.append(math.floor(middle / TOKEN) * TOKEN)
        cuts.append(extent)
        spans = [
            ((start, start + WINDOW), (cuts[i], cuts[i + 1])) for i, start in enumerate(starts)
        ]
    return [s for s in spans if s[1][0] < high - 1e-6 and s[1][1] > low + 1e-6]
