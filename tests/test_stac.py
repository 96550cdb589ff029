import pickle
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from stac_scenes import (
    CODES,
    CORNER,
    USABLE,
    UTM,
    as_collection_1,
    catalogue,
    collection,
    flanders_s1,
    flanders_s2,
    item,
    north_dakota,
    write_cog,
)
from stac_server import FileServer, StacServer

from skysense import Region
from skysense.dates import Dates, choose_dates, summary
from skysense.errors import Cancelled, SourceError, StackError
from skysense.sources import load_stack as load_any
from skysense.sources.fetch import read_stack
from skysense.sources.net import ReadError
from skysense.sources.profiles import EARTH_SEARCH, PLANETARY_COMPUTER
from skysense.sources.stac import load_stack
from skysense.stack import all_notes, open_stack, save_stack
from skysense.windows import Lattice, cover

PLACE = (3.019304, 50.813085, 3.028392, 50.818843)
FIELDS = Region(PLACE, ("2018-04-01", "2018-05-31"), "fields")
DATES = list(range(44, 52))
PRAIRIE = Region((-99.17, 47.01, -99.15, 47.02), ("2009-01-01", "2021-01-01"))


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    made = FileServer(tmp_path_factory.mktemp("served"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def scenes(shared, files):
    """Real images as items of several providers, and the numbers that are in their files."""
    root, base = files.root, files.url
    s2, numbers = flanders_s2(shared, root, base, DATES)
    s1, decibels = flanders_s1(shared, root, base, [90, 91, 92])
    naip, aerial = north_dakota(shared, root, base)
    return {
        "s2": s2, "c1": as_collection_1(s2[:3], root, base), "s1": s1, "naip": naip,
        "numbers": numbers, "decibels": decibels, "aerial": aerial,
    }  # fmt: skip


@pytest.fixture(scope="session")
def server(scenes):
    """A real STAC server: PostgreSQL, PostGIS, pgstac, stac-fastapi."""
    reason = StacServer.missing()
    if reason:
        pytest.skip(reason)
    items = [i for key in ("s2", "c1", "s1", "naip") for i in scenes[key]]
    names = dict.fromkeys(i["collection"] for i in items)
    made = StacServer([collection(n) for n in names], items)
    yield made
    made.close()


def at(profile, server, files):
    """A provider's profile pointed at our server."""
    return replace(profile.at(server.url), hosts=(files.host,))


def inside(group):
    """The part of a group over the square that the files cover (64 x 64 pixels)."""
    left, top = CORNER
    return group.sel(x=slice(left, left + 640), y=slice(top, top - 640))


def expected(numbers, k):
    """(band, y, x) reflectance of stored numbers, 20 m bands repeated."""
    layers = []
    for band in CODES:
        raw = numbers[band][k]
        raw = raw.repeat(64 // len(raw), 0).repeat(64 // raw.shape[1], 1)
        layers.append(np.where(raw == 0, np.nan, raw / 10_000))
    return np.stack(layers).astype("f4")


def usable(numbers, k):
    return np.isin(numbers["scl"][k], USABLE).repeat(2, 0).repeat(2, 1)


# --- against a real server -------------------------------------------------------------------


@pytest.mark.slow
def test_pixels_through_a_real_server_are_those_in_the_files(server, files, scenes):
    profile = at(PLANETARY_COMPUTER, server, files)
    stack = read_stack(load_stack(FIELDS, ("s2",), profile, clear_classes=USABLE))
    group = inside(stack["s2"].to_dataset())
    assert group.sizes["time"] == len(DATES)
    for k in range(len(DATES)):
        pixels = expected(scenes["numbers"], k)
        assert np.array_equal(group["data"][k], pixels, equal_nan=True)
        assert np.array_equal(
            group["valid"][k], usable(scenes["numbers"], k) & np.isfinite(pixels).all(0)
        )


@pytest.mark.slow
def test_pixels_through_a_real_server_are_those_of_the_file_source(server, files, scenes):
    pytest.importorskip("h5py", reason="the file source needs h5py to read the same place")
    from skysense.sources.files import open_recipe
    from skysense.sources.recipe import read_recipe

    recipe = read_recipe(Path(__file__).parent / "recipes/be-flanders-parcels.toml")
    from_files = open_recipe(recipe, FIELDS, ["s2"], None)["s2"].to_dataset()
    profile = at(PLANETARY_COMPUTER, server, files)
    stack = read_stack(load_stack(FIELDS, ("s2",), profile, clear_classes=USABLE))
    group = inside(stack["s2"].to_dataset())
    same = from_files.sel(time=group["time"], x=group["x"], y=group["y"])
    theirs = same["data"].sel(band=group["band"])
    assert np.array_equal(group["data"], theirs, equal_nan=True)
    assert np.array_equal(group["valid"], same["valid"])


@pytest.mark.slow
def test_a_user_s_own_server_needs_only_its_address(server, files, scenes):
    stack = load_stack(FIELDS, ("s2", "s1"), server.url, allow_hosts=[files.host])
    assert list(stack.children) == ["s2", "s1"]
    group = inside(read_stack(stack)["s2"].to_dataset())
    assert np.array_equal(group["data"][0], expected(scenes["numbers"], 0), equal_nan=True)
    assert "sentinel-2-c1-l2a" in stack["s2"].attrs["source"]


@pytest.mark.slow
def test_the_offset_of_new_baselines_is_taken_off(server, files, scenes):
    """Collection 1 has 1,000 added to every number; the reflectance is the same."""
    stack = read_stack(load_stack(FIELDS, ("s2",), at(EARTH_SEARCH, server, files)))
    group = inside(stack["s2"].to_dataset())
    assert list(group["baseline"].values) == ["05.00"] * 3
    for k in range(3):
        assert np.array_equal(group["data"][k], expected(scenes["numbers"], k), equal_nan=True)
    assert "offset of −1000 applied to 3 of 3 scenes" in " ".join(all_notes(stack))


@pytest.mark.slow
def test_radar_power_becomes_decibels(server, files, scenes):
    stack = load_stack(Region(PLACE, "2018"), ("s1",),
                       at(PLANETARY_COMPUTER, server, files))  # fmt: skip
    group = inside(read_stack(stack)["s1"].to_dataset())
    for k, band in ((0, "vv"), (1, "vh")):
        there = scenes["decibels"][band].repeat(2, 1).repeat(2, 2)
        assert np.allclose(group["data"][:, k], there, atol=1e-4, equal_nan=True)
    assert set(group["orbit_direction"].values) == {"ascending"}
    assert set(group["orbit_number"].values) == {161}
    assert set(group["backscatter"].values) == {"gamma0"}
    assert "pixels of 20 m" in group.attrs["resampling"]


@pytest.mark.slow
def test_aerial_images_are_read_in_colour_order(server, files, scenes):
    stack = load_stack(PRAIRIE, ("hr",), at(PLANETARY_COMPUTER, server, files))
    group = stack["hr"].to_dataset()
    assert list(group["band"].values) == ["red", "green", "blue", "nir"]
    assert float(group.odc.geobox.resolution.x) == pytest.approx(5.0, rel=0.01)
    data = read_stack(stack)["hr"]["data"].values
    for k, pixels in enumerate(scenes["aerial"]):
        assert np.isfinite(data[k]).mean() > 0.99
        for band in range(4):
            whole, part = np.median(pixels[band]), np.median(data[k, band])
            assert abs(whole - part) < 25
    assert "resampled" in group.attrs["resampling"], "the two years are not on one grid"


@pytest.mark.slow
def test_what_a_stack_holds_is_known_before_any_pixel_is_read(server, files, scenes):
    files.asked.clear()
    stack = load_stack(FIELDS, ("s2",), at(PLANETARY_COMPUTER, server, files))
    held = summary(stack)
    assert not files.asked
    assert held.dates["s2"][0] == "2018-04-06"
    clear = [usable(scenes["numbers"], k).mean() for k in range(len(DATES))]
    assert held.clear["s2"] == pytest.approx(clear, abs=1e-4)
    count, bands, rows, columns = held.shapes["s2"]
    assert held.nbytes == count * rows * columns * (4 * bands + 1)


@pytest.mark.slow
def test_the_period_is_searched_and_both_days_count(server, files):
    profile = at(PLANETARY_COMPUTER, server, files)
    one = Region(PLACE, ("2018-04-11", "2018-04-14"))
    days = summary(load_stack(one, ("s2",), profile)).dates["s2"]
    assert days == ["2018-04-11", "2018-04-14"]


@pytest.mark.slow
def test_an_empty_answer_says_where_when_and_what_to_do(server, files):
    profile = at(PLANETARY_COMPUTER, server, files)
    with pytest.raises(SourceError, match="sentinel-2-l2a from 2021-01-01 to 2021-01-31") as told:
        load_stack(Region(PLACE, "2021-01"), ("s2",), profile)
    assert "longer period" in str(told.value)


@pytest.mark.slow
def test_too_many_scenes_are_refused_with_the_number(server, files):
    profile = at(PLANETARY_COMPUTER, server, files)
    with pytest.raises(SourceError, match="More than 3 Sentinel-2 scenes"):
        load_stack(FIELDS, ("s2",), profile, max_items=3)


@pytest.mark.slow
def test_a_stack_read_and_saved_opens_the_same(server, files, tmp_path):
    tree = load_stack(FIELDS, ("s2",), at(PLANETARY_COMPUTER, server, files))
    read = read_stack(choose_dates(tree, Dates(s2=2)))
    again = open_stack(save_stack(read, tmp_path / "a.zarr"))
    xr.testing.assert_identical(again["s2"].to_dataset().load(), read["s2"].to_dataset())
    assert all_notes(again) == all_notes(read)


# --- against fixed pages: faults, hostile items, unusual answers -------------------------------


@pytest.fixture
def pages(files, scenes):
    """Serve these items as a catalogue; gives its address."""
    files.faults.clear()
    files.always.clear()

    def serve(items, **changes):
        files.pages.clear()
        files.pages |= catalogue(files.url, items)
        files.pages |= changes
        return f"{files.url}/stac"

    return serve


def copied(files, one, number=[0]):  # noqa: B006 -- a counter: new addresses for every test
    """The same scene at addresses that GDAL has not seen yet."""
    number[0] += 1
    made = {**one, "assets": {}, "properties": dict(one["properties"])}
    for key, asset in one["assets"].items():
        path = asset["href"].removeprefix(f"{files.url}/")
        link = files.root / f"copy{number[0]}" / path.replace("/", "_")
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(files.root / path)
        href = f"{files.url}/{link.relative_to(files.root)}"
        made["assets"][key] = {**asset, "href": href}
    return made


def path_of(files, one, key):
    return one["assets"][key]["href"].removeprefix(files.url)


def test_the_package_s_own_front_door_leads_here(pages, scenes):
    stack = load_any(FIELDS, "s2", pages(scenes["s2"][:1]))
    assert stack["s2"]["data"].shape == (1, 10, 112, 112)


def test_the_windows_loaded_are_those_that_the_region_touches(pages, scenes):
    stack = load_stack(FIELDS, ("s2",), pages(scenes["s2"]))
    box = FIELDS.geobox(10).boundingbox
    held = stack["s2"].to_dataset().odc.geobox.boundingbox
    assert tuple(held) == cover(Lattice(UTM), (box.left, box.bottom, box.right, box.top))


def test_a_pixel_does_not_depend_on_the_rectangle_drawn(pages, scenes):
    address = pages(scenes["s2"][:2])
    small = Region.around(3.0239, 50.8160, 100, ("2018-04-01", "2018-05-31"))
    wide = read_stack(load_stack(FIELDS, ("s2",), address))["s2"].to_dataset()
    part = read_stack(load_stack(small, ("s2",), address))["s2"].to_dataset()
    same = wide.sel(x=part["x"], y=part["y"])
    xr.testing.assert_equal(part["data"], same["data"])
    xr.testing.assert_equal(part["valid"], same["valid"])


@pytest.mark.parametrize("fault", [404, "garbage", "truncate"])
def test_one_broken_file_costs_its_date_and_is_named(pages, files, scenes, fault):
    items = [copied(files, i) for i in scenes["s2"][:3]]
    files.always[path_of(files, items[1], "B05")] = fault
    stack = read_stack(load_stack(FIELDS, ("s2",), pages(items), timeout=5))
    assert summary(stack).dates["s2"] == ["2018-04-06", "2018-04-14"]
    lost = [n for n in all_notes(stack) if "2018-04-11 left out" in n]
    assert len(lost) == 1
    assert items[1]["id"] in lost[0]
    assert "rededge1" in lost[0]
    group = inside(stack["s2"].to_dataset())
    for k, date in enumerate((0, 2)):
        assert np.array_equal(group["data"][k], expected(scenes["numbers"], date), equal_nan=True)


def test_a_lazy_stack_never_blanks_what_it_cannot_read(pages, files, scenes):
    broken = copied(files, scenes["s2"][0])
    files.always[path_of(files, broken, "B02")] = 404
    stack = load_stack(FIELDS, ("s2",), pages([broken]))
    with pytest.raises(ReadError, match="blue, could not be read"):
        stack["s2"]["data"].compute()


def test_faults_that_pass_leave_no_trace(pages, files, scenes):
    one = copied(files, scenes["s2"][0])
    for key in ("B02", "B03", "B04"):
        files.faults[path_of(files, one, key)] = [503, "truncate", 429]
    group = inside(read_stack(load_stack(FIELDS, ("s2",), pages([one])))["s2"].to_dataset())
    assert np.array_equal(group["data"][0], expected(scenes["numbers"], 0), equal_nan=True)


def test_if_nothing_can_be_read_that_is_an_error(pages, files, scenes):
    one = copied(files, scenes["s2"][0])
    files.always[path_of(files, one, "B02")] = 404
    with pytest.raises(SourceError, match=r"No image could be read.*HTTP 404"):
        read_stack(load_stack(FIELDS, ("s2",), pages([one])))


@pytest.mark.timeout(60)
def test_a_server_that_has_gone_is_not_asked_for_every_date(pages, files, scenes):
    items = [copied(files, i) for i in scenes["s2"]]
    for one in items[1:]:
        for key in one["assets"]:
            files.always[path_of(files, one, key)] = "stall"
    stack = read_stack(load_stack(FIELDS, ("s2",), pages(items), timeout=0.8))
    assert summary(stack).dates["s2"] == ["2018-04-06"]
    untried = [n for n in all_notes(stack) if "not tried" in n]
    assert len(untried) == len(items) - 4


def test_reading_shows_progress_and_can_be_stopped(pages, scenes):
    tree = load_stack(FIELDS, ("s2",), pages(scenes["s2"][:3]))
    seen, stop = [], threading.Event()

    def progress(done, total, sentence):
        seen.append((done, total))
        if done == 2:
            stop.set()

    with pytest.raises(Cancelled):
        read_stack(tree, progress=progress, cancel=stop)
    assert seen == [(1, 3), (2, 3)]


def test_more_than_memory_allows_is_refused_before_reading(pages, files, scenes):
    tree = load_stack(FIELDS, ("s2",), pages(scenes["s2"][:1]))
    files.asked.clear()
    with pytest.raises(StackError, match=r"memory_gb=0\.0001"):
        read_stack(tree, memory_gb=0.0001)
    assert not files.asked


def test_an_image_on_another_host_is_left_out_and_named(pages, files, scenes):
    bad = copied(files, scenes["s2"][1])
    bad["assets"]["B02"]["href"] = "http://169.254.169.254/latest/meta-data"
    stack = load_stack(FIELDS, ("s2",), pages([scenes["s2"][0], bad]))
    assert summary(stack).dates["s2"] == ["2018-04-06"]
    assert any("left out" in n and "no catalogue may be on" in n for n in all_notes(stack))


def test_files_on_a_second_host_need_an_explicit_permission(pages, files, scenes):
    other = files.url.replace("127.0.0.1", "localhost")
    moved = {**scenes["s2"][0], "assets": {
        k: {**a, "href": a["href"].replace(files.url, other)}
        for k, a in scenes["s2"][0]["assets"].items()
    }}  # fmt: skip
    address = pages([moved])
    with pytest.raises(SourceError, match="allow_hosts"):
        load_stack(FIELDS, ("s2",), address)
    allowed = [files.host.replace("127.0.0.1", "localhost")]
    assert load_stack(FIELDS, ("s2",), address, allow_hosts=allowed)["s2"].sizes["time"] == 1


def test_two_tiles_of_one_day_become_one_date(pages, files, scenes):
    """A scene cut into a western and an eastern file is put together again."""
    whole, halves = scenes["s2"][2], []
    for side, columns in (("west", slice(0, 32)), ("east", slice(32, 64))):
        assets = {}
        for band, code in (*CODES.items(), ("scl", "SCL")):
            raw = scenes["numbers"][band][2]
            size = 640 // len(raw)
            part = raw[:, columns.start * 10 // size : columns.stop * 10 // size]
            path = f"halves/{side}_{code}.tif"
            corner = CORNER[0] + columns.start * 10
            kind = "u1" if band == "scl" else "u2"
            grid = Affine(size, 0, corner, 0, -size, CORNER[1])
            write_cog(files.root / path, part.astype(kind), grid, UTM, 0)
            assets[code] = {"href": f"{files.url}/{path}"}
        facts = {k: v for k, v in whole["properties"].items() if not k.startswith("proj:")}
        moment = facts.pop("datetime")
        facts |= {"s2:mgrs_tile": f"31U{side[0].upper()}S"}
        grid = Affine(10, 0, CORNER[0] + columns.start * 10, 0, -10, CORNER[1])
        made = item(side, "sentinel-2-l2a", moment, UTM, grid, (64, 32), assets, facts, new=True)
        halves.append(made)
    stack = load_stack(FIELDS, ("s2",), pages(halves), clear_classes=USABLE)
    group = inside(read_stack(stack)["s2"].to_dataset())
    assert group.sizes["time"] == 1
    assert set(str(group["item"].values[0]).split()) == {"west", "east"}
    assert np.array_equal(group["data"][0], expected(scenes["numbers"], 2), equal_nan=True)
    assert "mosaics" in " ".join(all_notes(stack))


def test_aerial_images_on_one_grid_keep_their_pixels_exactly(pages, files, scenes):
    """NAIP is in NAD83 UTM, which counts as the region's zone: nothing is resampled."""
    stack = load_stack(PRAIRIE, ("hr",), pages(scenes["naip"][:1]))
    group = read_stack(stack)["hr"].to_dataset()
    assert group.attrs["resampling"] == ""
    box = group.odc.geobox.boundingbox
    left, top = 485900, 5209247  # of the image
    row, column = round((top - box.top) / 5), round((box.left - left) / 5)
    rows, columns = group.sizes["y"], group.sizes["x"]
    there = scenes["aerial"][0][:, row : row + rows, column : column + columns]
    assert np.array_equal(group["data"][0], there)


def test_an_older_processing_of_the_same_scene_is_left_out(pages, scenes):
    address = pages([scenes["s2"][0], {**scenes["c1"][0], "collection": "sentinel-2-l2a"}])
    stack = load_stack(FIELDS, ("s2",), address)
    assert list(stack["s2"]["baseline"].values) == ["05.00"]
    assert any("older processings" in n and scenes["s2"][0]["id"] in n for n in all_notes(stack))


def test_a_radar_scene_with_one_polarisation_stays_usable(pages, files, scenes):
    lone = {**scenes["s1"][1], "assets": {"vv": scenes["s1"][1]["assets"]["vv"]}}
    stack = load_stack(
        Region(PLACE, "2018"), ("s1",), pages([scenes["s1"][0], lone, scenes["s1"][2]])
    )
    group = inside(read_stack(stack)["s1"].to_dataset())
    assert np.isnan(group["data"].sel(band="vh")[1]).all()
    assert np.array_equal(group["valid"][1], np.isfinite(group["data"].sel(band="vv")[1]))
    assert "1 of 3 dates have no vh" in " ".join(all_notes(stack))


def test_without_a_scene_classification_clouds_are_said_to_be_unmasked(pages, scenes):
    bare = [
        {**i, "assets": {k: a for k, a in i["assets"].items() if k != "SCL"}}
        for i in scenes["s2"][:1]
    ]
    stack = load_stack(FIELDS, ("s2",), pages(bare))
    assert "clouds are not masked" in " ".join(all_notes(stack))
    group = inside(read_stack(stack)["s2"].to_dataset())
    assert np.array_equal(group["valid"][0], np.isfinite(group["data"][0]).all("band"))


def test_a_sensor_without_scenes_is_noted_and_the_others_load(pages, scenes):
    stack = load_stack(FIELDS, ("s2", "s1", "hr"), pages(scenes["s2"][:1]))
    assert list(stack.children) == ["s2"]
    notes = " ".join(all_notes(stack))
    assert "Sentinel-1: the catalogue has none of the collections" in notes
    assert "High resolution: the catalogue has none of the collections naip" in notes


def test_an_offset_taken_off_twice_is_flagged_after_reading(pages, files, scenes):
    """The pixels of this scene are already shifted, but its metadata promise an offset."""
    one = copied(files, scenes["s2"][4])
    one["properties"]["s2:processing_baseline"] = "05.00"
    stack = read_stack(load_stack(FIELDS, ("s2",), pages([one])))
    assert any("subtracted twice" in n for n in all_notes(stack))


def test_a_stack_says_that_nobody_has_called_its_provider(pages, scenes):
    mirror = PLANETARY_COMPUTER.at(pages(scenes["s2"][:1]))
    assert any("not yet called live" in n for n in all_notes(load_stack(FIELDS, ("s2",), mirror)))


def test_a_lazy_stack_can_be_sent_to_other_processes(pages, scenes):
    data = load_stack(FIELDS, ("s2",), pages(scenes["s2"][:1]))["s2"]["data"].data
    copy = pickle.loads(pickle.dumps(data))
    assert np.array_equal(copy.compute(), data.compute(), equal_nan=True)


BAD_PAGES = {
    "html": b"<html>sign in</html>",
    "empty": b"",
    "list": b"[]",
    "number": b"7",
    "object": b"{}",
    "binary": bytes(range(256)),
    "deep": b"[" * 100_000,
    "a collection": b'{"type": "Collection", "id": "x", "stac_version": "1.0.0"}',
    "no search": b'{"type": "Catalog", "id": "x", "stac_version": "1.0.0", "description": "", '
    b'"links": []}',
}


@pytest.mark.parametrize("page", BAD_PAGES.values(), ids=list(BAD_PAGES))
@pytest.mark.filterwarnings("ignore")
def test_what_is_not_a_stac_api_is_an_error_in_words(pages, scenes, page):
    with pytest.raises(SourceError, match=r"STAC API|did not answer|none of the collections"):
        load_stack(FIELDS, ("s2",), pages([], **{"/stac": page}))


@pytest.mark.parametrize(
    "page", [b"", b"[]", b"{}", b'{"features": 7}', b'{"features": [7, null]}']
)
@pytest.mark.filterwarnings("ignore")
def test_a_search_that_answers_nonsense_is_an_error_in_words(pages, scenes, page):
    with pytest.raises(SourceError):
        load_stack(FIELDS, ("s2",), pages(scenes["s2"], **{"/stac/search": page}))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418, 500, 503])
def test_a_catalogue_that_refuses_is_an_error_with_the_status(pages, files, scenes, status):
    address = pages(scenes["s2"])
    files.always["/stac"] = status
    with pytest.raises(SourceError, match=f"HTTP {status}"):
        load_stack(FIELDS, ("s2",), address, timeout=4)


@pytest.mark.timeout(20)
def test_a_catalogue_that_stalls_is_given_up(pages, files, scenes):
    address = pages(scenes["s2"])
    files.always["/stac/search"] = "stall"
    with pytest.raises(SourceError, match="did not answer"):
        load_stack(FIELDS, ("s2",), address, timeout=1)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("address", ["http://127.0.0.1:9/stac", "https://no-such-host.invalid"])
def test_a_catalogue_that_is_not_there_is_named(address):
    with pytest.raises(SourceError, match=r"did not answer.*synthetic") as told:
        load_stack(FIELDS, ("s2",), address, timeout=3)
    assert address in str(told.value)


@pytest.mark.timeout(30)
def test_a_catalogue_without_an_end_is_given_up(pages, files, scenes):
    """Every page points to itself as the next one."""
    address = pages(scenes["s2"][:1])
    endless = catalogue(files.url, scenes["s2"][:1])["/stac/search"].replace(
        b'"links": []}',
        b'"links": [{"rel": "next", "href": "%s/stac/search"}]}' % files.url.encode(),
    )
    last = endless.rindex(b'"links"')
    assert b'"next"' in endless[last:]
    files.pages["/stac/search"] = endless
    with pytest.raises(SourceError, match=r"More than 400|did not answer"):
        load_stack(FIELDS, ("s2",), address, timeout=2)


def test_a_search_is_not_sent_to_another_host(pages, files, scenes):
    address = pages(scenes["s2"])
    files.pages["/stac"] = files.pages["/stac"].replace(
        f"{files.url}/stac/search".encode(), b"http://169.254.169.254/search"
    )
    with pytest.raises(SourceError, match="no catalogue may be on"):
        load_stack(FIELDS, ("s2",), address)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sensors": ()}, "sensors"), ({"sensors": ("s3",)}, "sensors"),
        ({"source": "ftp://x"}, "not a catalogue"), ({"max_items": 0}, "max_items"),
        ({"timeout": -1}, "timeout"), ({"allow_hosts": [7]}, "allow_hosts"),
        ({"source": "http://169.254.169.254/stac"}, "no catalogue"),
        ({"source": "https://user:pw@x.example"}, "user name"),
    ],
)  # fmt: skip
def test_impossible_wishes_are_refused_in_words(change, words):
    with pytest.raises(SourceError, match=words):
        load_stack(**{"region": FIELDS, "source": "https://x.example", **change})
