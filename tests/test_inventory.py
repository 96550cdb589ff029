"""What a source holds, and places from files, before any image is read."""

import json

import geopandas
import numpy as np
import pytest
import shapely
from sentences import ODD, refused

import skysense as sky
from skysense import Region
from skysense.dates import Dates, acquisitions, tally, two_years
from skysense.errors import RegionError, SourceError
from skysense.sources import available, synthetic
from skysense.sources.outlines import read_regions
from tests.test_dates import days_of_year, group, stack

PLACE = Region.around(3.0, 50.8, 320, ("2023-01-01", "2023-12-31"), "small")


def test_a_synthetic_place_lists_the_dates_that_its_stack_will_have():
    made = synthetic.scene_for(PLACE, ("s2", "s1"))
    assert available(PLACE, ("s2", "s1"), "synthetic") == acquisitions(made)


def test_a_scene_made_when_it_is_read_holds_the_same_pixels():
    short = Region.around(3.0, 50.8, 100, ("2023-05-01", "2023-05-20"))
    now, later = synthetic.scene_for(short, ("s2",)), synthetic.scene_for(short, ("s2",), lazy=True)
    assert later["s2"]["data"].chunks is not None
    np.testing.assert_array_equal(later["s2"]["data"], now["s2"]["data"])
    np.testing.assert_array_equal(later["s2"]["valid"], now["s2"]["valid"])


def test_a_recipe_lists_its_dates(shared):
    found = sky.available(source="tests/recipes/be-flanders-parcels.toml")
    assert sum(each.sensor == "s2" for each in found) == 118


def test_a_catalogue_that_cannot_be_reached_is_a_sentence():
    words = refused(SourceError, available, PLACE, "s2", "http://127.0.0.1:9/stac")
    assert "127.0.0.1:9" in words


def test_the_tally_counts_days_shares_and_what_would_be_used():
    tree = stack(s2=group("s2", days_of_year(30), clear=[0.5] * 30))
    assert tally(acquisitions(tree)) == (
        "Sentinel-2: 30 dates, 2023-01-01 to 2023-05-26, 50 % usable on average; 20 would be used"
    ).replace("50 %", "50%")
    assert tally([]) == ""


def test_two_years_share_the_part_that_both_hold():
    days = [*np.arange("2020-10-01", "2021-10-01", 10, "M8[D]")]
    days += [*np.arange("2022-03-01", "2022-12-31", 10, "M8[D]")]
    tree = stack(s2=group("s2", days, clear=[1.0] * len(days)))
    early, late = two_years(tree, Dates(s2=5))
    assert (early.first[:4], late.first[:4]) == ("2021", "2022")
    assert early.first[5:] == late.first[5:] >= "03-01"
    assert early.last[5:] == late.last[5:] <= "09-30"
    assert early.s2 == late.s2 == 5


@pytest.mark.parametrize("count", [5, 70])
def test_one_year_has_no_other(count):
    assert two_years(stack(s2=group("s2", days_of_year(count), clear=[1.0] * count))) is None


def test_clouds_do_not_make_a_year():
    days = [*np.arange("2020-01-01", "2022-01-01", 10, "M8[D]")]
    clear = [1.0 if str(day) < "2021" else 0.0 for day in days]
    assert two_years(stack(s2=group("s2", days, clear=clear))) is None


# --- outlines -------------------------------------------------------------------------------

SQUARE = shapely.box(3.0, 50.8, 3.01, 50.81)
YEAR = ("2023-01-01", "2023-12-31")


def collection(*shapes):
    each = [
        {
            "type": "Feature",
            "properties": {"name": name},
            "geometry": json.loads(shapely.to_geojson(s)),
        }
        for name, s in shapes
    ]
    return {"type": "FeatureCollection", "features": each}


def test_every_polygon_of_a_geojson_file_is_a_region(tmp_path):
    path = tmp_path / "farms.geojson"
    other = shapely.box(4.0, 50.8, 4.01, 50.81)
    path.write_text(json.dumps(collection(("North <b>", SQUARE), ("", other))))
    found = read_regions(path, YEAR)
    assert [region.name for region in found] == ["North <b>", "farms 2"]
    assert found[0].bounds == SQUARE.bounds
    assert found[1].time == YEAR


def test_a_geopackage_in_metres_is_the_place_it_says(tmp_path):
    path = tmp_path / "farm.gpkg"
    table = geopandas.GeoDataFrame({"name": ["Farm"]}, geometry=[SQUARE], crs="EPSG:4326")
    table.to_crs("EPSG:32631").to_file(path, driver="GPKG")
    (found,) = read_regions(path, YEAR)
    assert found.name == "Farm"
    np.testing.assert_allclose(found.bounds, SQUARE.bounds, atol=1e-7)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be opened"),
        ("[]", "not an object"),
        ("[" * 100_000, "cannot be opened"),
        ('{"type": "FeatureCollection", "features": 3}', "no list"),
        ('{"type": "FeatureCollection", "features": []}', "no outline"),
        ('{"type": "FeatureCollection", "features": [5]}', "Polygon"),
        ('{"type": "Point", "coordinates": [3, 50]}', "Polygon"),
        (json.dumps(collection(*[("a", SQUARE)] * 9)), "9 outlines"),
    ],
)
def test_a_file_without_usable_outlines_is_a_sentence(tmp_path, content, words):
    path = tmp_path / "places.json"
    path.write_text(content)
    assert words in refused(RegionError, read_regions, path, YEAR)


def test_a_damaged_geopackage_and_one_of_points_are_sentences(tmp_path):
    path = tmp_path / "places.gpkg"
    path.write_bytes(b"SQLite format 3\0" + bytes(200))
    assert "cannot be opened" in refused(RegionError, read_regions, path, YEAR)
    points = tmp_path / "points.gpkg"
    geopandas.GeoDataFrame(geometry=[SQUARE.centroid], crs=4326).to_file(points, driver="GPKG")
    assert "Point" in refused(RegionError, read_regions, points, YEAR)


@pytest.mark.parametrize(
    "path", [o for o in ODD if not isinstance(o, str)] + ["x.shp"], ids=lambda o: type(o).__name__
)
def test_what_is_no_path_of_outlines_is_refused(path):
    refused(RegionError, read_regions, path, YEAR)
