"""Maps of experts and of attention to prompts: the model's own answers, on the ground."""

import dataclasses

import numpy as np
import pytest
import torch
import xarray as xr
from sentences import refused
from stacks import CRS, file_stack, stack_of
from test_embedding import UTM, catalogue, common

from skysense.batch import to_batch
from skysense.embedding import embed
from skysense.encoders import SkySenseEncoder, load_encoder
from skysense.errors import EncoderError, StackError
from skysense.inside import experts, mean_seen, prompt_attention, votes
from skysense.model.config import PRESETS
from skysense.view import colours
from skysense.weights import build_model
from skysense.windows import Lattice, plan_windows

TINY = "skysense-v2-tiny-untrained"


def tiny(**options):
    return load_encoder(TINY, device="cpu", precision="float64", **options)


def encoder_of(**changes):
    """A tiny V2 with another backbone."""
    config = PRESETS["v2-tiny"]
    config = dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, **changes))
    return SkySenseEncoder(
        build_model(config), name="changed", weights="random(seed=0)", licence="", device="cpu"
    )


@pytest.fixture(scope="module")
def encoder():
    return tiny()


@pytest.fixture(scope="module")
def stack():
    return file_stack(160, 160, ("hr", "s2", "s1"))


@pytest.fixture(scope="module")
def batch(stack):
    lattice = Lattice.from_attrs(stack.attrs)
    return to_batch(stack, plan_windows(lattice, lattice.bounds))


@pytest.mark.parametrize(("sensor", "side"), [("hr", 16), ("s2", 4), ("s1", 4)])
def test_the_field_is_the_expert_that_most_dates_of_the_window_went_to(
    encoder, stack, batch, sensor, side
):
    chosen = encoder.experts(batch)[sensor][0].numpy()  # t h w
    field = experts(stack, encoder, sensor=sensor)
    counts = np.stack([(chosen == i).sum(0) for i in range(4)])
    assert field.shape == (side, side)
    seen = counts.sum(0) > 0
    assert seen.any()
    np.testing.assert_array_equal(np.isfinite(field.values), seen)
    np.testing.assert_array_equal(field.values[seen], counts.argmax(0)[seen])
    share = counts.max(0)[seen] / counts.sum(0)[seen]
    np.testing.assert_allclose(field["strength"].values[seen], share, atol=1e-6)
    np.testing.assert_allclose(field.attrs["shares"], counts.sum((1, 2)) / counts.sum(), atol=1e-5)
    assert colours(field).shape == (side, side, 4)


def test_one_date_is_the_nearest_to_the_day_that_was_asked_for(encoder, stack, batch):
    chosen = encoder.experts(batch, 0)["s2"][0, 2].numpy()
    field = experts(stack, encoder, block=0, date="2023-04-09")  # dates are 21 days apart
    np.testing.assert_array_equal(np.nan_to_num(field.values, nan=-1), chosen)
    assert "2023-04-12" in field.attrs["long_name"]
    assert field.attrs["dates_s2"] == ["2023-04-12"]


def test_maps_lie_on_the_cells_of_features_of_their_spacing(encoder, stack):
    features = embed(stack, encoder, resolution=40)
    assert experts(stack, encoder).odc.geobox == features.odc.geobox
    assert prompt_attention(stack, encoder, sensor="s1").odc.geobox == features.odc.geobox
    assert experts(stack, encoder).attrs["untrained"] == features.attrs["untrained"] == 1


@pytest.mark.parametrize("look", [experts, prompt_attention])
def test_a_place_has_the_same_value_whatever_rectangle_was_drawn(encoder, look):
    one = look(catalogue(UTM[0], UTM[1], 300), encoder)
    other = look(catalogue(UTM[0] + 130, UTM[1] + 70, 500), encoder)
    one, other = common(one, other)
    assert one.sizes["x"] >= 4
    np.testing.assert_allclose(one.values, other.values, rtol=0, atol=1e-6)


def test_one_expert_makes_a_map_of_one_colour(stack):
    field = experts(stack, encoder_of(experts=1))
    assert set(field.values[np.isfinite(field.values)]) == {0}
    assert field.attrs["shares"] == [1.0]


def test_attention_is_the_models_own_mean_over_dates(encoder, stack, batch):
    found = encoder.prompt_attention(batch)["s2"][0].sum(1).numpy()  # t h w
    field = prompt_attention(stack, encoder)
    seen = np.isfinite(found).any(0)
    np.testing.assert_allclose(field.values[seen], np.nanmean(found[:, seen], 0), rtol=0, atol=1e-6)
    assert np.isnan(field.values[~seen]).all()
    assert field.attrs["even"] == pytest.approx(4 / (4 + 16))


def test_finer_tokens_of_a_cell_are_counted_together(stack):
    field = experts(stack, tiny(merge="2,3"), sensor="hr")
    assert field.shape == (16, 16)
    assert field.attrs["merge"] == "2,3"
    assert set(np.unique(field["strength"].values)) <= {0.25, 0.5, 0.75, 1.0}


def test_votes_are_counted_over_dates_and_tokens_and_none_is_unknown():
    found = torch.tensor([[[[0, 1], [1, -1]], [[2, 1], [-1, -1]]]])  # b t h w
    assert votes(found, 3, 1, 1).flatten().tolist() == [1, 3, 1]
    assert votes(torch.full((1, 1, 2, 2), -1), 3, 2, 2).isnan().all()


def test_means_leave_out_what_was_not_seen():
    found = torch.tensor([[[[0.0, torch.nan]], [[1.0, torch.nan]]]])
    torch.testing.assert_close(
        mean_seen(found, 1, 2), torch.tensor([[[[0.5, torch.nan]]]]), equal_nan=True
    )


def test_coarser_tokens_are_repeated():
    found = torch.tensor([[[[0, 1]]]])
    assert votes(found, 2, 1, 4)[0, 1, 0].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("name", ["skysense-tiny-untrained", "spectral"])
@pytest.mark.parametrize("look", [experts, prompt_attention])
def test_encoders_that_are_not_v2_are_refused(stack, look, name):
    assert "SkySense V2" in refused(EncoderError, look, stack, load_encoder(name, device="cpu"))


def test_a_dense_model_and_one_without_prompts_say_what_they_lack(stack):
    dense, bare = encoder_of(moe_blocks=0), encoder_of(prompts=0)
    assert "dense" in refused(EncoderError, experts, stack, dense)
    assert "no prompt tokens" in refused(EncoderError, prompt_attention, stack, bare)


@pytest.mark.parametrize("block", [2, -3, 0.5, None])
def test_a_block_that_is_not_there_is_refused(encoder, stack, block):
    assert "2 blocks with experts" in refused(EncoderError, experts, stack, encoder, block=block)


def test_a_sensor_or_a_day_that_is_not_there_is_refused(encoder, stack):
    refused(EncoderError, experts, stack, encoder, sensor="s3")
    assert "has s2" in refused(
        StackError, experts, file_stack(160, 160, ("s2",)), encoder, sensor="s1"
    )
    for day in ("yesterday", 5, ""):
        assert "is no day" in refused(StackError, experts, stack, encoder, date=day)


def test_dates_without_a_day_have_no_nearest_one(encoder):
    stack = stack_of(
        (*UTM, UTM[0] + 160, UTM[1] + 160),
        ("s2",),
        lattice=Lattice(CRS, UTM[0], UTM[1] + 160, 160, 160),
    )
    group = stack["s2"].to_dataset()
    blank = group.assign_coords(time=np.full(group.sizes["time"], np.datetime64("NaT", "ns")))
    unknown = xr.DataTree.from_dict({"/": stack.to_dataset(), "/s2": blank})
    assert "unknown" in refused(StackError, experts, unknown, encoder, date="2023-04-01")
