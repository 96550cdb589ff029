"""Where on Earth a cell is, for tests that click it."""

from pyproj import Transformer


def middle_of(field, row, column):
    """(lon, lat) of the middle of a cell (degrees)."""
    to_degrees = Transformer.from_crs(str(field.odc.geobox.crs), "EPSG:4326", always_xy=True)
    return to_degrees.transform(float(field["x"][column]), float(field["y"][row]))
