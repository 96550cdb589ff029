"""What is said about one cell is what is in the stack there."""

import math
from pathlib import Path

import numpy as np
import pytest
from stacks import CRS, file_stack, stack_of

from skysense import provenance_at
from skysense.analysis.places import place_of
from skysense.dates import Dates
from skysense.embedding import embed
from skysense.encoders import load_encoder
from skysense.errors import AnalysisError, StackError
from skysense.pixel import seam_distance
from skysense.sources import load_stack
from skysense.windows import Lattice

LEFT, TOP = 480.0 * 1042, 480.0 * 11667
"""A corner of the catalogue's lattice."""


@pytest.fixture(scope="module")
def stack():
    return stack_of((LEFT - 80, TOP - 560, LEFT + 1040, TOP + 80))


@pytest.fixture(scope="module")
def features(stack):
    return embed(stack, load_encoder("spectral"), dates=Dates(clear=0))


def at(features, row, column):
    return place_of(features, [row], [column])[0]


def test_the_dates_that_saw_a_cell_are_those_valid_there(stack, features):
    for row, column in ((0, 0), (17, 33), (40, 90)):
        found = provenance_at(stack, features, *at(features, row, column))
        assert found.cell == (row, column)
        for sensor in found.sensors:
            group = stack[sensor.key]
            here = {"x": float(features["x"][column]), "y": float(features["y"][row])}
            valid = group["valid"].sel(here).values
            days = [str(t)[:10] for t in group["time"].values]
            assert list(sensor.seen) == [d for d, v in zip(days, valid, strict=True) if v]
            assert set(sensor.seen) | set(sensor.masked) == set(days)
        assert found.observations == sum(len(each.seen) for each in found.sensors)


def test_only_dates_that_entered_are_named(stack):
    features = embed(stack, load_encoder("spectral"), dates=Dates(s2=2, s1=0, clear=0))
    found = provenance_at(stack, features, *at(features, 5, 5))
    assert [each.key for each in found.sensors] == ["s2"]
    assert list(found.sensors[0].days) == features.attrs["dates_s2"]


def test_a_cell_of_close_views_counts_the_share_of_its_pixels():
    def half(sensor, data, valid):
        valid[:, :, : valid.shape[2] // 2 + 3] = False  # 0.9 m into a cell
        return data, valid

    stack = file_stack(160, 160, ("hr",), edit=half)
    features = embed(stack, load_encoder("spectral"))
    shares = [
        provenance_at(stack, features, *at(features, 3, column)).sensors[0].usable[0]
        for column in (7, 8, 9)
    ]
    assert shares[0] == 0
    assert shares[1] == pytest.approx(1 - 3 / 32)
    assert shares[2] == 1


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [(LEFT + 5, TOP - 240, 5), (LEFT + 240, TOP - 240, 240), (LEFT - 15, TOP - 470, 10)],
)
def test_the_seams_of_a_catalogue_lie_480_metres_apart(x, y, expected):
    assert seam_distance(Lattice(CRS), x, y) == pytest.approx(expected)


def test_the_edge_of_a_file_is_no_seam():
    alone = Lattice(CRS, LEFT, TOP, 640, 640)
    assert math.isinf(seam_distance(alone, LEFT + 5, TOP - 5))
    two = Lattice(CRS, LEFT, TOP, 1120, 640)
    assert seam_distance(two, LEFT + 5, TOP - 5) == pytest.approx(555)
    assert seam_distance(two, LEFT + 565, TOP - 5) == pytest.approx(5)


def test_features_are_the_same_for_all_windows_a_seam_apart(stack, features):
    """What a seam is: on its two sides other windows made the features."""
    seams = [c for c in range(features.sizes["x"])
             if provenance_at(stack, features, *at(features, 10, c)).seam < 10]  # fmt: skip
    edges = (features["x"].values[seams] - LEFT) % 480
    assert set(edges.tolist()) <= {5.0, 475.0}
    assert len(seams) >= 3


def test_the_rim_is_where_the_images_end():
    stack = file_stack(320, 320)
    features = embed(stack, load_encoder("spectral"), dates=Dates(clear=0))
    corner = provenance_at(stack, features, *at(features, 0, 0))
    middle = provenance_at(stack, features, *at(features, 16, 16))
    assert corner.rim == pytest.approx(5)
    assert corner.at_rim
    assert middle.rim == pytest.approx(155)
    assert not middle.at_rim


def test_a_coarse_cell_tells_of_the_sampled_ten_metres(stack, features):
    coarse = embed(stack, load_encoder("spectral"), resolution=40, dates=Dates(clear=0))
    lon, lat = at(coarse, 3, 4)
    found = provenance_at(stack, coarse, lon, lat)
    fine = provenance_at(stack, features, lon, lat)
    assert found.resolution == 40
    assert [each.usable for each in found.sensors] == [each.usable for each in fine.sensors]
    assert (found.lon, found.lat) == pytest.approx((lon, lat))


def test_a_cell_that_nothing_saw_says_so():
    def dark(sensor, data, valid):
        valid[:, :20] = False
        return data, valid

    stack = file_stack(320, 320, edit=dark)
    features = embed(stack, load_encoder("spectral"), dates=Dates(clear=0))
    found = provenance_at(stack, features, *at(features, 3, 3))
    assert not found.filled
    assert found.observations == 0


def test_what_made_the_features_is_named(stack, features):
    found = provenance_at(stack, features, *at(features, 3, 3))
    assert found.encoder == "spectral"
    assert found.weights_licence == features.attrs["weights_licence"]
    assert "float32" in found.device
    assert {each.licence for each in found.sensors} == {"CC0-1.0"}


def test_the_offset_rule_of_a_catalogue_is_repeated(stack, features):
    told = stack.copy()
    told["s2"].attrs = {**told["s2"].attrs, "notes": ["offset of −1000 applied to 4 of 4 scenes"]}
    found = provenance_at(told, features, *at(features, 3, 3))
    assert "offset of −1000" in found.sensors[0].offset


def test_a_place_outside_is_refused(stack, features):
    with pytest.raises(AnalysisError, match="outside the features"):
        provenance_at(stack, features, 12.5, 41.9)


def test_another_stack_is_refused(stack, features):
    other = stack.copy()
    other["s2"] = other["s2"].to_dataset().isel(time=[0, 1])
    with pytest.raises(AnalysisError, match="made from"):
        provenance_at(other, features, *at(features, 3, 3))
    without = stack.filter(lambda node: node.name != "s1")
    with pytest.raises(AnalysisError, match="made from"):
        provenance_at(without, features, *at(features, 3, 3))
    with pytest.raises(StackError):
        provenance_at(None, features, 3.0, 50.0)


def test_a_real_cell_of_flanders(shared):
    stack = load_stack(Path(__file__).parent / "recipes" / "be-flanders-parcels.toml")
    features = embed(stack, load_encoder("spectral"), resolution=40)
    found = provenance_at(stack, features, *at(features, 8, 8))
    s2, s1 = found.sensors
    assert (len(s2.days), len(s1.days)) == (20, 10)
    assert 5 < len(s2.seen) <= 20
    assert s1.orbits == ("ascending",)
    assert "20 m" in s2.resampling or "20 m" in s1.resampling
    assert math.isinf(found.seam)  # 640 m: one window
    assert np.isfinite(found.rim)
