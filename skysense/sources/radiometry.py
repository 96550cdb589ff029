"""Digital numbers of catalogues to reflectance and decibels, and the doubts that remain.

Sentinel-2 products of processing baseline 04.00 and later (in force since 25 January 2022, and
used again to reprocess older scenes) store reflectance x 10,000 + 1,000. The offset therefore
follows from the baseline of the product, never from the date, and only where a provider serves
the pixels as they were produced:

    reflectance = (DN + add) / 10,000    add = -1,000 if baseline >= 04.00 and pixels are raw

DN 0 means no data and is set aside before the offset; values below 0 become 0. odc-stac applies
neither scale nor offset, so this page is the only place where they are applied.
"""

import re
from dataclasses import dataclass

import numpy as np

from skysense.sensors import SENSORS

S2_SCALE = 1e-4
S2_OFFSET_BASELINE = (4, 0)
"""First processing baseline whose digital numbers carry an offset."""
S2_OFFSET = -1000
"""What is added to those digital numbers (RADIO_ADD_OFFSET of the product metadata)."""

CLEAR_CLASSES = (4, 5, 6, 7, 11)
"""Sentinel-2 scene classes that are used: vegetation, bare, water, unclassified, snow."""

CLIPPED = 0.25
"""Share of reflectance at exactly 0 beyond which an offset was probably subtracted twice."""


@dataclass(frozen=True)
class Decode:
    """How one band of one scene becomes contract units: (raw + add) x scale."""

    scale: float = 1.0
    add: float = 0.0
    nodata: float | None = None
    power: bool = False
    """Linear power that becomes decibels; what is not above 0 is missing."""
    floor: float | None = None
    """Smallest value kept; anything below becomes this."""

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """Contract units.

        Args:
            raw: Stored numbers, any shape.

        Returns:
            float32 of the same shape, NaN = missing.
        """
        values = raw.astype("f8")
        missing = ~np.isfinite(values)
        if self.nodata is not None:
            missing |= values == self.nodata
        # float64, then once to float32: the same numbers as the file source, bit for bit.
        values = (values + self.add) * self.scale
        if self.power:
            missing |= ~(values > 0)
            values = 10 * np.log10(np.where(missing, 1.0, values))
        if self.floor is not None:
            values = np.maximum(values, self.floor)
        return np.where(missing, np.nan, values).astype("f4")


def parse_baseline(text: object) -> tuple[int, int] | None:
    """`05.09`, `5.9`, `N0509` or `0509` as (5, 9); None if it is not a processing baseline."""
    found = re.fullmatch(r"[Nn]?(\d{1,2})\.?(\d{2}|\d)", str(text or "").strip())
    if found is None:
        return None
    return int(found[1]), int(found[2])


def offset_to_add(rule: str, baseline: str, declared: float | None) -> tuple[int, str]:
    """What to add to Sentinel-2 digital numbers, and why.

    Args:
        rule: `raw` (pixels as produced: the baseline decides), `declared` (the offset of the
            catalogue's own band metadata is right) or `shifted` (the provider has already taken
            the offset off, whatever its metadata say).
        baseline: Processing baseline of the product, empty if unknown.
        declared: Offset in reflectance from the band metadata (-0.1), or None.

    Returns:
        (add, sentence); the sentence is empty if nothing had to be assumed.
    """
    if rule == "shifted":
        return 0, ""
    if rule == "declared" and declared is not None:
        return round(declared / S2_SCALE), ""
    version = parse_baseline(baseline)
    if version is None:
        return 0, "the processing baseline is unknown, so no offset was taken off"
    return (S2_OFFSET if version >= S2_OFFSET_BASELINE else 0), ""


def usable(scl: np.ndarray, keep: tuple[int, ...] = CLEAR_CLASSES) -> np.ndarray:
    """Where the scene classification (any shape, uint8) allows a pixel to be used."""
    table = np.zeros(256, bool)
    table[list(keep)] = True
    return table[scl]


def doubts(sensor: str, data: np.ndarray, valid: np.ndarray) -> list[str]:
    """Sentences about one date whose numbers cannot be right.

    Args:
        sensor: `hr`, `s2` or `s1`.
        data: (band, y, x) in contract units, NaN = missing.
        valid: (y, x) bool.
    """
    seen = data[:, valid]
    seen = seen[np.isfinite(seen)]
    if seen.size < 100:
        return []
    found = []
    if sensor == "s2" and (share := float((seen <= 0).mean())) > CLIPPED:
        found.append(
            f"{share:.0%} of the reflectance is below 0 and was set to 0: the offset of baseline "
            "04.00 was probably subtracted twice."
        )
    odd = misfit(sensor, float(np.median(seen)))
    return [*found, odd] if odd else found


def misfit(sensor: str, middle: float) -> str:
    """What is wrong with a median that no scene of this sensor has; empty if it may be right.

    Args:
        sensor: `hr`, `s2` or `s1`.
        middle: Median of the usable values in contract units.
    """
    spec = SENSORS[sensor]
    low, high = spec.plausible
    if low <= middle <= high:
        return ""
    said = (
        f"the median value is {middle:.4g}, outside {low:g} to {high:g} {spec.units}: the scale, "
        "offset or units of the source look wrong."
    )
    if sensor == "s1" and middle > high:
        said += " Linear backscatter is declared as units = 'power' or 'amplitude', not 'dB'."
    return said
