"""One text for the values of an array, to tell whether two runs made the same."""

import hashlib

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from skysense.analysis.pixels import check_features
from skysense.analysis.prototypes import check_bank

_ROWS = 64
"""Rows that are read at once; they do not change the hash."""


def feature_hash(values: xr.DataArray) -> str:
    """`sha256:...` of features (feature, y, x) or of a bank (prototype, feature).

    It covers the values as float32, their shape and, for features, grid and CRS; the same place
    gives the same hash from memory, Zarr and GeoTIFF. Attributes are not covered.

    Raises:
        AnalysisError: If it is neither.
    """
    if isinstance(values, xr.DataArray) and values.dims == ("prototype", "feature"):
        check_bank(values)
        blocks, grid = [values.values], "bank"
    else:
        check_features(values)
        rows = range(0, values.sizes["y"], _ROWS)
        blocks = (values[:, top : top + _ROWS].values.transpose(1, 0, 2) for top in rows)
        grid = _grid(values)
    digest = hashlib.sha256(f"{values.shape} {grid}".encode())
    for block in blocks:  # row by row of the map: opened from disk, it need not fit into memory
        plain = np.array(block, "<f4", order="C")
        plain[np.isnan(plain)] = np.nan  # there are many NaNs, and they all say the same
        digest.update(plain.tobytes())
    return f"sha256:{digest.hexdigest()}"


def _grid(features: xr.DataArray) -> str:
    """Corner cells (m, to the millimetre) and CRS, however the array was stored."""
    geobox = features.odc.geobox
    code = geobox.crs.to_epsg() if isinstance(geobox, GeoBox) and geobox.crs is not None else None
    corners = [float(features[axis].values[i]) for axis in "xy" for i in (0, -1)]
    return f"{code} " + " ".join(f"{value:.3f}" for value in corners)
