"""What encoders are asked: labelled places and sets, as arrays with one row per cell or image.

A `Task` is a question; its `Images` are imagery and labels, loaded when they are needed. Labels live
here and in the analyses only: `skysense.pretrain` has no field for them and never imports this room.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import xarray as xr

from skysense.analysis import label_field
from skysense.batch import Batch
from skysense.dates import choose_dates
from skysense.embedding import embed
from skysense.encoders import Encoder
from skysense.errors import AnalysisError
from skysense.plan import plan_grid
from skysense.stack import sensors_of

BLOCK = 160.0
"""Side of the squares of the checkerboard that separates training from test (m)."""

POSITION = 10
"""Number of features of `position`."""

AT_ONCE = 8
"""Windows of a patch set that are encoded together."""


@dataclass(frozen=True)
class Labels:
    """One kind of labels of all cells, or of all images."""

    classes: tuple[str, ...]
    index: np.ndarray
    """(n,) int: position in `classes`, -1 where there is no label."""


@dataclass(frozen=True)
class Images:
    """The imagery of a place or a set, and what is known of each 10 m cell that is encoded."""

    stack: xr.DataTree | None = None
    """A place; or ..."""
    windows: tuple[Batch, ...] = ()
    """... a set of windows of one shape and one row each."""
    before: tuple[Batch, ...] = ()
    """For change: the earlier windows; features are then |now - before|."""
    resolution: int = 10
    """Spacing of the cells (m): 10, 20 or 40; coarser cells are a sample of the finer ones."""
    image: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    """(n,) which image each cell belongs to."""
    metres: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    """(n, 2) distance of each cell from the image's left and top edge."""
    group: np.ndarray = field(default_factory=lambda: np.zeros(1, int))
    """(images,) images of one group stay on one side of a split."""
    labels: Mapping[str, Labels] = field(default_factory=dict)

    @property
    def dates(self) -> dict[str, int]:
        """How many dates of each sensor are used."""
        if self.stack is not None:
            chosen = choose_dates(self.stack)
            return {key: int(chosen[key].sizes["time"]) for key in sensors_of(chosen)}
        first = self.windows[0]
        return {key: each.pixels.shape[1] for key, each in first.sensors.items()}


@dataclass(frozen=True)
class Task:
    """One set of labels over one place or set of images."""

    name: str
    site: str
    """Folder or recipe the imagery comes from; tasks of one site share what is encoded."""
    kind: str
    """`pixels` (scored by mean IoU) or `patches` (one label per image, scored by accuracy)."""
    labels: str
    """Name among `Images.labels`."""
    load: Callable[[], Images]
    sensors: tuple[str, ...]
    block: float = BLOCK
    """Side of a block of the checkerboard (m); 0 = whole images, by their groups."""
    licence: str = ""
    credit: str = ""
    note: str = ""
    """What a reader of the scores must know."""
    synthetic: bool = False


@dataclass(frozen=True)
class Skipped:
    """Labelled imagery that is not evaluated."""

    name: str
    reason: str


def seen_by(task: Task, places: Sequence[str] | None) -> str:
    """Whether training saw a task's imagery: `yes`, `no`, or `unknown` without a list of its data.

    Args:
        task: The task.
        places: One text per place that was learned from; None if nobody says.
    """
    if places is None:
        return "unknown"
    return "yes" if any(task.site in text for text in places) else "no"


def images_of_stack(
    stack: xr.DataTree, labels: Mapping[str, xr.DataArray], resolution: int = 10
) -> Images:
    """A place with labels on any grid, as categorical fields.

    Args:
        stack: The place.
        labels: Name to (y, x) field with `categories`.
        resolution: Spacing of the cells (m).
    """
    box = plan_grid(choose_dates(stack), None, resolution).geobox
    coordinates = {name: np.asarray(box.coordinates[name].values) for name in ("y", "x")}
    blank = xr.DataArray(
        np.zeros((1, *box.shape), np.float32),
        {"feature": [0], **coordinates},
        ("feature", "y", "x"),
    ).odc.assign_crs(box.crs)
    y, x = np.meshgrid(coordinates["y"], coordinates["x"], indexing="ij")
    half = resolution / 2
    metres = np.stack([x - x[0, 0] + half, y[0, 0] - y + half], axis=-1).reshape(-1, 2)
    found = {}
    for name, field_ in labels.items():
        on_cells = label_field(field_, blank)
        index = np.nan_to_num(on_cells.values, nan=-1).astype(int).ravel()
        found[name] = Labels(tuple(on_cells.attrs["categories"]), index)
    return Images(
        stack,
        resolution=resolution,
        image=np.zeros(len(metres), int),
        metres=metres,
        labels=found,
    )


def images_of_windows(
    windows: Sequence[Batch],
    labels: Mapping[str, Labels],
    *,
    group: np.ndarray | None = None,
    before: Sequence[Batch] = (),
    resolution: int = 10,
) -> Images:
    """A set of windows, labelled per image or per cell of the sampled grid.

    Args:
        windows: One window each, all of one shape.
        labels: (images,) or (images × cells,) indices, cells in row-major order.
        group: (images,) which images belong together; each by itself if None.
        before: For change, the earlier windows.
        resolution: Spacing of the cells (m).
    """
    rows, columns = shape_of(windows[0], resolution)
    y, x = np.mgrid[:rows, :columns] * float(resolution)
    count = len(windows)
    return Images(
        windows=tuple(windows),
        before=tuple(before),
        resolution=resolution,
        image=np.repeat(np.arange(count), rows * columns),
        metres=np.tile(np.stack([x, y], axis=-1).reshape(-1, 2), (count, 1)),
        group=np.arange(count) if group is None else np.asarray(group),
        labels=dict(labels),
    )


def shape_of(window: Batch, resolution: int) -> tuple[int, int]:
    """(rows, columns) of the cells that features of a window have."""
    from skysense.encoders import FIRST_CELL, cells_of

    step, first = resolution // 10, FIRST_CELL[resolution]
    rows, columns = (-((first - n) // step) for n in cells_of(window))
    return rows, columns


def encode(images: Images, encoder: Encoder) -> np.ndarray:
    """Features of every cell, (n, d) float32; NaN where nothing was seen."""
    if images.stack is not None:
        features = embed(images.stack, encoder, resolution=images.resolution)
        if features.shape[1] * features.shape[2] != len(images.image):
            raise AnalysisError(
                f"The features have {features.shape[1:]} cells, but {len(images.image)} are "
                "labelled; the stack was loaded anew with other dates or edges."
            )
        return features.values.reshape(features.shape[0], -1).T
    values = _encoded(images.windows, encoder, images.resolution)
    if images.before:
        values = np.abs(values - _encoded(images.before, encoder, images.resolution))
    return values


def position(images: Images) -> np.ndarray:
    """Where each cell of a place lies, and nothing of what is seen there: (n, 10) float32.

    Both coordinates with two harmonics each. Land cover is smooth, so knowing where one is goes far;
    features that carry their place in the window (position embeddings do) profit from the same.
    """
    along = images.metres / np.maximum(images.metres.max(0), 1.0)
    waves = [f(np.pi * k * along) for k in (1, 2) for f in (np.sin, np.cos)]
    return np.concatenate([along, *waves], axis=1).astype(np.float32)


def _encoded(windows: Sequence[Batch], encoder: Encoder, resolution: int) -> np.ndarray:
    parts = []
    for some in _runs(windows):
        made = encoder(some, resolution).float().cpu()  # b d h w
        parts.append(made.permute(0, 2, 3, 1).reshape(-1, made.shape[1]).numpy())
    return np.concatenate(parts)


def _runs(windows: Sequence[Batch]) -> Iterator[Batch]:
    """Windows joined into batches."""
    for first in range(0, len(windows), AT_ONCE):
        some = windows[first : first + AT_ONCE]
        sensors = {}
        for key, like in some[0].sensors.items():
            parts = [each.sensors[key] for each in some]
            sensors[key] = type(like)(
                torch.cat([p.pixels for p in parts]),
                torch.cat([p.valid for p in parts]),
                torch.cat([p.doy for p in parts]),
            )
        yield Batch(sensors, torch.cat([each.lonlat for each in some]))


def pooled(values: np.ndarray, image: np.ndarray) -> np.ndarray:
    """One row per image: mean and standard deviation over its cells that were seen, (images, 2 d)."""
    count = int(image.max()) + 1
    seen = np.isfinite(values).all(1)
    rows = np.full((count, 2 * values.shape[1]), np.nan, np.float32)
    order = np.argsort(image, kind="stable")
    for i, cells in enumerate(np.split(order, np.searchsorted(image[order], np.arange(1, count)))):
        part = values[cells[seen[cells]]]
        if len(part):
            rows[i] = np.concatenate([part.mean(0), part.std(0)])
    return rows
