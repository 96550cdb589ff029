"""The stack's contract: every fault has a name, and storing changes nothing."""

import dask.array
import numpy as np
import odc.geo.xr
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from skysense.errors import StackError
from skysense.region import Region
from skysense.stack import (
    PER_DATE,
    all_notes,
    check_stack,
    make_stack,
    open_stack,
    region_of,
    save_stack,
    sensor_group,
    sensors_of,
)
from skysense.windows import Lattice

UTM = "EPSG:32631"
LATTICE = Lattice(UTM, 500_000.0, 5_600_000.0, 80.0, 60.0)
DAYS = ["2023-05-01T10:56", "2023-02-01T10:50", None]


def grid(resolution=10.0, height=6, width=8):
    return GeoBox((height, width), Affine(resolution, 0, 500_000, 0, -resolution, 5_600_000), UTM)


def s2_group(days=DAYS, bands=("blue", "green", "red", "nir"), **options):
    rng = np.random.default_rng(0)
    data = rng.random((len(days), len(bands), 6, 8)).astype("f4")
    data[0, 1, 2, 3] = np.nan
    valid = rng.random((len(days), 6, 8)) > 0.3
    given = {
        "per_date": {
            "item": [f"scene-{i}" for i in range(len(days))],
            "orbit_direction": ["descending", "ascending", ""][: len(days)],
            "orbit_number": [51, 8, None][: len(days)],
            "baseline": ["05.09", "02.14", ""][: len(days)],
            "level": ["L2A", "L1C", ""][: len(days)],
            "clear": [0.5, 0.25, None][: len(days)],
        },
        "source": "a test",
        "licence": "CC0",
        **options,
    }
    return sensor_group("s2", data, valid, bands=bands, time=days, geobox=grid(), **given)


def s1_group():
    data = np.full((1, 2, 6, 8), -12.0, "f4")
    return sensor_group(
        "s1", data, np.ones((1, 6, 8), bool), bands=("vv", "vh"), time=["2023-03-01"],
        geobox=grid(), source="a test", licence="CC-BY-4.0", resampling="Resampled by nothing.",
    )  # fmt: skip


def stack(**options):
    groups = {"s1": s1_group(), "s2": s2_group(notes=["One date has no day."], approximate=True)}
    given = {"lattice": LATTICE, "region": None, "source": "a test", "notes": ["Made up."]}
    return make_stack(groups, **{**given, **options})


# --- what a group promises ------------------------------------------------------------------


def test_dates_are_sorted_with_everything_that_belongs_to_them():
    group = s2_group()
    assert [str(t)[:10] for t in group["time"].values] == ["2023-02-01", "2023-05-01", "NaT"]
    assert group["item"].values.tolist() == ["scene-1", "scene-0", "scene-2"]
    assert group["orbit_number"].values.tolist() == [8, 51, -1]
    assert np.isnan(group["data"].values[1, 1, 2, 3])
    np.testing.assert_array_equal(group["clear"].values, np.array([0.25, 0.5, np.nan], "f4"))


def test_moments_with_a_zone_are_put_in_utc():
    group = s2_group(days=["2023-05-01T01:00+02:00"], per_date={})
    assert group["time"].values[0] == np.datetime64("2023-04-30T23:00")


def test_day_of_year_follows_the_date_and_is_unknown_where_the_date_is():
    np.testing.assert_array_equal(s2_group()["doy"].values, np.array([32, 121, np.nan], "f4"))
    leap = s2_group(days=["2024-12-31"], per_date={})
    assert leap["doy"].values.tolist() == [366]


def test_facts_that_were_not_given_say_unknown():
    group = s2_group(per_date={})
    for name, (_, unknown) in PER_DATE.items():
        values = group[name].values
        assert all(np.isnan(values)) if name == "clear" else set(values.tolist()) == {unknown}


def test_missing_bands_are_listed_in_the_order_of_the_model():
    missing = s2_group().attrs["missing_bands"]
    assert missing == ["rededge1", "rededge2", "rededge3", "nir08", "swir16", "swir22"]


def test_a_group_lies_on_the_grid_it_was_given():
    assert s2_group().odc.geobox == grid()


def test_arrays_may_be_lazy():
    data = dask.array.zeros((1, 2, 6, 8), dtype="f4")
    valid = dask.array.ones((1, 6, 8), dtype=bool)
    group = sensor_group(
        "s1", data, valid, bands=("vv", "vh"), time=["2023-01-01"], geobox=grid(), source="",
        licence="",
    )  # fmt: skip
    assert group["data"].chunks is not None
    check_stack(make_stack({"s1": group}, lattice=LATTICE, region=None, source=""))


def test_sensors_stand_in_the_order_of_the_model():
    assert sensors_of(stack()) == ["s2", "s1"]


def test_the_region_asked_for_is_kept():
    region = Region((3.0, 50.5, 3.01, 50.51), "2023", "field")
    assert region_of(stack(region=region)) == region
    assert region_of(stack()) is None


def test_every_note_can_be_read():
    notes = "\n".join(all_notes(stack()))
    for text in ("Made up.", "One date has no day.", "Resampled by nothing.", "swir22",
                 "position is approximate"):  # fmt: skip
        assert text in notes


def test_licences_of_all_sensors_are_joined():
    assert stack().attrs["licence"] == "CC0; CC-BY-4.0"


# --- faults by name -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bands": ("blue",)}, "shape"),
        ({"time": ["2023-01-01"] * 2}, "shape"),
        ({"geobox": grid(height=7)}, "shape"),
        ({"per_date": {"mood": ["good"]}}, "mood"),
        ({"per_date": {"item": ["one", "too many"]}}, "item"),
        ({"time": ["not a day"]}, "not a day"),
        ({"sensor": "s3"}, "s3"),
    ],
)
def test_groups_that_do_not_fit_together_are_refused(options, words):
    given = {
        "sensor": "s2",
        "data": np.zeros((1, 2, 6, 8), "f4"),
        "valid": np.ones((1, 6, 8), bool),
        "bands": ("blue", "red"),
        "time": ["2023-01-01"],
        "geobox": grid(),
        "source": "",
        "licence": "",
        **options,
    }
    with pytest.raises(StackError, match=words):
        sensor_group(given.pop("sensor"), given.pop("data"), given.pop("valid"), **given)


def broken(change):
    """A stack whose s2 group, or root, was changed behind the contract's back."""
    tree = stack()
    group = tree["s2"].to_dataset()
    root = tree.to_dataset()
    changed = change(group, root)
    group, root = changed if isinstance(changed, tuple) else (changed, root)
    children = {} if group is None else {"/s2": group}
    return xr.DataTree.from_dict({"/": root, **children})


def other_zone(group, _):
    return odc.geo.xr.assign_crs(group.drop_vars("spatial_ref"), "EPSG:32632")


FAULTS = {
    "no sensor": (lambda g, r: (None, r), "no sensor"),
    "no lattice": (lambda g, r: (g, r.assign_attrs(lattice_x0=None).drop_attrs()), "lattice"),
    "no data": (lambda g, r: g.drop_vars("data"), "`data` must have the axes"),
    "no valid": (lambda g, r: g.drop_vars("valid"), "`valid` must have the axes"),
    "axes": (lambda g, r: g.transpose("band", "time", "y", "x"), "axes"),
    "double": (lambda g, r: g.assign(data=g["data"].astype("f8")), "float32"),
    "valid as numbers": (lambda g, r: g.assign(valid=g["valid"].astype("u1")), "bool"),
    "no doy": (lambda g, r: g.drop_vars("doy"), "doy"),
    "no level": (lambda g, r: g.drop_vars("level"), "level"),
    "stranger": (lambda g, r: g.assign_coords(band=["a", "b", "c", "d"]), "unknown bands"),
    "band twice": (lambda g, r: g.assign_coords(band=["red", "red", "nir", "blue"]), "twice"),
    "no date": (lambda g, r: g.isel(time=[]), "no date"),
    "no band": (lambda g, r: g.isel(band=[]), "no date or no band"),
    "units": (lambda g, r: g.assign_attrs(units="DN"), "units"),
    "zone": (other_zone, "EPSG:32631"),
    "south up": (lambda g, r: g.isel(y=slice(None, None, -1)), "descend"),
    "mirrored": (lambda g, r: g.isel(x=slice(None, None, -1)), "ascend"),
    "unsorted": (lambda g, r: g.isel(time=[1, 0, 2]), "sorted"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named(fault):
    change, words = FAULTS[fault]
    with pytest.raises(StackError, match=words):
        check_stack(broken(change))


def test_a_stack_that_keeps_the_contract_passes():
    check_stack(stack())


@pytest.mark.parametrize("value", [None, 3, xr.Dataset(), "path"])
def test_what_is_no_tree_is_refused(value):
    with pytest.raises(StackError, match="DataTree"):
        check_stack(value)


def test_unknown_sensors_cannot_be_joined():
    groups = {"s9": s1_group()}
    with pytest.raises(StackError, match="s9"):
        make_stack(groups, lattice=LATTICE, region=None, source="")


# --- storing --------------------------------------------------------------------------------


def assert_same(a, b):
    """Values, types, coordinates, attributes and grid are the same."""
    assert sensors_of(a) == sensors_of(b)
    assert dict(a.attrs) == dict(b.attrs)
    for key in sensors_of(a):
        one, other = a[key].to_dataset().compute(), b[key].to_dataset().compute()
        xr.testing.assert_identical(one.drop_encoding(), other.drop_encoding())
        assert set(one.variables) == set(other.variables)
        for name in one.variables:
            kinds = one[name].dtype, other[name].dtype
            assert kinds[0] == kinds[1] or {k.kind for k in kinds} <= {"U", "T", "O"}, name
        assert one.odc.geobox == other.odc.geobox


def test_a_stored_stack_comes_back_unchanged(tmp_path):
    tree = stack(region=Region((3.0, 50.5, 3.01, 50.51), "2023", "Äcker"))
    path = save_stack(tree, tmp_path / "new" / "place.zarr")
    assert_same(tree, open_stack(path))


def test_a_stack_can_be_stored_again_after_it_was_opened(tmp_path):
    tree = stack()
    first = open_stack(save_stack(tree, tmp_path / "a.zarr"))
    assert_same(tree, open_stack(save_stack(first, tmp_path / "b.zarr")))


def test_an_opened_stack_is_lazy(tmp_path):
    opened = open_stack(save_stack(stack(), tmp_path / "a.zarr"))
    assert opened["s2"]["data"].chunks is not None


def test_attributes_and_lists_keep_their_types(tmp_path):
    opened = open_stack(save_stack(stack(), tmp_path / "a.zarr"))
    assert opened.attrs["notes"] == ["Made up."]
    assert opened["s1"].attrs["notes"] == []
    assert opened["s2"].attrs["approximate"] == 1
    assert opened["s2"].attrs["missing_bands"] == s2_group().attrs["missing_bands"]


def test_nothing_is_overwritten(tmp_path):
    path = save_stack(stack(), tmp_path / "a.zarr")
    with pytest.raises(StackError, match="already there"):
        save_stack(stack(), path)


def test_a_broken_stack_is_not_stored(tmp_path):
    with pytest.raises(StackError):
        save_stack(broken(FAULTS["units"][0]), tmp_path / "a.zarr")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, {}, {"zarr.json": "{}"}, {"zarr.json": "not json"}])
def test_a_folder_without_a_stack_is_refused(tmp_path, content):
    path = tmp_path / "a.zarr"
    if content is not None:
        path.mkdir()
        for name, text in content.items():
            (path / name).write_text(text)
    with pytest.raises(StackError):
        open_stack(path)


def test_a_foreign_zarr_store_is_refused(tmp_path):
    path = tmp_path / "a.zarr"
    xr.Dataset({"t": ("x", [1.0, 2.0])}).to_zarr(path, zarr_format=3, consolidated=False)
    with pytest.raises(StackError):
        open_stack(path)
