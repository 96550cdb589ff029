"""Places to learn from: image series of one ground, kept on disk and mapped into memory."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Series:
    """The usable dates of one sensor over one place; values are `pixels × scale` in contract units.

    The contract's units are reflectance (Sentinel-2), dB (Sentinel-1) and 0..255 (high resolution).
    """

    pixels: np.ndarray
    """(t, c, h, w), all bands of the sensor in the model's order; s2 int16, s1 float16, hr uint8."""
    valid: np.ndarray
    """(t, h, w) bool, True = usable."""
    doy: np.ndarray
    """(t,) int, day of year 1..366; 0 = unknown."""
    scale: float = 1.0
    """Contract units per stored unit: 0.0001 for s2, 1 for the others."""
    missing: tuple[int, ...] = ()
    """Bands the source lacks; they are at the sensor's mean, which means nothing is known."""


@dataclass(frozen=True)
class Place:
    """One piece of ground as some sensors saw it, each on its own grid from the same corner."""

    name: str
    sensors: dict[str, Series]
    """By key, in the model's order; 10 m pixels for s2 and s1, 32 × 32 hr pixels for each of them."""
    lonlat: tuple[float, float]
    """Centre (degrees); NaN where nobody knows."""
    licence: str
    credit: str
    synthetic: bool
    """True if no satellite saw it."""
    level: str = ""
    """Of Sentinel-2: `L2A` (surface) or `L1C` (top of the atmosphere); empty if unknown or absent."""

    @property
    def cells(self) -> tuple[int, int]:
        """(rows, columns) of 10 m cells."""
        key, series = next(iter(self.sensors.items()))
        side = 32 if key == "hr" else 1
        return series.valid.shape[1] // side, series.valid.shape[2] // side
