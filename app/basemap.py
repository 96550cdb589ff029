"""Land, sea and a faint grid of degrees as map tiles, drawn here and nowhere else.

The package `global-land-mask` holds a mask of the Earth at 30 arc seconds (about 1 km; GLOBE, NOAA)
that takes 933 MB once unpacked. Rows of it are mostly long runs, so only the columns where land
begins or ends are kept (about 6 MB), read from the package's file in one pass.
"""

import functools
import importlib.util
import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

TILE = 256
"""Side of a tile (pixels)."""

CREDIT = "Land and sea: GLOBE, NOAA"

MAX_ZOOM = 20

_LAND, _SEA, _GRID = (243, 241, 235), (209, 224, 232), (222, 219, 211)
_ROWS, _COLUMNS = 21_600, 43_200
_STEPS = (90, 45, 30, 15, 10, 5, 2, 1, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)


@dataclass(frozen=True)
class LandMask:
    """Sea and land by row, north first, from 180° W, as run boundaries."""

    edges: np.ndarray
    """Columns where the value changes, row after row (int32)."""
    starts: np.ndarray
    """Where each row's edges begin in `edges`; one longer than there are rows (int64)."""
    sea_first: np.ndarray
    """Whether each row begins with sea (rows,) bool."""

    def sea(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Whether cells are sea, for every pair of a row and a column: (rows, columns) bool."""
        out = np.empty((len(rows), len(columns)), bool)
        wrapped = columns % _COLUMNS
        for i, row in enumerate(np.clip(rows, 0, _ROWS - 1)):
            runs = self.edges[self.starts[row] : self.starts[row + 1]]
            changes = np.searchsorted(runs, wrapped, side="right")
            out[i] = self.sea_first[row] ^ (changes % 2 == 1)
        return out


@functools.cache
def land_mask() -> LandMask:
    """The mask of the whole Earth, read once (about a second)."""
    spec = importlib.util.find_spec("global_land_mask")  # importing it would unpack all of it
    folder = Path(spec.origin).parent  # type: ignore[union-attr, arg-type]
    edges, counts, first = [], [], []
    with (
        zipfile.ZipFile(folder / "globe_combined_mask_compressed.npz") as archive,
        archive.open("mask.npy") as file,
    ):
        np.lib.format.read_magic(file)
        shape, _, _ = np.lib.format.read_array_header_1_0(file)
        band = 720
        for _ in range(0, shape[0], band):
            block = np.frombuffer(file.read(band * shape[1]), bool).reshape(-1, shape[1])
            row, column = np.nonzero(block[:, 1:] != block[:, :-1])
            edges.append((column + 1).astype(np.int32))
            counts.append(np.bincount(row, minlength=len(block)))
            first.append(block[:, 0].copy())
    starts = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return LandMask(np.concatenate(edges), starts, np.concatenate(first))


@functools.lru_cache(maxsize=2048)
def tile(z: int, x: int, y: int) -> bytes:
    """One web-map tile as PNG.

    Args:
        z: Zoom, 0..20.
        x: Column; wraps round the Earth.
        y: Row from the north, 0..2^z - 1.

    Raises:
        ValueError: If there is no such tile.
    """
    if not (0 <= z <= MAX_ZOOM and 0 <= y < 2**z):
        raise ValueError(f"There is no tile {z}/{x}/{y}.")
    lon, lat = _pixel_places(z, x % 2**z, y)
    share = _sea_share(lon, lat)[..., None]
    picture = share * np.array(_SEA) + (1 - share) * np.array(_LAND)
    _draw_grid(picture, lon, lat, z)
    flat = Image.fromarray(picture.round().astype(np.uint8)).quantize(32)
    file = io.BytesIO()
    flat.save(file, "PNG", optimize=False)
    return file.getvalue()


def _pixel_places(z: int, x: int, y: int) -> tuple[np.ndarray, np.ndarray]:
    """Longitudes of the columns and latitudes of the rows at the middle of the pixels (degrees)."""
    world = TILE * 2**z
    middle = np.arange(TILE) + 0.5
    lon = (x * TILE + middle) / world * 360 - 180
    mercator = math.pi * (1 - 2 * (y * TILE + middle) / world)
    return lon, np.degrees(np.arctan(np.sinh(mercator)))


def _sea_share(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """How much of each pixel is sea, 0..1, with smooth coasts at every zoom."""
    mask = land_mask()
    column, row = (lon + 180) * 120 - 0.5, (90 - lat) * 120 - 0.5  # 120 cells in a degree
    if lon[1] - lon[0] > 1 / 240:  # pixels wider than half a cell: mean of 3 x 3 samples
        step_x, step_y = column[1] - column[0], np.gradient(row)
        total = np.zeros((TILE, TILE))
        for dy in (-1 / 3, 0, 1 / 3):
            for dx in (-1 / 3, 0, 1 / 3):
                rows = np.rint(row + dy * step_y).astype(int)
                total += mask.sea(rows, np.rint(column + dx * step_x).astype(int))
        return total / 9
    rows = np.arange(math.floor(row[0]), math.floor(row[-1]) + 2)
    columns = np.arange(math.floor(column[0]), math.floor(column[-1]) + 2)
    block = mask.sea(rows, columns).astype(float)
    r, c = np.floor(row).astype(int) - rows[0], np.floor(column).astype(int) - columns[0]
    fr, fc = (row % 1)[:, None], (column % 1)[None, :]
    level = (block[r][:, c] * (1 - fr) + block[r + 1][:, c] * fr) * (1 - fc) + (
        block[r][:, c + 1] * (1 - fr) + block[r + 1][:, c + 1] * fr
    ) * fc
    sharpness = 1 / max(float(column[1] - column[0]), 1e-9)  # an edge about one pixel wide
    return np.clip((level - 0.5) * min(sharpness, 60.0) + 0.5, 0, 1)


def _draw_grid(picture: np.ndarray, lon: np.ndarray, lat: np.ndarray, z: int) -> None:
    """A line of degrees about every two tiles, one pixel wide, in place."""
    wanted = 2 * 360 / 2**z
    step = next((s for s in _STEPS if s <= wanted), _STEPS[-1])
    for axis, values in ((1, lon), (0, lat)):
        index = np.floor(values / step)
        spacing = values[1] - values[0]
        before = np.floor((values[0] - spacing) / step)
        crossing = np.diff(index, prepend=before) != 0
        selector = (slice(None), crossing) if axis == 1 else (crossing, slice(None))
        picture[selector] = 0.75 * np.array(_GRID) + 0.25 * picture[selector]
