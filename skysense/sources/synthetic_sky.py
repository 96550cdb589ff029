"""When the synthetic satellites pass, and what clouds do to their images."""

from dataclasses import dataclass

import numpy as np
import scipy.special

from skysense.sources.synthetic_noise import bell, fractal, mix, unit
from skysense.sources.synthetic_plan import World

_SCALE = 620.0
"""Size of the largest cloud masses (m)."""
_SOFT = 0.55
"""Width of a cloud's rim, in deviations of the cloud noise."""
_MASKED = 0.22
"""Opacity from which the mask calls a pixel cloud; thinner haze slips through."""
_SHADED = 0.35
"""Depth of shadow from which the mask notices it."""


@dataclass(frozen=True)
class Passes:
    """Acquisitions of one sensor."""

    day: np.ndarray
    """int64, days since 1970."""
    time: np.ndarray
    """datetime64[ns]."""
    orbit_direction: list[str]
    orbit_number: list[int]
    cover: np.ndarray
    """Cloud cover of the whole image, 0..1; zeros for radar and for high resolution."""

    def __len__(self) -> int:
        return len(self.day)


def days_between(first: str, last: str) -> np.ndarray:
    """Days since 1970 from one ISO day to another, both included."""
    low, high = (int(np.datetime64(text, "D").astype(int)) for text in (first, last))
    return np.arange(low, high + 1)


def cloud_cover(world: World, day: np.ndarray) -> np.ndarray:
    """Cloud cover of whole images, 0..1: a third clear, a third partly, the rest mostly cloudy."""
    draw, amount = unit(world.key, 90, day), unit(world.key, 91, day)
    return np.where(
        draw < 0.34, 0.0, np.where(draw < 0.7, 0.03 + 0.5 * amount, 0.45 + 0.55 * amount)
    )


def usable(cover: np.ndarray) -> np.ndarray:
    """Share of a whole image that the mask leaves, for a cloud cover (0..1), to about 0.05."""
    level = scipy.special.ndtri(1 - np.clip(cover, 1e-6, 1 - 1e-6))
    rim = scipy.special.ndtr(level + (_MASKED - 0.5) * _SOFT)
    shade = scipy.special.ndtr(level + (_SHADED - 0.5) * _SOFT)
    return np.where(cover <= 0, 1.0, rim * (0.45 + 0.55 * shade)).astype(np.float32)


def passes(world: World, sensor: str, first: str, last: str) -> Passes:
    """Acquisitions of a sensor within a period (ISO days, both included).

    Sentinel-2 passes every fifth day and images over 90 % cloudy are not kept, as in a catalogue
    that was asked so; Sentinel-1 passes on each of two orbits every 24 days; the aeroplane flies
    on 10 June of the last year that has one in the period, else in the middle of the period.
    """
    day = days_between(first, last)
    if sensor == "s2":
        day = day[(day + int(mix(world.key, 92)) % 5) % 5 == 0]
        cover = cloud_cover(world, day)
        keep = cover <= 0.9
        return _passes(day[keep], 10 * 60 + 56, ["descending"] * keep.sum(), 51, cover[keep])
    if sensor == "s1":
        phase = (day + int(mix(world.key, 93)) % 24) % 24
        day, ascending = day[np.isin(phase, (0, 11))], phase[np.isin(phase, (0, 11))] == 0
        minute = np.where(ascending, 17 * 60 + 25, 5 * 60 + 50)
        names = ["ascending" if up else "descending" for up in ascending]
        return _passes(day, minute, names, np.where(ascending, 88, 37), np.zeros(len(day)))
    june = [d for d in day if str(np.datetime64(int(d), "D")).endswith("-06-10")]
    flown = np.array([june[-1] if june else day[len(day) // 2]])
    return _passes(flown, 11 * 60, [""], -1, np.zeros(1))


def _passes(
    day: np.ndarray,
    minute: np.ndarray | int,
    directions: list[str],
    orbit: np.ndarray | int,
    cover: np.ndarray,
) -> Passes:
    clock = np.broadcast_to(minute, day.shape).astype("timedelta64[m]")
    time = (day.astype("datetime64[D]") + clock).astype("datetime64[ns]")
    numbers = np.broadcast_to(orbit, day.shape).tolist()
    return Passes(day, time, directions, numbers, cover.astype(np.float32))


def sun(world: World, y: float, day: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the sun stands at 10:30: metres that the shadow of 1 m reaches east and north.

    Args:
        world: For the hemisphere.
        y: Northing (m).
        day: Days since 1970.
    """
    latitude = np.radians((y if world.crs.startswith("EPSG:326") else y - 10_000_000.0) / 111_000)
    declination = np.radians(-23.44 * np.cos(2 * np.pi * (day % 365.25 + 10) / 365.25))
    hour = np.radians(-22.0)
    height = np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(
        declination
    ) * np.cos(hour)
    height = np.maximum(height, 0.2)
    east = -np.cos(declination) * np.sin(hour)
    north = np.cos(latitude) * np.sin(declination) - np.sin(latitude) * np.cos(
        declination
    ) * np.cos(hour)
    return -east / height, -north / height


def clouds(
    world: World, xs: np.ndarray, ys: np.ndarray, day: int, cover: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cloud opacity, depth of shadow (both 0..1) and what a mask would leave, each (y, x)."""
    shape = (len(ys), len(xs))
    if cover <= 0:
        return np.zeros(shape, "f4"), np.zeros(shape, "f4"), np.ones(shape, bool)
    level = float(scipy.special.ndtri(1 - min(max(cover, 1e-6), 1 - 1e-6)))
    east, north = sun(world, 640_000 * round(float(ys[0]) / 640_000), np.array([day]))
    high = 500 + 900 * float(unit(world.key, 94, day))
    opacity = _opacity(world, xs, ys, day, level)
    # the shadow at a place is the cloud that stands towards the sun from it
    shadow = _opacity(world, xs - high * east[0], ys - high * north[0], day, level) * (1 - opacity)
    slip = 0.06 * bell(world.key, 95, day, np.round(xs)[None], np.round(ys)[:, None])
    valid = (opacity + slip < _MASKED) & (shadow + slip < _SHADED)
    return opacity, shadow, valid


def _opacity(world: World, xs: np.ndarray, ys: np.ndarray, day: int, level: float) -> np.ndarray:
    seed = mix(world.key, 96, day)
    field = fractal(seed, xs + world.origin[0], ys + world.origin[1], _SCALE, 5, 0.55)
    t = np.clip((field - level) / _SOFT + 0.5, 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)
