"""What the satellite saw: one date of one sensor as a colour picture."""

from typing import Any

import numpy as np
import xarray as xr

from skysense.checks import shown, whole
from skysense.errors import AnalysisError
from skysense.sensors import SENSORS

MOST_PIXELS = 2048
"""Longest side of a picture; larger images show every so many pixels, and say so."""

CHANNELS = {
    "s2": ("red", "green", "blue"),
    "hr": ("red", "green", "blue"),
    "s1": ("vv", "vh", "vv − vh"),
}


def true_colour_field(group: Any, date: int | str | None = None) -> xr.DataArray:
    """One date of a sensor as a field of kind `rgb`.

    Sentinel-2 and high resolution in natural colours, one stretch for all three bands (2nd to 98th
    percentile of usable pixels); Sentinel-1 as VV, VH and their difference (dB), each stretched.
    Pixels that are masked are shown all the same: clouds are worth seeing.

    Args:
        group: A sensor's part of a stack, `stack["s2"]`.
        date: Number of the date, an ISO day, or None for the clearest.

    Returns:
        (band, y, x) float32 in the sensor's units; `attrs` hold the date and the stretch.

    Raises:
        AnalysisError: If the date or a band is not there.
    """
    data = _dataset(group)
    root = group.root.attrs if isinstance(group, xr.DataTree) else {}
    key = str(data.attrs["sensor"])
    number = _date_number(data, date)
    step = max(1, -(-max(data.sizes["y"], data.sizes["x"]) // MOST_PIXELS))
    one = data.isel(time=number, y=slice(None, None, step), x=slice(None, None, step))
    layers = _layers(key, one)
    valid = np.asarray(one["valid"].values)
    low, high = _stretch(layers, valid, together=key != "s1")
    attrs = {
        "kind": "rgb",
        "long_name": date_title(data, number),
        "units": data.attrs.get("units", ""),
        "sensor": key,
        "date": _day(data, number),
        "channels": list(CHANNELS[key]),
        "stretch_low": low,
        "stretch_high": high,
        "licence": data.attrs.get("licence", ""),
        "source": data.attrs.get("source", ""),
        "synthetic": int(bool(data.attrs.get("synthetic") or root.get("synthetic"))),
        "approximate": int(data.attrs.get("approximate", 0)),
        "notes": [f"Every {step}th pixel is shown."] if step > 1 else [],
    }
    coords = {
        "band": list(CHANNELS[key]),
        **{n: c for n, c in one.coords.items() if n in ("y", "x", "spatial_ref")},
    }
    return xr.DataArray(layers, coords, ("band", "y", "x"), attrs=attrs)


def date_title(group: Any, date: int | str | None = None) -> str:
    """`Sentinel-2, 2018-06-01, 98 % usable`."""
    data = _dataset(group)
    number = _date_number(data, date)
    clear = float(data["clear"][number])
    share = f", {clear:.0%} usable" if np.isfinite(clear) else ""
    day = _day(data, number)
    when = f", {day}" if day != "unknown" else ", date unknown"
    return f"{SENSORS[str(data.attrs['sensor'])].title}{when}{share}"


def _dataset(group: Any) -> xr.Dataset:
    data = group.to_dataset() if isinstance(group, xr.DataTree) else group
    if not isinstance(data, xr.Dataset) or "data" not in data or "sensor" not in data.attrs:
        raise AnalysisError(
            f"true_colour() takes one sensor of a stack, as in stack['s2'], "
            f"not {type(group).__name__}."
        )
    return data


def _date_number(data: xr.Dataset, date: int | str | None) -> int:
    count = data.sizes["time"]
    if date is None:
        clear = np.nan_to_num(np.asarray(data["clear"].values, float), nan=-1.0)
        best = np.flatnonzero(clear == clear.max())
        return int(best[len(best) // 2])  # of several equally clear ones the middle one
    if isinstance(date, str):
        days = [_day(data, i) for i in range(count)]
        if date not in days:
            known = ", ".join(days[:5]) + (" ..." if count > 5 else "")
            raise AnalysisError(f"There is no image of {date}; there are {known}.")
        return days.index(date)
    try:
        return whole("date", date, -count, count - 1, AnalysisError) % count
    except AnalysisError as error:
        raise AnalysisError(
            f"There is no date {shown(date)}; there are {count}, from 0 (or give an ISO day)."
        ) from error


def _day(data: xr.Dataset, number: int) -> str:
    moment = data["time"].values[number]
    return "unknown" if np.isnat(moment) else str(moment)[:10]


def _layers(key: str, one: xr.Dataset) -> np.ndarray:
    """(3, y, x) float32."""
    bands = [str(b) for b in one["band"].values]
    wanted = ("vv", "vh") if key == "s1" else CHANNELS[key]
    missing = [name for name in wanted if name not in bands]
    if missing == list(wanted) or (missing and key != "s1"):
        raise AnalysisError(
            f"{SENSORS[key].title} has no {', '.join(missing)} here (only {', '.join(bands)}), so "
            "it makes no natural picture."
        )
    found = [np.asarray(one["data"].sel(band=n).values, np.float32) for n in wanted if n in bands]
    if key != "s1":
        return np.stack(found)
    if len(found) == 1:
        return np.stack(found * 3)  # one polarisation: a grey picture
    return np.stack([*found, found[0] - found[1]])


def _stretch(
    layers: np.ndarray, valid: np.ndarray, together: bool
) -> tuple[list[float], list[float]]:
    use = valid & np.isfinite(layers).all(0)
    if use.mean() < 0.01:
        use = np.isfinite(layers).all(0)
    if not use.any():
        return [0.0] * 3, [1.0] * 3
    if together:
        low, high = np.percentile(layers[:, use], (2, 98))
        return [float(low)] * 3, [float(high)] * 3
    low, high = np.percentile(layers[:, use], (2, 98), axis=1)
    return [float(v) for v in low], [float(v) for v in high]
