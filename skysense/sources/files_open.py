"""Image files behind one small face: a grid, dates, and pixels read by window.

GeoTIFF, PNG and JPEG are opened by GDAL with every other driver switched off, so that a path can
never become a network request or a virtual file. netCDF and Zarr are opened by xarray, which
applies the file's own scale and no-data. Nothing is read before it is asked for, and never more
than the window that is asked for.
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import odc.geo.xr  # noqa: F401 -- registers the `.odc` accessor
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from skysense.errors import RecipeError
from skysense.sources.recipe_fields import Part

DRIVERS = {".tif": "GTiff", ".tiff": "GTiff", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
IMAGES = tuple(DRIVERS)
NETCDF = (".nc", ".nc4")
SPATIAL = (("y", "x"), ("lat", "lon"), ("latitude", "longitude"), ("Y", "X"))
MAX_SIDE = 2_000_000
"""More pixels than this along one side is a broken header, not an image."""


@dataclass(frozen=True)
class Layer:
    """One two-dimensional image in a file, per date."""

    variable: str = ""
    index: int = 0
    """Band number from 1 in an image file; position along the band axis of a variable, from 0."""


class ImageFile(Protocol):
    """What the rest of the package knows about a file."""

    path: Path
    geobox: GeoBox | None
    """None if the file has no position."""
    shape: tuple[int, int]
    times: np.ndarray | None
    """(time,) datetime64[ns], None if the file has no dates."""

    @property
    def dates(self) -> int:
        """How many dates, at least 1."""
        ...

    def layers(self, part: Part) -> list[tuple[Layer, str]]:
        """Layer and band name of each band that the recipe takes from the file."""
        ...

    def layer(self, variable: str, band: int) -> Layer:
        """One layer by variable or by band number from 1."""
        ...

    def read(
        self, layers: Sequence[Layer], dates: Sequence[int], rows: slice, columns: slice
    ) -> np.ndarray:
        """(time, layer, y, x) float64 as the file means them, NaN where it has no data."""
        ...

    def per_date(self, variable: str) -> list[Any] | None:
        """Values of a variable with one per date, None if there is no such variable."""
        ...


def open_file(path: Path, crs: str = "") -> ImageFile:
    """Open a file by its ending.

    Args:
        path: An image, a netCDF file or a Zarr folder.
        crs: Stands in where the file has coordinates but does not say which kind.

    Raises:
        RecipeError: If it cannot be read.
    """
    ending = path.suffix.lower()
    if ending in IMAGES:
        return Picture(path, crs)
    if ending in NETCDF or ending == ".zarr":
        return Cube(path, crs)
    known = ", ".join((*IMAGES, *NETCDF, ".zarr"))
    raise RecipeError(f"{path.name}: files ending in {ending!r} cannot be read; use {known}.")


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[Any]:
    """A rasterio dataset, only by the driver that belongs to the file's ending.

    Raises:
        RecipeError: If GDAL cannot open or read it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            source = rasterio.open(path, driver=DRIVERS[path.suffix.lower()], sharing=False)
        with source:
            yield source
    except (RasterioError, OSError) as error:
        raise RecipeError(f"{path.name} cannot be read as an image: {error}.") from error


class Picture:
    """A GeoTIFF, PNG or JPEG: one date, numbered bands."""

    def __init__(self, path: Path, crs: str = "") -> None:
        self.path = path
        self.times: np.ndarray | None = None
        with open_image(path) as source:
            self.shape = _sane(source.shape, path)
            self.count: int = source.count
            self.kind: str = source.dtypes[0]
            self.descriptions: tuple[str, ...] = tuple(d or "" for d in source.descriptions)
            self.colours: tuple[str, ...] = tuple(c.name for c in source.colorinterp)
            self._nodata = source.nodatavals
            self._scales, self._offsets = source.scales, source.offsets
            flags = source.mask_flag_enums[0]
            self._masked = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
            found = source.crs
            placed = source.transform != Affine.identity()
            self.geobox: GeoBox | None = None
            if placed and (found or crs):
                self.geobox = GeoBox(self.shape, source.transform, found.wkt if found else crs)

    @property
    def dates(self) -> int:
        """One."""
        return 1

    def layers(self, part: Part) -> list[tuple[Layer, str]]:
        """Bands by position; the recipe must list every band of the file.

        Raises:
            RecipeError: If the counts differ.
        """
        if part.variable:
            raise RecipeError(f"{self.path.name} is an image; it has no {part.variable!r}.")
        if len(part.bands) != self.count:
            listed = ", ".join(b.listed for b in part.bands)
            raise RecipeError(
                f"{self.path.name} has {self.count} bands, but {len(part.bands)} are listed "
                f"({listed}). List every band in the file's order, '-' to leave one out."
            )
        return [(Layer(index=i), b.name) for i, b in enumerate(part.bands, 1) if b.name]

    def layer(self, variable: str, band: int) -> Layer:
        """A band by number from 1.

        Raises:
            RecipeError: If there is none of that number.
        """
        if variable or band > self.count:
            what = f"variable {variable!r}" if variable else f"band {band}"
            raise RecipeError(f"{self.path.name} has no {what}; it has {self.count} bands.")
        return Layer(index=band)

    def read(
        self, layers: Sequence[Layer], dates: Sequence[int], rows: slice, columns: slice
    ) -> np.ndarray:
        """(1, layer, y, x) float64, NaN where the file has no data."""
        del dates  # there is one
        window = Window.from_slices(rows, columns)  # type: ignore[attr-defined]
        numbers = [each.index for each in layers]
        with open_image(self.path) as source:
            values = source.read(numbers, window=window).astype("f8")
            mask = source.dataset_mask(window=window) if self._masked else None
        for i, number in enumerate(numbers):
            nodata = self._nodata[number - 1]
            missing = np.isnan(values[i]) if nodata is None else values[i] == nodata
            values[i] = values[i] * self._scales[number - 1] + self._offsets[number - 1]
            values[i][missing] = np.nan
        if mask is not None:
            values[:, mask == 0] = np.nan
        return values[None]

    def per_date(self, variable: str) -> None:
        """An image file has no variables."""
        del variable


class Cube:
    """A netCDF file or Zarr store: variables with a time axis, perhaps a band axis."""

    def __init__(self, path: Path, crs: str = "") -> None:
        self.path = path
        self._data = _open_dataset(path)
        for y, x in SPATIAL:
            if {y, x} <= set(self._data.sizes):
                self._y, self._x = y, x
                break
        else:
            raise RecipeError(
                f"{path.name} has no axes named {' or '.join(f'{y}, {x}' for y, x in SPATIAL)}; "
                f"it has {', '.join(map(str, self._data.sizes))}."
            )
        self.shape = _sane((self._data.sizes[self._y], self._data.sizes[self._x]), path)
        self._time = next(
            (
                str(d)
                for d in self._data.dims
                if d in self._data.coords and self._data[d].dtype.kind == "M"
            ),
            "",
        )
        self.times = None
        if self._time:
            self.times = self._data[self._time].values.astype("datetime64[ns]")
        self.geobox = self._grid(crs)

    @property
    def dates(self) -> int:
        """Length of the time axis, 1 if there is none."""
        return 1 if self.times is None else len(self.times)

    def layers(self, part: Part) -> list[tuple[Layer, str]]:
        """A variable per band, or positions along the band axis of one variable.

        Raises:
            RecipeError: If variables are missing, or the list and the axis do not agree.
        """
        if not part.variable:
            return [(self.layer(b.variable, 1), b.name) for b in part.bands if b.name]
        array = self._variable(part.variable)
        axes = [str(d) for d in array.dims if d not in {self._time, self._y, self._x}]
        if len(axes) != 1:
            raise RecipeError(
                f"{self.path.name}: {part.variable!r} has the axes "
                f"{', '.join(map(str, array.dims))}, so there is no single band axis. Name a "
                "variable for each band instead."
            )
        names = array[axes[0]]
        if len(names) != len(part.bands):
            raise RecipeError(
                f"{self.path.name}: {part.variable!r} has {len(names)} bands, but "
                f"{len(part.bands)} are listed. List every band in the file's order, '-' to skip "
                "one."
            )
        stored = [str(v) for v in names.values]
        for band, found in zip(part.bands, stored, strict=True):
            if names.dtype.kind in "OUS" and band.listed not in {"-", found}:
                raise RecipeError(
                    f"{self.path.name}: where {band.listed!r} is listed, the file itself says "
                    f"{found!r}; its own order is {', '.join(stored)}."
                )
        return [(Layer(part.variable, i), b.name) for i, b in enumerate(part.bands) if b.name]

    def layer(self, variable: str, band: int) -> Layer:
        """A variable of its own.

        Raises:
            RecipeError: If there is no such variable, or it is not one image per date.
        """
        array = self._variable(variable)
        extra = [d for d in array.dims if d not in {self._time, self._y, self._x}]
        if extra and (len(extra) > 1 or band > array.sizes[extra[0]]):
            raise RecipeError(f"{self.path.name}: {variable!r} has the further axes {extra}.")
        return Layer(variable, band - 1)

    def read(
        self, layers: Sequence[Layer], dates: Sequence[int], rows: slice, columns: slice
    ) -> np.ndarray:
        """(time, layer, y, x) float64, NaN where the file has no data."""
        window = {self._y: rows, self._x: columns}
        blocks = []
        for each in layers:
            array = self._data[each.variable]
            wanted: dict[str, Any] = dict(window)
            if self._time in array.dims:
                wanted[self._time] = list(dates)
            for axis in set(array.dims) - set(wanted) - {self._time}:
                wanted[str(axis)] = each.index
            order = [d for d in (self._time, self._y, self._x) if d in array.dims]
            try:
                values = array.isel(wanted).transpose(*order).values.astype("f8")
            except (OSError, ValueError) as error:
                raise RecipeError(
                    f"{self.path.name}: {each.variable!r} cannot be read: {error}."
                ) from error
            shape = (len(dates), *values.shape[-2:])
            blocks.append(np.broadcast_to(values, shape))
        return np.stack(blocks, axis=1)

    def per_date(self, variable: str) -> list[Any] | None:
        """Values of a variable with one per date, None if there is no such variable."""
        if variable not in self._data.variables:
            return None
        array = self._data[variable]
        if array.dims not in {(), (self._time,)}:
            raise RecipeError(
                f"{self.path.name}: {variable!r} has the axes {array.dims}, not one value per date."
            )
        values = np.broadcast_to(array.values, (self.dates,)).tolist()
        return [v.decode() if isinstance(v, bytes) else v for v in values]

    def _variable(self, name: str) -> xr.DataArray:
        if name not in self._data.data_vars:
            found = [str(v) for v in self._data.data_vars if self._y in self._data[v].dims]
            raise RecipeError(
                f"{self.path.name} has no variable {name!r}; it has {', '.join(sorted(found))}."
            )
        array = self._data[name]
        if not {self._y, self._x} <= set(array.dims):
            raise RecipeError(f"{self.path.name}: {name!r} has no {self._y}, {self._x} axes.")
        return array

    def _grid(self, crs: str) -> GeoBox | None:
        found = self._data.odc.crs or (crs or None)
        if found is None or self._y not in self._data.coords or self._x not in self._data.coords:
            return None
        steps = []
        for axis in (self._x, self._y):
            centres = self._data[axis].values.astype("f8")
            step = (centres[-1] - centres[0]) / max(1, len(centres) - 1)
            if step == 0 or np.abs(np.diff(centres) - step).max(initial=0.0) > abs(step) / 100:
                raise RecipeError(
                    f"{self.path.name}: the coordinates along {axis} are not evenly spaced, so it "
                    "is not a pixel grid. Resample it to one first."
                )
            steps.append((centres[0] - step / 2, step))
        (left, dx), (top, dy) = steps
        return GeoBox(self.shape, Affine(dx, 0, left, 0, dy, top), found)


def _open_dataset(path: Path) -> xr.Dataset:
    """A lazy dataset, decoded by the CF rules.

    Raises:
        RecipeError: If it cannot be read.
    """
    try:
        if path.suffix.lower() == ".zarr":
            return xr.open_dataset(path, engine="zarr", chunks=None, decode_coords="all")
        return xr.open_dataset(path, engine="h5netcdf", decode_coords="all")
    except ImportError as error:
        raise RecipeError(
            f"{path.name} is netCDF, and reading that needs the package h5py: pip install h5py."
        ) from error
    except (OSError, ValueError, KeyError) as error:
        raise RecipeError(f"{path.name} cannot be read: {error}.") from error


def _sane(shape: tuple[int, ...], path: Path) -> tuple[int, int]:
    height, width = shape
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise RecipeError(f"{path.name} says it is {width:,} by {height:,} pixels.")
    return height, width
