"""The division of the Earth: every place in one cell, every cell back on the map, all alike in area."""

import json
import math

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from skysense.cells import Division, division
from skysense.errors import EncoderError, RegionError
from skysense.region import Region

sides = st.sampled_from((1, 2, 3, 7, 32, 64))
longitudes = st.floats(-180, 180, exclude_max=True)
latitudes = st.floats(-90, 90)
YEAR = ("2024-01-01", "2024-12-31")


def owns(bounds, lon, lat):
    west, south, east, north = bounds
    return west <= lon < east and (south <= lat < north or lat == north == 90)


@given(sides, longitudes, latitudes)
def test_a_place_lies_in_the_cell_it_is_given(side, lon, lat):
    earth = Division(side)
    assert owns(earth.bounds(int(earth.cell_of(lon, lat))), lon, lat)


@given(longitudes, latitudes)
def test_a_place_lies_in_exactly_one_cell(lon, lat):
    earth = Division(8)
    assert sum(owns(earth.bounds(cell), lon, lat) for cell in range(64)) == 1


@given(sides, st.data())
def test_a_cell_is_found_again_from_its_centre_and_its_corners(side, data):
    earth = Division(side)
    cell = data.draw(st.integers(0, side**2 - 1))
    assert int(earth.cell_of(*earth.centre(cell))) == cell
    west, south, east, north = earth.bounds(cell)
    assert int(earth.cell_of(west, south)) == cell
    inner = math.nextafter(east, -math.inf), math.nextafter(north, -math.inf)
    assert int(earth.cell_of(*inner)) == cell


@given(sides, st.integers(-180 * 1024, 180 * 1024 - 1), latitudes, st.integers(-3, 3))
def test_going_round_the_earth_changes_nothing(side, steps, lat, turns):
    lon = steps / 1024  # to which 360 can be added without rounding
    assert Division(side).cell_of(lon + 360 * turns, lat) == Division(side).cell_of(lon, lat)


@given(sides, longitudes, latitudes)
def test_the_number_of_a_cell_is_the_formula(side, lon, lat):
    row = side * (math.sin(math.radians(lat)) + 1) / 2
    column = side * (lon + 180) / 360
    if min(abs(x - round(x)) for x in (row, column)) > 1e-9:
        assert int(Division(side).cell_of(lon, lat)) == side * int(row) + int(column)


@given(st.data())
def test_all_cells_have_the_same_area_on_a_sphere(data):
    earth, sphere = Division(64), Geod(a=1.0, b=1.0)
    cell = data.draw(st.integers(0, earth.count - 1))
    west, south, east, north = earth.bounds(cell)
    across = np.linspace(west, east, 2000)  # parallels are no geodesics
    lons = np.concatenate([across, across[::-1]])
    lats = np.concatenate([np.full(2000, south), np.full(2000, north)])
    area, _ = sphere.polygon_area_perimeter(lons, lats)
    assert area == pytest.approx(4 * math.pi / 4096, rel=1e-5)


def test_areas_on_the_ellipsoid_differ_by_a_little_over_one_percent():
    earth, geod = Division(64), Geod(ellps="WGS84")
    areas = []
    for cell in (0, 32 * 64):  # at the pole, at the equator
        west, south, east, north = earth.bounds(cell)
        across = np.linspace(west, east, 2000)
        lons = np.concatenate([across, across[::-1]])
        lats = np.concatenate([np.full(2000, south), np.full(2000, north)])
        areas.append(geod.polygon_area_perimeter(lons, lats)[0])
    assert areas[0] / areas[1] == pytest.approx(1.013, abs=1e-3)


def test_paper_size_is_4096_cells():
    assert Division().count == 4096
    assert division(4096) == Division(64)


def test_unknown_places_are_in_no_cell():
    found = Division().cell_of([np.nan, 4.0, np.nan, 4.0], [50.0, np.nan, np.nan, 50.0])
    assert found.tolist()[:3] == [-1, -1, -1]
    assert found[3] >= 0


def test_the_date_line_is_the_border_of_the_first_and_the_last_column():
    earth = Division(64)
    assert earth.cell_of(-180, 0.1) == earth.cell_of(180, 0.1) == 32 * 64
    assert earth.cell_of(np.nextafter(180, 0), 0.1) == 33 * 64 - 1
    assert earth.cell_of(-180 - 1e-14, 0.1) in (32 * 64, 33 * 64 - 1)


def test_poles_belong_to_the_outermost_rows():
    earth = Division(64)
    assert earth.cell_of(10, 90) // 64 == 63
    assert earth.cell_of(10, -90) // 64 == 0


@given(st.floats(-170, 170), st.floats(-80, 80), st.floats(100, 90_000))
def test_a_region_touches_the_cells_of_all_its_places(lon, lat, size):
    try:
        region = Region.around(lon, lat, size, YEAR)
    except RegionError:
        return  # across the antimeridian or beyond UTM
    west, south, east, north = region.bounds
    lons, lats = np.meshgrid(
        np.linspace(west, east, 20, endpoint=False), np.linspace(south, north, 20, endpoint=False)
    )
    earth = Division(64)
    seen = set(earth.cell_of(lons, lats).ravel().tolist())
    touched = earth.touched(region)
    assert seen <= set(touched)
    assert touched == sorted(touched)
    for cell in touched:
        assert shapely.box(*earth.bounds(cell)).intersection(shapely.box(*region.bounds)).area > 0


def test_a_common_border_is_not_touched():
    earth = Division(64)
    west, south, _, _ = earth.bounds(40 * 64 + 33)
    region = Region((west, south, west + 0.1, south + 0.1), YEAR)
    assert earth.touched(region) == [40 * 64 + 33]


def test_a_cell_outside_the_outline_of_a_region_is_not_touched():
    earth = Division(64)
    west, south, _, _ = earth.bounds(40 * 64 + 33)
    box = (west - 0.2, south - 0.2, west + 0.2, south + 0.2)
    corner = shapely.Polygon([(box[0], box[1]), (box[2], box[1]), (box[0], box[3])])
    whole, part = Region(box, YEAR), Region(box, YEAR, polygon=corner)
    assert len(earth.touched(whole)) == 4
    assert earth.touched(part) == sorted(set(earth.touched(whole)) - {40 * 64 + 33})


def test_an_outline_is_geojson_around_the_centre():
    earth = Division(64)
    for cell in (0, 2080, 4095):
        shape = shapely.from_geojson(json.dumps(earth.outline(cell)))
        assert shape.is_valid
        assert shape.exterior.is_ccw
        assert shape.bounds == earth.bounds(cell)
        assert shape.contains(shapely.Point(earth.centre(cell)))


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        (lambda: Division(0), EncoderError, "side=0"),
        (lambda: Division(64).bounds(4096), RegionError, "no cell 4096"),
        (lambda: Division(64).outline(-1), RegionError, "no cell -1"),
        (lambda: Division(64).cell_of(50, 120), RegionError, "swap longitude and latitude"),
        (lambda: Division(64).cell_of(np.inf, 0), RegionError, "infinite"),
        (lambda: division(1000), EncoderError, "1000 cells"),
        (lambda: division(1024, "hexagons"), EncoderError, "no rule 'hexagons'"),
    ],
)
def test_what_is_no_place_or_no_cell_is_refused_in_a_sentence(act, error, words):
    with pytest.raises(error, match=words):
        act()
