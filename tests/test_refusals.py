"""Odd arguments at every door that gives a stack, a region, dates or an encoder: a sentence each."""

import numpy as np
import pytest
import xarray as xr
from sentences import ODD, Odd, refused
from stacks import file_stack

from skysense.checks import as_number, choice, number, seed_of, shown, whole
from skysense.dates import Dates, acquisitions, choose_dates, summary
from skysense.disk import path_of, writing
from skysense.embedding import embed
from skysense.encoders import load_encoder
from skysense.errors import (
    EncoderError,
    RecipeError,
    RegionError,
    SkySenseError,
    SourceError,
    StackError,
    WeightsError,
)
from skysense.region import Region, split_region
from skysense.sources import load_stack, synthetic
from skysense.sources.files_geotiff import open_geotiff
from skysense.sources.files_labels import read_labels
from skysense.sources.recipe import read_recipe
from skysense.stack import open_stack, save_stack
from skysense.weights import build_model, load_checkpoint, save_checkpoint

PLACE = (3.0, 50.5, 3.01, 50.51)
no_text = [odd for odd in ODD if not isinstance(odd, str)]
no_number = [odd for odd in ODD if odd != -1 and not 0 <= as_number(odd) <= 1e9]
numbered = {"ids": lambda odd: type(odd).__name__}


@pytest.fixture(scope="module")
def stack():
    return file_stack(80, 80)


# --- the checks themselves ------------------------------------------------------------------


@pytest.mark.parametrize("value", [3, np.int16(3), np.uint64(3)])
def test_whole_numbers_of_python_and_numpy_are_plain_afterwards(value):
    assert type(whole("n", value, 0, 5, StackError)) is int


@pytest.mark.parametrize("value", [*(o for o in ODD if o != 5), 6, np.float32(3), True], **numbered)
def test_what_is_no_whole_number_in_range_is_refused(value):
    text = refused(StackError, whole, "n", value, 0, 5, StackError)
    assert text.startswith("n=")
    assert "from 0 to 5" in text


@pytest.mark.parametrize("value", [-1, 2**32, None, 0.0, "0", True])
def test_a_seed_is_a_whole_number_that_every_generator_takes(value):
    assert "0 to 4,294,967,295" in refused(EncoderError, seed_of, value, EncoderError)
    assert seed_of(2**32 - 1, EncoderError) == 2**32 - 1


@pytest.mark.parametrize("value", [*no_number, -1, float("inf"), np.array([1.0, 2.0])], **numbered)
def test_what_is_no_number_in_range_is_refused(value):
    assert "0 to 1e+09" in refused(StackError, number, "clear", value, 0, 1e9, StackError)


@pytest.mark.parametrize("value", [*ODD, np.array(["a"])], **numbered)
def test_a_choice_is_one_of_its_words(value):
    assert choice("method", "a", ("a", "b"), StackError) == "a"
    assert "not one of a, b" in refused(StackError, choice, "method", value, ("a", "b"), StackError)


@pytest.mark.parametrize("value", [*no_text, "a\0b", "a" * 5000], **numbered)
def test_what_is_no_path_is_refused(value):
    assert refused(StackError, path_of, value, StackError, "out").startswith("out=")


def test_weights_are_not_written_where_no_folder_can_be(tmp_path):
    (tmp_path / "file").write_text("no folder")
    model, path = build_model("tiny"), tmp_path / "file" / "weights"
    text = refused(WeightsError, save_checkpoint, model, path, licence="CC0")
    assert "weights cannot be written" in text


def test_what_the_system_says_stands_behind_the_path(tmp_path):
    words = r"x cannot be written: No space left\. Choose"
    with pytest.raises(StackError, match=words), writing(tmp_path / "x", StackError):
        raise OSError(28, "No space left")


def test_a_value_is_shown_on_one_short_line():
    assert len(shown(xr.Dataset({"a": ("x", range(9))}))) <= 60
    assert shown(10**5000) == "a int"


# --- places and periods ---------------------------------------------------------------------


@pytest.mark.parametrize("odd", ODD, **numbered)
def test_odd_regions_are_refused(odd):
    assert refused(RegionError, Region, odd, "2023")
    assert refused(RegionError, Region, PLACE, odd)
    assert refused(RegionError, Region.around, 3.0, 50.5, odd, "2023")
    if odd in no_number:
        assert "lon=" in refused(RegionError, Region.around, odd, 50.5, 640, "2023")
        assert "lat" in refused(RegionError, Region.around, 3.0, odd, 640, "2023")
    assert refused(RegionError, split_region, odd, "2023")


@pytest.mark.parametrize("odd", no_text, **numbered)
def test_a_name_is_text(odd):
    assert "name=" in refused(RegionError, Region, PLACE, "2023", odd)
    assert "name=" in refused(RegionError, split_region, PLACE, "2023", odd)
    there = Region(PLACE, "2023").to_geojson()
    assert "name=" in refused(RegionError, Region.from_geojson, there, None, odd)


@pytest.mark.parametrize("resolution", [1e-12, 0.0099, 0, -1, 1e9, *no_number], **numbered)
def test_a_grid_has_pixels_that_can_be_counted(resolution):
    assert "from 0.01 to 100,000" in refused(RegionError, Region(PLACE, "2023").geobox, resolution)


# --- stacks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", no_text, **numbered)
def test_an_odd_source_is_refused(odd):
    assert "source=" in refused(SourceError, load_stack, source=odd)


@pytest.mark.parametrize("odd", [odd for odd in ODD if odd is not None], **numbered)
def test_odd_sensors_are_refused(odd):
    region = Region(PLACE, "2023")
    assert "sensor" in refused(SourceError, load_stack, region, odd, "synthetic")


@pytest.mark.parametrize("odd", [o for o in ODD if o not in ([], ["x"], {1})] + ["a.b"], **numbered)
def test_hosts_are_a_list_of_names(odd):
    region = Region(PLACE, "2023")
    assert "allow_hosts" in refused(SourceError, load_stack, region, allow_hosts=odd)


@pytest.mark.parametrize("options", [{"root": "x"}, {"scene": "x"}])
@pytest.mark.parametrize("source", ["synthetic", "auto", "https://a.b/stac"])
def test_root_and_scene_are_not_ignored_in_silence(source, options):
    region = Region(PLACE, "2023")
    assert "belong to a recipe" in refused(RecipeError, load_stack, region, None, source, **options)


@pytest.mark.parametrize("call", [open_geotiff, read_recipe, read_labels])
@pytest.mark.parametrize("odd", [*no_text, "a\0b"], **numbered)
def test_odd_files_are_refused(call, odd):
    assert "is not a path" in refused(RecipeError, call, odd)


@pytest.mark.parametrize("odd", [*no_text, "a\0b"], **numbered)
def test_odd_paths_of_stacks_are_refused(stack, odd):
    assert "path=" in refused(StackError, open_stack, odd)
    assert "path=" in refused(StackError, save_stack, stack, odd)


@pytest.mark.parametrize("odd", ODD, **numbered)
def test_what_is_no_stack_is_refused(odd):
    for call in (acquisitions, choose_dates, summary):
        assert "DataTree" in refused(StackError, call, odd)


@pytest.mark.parametrize("odd", ODD, **numbered)
def test_odd_scenes_are_refused(odd):
    whole = isinstance(odd, int) and odd == 5
    for name in ("size", "style", "sensors", *(() if whole else ("seed",))):
        assert refused(SourceError, synthetic.scene, **{name: odd})
    for call in (synthetic.scene_for, synthetic.truth_for):
        assert "region=" in refused(SourceError, call, odd)
    if odd is not None:
        assert "sensor" in refused(SourceError, synthetic.scene_for, Region(PLACE, "2023"), odd)
    if not isinstance(odd, str):
        assert "name=" in refused(RegionError, synthetic.scene, name=odd)


# --- dates ----------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [odd for odd in ODD if odd is not None], **numbered)
def test_odd_rules_are_refused(stack, odd):
    for call in (acquisitions, choose_dates):
        assert "Dates(" in refused(StackError, call, stack, odd)
    encoder = load_encoder("spectral", device="cpu")
    assert "Dates(" in refused(StackError, embed, stack, encoder, dates=odd)


@pytest.mark.parametrize("name", ["s2", "s1", "hr", "first", "last", "clear"])
def test_odd_parts_of_a_rule_are_refused(name):
    fine = {"first": ("",), "last": ("",)}.get(name, (5, 2**70, 10**5000))
    for odd in [*ODD, np.array([1.0, 2.0]), Odd]:
        if not isinstance(odd, np.ndarray) and odd in (fine if name != "clear" else ()):
            continue
        refused(StackError, Dates, **{name: odd})


# --- encoders -------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", ODD, **numbered)
def test_odd_choices_of_an_encoder_are_refused(odd):
    assert "encoder" in refused(EncoderError, load_encoder, odd)
    assert "precision=" in refused(EncoderError, load_encoder, "spectral", precision=odd)
    if odd is not None:
        assert "device" in refused(EncoderError, load_encoder, "spectral", device=odd)
        assert refused(SkySenseError, load_encoder, "skysense-tiny", path=odd, device="cpu")
        assert refused(EncoderError, load_encoder, "spectral", path=odd, device="cpu")


@pytest.mark.parametrize("odd", [odd for odd in ODD if odd != 5], **numbered)
@pytest.mark.parametrize("name", ["spectral", "skysense-tiny"])
def test_an_odd_seed_is_refused_by_every_encoder(name, odd):
    assert "seed=" in refused(EncoderError, load_encoder, name, seed=odd, device="cpu")


@pytest.mark.parametrize("odd", no_text, **numbered)
def test_odd_checkpoints_are_refused(odd):
    assert "path=" in refused(WeightsError, load_checkpoint, odd)
    assert "path=" in refused(WeightsError, save_checkpoint, build_model("tiny"), odd, licence="x")
    assert "preset" in refused(WeightsError, build_model, odd)
    if odd != 5:
        assert "seed=" in refused(WeightsError, build_model, "tiny", seed=odd)
