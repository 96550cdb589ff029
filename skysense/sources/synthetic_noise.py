"""Randomness that belongs to a place: hashes of integers and smooth noise of absolute metres.

Nothing here has a state. A value depends on the seed and on the coordinates only, so any two
rectangles that share a place agree on it to the last bit.
"""

from typing import Any

import numpy as np

_GOLDEN = np.uint32(0x9E3779B1)
_FIRST = np.uint32(0x85EBCA77)
_SECOND = np.uint32(0xC2B2AE3D)
_13, _15, _16 = np.uint32(13), np.uint32(15), np.uint32(16)


def mix(*keys: Any) -> np.ndarray:
    """Hash integers (scalars or arrays that broadcast) to uint32."""
    shape = np.broadcast_shapes(*(np.shape(key) for key in keys))
    result = np.full((1,) * max(len(shape), 1), 0x2545F491, np.uint32)  # scalars warn of overflow
    for key in keys:
        low = key if getattr(key, "dtype", None) == np.uint32 else _low(key)
        result = (result ^ low) * _GOLDEN
        result ^= result >> _15
        result *= _FIRST
        result ^= result >> _13
        result *= _SECOND
        result ^= result >> _16
    return result.reshape(shape)


def _low(key: Any) -> np.ndarray:
    """The low 32 bits of integers."""
    return np.asarray(key).astype(np.int64, copy=False).astype(np.uint32)


def unit(*keys: Any) -> np.ndarray:
    """Hash integers to float32 in [0, 1)."""
    return (mix(*keys) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def bell(*keys: Any) -> np.ndarray:
    """Hash integers to float32 of nearly normal distribution, mean 0, deviation 1, within ±3.46.

    The sum of four bytes' worth of uniforms: far cheaper than a logarithm for millions of pixels.
    """
    bits = mix(*keys)
    total = np.zeros(bits.shape, np.float32)
    for shift in (0, 8, 16, 24):
        total += ((bits >> np.uint32(shift)) & np.uint32(255)).astype(np.float32)
    return (total - np.float32(510.0)) * np.float32(1 / 147.8)


def _spline(t: np.ndarray) -> tuple[np.ndarray, ...]:
    """Weights of the four nearest nodes in a uniform cubic B-spline."""
    return (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )


_SPLINE_VARIANCE = 151 / 315
"""Mean over one cell of the sum of squared weights along one axis."""


def noise(seed: Any, xs: np.ndarray, ys: np.ndarray, scale: float) -> np.ndarray:
    """Smooth noise on a grid, mean 0 and deviation about 1.

    Args:
        seed: Integer.
        xs: Columns' coordinates (m).
        ys: Rows' coordinates (m).
        scale: Distance between independent values (m).

    Returns:
        (y, x) float32.
    """
    column, fx = np.divmod(np.asarray(xs, float) / scale, 1.0)
    row, fy = np.divmod(np.asarray(ys, float) / scale, 1.0)
    column, row = column.astype(np.int64), row.astype(np.int64)
    nodes_x = np.arange(column.min() - 1, column.max() + 3)
    nodes_y = np.arange(row.min() - 1, row.max() + 3)
    nodes = bell(seed, nodes_x[None, :], nodes_y[:, None])
    across = np.zeros((len(nodes_y), len(column)), np.float32)
    for k, weight in enumerate(_spline(fx)):
        across += nodes[:, column - nodes_x[0] - 1 + k] * weight.astype(np.float32)
    result = np.zeros((len(row), len(column)), np.float32)
    for k, weight in enumerate(_spline(fy)):
        result += across[row - nodes_y[0] - 1 + k] * weight.astype(np.float32)[:, None]
    return result * np.float32(1 / _SPLINE_VARIANCE)


def noise_at(seed: Any, x: np.ndarray, y: np.ndarray, scale: float) -> np.ndarray:
    """The same noise at scattered places (m), float32 of the places' shape."""
    column, fx = np.divmod(np.asarray(x, float) / scale, 1.0)
    row, fy = np.divmod(np.asarray(y, float) / scale, 1.0)
    column, row = column.astype(np.int64), row.astype(np.int64)
    result = np.zeros(column.shape, np.float32)
    for j, weight_y in enumerate(_spline(fy)):
        for i, weight_x in enumerate(_spline(fx)):
            node = bell(seed, column - 1 + i, row - 1 + j)
            result += node * (weight_x * weight_y).astype(np.float32)
    return result * np.float32(1 / _SPLINE_VARIANCE)


def fractal(
    seed: Any, xs: np.ndarray, ys: np.ndarray, scale: float, octaves: int = 3, gain: float = 0.5
) -> np.ndarray:
    """Octaves of `noise`, each of half the scale and `gain` times the height, deviation about 1."""
    total = np.zeros((len(ys), len(xs)), np.float32)
    height, power = 1.0, 0.0
    for octave in range(octaves):
        total += np.float32(height) * noise(mix(seed, octave), xs, ys, scale / 2**octave)
        power += height**2
        height *= gain
    return total * np.float32(power**-0.5)


def nodes_of(values: np.ndarray, step: float) -> np.ndarray:
    """Multiples of `step` that enclose `values`, with one more at the end."""
    return np.arange(np.floor(values.min() / step), np.floor(values.max() / step) + 3) * step


def spread(
    coarse: np.ndarray, nodes_x: np.ndarray, nodes_y: np.ndarray, xs: np.ndarray, ys: np.ndarray
) -> np.ndarray:
    """Bilinear interpolation from nodes at absolute multiples of a step to a fine grid."""
    step = nodes_x[1] - nodes_x[0]
    column, fx = np.divmod((np.asarray(xs, float) - nodes_x[0]) / step, 1.0)
    row, fy = np.divmod((np.asarray(ys, float) - nodes_y[0]) / step, 1.0)
    column, row = column.astype(np.int64), row.astype(np.int64)
    fx, fy = fx.astype(np.float32), fy.astype(np.float32)[:, None]
    across = coarse[:, column] * (1 - fx) + coarse[:, column + 1] * fx
    return across[row] * (1 - fy) + across[row + 1] * fy
