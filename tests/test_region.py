"""Where and when: what a region promises, and that bad input is refused in words."""

import json
import math

import numpy as np
import pytest
import shapely
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer

from skysense.errors import RegionError
from skysense.region import MAX_SIDE_KM, Region, checked_period, split_region, utm_crs

PERIOD = ("2023-01-01", "2023-12-31")
GEOD = Geod(ellps="WGS84")
quick = settings(deadline=None, max_examples=60)

lons = st.floats(-179.9, 179.9)
lats = st.floats(-83, 83)
sides = st.floats(20, 20_000)


@st.composite
def regions(draw):
    lon, lat, size = draw(lons), draw(lats), draw(sides)
    half = size / 222_000
    wide = half / math.cos(math.radians(lat))
    assume(abs(lon) + wide < 180 and abs(lat) + half < 84)
    return Region((lon - wide, lat - half, lon + wide, lat + half), PERIOD, "here")


def square_km(geometry):
    area, _ = GEOD.geometry_area_perimeter(shapely.orient_polygons(geometry))
    return abs(area) / 1e6


# --- round trips and geometry ---------------------------------------------------------------


@quick
@given(regions())
def test_geojson_gives_the_same_region_back(region):
    assert Region.from_geojson(region.to_geojson()) == region
    assert Region.from_geojson(json.dumps(region.to_geojson())) == region


@quick
@given(regions(), st.floats(0.1, 0.45), st.booleans())
def test_geojson_gives_an_outline_with_a_hole_back(region, depth, inner):
    west, south, east, north = region.bounds
    width, height = east - west, north - south
    shell = [(west, south), (east, south), (east, north), (west + width * depth, north)]
    hole = [
        (west + width * a, south + height * b)
        for a, b in ((0.6, 0.2), (0.8, 0.2), (0.8, 0.4), (0.6, 0.4))
    ]
    polygon = shapely.Polygon(shell, [hole] if inner else [])
    outlined = Region(region.bounds, PERIOD, "field", polygon)
    again = Region.from_geojson(outlined.to_geojson())
    assert again == outlined
    assert again.polygon == polygon
    if inner:
        assert again.area < Region(region.bounds, PERIOD, "", shapely.Polygon(shell)).area


def test_geojson_keeps_bounds_that_are_wider_than_the_outline():
    inner = shapely.box(3.01, 50.01, 3.02, 50.02)
    region = Region((3.0, 50.0, 3.05, 50.05), PERIOD, "farm", inner)
    assert Region.from_geojson(region.to_geojson()) == region


def test_geojson_is_plain_data_that_json_can_write():
    feature = Region((3.0, 50.0, 3.01, 50.01), "2024", "x").to_geojson()
    assert json.loads(json.dumps(feature)) == feature


@quick
@given(lons, lats, sides)
def test_around_gives_the_size_asked_for(lon, lat, size):
    assume(abs(lon) < 179)
    region = Region.around(lon, lat, size, PERIOD)
    # the square stands on the UTM grid; its bounds in degrees are turned by the convergence
    turn = math.radians(3.1 * abs(math.sin(math.radians(lat))))
    for side in region.size:
        assert 0.998 * size <= side <= size * (math.cos(turn) + math.sin(turn)) * 1.02 + 0.1


@quick
@given(lons, lats)
def test_around_is_centred_on_the_place(lon, lat):
    assume(abs(lon) < 179)
    region = Region.around(lon, lat, 1000, PERIOD)
    _, _, off = GEOD.inv(lon, lat, *region.centre)
    assert off < 2


@quick
@given(regions(), st.sampled_from([0.5, 10.0, 20.0, 40.0]))
def test_the_grid_is_metric_and_aligned(region, resolution):
    assume(max(region.size) / resolution < 10_000)
    box = region.geobox(resolution)
    assert box.crs.epsg // 100 in (326, 327)
    assert box.crs.units == ("metre", "metre")
    assert (box.resolution.x, box.resolution.y) == (resolution, -resolution)
    assert (box.affine.c % resolution, box.affine.f % resolution) == (0, 0)


@quick
@given(regions())
@example(Region((3.3, 83.5, 8.0, 83.9), PERIOD))
@example(Region((2.4, 60.0, 4.1, 60.1), PERIOD))
def test_the_grid_covers_every_point_of_the_region(region):
    west, south, east, north = region.bounds
    u, v = np.meshgrid(np.linspace(0, 1, 33), np.linspace(0, 1, 9))
    to_utm = Transformer.from_crs("EPSG:4326", region.crs, always_xy=True)
    x, y = to_utm.transform(west + u * (east - west), south + v * (north - south))
    box = region.geobox(10).boundingbox
    assert min(x.min() - box.left, box.right - x.max()) > -1
    assert min(y.min() - box.bottom, box.top - y.max()) > -1


@quick
@given(regions())
def test_area_of_a_rectangle_is_its_sides_multiplied(region):
    width, height = region.size
    assert region.area == pytest.approx(width * height / 1e6, rel=0.05)


def test_utm_zones_are_those_of_the_map():
    known = {
        (3.02, 50.8): "EPSG:32631",
        (-180.0, 10.0): "EPSG:32601",
        (180.0, 10.0): "EPSG:32660",
        (-0.1, -33.0): "EPSG:32730",
        (0.0, 0.0): "EPSG:32631",
        (151.2, -33.9): "EPSG:32756",
    }
    assert {place: utm_crs(*place) for place in known} == known


def test_a_map_panned_round_the_world_gives_the_same_region():
    turned = Region((541.0, 50.0, 541.1, 50.1), PERIOD)
    assert turned.bounds == pytest.approx((-179.0, 50.0, -178.9, 50.1), abs=1e-9)
    assert turned.crs == "EPSG:32601"


def test_an_outline_is_turned_round_the_world_with_its_bounds():
    far = shapely.Polygon([(363, 50), (363.1, 50), (363.1, 50.1)])
    region = Region.from_geojson(json.loads(shapely.to_geojson(far)), PERIOD)
    assert region.outline.bounds == pytest.approx(region.bounds)
    assert region.area == pytest.approx(square_km(far))


def test_a_polygon_that_is_its_rectangle_is_a_rectangle():
    plain = Region((3.0, 50.0, 3.1, 50.1), PERIOD)
    assert Region(plain.bounds, PERIOD, "", shapely.box(*plain.bounds)) == plain


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ((3.0, 84.5, 3.1, 84.6), "UTM ends"),
        ((3.0, -90, 3.1, -89.9), "UTM ends"),
        ((50.8, 103.0, 50.9, 103.1), "swap longitude and latitude"),
        ((500000, 5600000, 500640, 5600640), "metres instead of degrees"),
        ((179.9, 10, -179.9, 10.1), "antimeridian"),
        ((179.9, 10, 180.1, 10.1), "antimeridian"),
        ((3.0, 50.0, 3.0, 50.1), "no area"),
        ((3.0, 50.1, 3.1, 50.0), "no area"),
        ((3.0, 50.0, 3.00001, 50.00001), "10 m pixel"),
        ((3.0, 50.0, 3.0 + 1e-13, 50.1), "10 m pixel"),
        ((3.0, 50.0, 5.9, 50.1), "split_region"),
        ((3.0, 50.0, 33.0, 50.1), "UTM zone"),
        ((-180, -84, 180, 84), "UTM zone"),
        ((3.0, math.nan, 3.1, 50.1), "not finite"),
        ((3.0, 50, math.inf, 50.1), "not finite"),
        ((10**400, 50, 3.1, 50.1), "not finite"),
        ((True, False, 3.1, 50.1), "four numbers"),
        (("3.0", "50", "3.1", "50.1"), "four numbers"),
        ("1234", "four numbers"),
        (None, "four numbers"),
        ((1, 2, 3), "four numbers"),
        ((1, 2, 3, None), "four numbers"),
    ],
)
def test_bounds_that_cannot_work_are_refused_with_the_reason(bounds, words):
    with pytest.raises(RegionError, match=words):
        Region(bounds, PERIOD)


@pytest.mark.parametrize(
    "place",
    [
        {"lon": math.nan},
        {"lat": math.inf},
        {"lat": 84.2},
        {"lat": 91.0},
        {"lon": "3"},
        {"lon": True},
        {"lat": None},
        {"size": 0},
        {"size": -5},
        {"size": math.nan},
        {"size": True},
        {"size": "640"},
        {"size": 1e9},
        {"size": 10**400},
    ],
)
def test_around_refuses_what_is_no_place_or_size(place):
    with pytest.raises(RegionError):
        Region.around(**{"lon": 3.0, "lat": 50.0, "size": 640, "time": "2023", **place})


@pytest.mark.parametrize("resolution", [0, -1, math.nan, math.inf, "10", None, True])
def test_a_resolution_is_a_positive_number(resolution):
    with pytest.raises(RegionError, match="resolution"):
        Region((3.0, 50.0, 3.01, 50.01), PERIOD).geobox(resolution)


def test_an_outline_outside_its_bounds_is_refused():
    with pytest.raises(RegionError, match="outside the bounds"):
        Region((3.0, 50.0, 3.1, 50.1), PERIOD, "", shapely.box(3.0, 50.0, 3.2, 50.1))


def test_an_outline_that_crosses_itself_is_refused():
    bow = shapely.Polygon([(3, 50), (3.1, 50.1), (3.1, 50), (3, 50.1)])
    with pytest.raises(RegionError, match="crosses itself"):
        Region(bow.bounds, PERIOD, "", bow)


@pytest.mark.parametrize(
    ("given_time", "expected"),
    [
        ("2024", ("2024-01-01", "2024-12-31")),
        (2024, ("2024-01-01", "2024-12-31")),
        ("2024-02", ("2024-02-01", "2024-02-29")),
        ("2024-12", ("2024-12-01", "2024-12-31")),
        ("2024-05-06", ("2024-05-06", "2024-05-06")),
        (("2023-11", "2024-01"), ("2023-11-01", "2024-01-31")),
        (["2023-11-05", "2024"], ("2023-11-05", "2024-12-31")),
        (np.datetime64("2024-05-06T12:00"), ("2024-05-06", "2024-05-06")),
    ],
)
def test_periods_can_be_years_months_and_days(given_time, expected):
    assert checked_period(given_time) == expected


@pytest.mark.parametrize(
    "bad",
    ["", "yesterday", "2024-13", "2023-02-29", ("2024-02-01", "2024-01-01"), "1999", (), None,
     ("2024",) * 3, {"2024": 1}, "9999999999", 10**30, "9999", True, ["2024", None], b"2024",
     float("nan"), "-2024"],
)  # fmt: skip
def test_what_is_no_period_is_refused(bad):
    with pytest.raises(RegionError):
        Region((3.0, 50.0, 3.01, 50.01), bad)


# --- GeoJSON from strangers -----------------------------------------------------------------

SQUARE = {
    "type": "Polygon",
    "coordinates": [[[3.0, 50.0], [3.01, 50.0], [3.01, 50.01], [3.0, 50.01], [3.0, 50.0]]],
}

json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "coordinates", "features", "geometry", "properties", "time"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


def accepted_or_refused(source, **options):
    """True if it made a region, False if it was refused in words; anything else fails."""
    try:
        Region.from_geojson(source, **options)
    except RegionError as error:
        assert str(error)  # noqa: PT017 -- refusing is one of two right answers
        return False
    return True


@settings(deadline=None, max_examples=300)
@given(json_values)
def test_any_json_is_a_region_or_a_sentence(value):
    accepted_or_refused(value, time=PERIOD)
    accepted_or_refused(json.dumps(value), time=PERIOD)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(["type", "coordinates", "geometry", "properties", "bounds", "time"]),
       json_values, st.integers(0, 3))  # fmt: skip
def test_a_feature_with_one_thing_replaced_is_a_region_or_a_sentence(key, value, depth):
    feature = {
        "type": "Feature",
        "geometry": json.loads(json.dumps(SQUARE)),
        "properties": {"time": list(PERIOD), "name": "x"},
    }
    target = feature
    for step in ("geometry", "coordinates", 0)[:depth]:
        target = target[step]
    if isinstance(target, dict):
        target[key] = value
    else:
        target[0] = value
    accepted_or_refused(feature)
    feature["properties"] = {"time": "2023", "bounds": value}
    accepted_or_refused(feature)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.lists(st.floats() | st.booleans() | st.integers() | st.text(max_size=3),
                         max_size=4), max_size=8))  # fmt: skip
def test_any_ring_is_a_region_or_a_sentence(ring):
    accepted_or_refused({"type": "Polygon", "coordinates": [ring]}, time=PERIOD)
    accepted_or_refused({"type": "MultiPolygon", "coordinates": [[ring], [ring]]}, time=PERIOD)


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=40) | st.binary(max_size=40))
def test_any_text_is_a_region_or_a_sentence(text):
    assert not accepted_or_refused(text, time=PERIOD)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"type":' * 100_000,
        json.dumps(SQUARE).replace("[[[", "[" * 5000),
        '{"type": "Polygon", "coordinates": [[[' + "9" * 5000 + ", 1]]]}",
        '{"type": "Polygon", "coordinates": [[[NaN, 1], [2, 3], [4, 5], [NaN, 1]]]}',
        '{"type": "Polygon", "coordinates": [[[1e999, 1], [2, 3], [4, 5], [1e999, 1]]]}',
        '{"type": "Polygon", "coordinates": [[[true, 1], [2, 3], [4, 5], [true, 1]]]}',
        '{"type": "Polygon", "coordinates": [[["3", "50"], ["4", "51"], ["4", "50"]]]}',
        '{"type": ["Polygon"], "coordinates": []}',
        '{"type": "Point", "coordinates": [3, 50]}',
        '{"type": "FeatureCollection", "features": []}',
        "\0.geojson",
        "x" * 5000,
        "/",
    ],
)
def test_hostile_text_is_refused_at_once(text):
    assert not accepted_or_refused(text, time=PERIOD)


def test_a_deep_parsed_object_is_refused():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert not accepted_or_refused({"type": "Polygon", "coordinates": deep}, time=PERIOD)


def test_a_million_corners_are_refused_with_their_number():
    turn = np.linspace(0, 2 * np.pi, 1_000_001)
    ring = np.stack([3 + 0.1 * np.cos(turn), 50 + 0.1 * np.sin(turn)], 1).tolist()
    with pytest.raises(RegionError, match="corners"):
        Region.from_geojson({"type": "Polygon", "coordinates": [ring]}, PERIOD)


def test_a_file_with_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "field.geojson"
    path.write_text(json.dumps(SQUARE), encoding="utf-8-sig")
    assert Region.from_geojson(path, PERIOD).bounds == (3.0, 50.0, 3.01, 50.01)
    assert Region.from_geojson(str(path), PERIOD).bounds == (3.0, 50.0, 3.01, 50.01)


def test_a_third_coordinate_is_dropped():
    ring = [[x, y, 12.0] for x, y in SQUARE["coordinates"][0]]
    assert Region.from_geojson({"type": "Polygon", "coordinates": [ring]}, PERIOD) == (
        Region.from_geojson(SQUARE, PERIOD)
    )


def test_a_period_is_asked_for_where_there_is_none():
    with pytest.raises(RegionError, match="time"):
        Region.from_geojson(SQUARE)


# --- splitting ------------------------------------------------------------------------------


def assert_parts_cover(parts, expected):
    """Parts lie apart and together are the expected geometry (degrees)."""
    together = shapely.union_all([p.outline for p in parts])
    assert together.symmetric_difference(expected).area < 1e-9 * expected.area + 1e-13
    assert sum(p.outline.area for p in parts) == pytest.approx(expected.area, rel=1e-9)
    for part in parts:
        assert max(part.size) <= MAX_SIDE_KM * 1001
        assert shapely.box(*part.bounds).buffer(1e-9).covers(part.outline)


@settings(deadline=None, max_examples=40)
@given(lons, st.floats(-83.9, 83.9), st.floats(0.001, 12), st.floats(0.001, 6))
@example(0.0, 0.0, 12.0, 6.0)
@example(5.99999, 50.0, 0.00002, 0.01)
@example(3.0, 80.0, 4.0, 6.0)
def test_parts_cover_a_rectangle_up_to_84_degrees(lon, lat, width, height):
    box = (lon, lat, min(lon + width, 179.99), min(lat + height, 90.0))
    assume(box[2] - box[0] > 2e-3 * 5 or width < 1e-4)
    assume(min(box[3], 84) - box[1] > 1e-3)
    try:
        parts = split_region(box, PERIOD)
    except RegionError as error:
        assert "10 m pixel" in str(error)  # noqa: PT017 -- the only allowed reason
        return
    assert_parts_cover(parts, shapely.box(box[0], box[1], box[2], min(box[3], 84.0)))


@settings(deadline=None, max_examples=40)
@given(lons, st.floats(-70, 70), st.lists(st.tuples(st.floats(0.2, 1), st.floats(0, 6.28)),
                                        min_size=5, max_size=12), st.floats(0.05, 4))  # fmt: skip
def test_parts_cover_a_star_with_a_hole(lon, lat, points, radius):
    assume(abs(lon) + radius < 180)
    ring = [
        (lon + radius * r * math.cos(a), lat + radius * r * math.sin(a))
        for r, a in sorted(points, key=lambda p: p[1])
    ]
    polygon = shapely.Polygon(ring)
    assume(polygon.is_valid and polygon.area > 1e-3 * radius**2)
    core = polygon.representative_point().buffer(0.02 * radius)
    holed = polygon.difference(core)
    assume(holed.geom_type == "Polygon")
    assert_parts_cover(split_region(holed, PERIOD), holed)


def test_a_sliver_beyond_a_zone_border_is_kept():
    box = (5.5, 50.0, 6.00001, 50.02)  # 0.7 m of it lie in zone 32
    parts = split_region(box, PERIOD)
    assert {p.crs for p in parts} == {"EPSG:32631", "EPSG:32632"}
    assert_parts_cover(parts, shapely.box(*box))


def test_a_place_across_the_antimeridian_has_parts_on_both_sides():
    parts = split_region((179.5, -17.0, -179.5, -16.5), PERIOD, "Fiji")
    assert sorted({p.crs for p in parts}) == ["EPSG:32701", "EPSG:32760"]
    assert [p.name for p in parts] == [f"Fiji {i + 1}" for i in range(len(parts))]
    expected = shapely.union_all(
        [shapely.box(179.5, -17, 180, -16.5), shapely.box(-180, -17, -179.5, -16.5)]
    )
    assert_parts_cover(parts, expected)


@pytest.mark.parametrize(
    "ring",
    [
        [(179.5, -17), (180.5, -17), (180.5, -16.5), (179.5, -16.5)],
        [(-180.5, -17), (-179.5, -17), (-179.5, -16.5), (-180.5, -16.5)],
        [(179.5, -17), (-179.5, -17), (-179.5, -16.5), (179.5, -16.5)],
        [(539.5, -17), (540.5, -17), (540.5, -16.5), (539.5, -16.5)],
    ],
)
def test_outlines_across_the_antimeridian_are_understood_however_they_are_written(ring):
    parts = split_region(shapely.Polygon(ring), PERIOD)
    expected = shapely.union_all(
        [shapely.box(179.5, -17, 180, -16.5), shapely.box(-180, -17, -179.5, -16.5)]
    )
    assert_parts_cover(parts, expected)


def test_a_small_place_is_one_part_with_its_own_name():
    assert split_region((3.0, 50.0, 3.1, 50.1), PERIOD, "field") == [
        Region((3.0, 50.0, 3.1, 50.1), PERIOD, "field")
    ]


def test_every_part_can_be_written_and_read():
    for part in split_region((170.0, -20.0, -179.99, -16.0), PERIOD, "sea"):
        assert Region.from_geojson(part.to_geojson()) == part


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ((-180, -90, 180, 90), "km²"),
        ((-60, -40, 60, 40), "km²"),
        (shapely.box(-80, -40, 60, 40), "km²"),
        ((0, 85, 1, 86), "84"),
        ((0, 95, 1, 96), "swap"),
        ((3, 50, 3, 51), "area"),
        ((3, 51, 4, 50), "south"),
        ((3.0, 50.0, 3.00001, 50.00001), "10 m pixel"),
        (shapely.Point(3, 50), "Point"),
        (shapely.Polygon(), "empty"),
        (shapely.Polygon([(3, 50), (4, 51), (4, 50), (3, 51)]), "crosses itself"),
        (shapely.Polygon([(3, 50), (4, 51), (math.nan, 50)]), "finite"),
        (shapely.box(-200, 0, 200, 1), "once round the Earth"),
        ((math.nan, 0, 1, 1), "finite"),
        ("no such file", "read"),
        (17, "GeoJSON"),
    ],
)
def test_places_that_cannot_be_split_are_refused_with_the_reason(place, words):
    with pytest.raises(RegionError, match=words):
        split_region(place, PERIOD)


def test_a_period_may_be_written_with_a_slash():
    assert Region.around(3, 50, 640, "2023-01-01/2023-02-01").time == ("2023-01-01", "2023-02-01")


@pytest.mark.parametrize("time", ["2023-01-01garbage", "2023-01-01/2023-02-01/2023-03-01", "/"])
def test_a_period_with_something_more_is_refused(time):
    with pytest.raises(RegionError, match="is not a period"):
        Region.around(3, 50, 640, time)
