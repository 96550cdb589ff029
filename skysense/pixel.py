"""How one cell's features came about: which dates of which sensor saw it, and how near a seam lies.

Everything is looked up: in the stack that the features were made from, in what the features say
about themselves, and on the lattice of windows. Nothing is encoded again.
"""

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr

from skysense.analysis.pixels import check_features, geobox_of
from skysense.analysis.places import cell_at, checked_place, extent_sentence
from skysense.errors import AnalysisError
from skysense.sensors import CELL, SENSORS
from skysense.stack import check_stack, sensors_of
from skysense.windows import HALO, Lattice, plan_windows

USABLE = 0.5
"""A date counts as seen if at least this share of the cell's pixels is usable, as for encoders."""


@dataclass(frozen=True)
class SensorAt:
    """What one sensor gave to a cell."""

    key: str
    days: tuple[str, ...]
    """ISO day, or `unknown`, of each date that entered the features."""
    usable: tuple[float, ...]
    """For each, the share of the cell's pixels that is usable, 0..1."""
    orbits: tuple[str, ...]
    """Distinct orbit directions of these dates, as far as they are known."""
    baselines: tuple[str, ...]
    """Distinct processing baselines (Sentinel-2), as far as they are known."""
    levels: tuple[str, ...]
    """Distinct processing levels or kinds of backscatter, as far as they are known."""
    offset: str
    """The note about the Sentinel-2 offset; empty where the source made none."""
    resampling: str
    """What was resampled and how; empty if nothing was."""
    pixel: float
    """Size of the sensor's pixels (m)."""
    missing_bands: tuple[str, ...]
    source: str
    licence: str

    @property
    def title(self) -> str:
        """The sensor's name, for people."""
        return SENSORS[self.key].title

    @property
    def seen(self) -> tuple[str, ...]:
        """Days on which the cell was seen: at least half of its pixels were usable."""
        pairs = zip(self.days, self.usable, strict=True)
        return tuple(day for day, share in pairs if share >= USABLE)

    @property
    def masked(self) -> tuple[str, ...]:
        """Days that entered elsewhere, and were masked or missing here."""
        pairs = zip(self.days, self.usable, strict=True)
        return tuple(day for day, share in pairs if share < USABLE)


@dataclass(frozen=True)
class PixelProvenance:
    """Where the features of one cell come from."""

    lon: float
    lat: float
    """Of the middle of the cell whose features were sampled (degrees)."""
    cell: tuple[int, int]
    """(row, column) in the features."""
    resolution: float
    """Spacing of the features (m); each is that of the 10 m cell in the middle."""
    filled: bool
    """False where nothing usable was seen, so that there are no features."""
    sensors: tuple[SensorAt, ...]
    encoder: str
    weights: str
    """`sha256:...`, or what stands for weights."""
    weights_licence: str
    data_licence: str
    device: str
    """Device, precision, threads and windows at once."""
    untrained: bool
    synthetic: bool
    approximate: bool
    """True if a file's position is a guess."""
    seam: float
    """Distance to the nearest seam between two windows (m); infinite if one window holds all."""
    rim: float
    """Distance to the nearest edge of the images (m)."""

    @property
    def observations(self) -> int:
        """Dates of all sensors on which the cell was seen."""
        return sum(len(each.seen) for each in self.sensors)

    @property
    def at_rim(self) -> bool:
        """True if the encoder saw less than its usual surroundings on one side."""
        return self.rim < HALO


def provenance_at(
    stack: xr.DataTree, features: xr.DataArray, lon: float, lat: float
) -> PixelProvenance:
    """Where the features at a place come from.

    Args:
        stack: What the features were made from, with all its dates or the chosen ones.
        features: (feature, y, x), with the attributes that `embed` gave them.
        lon: Degrees.
        lat: Degrees.

    Raises:
        StackError: If this is no stack.
        AnalysisError: If the place is outside the features, or they were made from another stack.
    """
    check_stack(stack)
    check_features(features)
    lon, lat = checked_place(lon, lat)
    found = cell_at(features, lon, lat)
    if found is None:
        raise AnalysisError(
            f"({lon:g}, {lat:g}) lies outside the features: {extent_sentence(features)}."
        )
    geobox = geobox_of(features)
    x, y = geobox.pix2wld(found[1] + 0.5, found[0] + 0.5)
    middle = geobox.crs.transformer_to_crs("EPSG:4326")(x, y)
    attrs = features.attrs
    run = [str(attrs.get(key, "")) for key in ("device", "dtype")]
    for key, one, more in (
        ("threads", "thread", "threads"),
        ("batch_size", "window at once", "windows at once"),
    ):
        if (count := attrs.get(key)) is not None:
            run.append(f"{count} {one if count == 1 else more}")
    lattice = Lattice.from_attrs(stack.attrs)
    return PixelProvenance(
        lon=float(middle[0]),
        lat=float(middle[1]),
        cell=found,
        resolution=abs(float(geobox.resolution.x)),
        filled=bool(np.isfinite(features.values[:, found[0], found[1]]).all()),
        sensors=tuple(_sensor_at(stack, key, attrs, x, y) for key in _entered(stack, attrs)),
        encoder=str(attrs.get("encoder", "")),
        weights=str(attrs.get("weights", "")),
        weights_licence=str(attrs.get("weights_licence", "")),
        data_licence=str(attrs.get("data_licence", "")),
        device=", ".join(part for part in run if part),
        untrained=bool(attrs.get("untrained")),
        synthetic=bool(attrs.get("synthetic")),
        approximate=bool(attrs.get("approximate")),
        seam=seam_distance(lattice, x, y),
        rim=_rim(stack, x, y),
    )


def seam_distance(lattice: Lattice, x: float, y: float) -> float:
    """How far a place is from the nearest seam between two windows (m), infinite without seams.

    Args:
        lattice: Where the windows of the source begin.
        x: In the lattice's CRS (m).
        y: In the lattice's CRS (m).
    """
    step = CELL / 100
    windows = plan_windows(lattice, (x - step, y - step, x + step, y + step))
    ends = lattice.bounds if lattice.bounded else (math.inf,) * 4
    away = [
        abs(edge - place)
        for window in windows
        for edge, end, place in zip(window.core, ends, (x, y, x, y), strict=True)
        if abs(edge - end) > step  # where the source ends there is no other window
    ]
    return min(away, default=math.inf)


def _entered(stack: xr.DataTree, attrs: dict) -> list[str]:
    """Sensors that entered, all of which the stack must hold."""
    held = sensors_of(stack)
    keys = [str(key) for key in attrs.get("sensors", held)]
    absent = [key for key in keys if key not in held]
    if absent:
        raise AnalysisError(
            f"These features were made with {', '.join(absent)}, which the stack does not hold. "
            "Give the stack that they were made from."
        )
    return [key for key in SENSORS if key in keys]


def _sensor_at(stack: xr.DataTree, key: str, attrs: dict, x: float, y: float) -> SensorAt:
    group = stack[key].to_dataset()
    dates = _dates(group, key, attrs)
    group = group.isel(time=dates)
    about = group.attrs
    pixel = abs(float(group.odc.geobox.resolution.x))
    notes = [str(note) for note in about.get("notes", [])]
    return SensorAt(
        key=key,
        days=tuple(_day(t) for t in group["time"].values),
        usable=tuple(float(share) for share in _usable(group["valid"], x, y, pixel)),
        orbits=_distinct(group["orbit_direction"]),
        baselines=_distinct(group["baseline"]),
        levels=_distinct(group["level"]) or _distinct(group["backscatter"]),
        offset=" ".join(note for note in notes if "offset" in note),
        resampling=str(about.get("resampling", "")),
        pixel=pixel,
        missing_bands=tuple(str(band) for band in about.get("missing_bands", [])),
        source=str(about.get("source", "")),
        licence=str(about.get("licence", "")),
    )


def _dates(group: xr.Dataset, key: str, attrs: dict) -> list[int]:
    """Numbers of the dates that the features say they were made from."""
    days = [_day(t) for t in group["time"].values]
    items = [str(item) for item in group["item"].values]
    if f"dates_{key}" not in attrs:
        return list(range(len(days)))
    wanted = [str(day) for day in attrs[f"dates_{key}"]]
    names = [str(item) for item in attrs.get(f"items_{key}", [""] * len(wanted))]
    free, chosen = list(range(len(days))), []
    for day, name in zip(wanted, names, strict=True):
        match = next((i for i in free if (days[i], items[i]) == (day, name)), None)
        if match is None:
            raise AnalysisError(
                f"These features were made with {SENSORS[key].title} of {day}, which the stack does "
                "not hold. Give the stack that they were made from."
            )
        free.remove(match)
        chosen.append(match)
    return sorted(chosen)


def _usable(valid: xr.DataArray, x: float, y: float, pixel: float) -> np.ndarray:
    """(time,) share of usable pixels in the 10 m cell around a place; 0 outside the grid."""
    near = {}
    for axis, place in (("y", y), ("x", x)):
        at = valid[axis].values
        inside = np.flatnonzero(np.abs(at - place) < CELL / 2 + 1e-6)
        if not len(inside):  # pixels larger than a cell
            nearest = int(np.abs(at - place).argmin())
            inside = np.array(
                [nearest] if abs(at[nearest] - place) <= pixel / 2 + 1e-6 else [], int
            )
        near[axis] = inside
    if not all(len(inside) for inside in near.values()):
        return np.zeros(valid.sizes["time"])
    return np.asarray(valid.isel(near).mean(("y", "x")).values, float)


def _rim(stack: xr.DataTree, x: float, y: float) -> float:
    boxes = [stack[key].to_dataset().odc.geobox.boundingbox for key in sensors_of(stack)]
    return float(
        min(
            x - min(box.left for box in boxes),
            max(box.right for box in boxes) - x,
            y - min(box.bottom for box in boxes),
            max(box.top for box in boxes) - y,
        )
    )


def _distinct(values: xr.DataArray) -> tuple[str, ...]:
    return tuple(sorted({str(value) for value in values.values} - {""}))


def _day(moment: np.datetime64) -> str:
    return "unknown" if np.isnat(moment) else str(moment)[:10]
