"""Merge schedules: in words and back, and wherever they decide what features are."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
from stacks import file_stack

from skysense.batch import to_batch
from skysense.embedding import embed
from skysense.encoders import load_encoder
from skysense.errors import EncoderError, SessionError
from skysense.merging import said, schedule_of
from skysense.notebook import as_code
from skysense.replaying import encoder_of
from skysense.session import Session, SessionChoices, SessionPlace
from skysense.session_file import read_session, session_text
from skysense.tokens import TokenCache
from skysense.windows import Lattice, plan_windows

V2 = "skysense-v2-tiny-untrained"


@pytest.fixture(scope="module")
def stack():
    return file_stack(80, 80, ("hr", "s2", "s1"))


@pytest.fixture(scope="module")
def batch(stack):
    lattice = Lattice.from_attrs(stack.attrs)
    return to_batch(stack, plan_windows(lattice, lattice.bounds))


def tiny(**options):
    return load_encoder(V2, device="cpu", precision="float32", **options)


@pytest.mark.parametrize("merge", list(itertools.product((False, True), repeat=3)))
def test_a_schedule_in_words_is_that_schedule(merge):
    assert schedule_of(said(merge)) == merge


def test_words_name_the_stages_before_which_tokens_are_merged():
    assert said((True, True, False)) == "2,3"
    assert said((False, False, False)) == "none"


@pytest.mark.parametrize("merge", ["2,5", "", "2,2", "all", (True, True), (1, 1, 1), 3, None])
def test_what_is_no_schedule_is_refused(merge):
    with pytest.raises(EncoderError, match="is no schedule; give True or False"):
        schedule_of(merge)


def test_features_say_how_tokens_were_merged_and_differ_by_it(stack):
    usual, fine = embed(stack, tiny()), embed(stack, tiny(merge=(True, True, False)))
    assert (usual.attrs["merge"], fine.attrs["merge"]) == ("2,3,4", "2,3")
    assert usual.sizes == fine.sizes
    assert not np.allclose(usual, fine, atol=1e-3)


def test_features_of_other_encoders_say_nothing_of_merging(stack):
    assert "merge" not in embed(stack, load_encoder("spectral", device="cpu")).attrs
    assert "merge" not in embed(stack, load_encoder("skysense-tiny-untrained", device="cpu")).attrs


def test_merging_concerns_high_resolution_only(batch):
    part = batch.only(["s2", "s1"])
    assert torch.equal(tiny()(part), tiny(merge="none")(part))


def test_dates_kept_of_one_schedule_are_not_taken_for_another(batch):
    cache = TokenCache()
    usual, fine = tiny(), tiny(merge="2,3")
    cache.encode(usual, batch)
    assert torch.equal(cache.encode(fine, batch)["hr"].values, fine.encode(batch)["hr"].values)


# Sessions


@pytest.fixture(scope="module")
def choices(stack):
    return SessionChoices.of(embed(stack, tiny(merge="2,3")))


def test_a_session_loads_the_encoder_with_its_schedule(choices):
    assert choices.merge == "2,3"
    assert encoder_of(choices).merge == "2,3"


def test_a_schedule_survives_its_file(choices):
    session = Session((SessionPlace("here", "synthetic"),), choices)
    assert read_session(json.loads(session_text(session))).choices == choices


def test_a_session_without_one_is_written_as_it_always_was(choices):
    plain = Session((SessionPlace("here", "synthetic"),), dataclasses.replace(choices, merge=""))
    assert "merge" not in session_text(plain)


def test_a_notebook_of_a_session_names_the_schedule(choices):
    assert "merge='2,3'" in as_code(Session((SessionPlace("here", "synthetic"),), choices))


def test_a_session_with_another_word_is_refused(choices):
    with pytest.raises(SessionError, match="is no schedule"):
        dataclasses.replace(choices, merge="5")


# Looks inside


def test_maps_of_experts_name_one_where_a_date_is_usable_and_none_elsewhere(batch):
    found = tiny().experts(batch)
    for key, side in (("hr", 8), ("s2", 2), ("s1", 2)):
        dates = batch.sensors[key].doy.shape
        assert found[key].shape == (*dates, side, side)
        unusable = ~batch.sensors[key].valid.flatten(2).any(-1)
        assert (found[key][unusable] == -1).all()
        assert found[key].min() >= -1
        assert found[key].max() <= 3
    assert found["hr"].min() >= 0


def test_attention_to_prompts_comes_on_the_grid_of_its_block(batch):
    found = tiny(merge="2,3").prompt_attention(batch, 0)
    assert found["hr"].shape == (1, 1, 4, 16, 16)
    assert found["s2"].shape == (1, 4, 4, 2, 2)
    assert found["hr"].sum(2).max() < 1


def test_v1_has_neither_and_says_so(batch):
    encoder = load_encoder("skysense-tiny-untrained", device="cpu")
    with pytest.raises(EncoderError, match="SkySense V1, which has no experts"):
        encoder.experts(batch)
    with pytest.raises(EncoderError, match="SkySense V1, which has no prompt tokens"):
        encoder.prompt_attention(batch)
