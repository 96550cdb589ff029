"""Stored numbers to the units of the stack: reflectance, decibels, 0..255."""

import numpy as np

from skysense.sources.radiometry import misfit
from skysense.sources.recipe import Images
from skysense.sources.recipe_fields import MaskRule

FLOOR = -60.0
"""Radar values below this (dB) were not measured: Sentinel-1's own noise is near -22 dB, and lower
values are left over where noise removal brought a pixel to almost nothing."""


def decode(values: np.ndarray, images: Images) -> tuple[np.ndarray, np.ndarray]:
    """Values in contract units, and where something was measured.

    Sentinel-1 is stored in at least four ways: decibels, linear power (10 log10), amplitude or
    digital numbers (20 log10, often with a calibration constant that `db_offset` adds).

    Args:
        values: (time, band, y, x) float64 as stored, NaN where the file itself has no data.
        images: How they are stored.

    Returns:
        (time, band, y, x) float32, NaN = missing, and (time, y, x) bool: every band is there.
    """
    missing = np.isnan(values)
    for nodata in images.nodata:
        missing |= values == nodata
    if images.sensor == "hr":
        # black is a colour: a picture has no data only where no channel has any
        missing = np.broadcast_to(missing.all(axis=1, keepdims=True), values.shape)
    values = np.where(missing, np.nan, values * images.scale + images.offset)
    if images.units in {"power", "amplitude"}:
        factor = 10.0 if images.units == "power" else 20.0
        values = factor * np.log10(np.where(values > 0, values, np.nan))
    values = values + images.db_offset
    if images.sensor == "s1":
        values[values < FLOOR] = np.nan
    return values.astype("f4"), np.asarray(np.isfinite(values).all(axis=1))


def usable(layer: np.ndarray, rule: MaskRule) -> np.ndarray:
    """Where a mask layer (any shape, NaN = unknown) allows a pixel to be used; NaN never does."""
    fine = np.isfinite(layer) & ~(layer > rule.above) & ~(layer < rule.below)
    if rule.usable is not None:
        fine &= np.isin(layer, rule.usable)
    if rule.unusable is not None:
        fine &= ~np.isin(layer, rule.unusable)
    return fine


def implausible(sensor: str, bands: tuple[str, ...], medians: np.ndarray) -> list[str]:
    """Sentences about values that no scene of this sensor has: wrong scale, units or band order.

    Args:
        sensor: `hr`, `s2` or `s1`.
        bands: Names along `medians`.
        medians: Median of the usable values of each band, NaN if there are none.
    """
    if not np.isfinite(medians).any():
        radar = " Decibels are declared as units = 'dB'." if sensor == "s1" else ""
        return [f"no pixel of any date is usable: no-data, masks or units look wrong.{radar}"]
    odd = misfit(sensor, float(np.nanmedian(medians)))
    if odd:
        return [odd]
    median = dict(zip(bands, (float(m) for m in medians), strict=True))
    if sensor == "s1" and median.get("vv", 0.0) < median.get("vh", -99.0) - 1:
        return ["VH is brighter than VV, which no landscape is: the band order looks wrong."]
    if sensor == "s2" and {"nir", "nir08"} <= set(bands):
        ratio = median["nir"] / median["nir08"] if median["nir08"] else np.nan
        if not 0.6 < ratio < 1.7:
            return [
                f"B08 and B8A see almost the same light, but their medians differ by {ratio:.2g} "
                "times: the band order looks wrong."
            ]
    return []
