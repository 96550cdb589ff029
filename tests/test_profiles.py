import copy
import datetime as dt
import json
import math
from dataclasses import replace

import odc.stac
import pystac
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skysense.errors import SourceError
from skysense.sensors import SENSORS
from skysense.sources.access import Access, Limits
from skysense.sources.grids import choose_grid
from skysense.sources.profiles import (
    EARTH_SEARCH,
    PLANETARY_COMPUTER,
    PROFILES,
    own_address,
    profile_of,
)
from skysense.sources.radiometry import Decode
from skysense.sources.scenes import Part, Scene, by_day, newest, projection_of, read_scene

PATIENT = settings(deadline=None)  # other work may share the processor
ANY = Access(frozenset({"https://*.amazonaws.com", "https://*.windows.net", "https://x.example"}))
PC_S2, ES_S2 = PLANETARY_COMPUTER.collections["s2"], EARTH_SEARCH.collections["s2"]


@pytest.fixture(scope="session")
def recorded(shared):
    """A recorded item by the start of its file's name; relative addresses made absolute."""

    def load(name):
        found = sorted((shared / "reference/stac-items").glob(f"{name}*"))
        item = json.loads(found[0].read_text())
        for asset in item["assets"].values():
            if not asset["href"].startswith("http"):
                asset["href"] = "https://x.example/" + asset["href"].removeprefix("./")
        return item

    return load


def scene(**changes):
    part = Part("https://x.example/a.tif", 1, Decode())
    plain = Scene("a", dt.datetime(2020, 5, 1, 10), shapely.box(3, 50, 4, 51), {"blue": part})
    return replace(plain, **changes)


# --- what a profile says ---------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_no_profile_claims_to_have_been_called_live(profile):
    assert profile.called_live is False


@pytest.mark.parametrize("profile", [*PROFILES.values(), own_address("https://x.example")])
def test_bands_are_in_the_models_order(profile):
    for key, spec in profile.collections.items():
        assert tuple(spec.bands)[: len(SENSORS[key].names)] == SENSORS[key].names


def test_the_default_high_resolution_source_is_naip():
    naip = PLANETARY_COMPUTER.collections["hr"]
    assert naip.ids == ("naip",)
    assert [(b, layer.index) for b, layer in naip.bands.items()] == [
        ("red", 1), ("green", 2), ("blue", 3), ("nir", 4)
    ]  # fmt: skip


def test_sources_are_found_by_name_and_by_address():
    assert profile_of("earth-search") is EARTH_SEARCH
    assert profile_of(PLANETARY_COMPUTER.address + "/") is PLANETARY_COMPUTER
    assert profile_of("https://stac.example/v1").name == "own"


@pytest.mark.parametrize(
    "source", ["", "planetary", "ftp://x", "file:///x", "/tmp", None, 3, "http"]
)
def test_what_is_no_catalogue_is_refused(source):
    with pytest.raises(SourceError, match="not a catalogue"):
        profile_of(source)


def test_a_named_provider_reads_its_own_hosts_only():
    access = PLANETARY_COMPUTER.access((), Limits())
    assert access.check("https://sentinel1euwestrtc.blob.core.windows.net/a.tif")
    with pytest.raises(SourceError):
        access.check("https://sentinel-cogs.s3.us-west-2.amazonaws.com/a.tif")


def test_a_mirror_of_a_provider_is_not_signed():
    mirror = PLANETARY_COMPUTER.at("https://mirror.example/v1")
    assert mirror.signer is None
    assert not mirror.access((), Limits()).allows("https://a.blob.core.windows.net/b")


# --- recorded items --------------------------------------------------------------------------


def test_planetary_computer_sentinel_2(recorded):
    made = read_scene(recorded("planetary-computer_sentinel-2-l2a_2019"), PC_S2, ANY)
    assert list(made.bands) == list(SENSORS["s2"].names)
    for band in SENSORS["s2"].bands:
        assert f"_{band.code}_" in made.bands[band.name].href
    assert "_SCL_" in made.mask.href
    assert (made.crs, made.transform[:3]) == ("EPSG:32606", (10.0, 0.0, 399960.0))
    assert (made.tile, made.baseline, made.level) == ("06VVN", "02.12", "L2A")
    assert (made.orbit_direction, made.orbit_number) == ("descending", 43)
    assert made.moment == dt.datetime(2019, 6, 29, 21, 25, 29, 24000)
    assert made.clear == pytest.approx(1 - 0.00314306)
    assert made.bands["blue"].decode == Decode(1e-4, 0, 0, floor=0.0)


@pytest.mark.parametrize(
    ("name", "baseline", "add"),
    [
        ("stactools_sentinel2_S2B_MSIL2A_20191228", "02.12", 0),
        ("stactools_sentinel2_S2B_MSIL2A_20220413", "04.00", -1000),
        ("stactools_sentinel2_S2A_MSIL2A_20230625", "05.09", -1000),
    ],
)
def test_the_baseline_of_recorded_items_decides_the_offset(recorded, name, baseline, add):
    made = read_scene(recorded(name), ES_S2, ANY)
    assert made.baseline == baseline
    assert {part.decode.add for part in made.bands.values()} == {add}
    assert list(made.bands) == list(SENSORS["s2"].names)


def test_both_ways_of_knowing_the_offset_agree_on_recorded_items(recorded):
    for name in ("20191228T210519", "20220413T150759", "20230625T234621"):
        item = recorded(f"stactools_sentinel2_*{name}")
        declared = read_scene(item, ES_S2, ANY)
        by_baseline = read_scene(item, replace(ES_S2, offset="raw"), ANY)
        assert declared.bands == by_baseline.bands


def test_a_provider_that_took_the_offset_off_is_believed_against_its_items(recorded):
    item = recorded("stactools_sentinel2_S2B_MSIL2A_20220413")
    made = read_scene(item, replace(ES_S2, offset="shifted"), ANY)
    assert {part.decode.add for part in made.bands.values()} == {0}


def test_both_spellings_of_the_grid_are_one(recorded):
    old = recorded(
        "stactools_sentinel2_S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022158"
    )
    new = recorded(
        "stactools_sentinel2_S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022157"
    )
    assert ("proj:epsg" in old["properties"], "proj:code" in new["properties"]) == (True, True)
    assert read_scene(old, ES_S2, ANY).crs == read_scene(new, ES_S2, ANY).crs == "EPSG:32601"


def test_a_tile_on_the_antimeridian_does_not_span_the_globe(recorded):
    made = read_scene(recorded("stactools_sentinel2_S2A_MSIL2A_20230625"), ES_S2, ANY)
    assert not made.footprint.intersects(shapely.box(0, 60, 10, 70))


def test_the_newer_of_two_processings_of_one_datastrip_is_kept(recorded):
    pair = [
        read_scene(recorded(f"stactools_sentinel2_S2A*_{second}"), ES_S2, ANY)
        for second in ("20230626T022157", "20230626T022158")
    ]
    pair = [replace(p, item=f"{p.item}{i}") for i, p in enumerate(pair)]
    kept, replaced = newest(pair)
    assert (len(kept), len(replaced)) == (1, 1)
    assert kept[0].made >= replaced[0].made


def test_an_earth_search_item_of_the_first_version_is_understood(recorded):
    made = read_scene(
        recorded("earth-search-v0"), own_address("https://x.example").collections["s2"], ANY
    )
    assert (made.baseline, made.tile, made.orbit_number) == ("02.14", "28QCH", 123)
    assert list(made.bands) == list(SENSORS["s2"].names)
    assert made.bands["nir08"].href.endswith("B8A.tif")


def test_terrain_corrected_radar_of_another_provider(recorded):
    spec = own_address("https://x.example").collections["s1"]
    made = read_scene(recorded("aws_sentinel1-rtc"), spec, ANY)
    assert list(made.bands) == ["vv", "vh"]
    assert (made.level, made.backscatter, made.orbit_direction) == ("RTC", "gamma0", "ascending")
    assert made.orbit_number == 121
    assert made.bands["vv"].decode == Decode(nodata=0, power=True)


def test_radar_without_a_map_grid_is_refused_with_the_reason(recorded):
    item = recorded("stactools_sentinel1-grd")
    spec = own_address("https://x.example").collections["s1"]
    with pytest.raises(SourceError, match="uncalibrated"):
        read_scene(item, spec, ANY)


# --- spellings, duplicates, days -------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (({"proj:epsg": 32631},), "EPSG:32631"), (({"proj:epsg": "32631"},), "EPSG:32631"),
        (({"proj:code": "EPSG:32631"},), "EPSG:32631"), (({"proj:code": "epsg:4326"},), "EPSG:4326"),
        (({"proj:code": "EPSG:None"},), ""), (({"proj:code": None, "proj:epsg": None},), ""),
        (({"proj:code": "EPSG:None", "proj:epsg": 32631},), "EPSG:32631"),
        (({}, {"proj:epsg": 32632}), "EPSG:32632"),
        (({"proj:code": "EPSG:32631"}, {"proj:epsg": 32632}), "EPSG:32631"),
        (({"proj:code": 5, "proj:epsg": True},), ""), (({"proj:code": "IAU_2015:30100"},), ""),
    ],
)  # fmt: skip
def test_projections_are_read_in_every_spelling(levels, expected):
    assert projection_of(*levels) == expected


def test_a_split_datastrip_is_kept_whole():
    a = scene(item="a", tile="31UES", strip="20200501T100000")
    b = scene(item="b", tile="31UES", strip="20200501T100012")
    assert newest([a, b]) == ([a, b], [])


def test_of_a_reprocessed_scene_the_highest_baseline_is_kept():
    versions = [
        scene(item=b, tile="31UES", strip="20200501T100000", baseline=b)
        for b in ("02.14", "05.10", "05.00")
    ]
    kept, replaced = newest(versions)
    assert [s.item for s in kept] == ["05.10"]
    assert [s.item for s in replaced] == ["02.14", "05.00"]


@PATIENT
@given(st.permutations(["02.14", "05.10", "05.00", "04.00"]))
def test_the_order_of_the_answer_does_not_matter(order):
    scenes = [scene(item=b, tile="t", strip="s", baseline=b) for b in order]
    assert [s.item for s in newest(scenes)[0]] == ["05.10"]


def test_a_day_is_a_solar_day():
    """In New Zealand the passes of one local morning lie on two UTC days."""
    before = scene(item="a", moment=dt.datetime(2020, 5, 1, 23, 50))
    after = scene(item="b", moment=dt.datetime(2020, 5, 2, 0, 10))
    assert len(by_day([before, after], lon=175)) == 1
    assert len(by_day([before, after], lon=0)) == 2


@PATIENT
@given(st.floats(-180, 180), st.lists(st.integers(0, 200_000), min_size=1, max_size=6))
def test_our_solar_days_are_those_of_odc_stac(lon, seconds):
    start = dt.datetime(2020, 5, 1)
    moments = sorted({start + dt.timedelta(seconds=s) for s in seconds})
    ours = by_day([scene(item=f"{i}", moment=m) for i, m in enumerate(moments)], lon)
    parsed = [pystac.Item(f"{i}", None, None, m, {}) for i, m in enumerate(moments)]
    theirs = {odc.stac.parse_item(p).solar_date_at(lon).date() for p in parsed}
    assert len(ours) == len(theirs)


def test_radar_of_two_orbits_is_never_mosaicked():
    up = scene(item="a", backscatter="gamma0", orbit_direction="ascending", orbit_number=15)
    down = scene(item="b", backscatter="gamma0", orbit_direction="descending", orbit_number=37)
    assert len(by_day([up, down], 3)) == 2


def test_within_a_day_the_newest_processing_comes_first():
    old, new = scene(item="a", baseline="02.14"), scene(item="b", baseline="05.10")
    assert [s.item for s in by_day([old, new], 3)[0]] == ["b", "a"]


# --- grids -----------------------------------------------------------------------------------

BOUNDS = (501040.0, 5628880.0, 502160.0, 5630000.0)


def test_sentinel_scenes_of_the_own_zone_are_copied():
    here = scene(crs="EPSG:32631", transform=(10, 0, 499980, 0, -10, 5700000))
    grid = choose_grid("s2", [here], 10, "EPSG:32631", BOUNDS)
    assert grid.geobox.boundingbox.bbox == BOUNDS
    assert (grid.resampling, grid.sentence) == (
        "nearest",
        "20 m bands are repeated on the 10 m grid.",
    )


@pytest.mark.parametrize(
    ("crs", "transform", "words"),
    [
        ("EPSG:32632", (10, 0, 499980, 0, -10, 5700000), "another zone"),
        ("EPSG:32631", (10, 0, 499983, 0, -10, 5700000), "off the 10 m grid"),
        ("EPSG:32631", (20, 0, 499980, 0, -20, 5700000), "pixels of 20 m"),
        ("", (), "do not say"),
    ],
)
def test_every_kind_of_resampling_is_said(crs, transform, words):
    there = scene(crs=crs, transform=transform)
    assert words in choose_grid("s1", [there], 10, "EPSG:32631", BOUNDS).sentence


@pytest.mark.parametrize("crs", ["EPSG:32631", "EPSG:25831"])
def test_aerial_images_on_one_grid_keep_it(crs):
    aerial = scene(crs=crs, transform=(0.6, 0, 500000.2, 0, -0.6, 5700000.2))
    grid = choose_grid("hr", [aerial], 1, "EPSG:32631", BOUNDS)
    assert grid.geobox.resolution.x == pytest.approx(0.6)
    assert grid.sentence == ""
    steps = (grid.geobox.boundingbox.left - 500000.2) / 0.6
    assert steps == pytest.approx(round(steps), abs=1e-4)
    box = grid.geobox.boundingbox
    assert box.left <= BOUNDS[0] + 1e-3
    assert box.right >= BOUNDS[2] - 1e-3


def test_aerial_images_on_several_grids_are_resampled_and_said():
    a = scene(crs="EPSG:32631", transform=(0.6, 0, 500000.0, 0, -0.6, 5700000.0))
    b = scene(item="b", crs="EPSG:32631", transform=(0.6, 0, 500000.2, 0, -0.6, 5700000.0))
    grid = choose_grid("hr", [a, b], 1, "EPSG:32631", BOUNDS)
    assert grid.resampling == "bilinear"
    assert "resampled to EPSG:32631 at 0.6 m" in grid.sentence
    assert grid.geobox.boundingbox.left / 0.6 == pytest.approx(
        round(grid.geobox.boundingbox.left / 0.6), abs=1e-4
    )


@PATIENT
@given(st.floats(0.1, 5), st.floats(0, 1), st.floats(0, 1))
def test_a_grid_covers_the_windows_and_no_more_than_a_pixel_beyond(size, x, y):
    aerial = scene(crs="EPSG:32631", transform=(size, 0, x, 0, -size, y))
    box = choose_grid("hr", [aerial], 1, "EPSG:32631", BOUNDS).geobox.boundingbox
    slack = 1e-3
    assert BOUNDS[0] - size - slack <= box.left <= BOUNDS[0] + slack
    assert BOUNDS[3] - slack <= box.top <= BOUNDS[3] + size + slack
    assert BOUNDS[2] - slack <= box.right <= BOUNDS[2] + size + slack
    assert BOUNDS[1] - size - slack <= box.bottom <= BOUNDS[1] + slack


# --- hostile and broken items ----------------------------------------------------------------


def plain_item():
    names = [*SENSORS["s2"].names, "scl"]
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": "S2A_31UES_20200501_0_L2A",
        "geometry": shapely.geometry.mapping(shapely.box(3, 50, 4, 51)), "bbox": [3, 50, 4, 51],
        "properties": {"datetime": "2020-05-01T10:00:00Z", "proj:epsg": 32631,
                       "eo:cloud_cover": 12, "s2:processing_baseline": "05.00"},
        "assets": {n: {"href": f"https://x.example/{n}.tif"} for n in names},
    }  # fmt: skip


@pytest.mark.parametrize(
    "href",
    ["file:///etc/passwd", "/vsizip/a.zip/b.tif", "http://169.254.169.254/", "https://evil/a.tif"],
)
def test_one_address_off_the_list_refuses_the_item(href):
    item = plain_item()
    item["assets"]["red"]["href"] = href
    with pytest.raises(SourceError):
        read_scene(item, ES_S2, ANY)


def test_an_item_without_any_of_the_assets_says_which_were_looked_for():
    item = plain_item() | {"assets": {"thumbnail": {"href": "https://x.example/t.png"}}}
    with pytest.raises(SourceError, match="none of the assets blue, green"):
        read_scene(item, ES_S2, ANY)


def test_a_missing_band_is_absent_and_a_missing_mask_is_none():
    item = plain_item()
    del item["assets"]["nir08"], item["assets"]["scl"]
    made = read_scene(item, ES_S2, ANY)
    assert "nir08" not in made.bands
    assert made.mask is None


@pytest.mark.parametrize("cloud", [None, "12", -1, 101, float("nan"), True, [3]])
def test_an_impossible_cloud_cover_is_unknown(cloud):
    item = plain_item()
    item["properties"]["eo:cloud_cover"] = cloud
    assert math.isnan(read_scene(item, ES_S2, ANY).clear)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_no_item_raises_anything_but_our_error(data):
    item = copy.deepcopy(plain_item())
    for _ in range(data.draw(st.integers(1, 3))):
        at = item
        while isinstance(at, dict) and at:
            key = data.draw(st.sampled_from(sorted(at, key=str)))
            if not isinstance(at[key], dict) or data.draw(st.booleans()):
                at[key] = data.draw(JSON)
                break
            at = at[key]
    try:
        made = read_scene(item, ES_S2, ANY)
    except SourceError:
        return
    assert made.bands
    assert all(ANY.allows(part.href) for part in made.bands.values())
