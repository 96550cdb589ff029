"""What the synthetic ground reflects and scatters, day by day.

Every patch of ground is a mixture of soil, green plants and dry plants whose shares follow the
calendar of its crop. The end members are typical surface reflectances of Sentinel-2's ten bands
and typical sigma nought of Sentinel-1; both are round numbers in the range of published spectral
libraries and of open Sentinel scenes of western Europe, and copies of none.
"""

import numpy as np

from skysense.sources import synthetic_plan as land
from skysense.sources.synthetic_noise import bell, mix, unit

# blue green red rededge1 rededge2 rededge3 nir nir08 swir16 swir22
_SPECTRA = {
    "soil": (0.070, 0.095, 0.125, 0.145, 0.160, 0.175, 0.190, 0.205, 0.265, 0.225),
    "sand": (0.125, 0.175, 0.225, 0.250, 0.270, 0.285, 0.300, 0.315, 0.390, 0.345),
    "crop": (0.022, 0.055, 0.026, 0.085, 0.305, 0.405, 0.430, 0.445, 0.190, 0.090),
    "maize": (0.024, 0.052, 0.028, 0.085, 0.270, 0.355, 0.380, 0.395, 0.200, 0.098),
    "grass": (0.026, 0.066, 0.034, 0.108, 0.330, 0.415, 0.445, 0.450, 0.205, 0.108),
    "dry": (0.070, 0.105, 0.140, 0.170, 0.210, 0.240, 0.265, 0.285, 0.345, 0.265),
    "stubble": (0.085, 0.125, 0.170, 0.195, 0.225, 0.245, 0.265, 0.285, 0.350, 0.270),
    "leaves": (0.018, 0.040, 0.020, 0.066, 0.235, 0.310, 0.330, 0.345, 0.155, 0.068),
    "twigs": (0.030, 0.040, 0.050, 0.070, 0.110, 0.130, 0.145, 0.160, 0.165, 0.105),
    "autumn": (0.030, 0.055, 0.075, 0.115, 0.185, 0.215, 0.235, 0.250, 0.190, 0.100),
    "needles": (0.015, 0.028, 0.018, 0.044, 0.130, 0.165, 0.178, 0.188, 0.085, 0.040),
    "water": (0.042, 0.050, 0.036, 0.032, 0.018, 0.015, 0.013, 0.011, 0.006, 0.004),
    "asphalt": (0.085, 0.095, 0.102, 0.108, 0.115, 0.120, 0.128, 0.135, 0.160, 0.150),
    "paving": (0.120, 0.140, 0.155, 0.165, 0.180, 0.190, 0.200, 0.210, 0.235, 0.215),
    "tiles": (0.070, 0.095, 0.155, 0.175, 0.195, 0.215, 0.230, 0.250, 0.290, 0.240),
    "slate": (0.095, 0.102, 0.108, 0.112, 0.118, 0.122, 0.128, 0.135, 0.150, 0.140),
}
_NAMES = list(_SPECTRA)
SPECTRA = np.array([_SPECTRA[name] for name in _NAMES], np.float32)
"""(end member, band) surface reflectance, 0..1."""

# VV, VH in dB (sigma nought)
_SCATTER = {
    "soil": (-12.3, -20.8), "sand": (-12.8, -21.8), "crop": (-13.6, -19.6), "maize": (-9.8, -15.6),
    "grass": (-11.8, -18.2), "dry": (-11.2, -17.4), "stubble": (-11.6, -19.2),
    "leaves": (-9.4, -14.6), "twigs": (-8.9, -14.9), "autumn": (-9.1, -14.7),
    "needles": (-8.6, -13.9), "water": (-20.5, -27.0), "asphalt": (-15.5, -23.5),
    "paving": (-8.0, -15.5), "tiles": (-4.5, -11.5), "slate": (-4.0, -11.0),
}  # fmt: skip
SCATTER = np.array([_SCATTER[name] for name in _NAMES], np.float32)
"""(end member, polarisation) backscatter (dB)."""


def _rise(day: np.ndarray, start: float, end: float) -> np.ndarray:
    """0 before `start`, 1 after `end`, smooth between."""
    t = np.clip((day - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


def mixture(
    material: np.ndarray, patch: np.ndarray, hills: np.ndarray, doy: np.ndarray, year: np.ndarray
) -> np.ndarray:
    """Shares of the end members on patches of ground.

    Args:
        material: (patch,) material.
        patch: (patch,) uint32 identity; individual dates and vigour hang on it.
        hills: (patch,) 0..1; spring is 12 days later in the hills.
        doy: (time,) day of the northern year, 1..366.
        year: (time,) seasons come early or late by a few days.

    Returns:
        (patch, time, end member) float32, each about 0..1, together about 1.
    """
    shares = np.zeros((len(patch), len(doy), len(_NAMES)), np.float32)
    late = 12 * hills[:, None] + 4 * bell(patch, 60)[:, None] + 3 * bell(77, year)[None]
    day = doy[None].astype(np.float32) - late
    vigour = np.clip(0.93 + 0.07 * bell(patch, 61), 0.7, 1.0)[:, None]
    lucky = unit(patch, 62)[:, None]

    def give(kinds: tuple[int, ...], **parts: np.ndarray) -> None:
        rows = np.isin(material, kinds)
        for name, value in parts.items():
            shares[rows, :, _NAMES.index(name)] = np.broadcast_to(value, day.shape)[rows]

    cover = 0.65 * (lucky < 0.5)
    green = _rise(day, 138, 192) * (1 - _rise(day, 248, 278)) * vigour
    dry = _rise(day, 248, 278) * (1 - _rise(day, 281, 287)) * 0.9
    catch = cover * np.maximum(_rise(day, 292, 335), 1 - _rise(day, 88, 112))
    residue = 0.3 * _rise(day, 281, 287) * (1 - cover)
    rest = np.clip(1 - green - dry - catch - residue, 0, 1)
    give((land.MAIZE,), maize=green, dry=dry, grass=catch, stubble=residue, soil=rest)

    green = (0.22 + 0.78 * _rise(day, 68, 122)) * (1 - _rise(day, 168, 192)) * vigour
    dry = _rise(day, 168, 192) * (1 - _rise(day, 204, 208))
    stubble = 0.75 * _rise(day, 204, 208) * (1 - _rise(day, 232, 246))
    catch = np.where(lucky < 0.45, 0.8 * _rise(day, 252, 290), 0.25 * _rise(day, 305, 350))
    rest = np.clip(1 - green - dry - stubble - catch, 0, 1)
    give((land.WHEAT,), crop=green + catch, dry=dry, stubble=stubble, soil=rest)

    green = 0.80 + 0.16 * np.exp(-(((day - 130) / 45) ** 2)) - 0.12 * (day < 60)
    green = green - 0.24 * np.exp(-(((day - 215) / 28) ** 2)) * (0.4 + lucky)
    for cut in range(3):
        since = day - (142 + 42 * cut + 18 * (unit(patch, 63 + cut)[:, None] - 0.5))
        mown = lucky > 0.25 + 0.2 * cut
        green = green - 0.42 * mown * (since > 0) * np.exp(-np.maximum(since, 0) / 16)
    green = np.clip(green * vigour, 0.1, 1)
    give((land.GRASS, land.VERGE), grass=green, dry=0.6 * (1 - green), soil=0.4 * (1 - green))
    give((land.TRACK,), grass=0.45 * green, sand=1 - 0.45 * green)
    give((land.GARDEN,), grass=0.6 * green, leaves=0.12 + 0 * day, paving=0.12 + 0 * day,
         soil=0.7 - 0.6 * green)  # fmt: skip

    leaf = _rise(day, 104, 128) * (1 - _rise(day, 284, 312))
    turn = _rise(day, 268, 292) * (1 - _rise(day, 296, 316))
    leaf = leaf * (1 - turn) * (0.9 + 0.1 * vigour)
    twigs = np.clip(1 - leaf - turn, 0, 1)
    give((land.DECIDUOUS, land.HEDGE), leaves=leaf, autumn=turn, twigs=twigs)

    give((land.CONIFER,), needles=0.94 + 0.06 * _rise(day, 120, 160), twigs=0.06 + 0 * day)
    give((land.BARE,), soil=0.94 - 0.5 * lucky + 0 * day, sand=0.5 * lucky + 0 * day,
         grass=0.06 * _rise(day, 110, 160))  # fmt: skip
    give((land.WATER,), water=np.ones_like(day))
    give((land.ROAD,), asphalt=np.ones_like(day))
    give((land.YARD,), paving=0.8 + 0 * day, asphalt=0.2 + 0 * day)
    tiled = np.broadcast_to((lucky < 0.62).astype(np.float32), day.shape)
    give((land.ROOF,), tiles=tiled, slate=1 - tiled)
    return shares


def dryness(key: int, day: np.ndarray) -> np.ndarray:
    """How dry the top soil is on days since 1970, 0 (wet) to 1 (dry): rain comes every few days."""
    week, fraction = np.divmod(day / 9.0, 1.0)
    week = week.astype(np.int64)
    return unit(key, 70, week) * (1 - fraction) + unit(key, 70, week + 1) * fraction


def _combine(shares: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Shares @ members, added up in a fixed order: a matrix product's last bit hangs on its size."""
    total = np.zeros((*shares.shape[:-1], members.shape[1]), np.float32)
    for k, member in enumerate(members):
        total += shares[..., k, None] * member
    return total


def reflectance(shares: np.ndarray, patch: np.ndarray, dry: np.ndarray) -> np.ndarray:
    """(patch, time, band) surface reflectance of mixtures; wet soil is darker.

    Args:
        shares: (patch, time, end member).
        patch: (patch,) identity: every patch is a little brighter or redder than its like.
        dry: (time,) 0..1.
    """
    wet = shares.copy()
    for name in ("soil", "sand", "stubble"):
        wet[..., _NAMES.index(name)] *= (0.68 + 0.5 * dry)[None]
    bright = 1 + 0.07 * bell(patch, 71)
    built = shares[:, 0, [_NAMES.index("tiles"), _NAMES.index("slate")]].sum(-1)
    bright = bright * (1 + 0.22 * built * bell(patch, 72))
    warm = 1 + 0.025 * bell(patch, 73)[:, None] * np.linspace(-1, 1, SPECTRA.shape[1])[None]
    result = _combine(wet, SPECTRA)
    return (result * (bright[:, None] * warm)[:, None, :]).astype(np.float32)


def backscatter(
    shares: np.ndarray, patch: np.ndarray, dry: np.ndarray, wind: np.ndarray, side: np.ndarray
) -> np.ndarray:
    """(patch, time, polarisation) mean sigma nought, linear power.

    Args:
        shares: (patch, time, end member).
        patch: (patch,) identity: rows seen from one orbit differ from those seen from the other.
        dry: (time,) 0..1; wet soil is brighter.
        wind: (time,) about normal; rough water is brighter.
        side: (time,) 0 or 1, the orbit direction.
    """
    decibel = _combine(shares, SCATTER)
    soil = shares[..., [_NAMES.index(n) for n in ("soil", "sand", "stubble")]].sum(-1)
    decibel += (soil * (2.2 - 4.4 * dry[None]))[..., None]
    water = shares[..., _NAMES.index("water")]
    decibel += (water * 2.4 * np.clip(wind, -1.5, 2.0)[None])[..., None]
    decibel += 0.5 * bell(patch, 80)[:, None, None]
    seen = bell(mix(patch, 81)[:, None], side[None])
    decibel += (0.45 * seen + 0.4 * (side[None] - 0.5))[..., None]
    return np.power(10.0, decibel / 10).astype(np.float32)
