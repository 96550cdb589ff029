"""The model's prototypes on the map: which cells, read where, and what features say of them."""

import dataclasses
import json

import numpy as np
import psutil
import pytest
import torch
import xarray as xr
from stacks import file_stack
from torch.nn.functional import normalize

import skysense as sky
from skysense.batch import to_batch
from skysense.encoders import SkySenseEncoder, load_encoder
from skysense.errors import AnalysisError, EncoderError
from skysense.model import PRESETS
from skysense.model.config import PrototypeConfig
from skysense.region import Region
from skysense.weights import (
    build_model,
    load_checkpoint,
    save_checkpoint,
    schema,
)
from skysense.windows import Lattice, plan_windows

COUNT = 3


def with_prototypes(**changes):
    prototypes = {"context": True, "cells": 1024, "count": COUNT} | changes
    return dataclasses.replace(PRESETS["tiny"], prototypes=PrototypeConfig(**prototypes))


def encoder_of(model, weights="random(seed=0)"):
    return SkySenseEncoder(
        model, name="mine", weights=weights, licence="CC0", device="cpu", dtype=torch.float64
    )


@pytest.fixture(scope="module")
def stack():
    return file_stack(160, 160, ("s2",))


@pytest.fixture(scope="module")
def batch(stack):
    lattice = Lattice.from_attrs(stack.attrs)
    return to_batch(stack, plan_windows(lattice, lattice.bounds)).to("cpu", torch.float64)


@pytest.fixture(scope="module")
def place(batch):
    lon, lat = batch.lonlat[0].tolist()
    return Region.around(lon, lat, 100, "2024")


def trained_at(cells, **changes):
    """An encoder whose banks of these cells were trained (by a throw of dice)."""
    model = build_model(with_prototypes(**changes))
    generator = torch.Generator().manual_seed(1)
    for cell in cells:
        model.prototypes.bank[cell].normal_(generator=generator)
        model.prototypes.usage[cell] = 1 / COUNT
        model.prototypes.trained[cell] = True
    return encoder_of(model)


@pytest.fixture(scope="module")
def here(batch):
    earth = trained_at([]).earth
    return int(earth.cell_of(*batch.lonlat[0].numpy()))


@pytest.fixture(scope="module")
def encoder(here):
    return trained_at([here])


@pytest.fixture(scope="module")
def features(stack, encoder):
    return sky.embed(stack, encoder, resolution=40)


def test_a_window_reads_the_bank_of_the_cell_its_centre_lies_in(encoder, batch, here):
    out = encoder(batch, 40)
    inside = trained_at([here + 1])(batch, 40)
    assert torch.equal(out[:, :128], inside[:, :128])
    assert inside[:, 128:].nan_to_num().abs().max() == 0
    bank = encoder.model.prototypes.bank[here].double()
    place = out[0, :128, 1, 1]
    weights = (bank @ place / 128**0.5).softmax(0)
    torch.testing.assert_close(out[0, 128:, 1, 1], weights @ bank)


def test_features_say_where_their_context_was_trained(features, stack, here):
    assert features.attrs["context"] == f"cell {here}, trained"
    assert features.attrs["fused_features"] == 128
    elsewhere = sky.embed(stack, trained_at([here + 1]), resolution=40)
    assert elsewhere.attrs["context"] == f"cell {here}, not trained there: zeros"


def test_features_without_geo_context_say_so(stack):
    tiny = load_encoder("skysense-tiny-untrained", device="cpu")
    assert sky.embed(stack, tiny, resolution=40).attrs["context"].startswith("none")


def test_several_cells_and_unknown_places_are_told_apart(encoder, here):
    lon, lat = encoder.earth.centre(here)
    far = encoder.earth.centre(here + 1)
    said = encoder.context(np.array([lon, lon, far[0], np.nan]), np.array([lat, lat, far[1], lat]))
    assert said["context"] == (
        f"cell {here}, trained; cell {here + 1}, not trained there: zeros; places unknown: zeros"
    )


def test_bank_of_a_place_is_that_of_its_cell(encoder, place, here):
    bank = encoder.bank(place)
    assert bank.dims == ("prototype", "feature")
    assert np.array_equal(bank.values, encoder.model.prototypes.bank[here])
    assert bank["cell"].values.tolist() == [here] * COUNT
    assert bank.attrs["weights_licence"] == "CC0"
    assert bank.attrs["trained_cells"] == [here]


def test_bank_of_a_place_across_a_border_holds_all_trained_cells():
    earth = trained_at([]).earth
    cell = 24 * 32 + 16
    west, south, _, _ = earth.bounds(cell)
    place = Region((west - 0.2, south - 0.2, west + 0.2, south + 0.2), ("2024-01-01", "2024-12-31"))
    bank = trained_at([cell - 1, cell]).bank(place)
    assert bank["cell"].values.tolist() == [cell - 1] * COUNT + [cell] * COUNT
    assert bank.attrs["untrained_cells"] == [cell - 33, cell - 32]
    assert bank.sizes["prototype"] == 2 * COUNT


def test_features_are_assigned_to_the_nearest_prototype_by_their_fused_part(
    encoder, features, place
):
    bank = encoder.bank(place)
    found = sky.assign(features, bank)
    fused = torch.from_numpy(features.values[:128]).flatten(1).T
    scores = normalize(fused, dim=1) @ normalize(torch.from_numpy(bank.values), dim=1).T
    assert found.values.ravel().tolist() == scores.argmax(1).tolist()
    assert found.attrs["context"] == features.attrs["context"]


def test_bank_of_other_weights_is_refused(features, place, here):
    other = trained_at([here])
    other.weights = "random(seed=7)"
    with pytest.raises(AnalysisError, match="mean different things"):
        sky.assign(features, other.bank(place))


def test_narrow_bank_is_compared_with_queries(stack, place, here):
    encoder = trained_at([here], dim=8)
    features, bank = sky.embed(stack, encoder, resolution=40), encoder.bank(place)
    assert features.sizes["feature"] == encoder.dim == 136
    with pytest.raises(AnalysisError, match=r"assign\(encoder.queries\(features\), bank\)"):
        sky.assign(features, bank)
    queries = encoder.queries(features)
    fused = torch.from_numpy(features.values[None, :128]).double()
    expected = encoder.model.prototypes.queries(fused)[0].detach().numpy()
    np.testing.assert_allclose(queries.values, expected, atol=1e-5)
    found = sky.assign(queries, bank).values
    rows = normalize(torch.from_numpy(queries.values).flatten(1).T, dim=1)
    scores = rows @ normalize(torch.from_numpy(bank.values), dim=1).T
    assert found.ravel().tolist() == scores.argmax(1).tolist()


def test_queries_without_a_map_are_the_fused_features(encoder, features):
    xr.testing.assert_identical(encoder.queries(features), features[:128])


@pytest.mark.parametrize("name", ["spectral", "skysense-tiny-untrained"])
def test_an_encoder_without_prototypes_says_so(name, place):
    with pytest.raises(EncoderError, match="holds no geo-context prototypes"):
        load_encoder(name, device="cpu").bank(place)


def test_a_place_where_nothing_was_trained_has_no_bank(place, here):
    with pytest.raises(EncoderError, match=f"never trained at .*cell {here}"):
        trained_at([here + 1]).bank(place)


def test_features_of_another_encoder_have_no_queries(encoder, features):
    with pytest.raises(EncoderError, match="not made by mine"):
        encoder.queries(features[:5])


def test_cells_that_are_no_division_of_the_earth_are_refused():
    with pytest.raises(EncoderError, match="cannot be divided into 1000 cells"):
        encoder_of(build_model(with_prototypes(cells=1000)))


def test_a_stored_bank_is_read_in_place_and_speaks_the_same(tmp_path, encoder, batch, place):
    save_checkpoint(encoder.model, tmp_path / "w", licence="CC0")
    checkpoint = load_checkpoint(tmp_path / "w")
    again = encoder_of(checkpoint.model, checkpoint.weights)
    torch.testing.assert_close(again(batch, 40), encoder(batch, 40))
    np.testing.assert_array_equal(again.bank(place).values, encoder.bank(place).values)


def sparse_checkpoint(path, config):
    """A checkpoint of zeros that takes no room on the disk."""
    header, end = {}, 0
    for key, shape in schema(config).items():
        size = int(np.prod(shape)) * (1 if key.endswith(".trained") else 4)
        kind = "BOOL" if key.endswith(".trained") else "F32"
        header[key] = {"dtype": kind, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    path.mkdir()
    file = path / "model.safetensors"
    with file.open("wb") as stream:
        stream.write(len(raw).to_bytes(8, "little") + raw)
        stream.truncate(8 + len(raw) + end)
    description = {"format": "skysense-checkpoint-1", "licence": "CC0", "source": "", "notes": []}
    description |= {"sha256": "0", "config": json.loads(config.to_json())}
    (path / "config.json").write_text(json.dumps(description))
    return file


def test_a_checkpoint_with_a_bank_of_paper_size_takes_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("skysense.weights.file_sha256", lambda path: "0")  # seconds for zeros
    config = with_prototypes(cells=4096, count=100, dim=512)
    file = sparse_checkpoint(tmp_path / "w", config)
    assert file.stat().st_size > 800 * 2**20
    process = psutil.Process()
    before = process.memory_info().rss
    encoder = encoder_of(load_checkpoint(tmp_path / "w").model)
    bank, trained = encoder.model.prototypes(torch.tensor([3000]))
    assert (bank.shape, trained.tolist()) == ((1, 100, 512), [False])
    assert process.memory_info().rss - before < 150 * 2**20
