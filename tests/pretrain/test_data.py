import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import zarr
from affine import Affine
from odc.geo.geobox import GeoBox
from stacks import stack_of

from skysense.batch import to_batch
from skysense.errors import StackError
from skysense.pretrain.data import LEAST_SEEN, fingerprint, notes_of, open_places
from skysense.pretrain.prepare import prepare
from skysense.pretrain.shards import ShardSensor, write_shard
from skysense.pretrain.words import CLASSES
from skysense.sensors import SENSORS
from skysense.sources.synthetic import scene
from skysense.stack import make_stack, save_stack, sensor_group
from skysense.windows import Lattice, Window

BOUNDS = (500_000.0, 4_999_840.0, 500_240.0, 5_000_000.0)
"""24 × 16 cells."""

STEP = {"hr": 0.5, "s2": 0.5e-4, "s1": 0.02}
"""Half a stored step, in contract units."""


def series(n=3, t=2, cells=(4, 5), *, bands=("B02", "B03", "B04", "B08"), seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(100, 4000, (n, t, len(bands), *cells)).astype(np.uint16)
    valid = np.ones((n, t, *cells), bool)
    return ShardSensor(pixels, valid, bands, rng.integers(0, 367, (n, t)), 1e-4)


def in_contract_units(series):
    return series.pixels.astype(np.float32) * np.float32(series.scale)


@pytest.mark.parametrize("block", [64, 7])
def test_a_prepared_stack_is_what_the_encoder_would_read(tmp_path, monkeypatch, block):
    monkeypatch.setattr("skysense.pretrain.prepare._BLOCK", dict.fromkeys(SENSORS, block))
    monkeypatch.setattr("skysense.pretrain.prepare._AT_ONCE", 1)
    tree = stack_of(BOUNDS, ("hr", "s2", "s1"))
    (place,) = prepare(tree, tmp_path / "places")
    whole = to_batch(tree, [Window(BOUNDS, BOUNDS)])
    assert place.cells == (16, 24)
    assert list(place.sensors) == ["hr", "s2", "s1"]
    assert place.lonlat == pytest.approx(whole.lonlat[0].tolist(), abs=1e-5)
    for key, each in whole.sensors.items():
        mine = place.sensors[key]
        assert (mine.valid == each.valid[0].numpy()).all()
        assert (mine.doy == each.doy[0].numpy()).all()
        cut = each.pixels[0].numpy().clip(0, 255) if key == "hr" else each.pixels[0].numpy()
        within = np.abs(in_contract_units(mine) - cut)
        assert within.max() <= STEP[key] * 1.01, key


def test_places_are_mapped_not_read_and_belong_to_their_files(tmp_path):
    prepare(stack_of(BOUNDS), tmp_path / "places")
    (place,) = open_places(tmp_path / "places", check=True)
    for each in place.sensors.values():
        assert isinstance(each.pixels, np.memmap)
        assert not each.pixels.flags.writeable
    stored = [str(each.pixels.dtype) for each in place.sensors.values()]
    assert stored == ["int16", "float16"]


def test_a_grid_of_pixels_finer_than_ours_is_averaged_to_ours(tmp_path):
    fine = np.random.default_rng(0).uniform(0, 255, (1, 3, 1024, 1024)).astype("f4")
    box = GeoBox((1024, 1024), Affine(0.15625, 0, BOUNDS[0], 0, -0.15625, BOUNDS[3]), "EPSG:32631")
    group = sensor_group("hr", fine, np.ones((1, 1024, 1024), bool), bands=SENSORS["hr"].names,
                         time=[None], geobox=box, source="", licence="none")  # fmt: skip
    lattice = Lattice("EPSG:32631", BOUNDS[0], BOUNDS[3], 160, 160)
    tree = make_stack({"hr": group}, lattice=lattice, region=None, source="a test")
    (place,) = prepare(tree, tmp_path / "places")
    mean = fine.reshape(1, 3, 512, 2, 512, 2).mean((3, 5))
    assert np.abs(place.sensors["hr"].pixels - mean).max() <= 0.51
    assert place.sensors["hr"].doy.tolist() == [0]


def test_a_date_of_which_little_is_seen_is_left_out_and_a_note_says_so(tmp_path):
    shares = (0.5, LEAST_SEEN / 2, 0.0, 0.9)

    def edit(sensor, data, valid):
        rows = valid.shape[1]
        for date, share in enumerate(shares):
            valid[date] = np.arange(rows)[:, None] < share * rows
        return data, valid

    folder = tmp_path / "places"
    (place,) = prepare(stack_of(BOUNDS, ("s2",), edit=edit), folder)
    assert place.sensors["s2"].valid.mean((1, 2)).tolist() == [0.5, pytest.approx(0.9, abs=0.05)]
    assert any("1 of 3 dates show less than 20%" in note for note in notes_of(folder))


def test_a_saved_stack_a_folder_and_a_stack_give_the_same_places(tmp_path):
    tree = stack_of(BOUNDS)
    inside = tmp_path / "stacks"
    save_stack(tree, inside / "one.zarr")
    stacks = [prepare(tree, tmp_path / "a"), prepare(inside, tmp_path / "b")]
    stacks.append(prepare([inside / "one.zarr"], tmp_path / "c"))
    for (place,) in stacks[1:]:
        assert place.name == "one"
        for key, each in stacks[0][0].sensors.items():
            assert (each.pixels == place.sensors[key].pixels).all()
    assert fingerprint(tmp_path / "b") == fingerprint(tmp_path / "c")
    assert fingerprint(tmp_path / "a") != fingerprint(tmp_path / "b")


def test_every_scene_of_a_recipe_is_a_place(tmp_path):
    folder = tmp_path / "recipes"
    folder.mkdir()
    grid = {"crs": "EPSG:32631", "transform": Affine(0.3125, 0, 500_000, 0, -0.3125, 5_000_000)}
    for number, name in enumerate(("north", "south")):
        with rasterio.open(
            folder / f"{name}.tif", "w", "GTiff", 256, 320, 3, dtype="uint8", **grid
        ) as file:
            file.write(np.full((3, 320, 256), 60 + number, np.uint8))
    (folder / "farm.toml").write_text(
        'title = "Farm"\nlicence = "mine"\nscenes = ["north", "south"]\n[[sensor]]\nname = "hr"\n'
        'units = "0..255"\ntime = 2023-06-01\nfile = { path = "{scene}.tif", bands = ["R", "G", "B"] }\n'
    )
    places = prepare(folder, tmp_path / "places")
    assert [place.name for place in places] == ["farm/north", "farm/south"]
    assert [place.cells for place in places] == [(10, 8), (10, 8)]
    assert [int(place.sensors["hr"].pixels.mean()) for place in places] == [60, 61]
    assert all("mine" in place.licence for place in places)
    assert places[0].sensors["hr"].doy.tolist() == [152]


def test_a_shard_keeps_values_days_places_and_terms(tmp_path):
    given = series(bands=("B04", "B8A", "B02", "B03"))
    given.valid[1, 1] = False
    given.valid[2, 0, 0, 0] = False
    lonlat = np.array([(3.0, 50.0), (np.nan, np.nan), (-86.0, 15.0)])
    write_shard(tmp_path / "few.zarr", {"s2": given}, licence="CC0", credit="us", level="L1C",
                names=["a", "b", "c"], lonlat=lonlat, notes=["Cloudy."])  # fmt: skip
    places = prepare(tmp_path / "few.zarr", tmp_path / "places")
    assert [place.name for place in places] == ["few/a", "few/b", "few/c"]
    assert [len(place.sensors["s2"].doy) for place in places] == [2, 1, 2]
    assert np.isnan(places[1].lonlat).all()
    assert places[2].lonlat == (-86.0, 15.0)
    first = places[0]
    assert (first.licence, first.credit, first.level) == ("CC0", "us", "L1C")
    assert (first.sensors["s2"].doy == given.doy[0]).all()
    assert first.sensors["s2"].missing == (3, 4, 5, 6, 8, 9)
    assert (first.sensors["s2"].pixels[:, [2, 7, 0, 1]] == given.pixels[0]).all()
    assert not places[2].sensors["s2"].valid[0, 0, 0]
    mean = np.array(SENSORS["s2"].mean)
    assert np.allclose(in_contract_units(places[2].sensors["s2"])[0, :, 0, 0], mean, atol=1e-4)
    assert "few: Cloudy." in notes_of(tmp_path / "places")


def test_missing_numbers_of_a_shard_are_invalid(tmp_path):
    pixels = np.full((1, 1, 2, 4, 4), -12.0, np.float32)
    pixels[0, 0, 1, 2, 3] = np.nan
    radar = ShardSensor(pixels, np.ones((1, 1, 4, 4), bool), ("VV", "VH"))
    write_shard(tmp_path / "r.zarr", {"s1": radar}, licence="CC0")
    (place,) = prepare(tmp_path / "r.zarr", tmp_path / "places")
    assert int(place.sensors["s1"].valid.sum()) == 15
    assert place.sensors["s1"].doy.tolist() == [0]


def test_a_synthetic_scene_says_that_it_is_one(tmp_path):
    tree, _ = scene(0, 80, ("s1",), time=("2023-01-01", "2023-03-01"))
    (place,) = prepare(tree, tmp_path / "places")
    assert place.synthetic


LABELS = np.arange(60).reshape(3, 4, 5) % (len(CLASSES) + 1) - 1


def labelled_shard(path, labels=LABELS, **said):
    given = {"licence": "CC0-1.0", "synthetic": True, **said}
    return write_shard(path, {"s2": series()}, labels=labels, **given)


def test_labels_of_synthetic_places_come_back_and_other_places_have_none(tmp_path):
    shards = [labelled_shard(tmp_path / "made.zarr")]
    shards.append(write_shard(tmp_path / "real.zarr", {"s2": series()}, licence="CC0-1.0"))
    places = prepare(shards, tmp_path / "places")
    assert [place.labels is None for place in places] == [False] * 3 + [True] * 3
    for place, truth in zip(places, LABELS, strict=False):
        assert (place.labels == truth).all()
    assert open_places(tmp_path / "places", check=True)[2].labels.dtype == np.int8


def test_a_place_left_out_takes_its_labels_along(tmp_path):
    blind = series()
    blind.valid[0] = False
    shard = write_shard(tmp_path / "made.zarr", {"s2": blind}, labels=LABELS, licence="CC0-1.0",
                        synthetic=True)  # fmt: skip
    places = prepare(shard, tmp_path / "places")
    assert [(place.labels == LABELS[i]).all() for i, place in enumerate(places, 1)] == [True] * 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"synthetic": False}, "comes with labels but is not synthetic"),
        ({"labels": LABELS[:, :2]}, "must be whole numbers of shape"),
        ({"labels": LABELS.astype(float)}, "are float64"),
        ({"labels": LABELS + 1}, "go from 0 to 8"),
    ],
)
def test_labels_that_cannot_be_are_refused_in_a_sentence(tmp_path, changes, said):
    with pytest.raises(StackError, match=said):
        labelled_shard(tmp_path / "made.zarr", **changes)
    assert not (tmp_path / "made.zarr").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda index: index["places"][0].update(synthetic=False), "is not synthetic"),
        (lambda index: index["classes"].reverse(), "this version knows water"),
        (lambda index: index.pop("classes"), "this version knows water"),
    ],
)
def test_a_folder_whose_labels_are_not_to_be_trusted_is_refused(tmp_path, change, said):
    prepare(labelled_shard(tmp_path / "made.zarr"), tmp_path / "places")
    file = tmp_path / "places" / "index.json"
    index = json.loads(file.read_text())
    change(index)
    file.write_text(json.dumps(index))
    with pytest.raises(StackError, match=said):
        open_places(tmp_path / "places")


def test_a_folder_from_before_there_were_labels_still_opens(tmp_path):
    prepare(stack_of(BOUNDS), tmp_path / "places")
    file = tmp_path / "places" / "index.json"
    index = json.loads(file.read_text())
    del index["classes"]
    file.write_text(json.dumps(index))
    assert [place.labels for place in open_places(tmp_path / "places")] == [None]


def optical(**changes):
    given = series()
    fields = {name: getattr(given, name) for name in ("pixels", "valid", "bands", "doy", "scale")}
    return {"s2": ShardSensor(**{**fields, **changes})}


@pytest.mark.parametrize(
    ("sensors", "said"),
    [
        (lambda: {}, "holds no sensor"),
        (lambda: optical(scale=1.0), "Set the attribute `scale`"),
        (lambda: optical(bands=("B02", "B03", "B04")), "does not name 4 bands"),
        (lambda: optical(bands=("B02", "B03", "B04", "B04")), "does not name 4 bands"),
        (lambda: {"s2": series(bands=("B02", "B03", "B04"))}, "at least 4 are needed"),
        (lambda: optical(valid=np.ones((3, 2, 4, 4), bool)), "valid is"),
        (lambda: optical(valid=np.ones((3, 2, 4, 5))), "must be bool"),
        (lambda: optical(doy=np.full((3, 2), 400)), "0..366"),
        (lambda: {**optical(), "s1": ShardSensor(np.full((3, 1, 2, 4, 4), -9.0), np.ones((3, 1, 4, 4), bool), ("VV", "VH"))}, "different ground"),
        (lambda: {"hr": ShardSensor(np.full((1, 1, 3, 48, 32), 90), np.ones((1, 1, 48, 32), bool), ("R", "G", "B"))}, "multiples of 32"),
    ],
)  # fmt: skip
def test_a_shard_that_breaks_its_form_is_refused_in_a_sentence(tmp_path, sensors, said):
    with pytest.raises(StackError, match=said):
        write_shard(tmp_path / "bad.zarr", sensors(), licence="CC0")
    assert not list(tmp_path.iterdir())


def test_sources_that_hold_nothing_are_refused_and_leave_nothing(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(StackError, match="no recipe"):
        prepare(empty, tmp_path / "places")
    zarr.open_group(tmp_path / "other.zarr", mode="w").attrs["form"] = "something"
    with pytest.raises(StackError, match="neither a stack"):
        prepare(tmp_path / "other.zarr", tmp_path / "places")
    unseen = optical(valid=np.zeros((3, 2, 4, 5), bool))
    write_shard(tmp_path / "dark.zarr", unseen, licence="CC0")
    with pytest.raises(StackError, match="no usable image"):
        prepare(tmp_path / "dark.zarr", tmp_path / "places")
    assert not list(tmp_path.glob("places*"))


def test_a_folder_that_is_there_is_not_written_over(tmp_path):
    prepare(stack_of(BOUNDS, ("s1",)), tmp_path / "places")
    with pytest.raises(StackError, match="already there"):
        prepare(stack_of(BOUNDS, ("s1",)), tmp_path / "places")


def test_a_damaged_folder_is_refused_in_a_sentence(tmp_path):
    folder = tmp_path / "places"
    with pytest.raises(StackError, match="no prepared places"):
        open_places(folder)
    prepare(stack_of(BOUNDS, ("s1",)), folder)
    pixels = next(folder.glob("*pixels.npy"))
    copy = shutil.copytree(folder, tmp_path / "changed")
    raw = bytearray((copy / pixels.name).read_bytes())
    raw[-1] ^= 1
    (copy / pixels.name).write_bytes(raw)
    open_places(copy)
    with pytest.raises(StackError, match="SHA-256 differs"):
        open_places(copy, check=True)
    (copy / pixels.name).write_bytes(raw[: len(raw) // 2])
    with pytest.raises(StackError, match="cannot be read"):
        open_places(copy)
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, "form": "older"}))
    with pytest.raises(StackError, match="has the form 'older'"):
        open_places(folder)


def test_real_places_come_with_their_dates_bands_and_terms(shared, tmp_path):
    recipes = Path(__file__).resolve().parents[1] / "recipes"
    names = ("be-hesbaye-monthly", "de-lowersaxony-forest")
    hesbaye, saxony = prepare([recipes / f"{name}.toml" for name in names], tmp_path / "places")
    assert hesbaye.cells == (101, 101)
    assert hesbaye.sensors["s2"].missing == (7,)
    assert hesbaye.level == "L2A"
    assert "Copernicus" in hesbaye.licence
    assert 0.2 < np.median(in_contract_units(hesbaye.sensors["s2"])[:, 6]) < 0.35
    assert list(saxony.sensors) == ["hr", "s2", "s1"]
    assert saxony.sensors["hr"].pixels.shape == (1, 3, 192, 192)
    assert (saxony.sensors["s2"].doy > 0).all()
