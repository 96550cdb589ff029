import json

import numpy as np
import pytest
import torch
from stacks import file_stack

from skysense.batch import Batch, SensorBatch, to_batch
from skysense.embedding import embed
from skysense.encoders import NAMES, SHIPPED, Encoder, load_encoder
from skysense.errors import EncoderError
from skysense.weights import build_model, save_checkpoint
from skysense.windows import Lattice, plan_windows


@pytest.fixture(scope="module")
def batch():
    stack = file_stack(160, 160, ("hr", "s2", "s1"))
    lattice = Lattice.from_attrs(stack.attrs)
    return to_batch(stack, plan_windows(lattice, lattice.bounds))


@pytest.mark.parametrize(
    "name", ["spectral", "skysense-tiny", "skysense-tiny-untrained", "skysense-v2-tiny-untrained"]
)
def test_every_encoder_keeps_the_protocol(name, batch):
    encoder = load_encoder(name, device="cpu")
    assert isinstance(encoder, Encoder)
    assert encoder(batch).shape == (1, encoder.dim, 16, 16)
    assert encoder(batch, stride=40).shape == (1, encoder.dim, 4, 4)


@pytest.mark.parametrize("name", ["spectral", "skysense-tiny", "skysense-v2-tiny-untrained"])
def test_loading_twice_gives_identical_features(name, batch):
    a, b = (load_encoder(name, device="cpu", precision="float64") for _ in range(2))
    assert torch.equal(a(batch), b(batch))


def test_another_seed_gives_another_random_encoder(batch):
    a = load_encoder("skysense-tiny-untrained", device="cpu")
    b = load_encoder("skysense-tiny-untrained", device="cpu", seed=1)
    assert not torch.equal(a(batch), b(batch))
    assert (a.weights, b.weights) == ("random(seed=0)", "random(seed=1)")


def test_the_shipped_encoder_is_trained_and_says_what_it_learnt_from(batch):
    encoder = load_encoder("skysense-tiny", device="cpu")
    assert not encoder.untrained
    assert encoder.weights.startswith("sha256:")
    assert encoder.licence == "Apache-2.0"
    random = load_encoder("skysense-tiny-untrained", device="cpu")
    assert not torch.allclose(encoder(batch)[:, : random.dim], random(batch), atol=0.1)


def test_the_shipped_weights_are_small_and_carry_a_card_and_every_place_they_saw():
    folder = SHIPPED["skysense-tiny"]
    assert (folder / "model.safetensors").stat().st_size <= 15e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert load_encoder("skysense-tiny", device="cpu").weights.removeprefix("sha256:") in card
    places = json.loads((folder / "data.json").read_text(encoding="utf-8"))["places"]
    assert all(place["licence"] for place in places)
    assert not any("si-turjak" in place["name"] for place in places)


def test_bfloat16_stays_close_to_float64(batch):
    exact = load_encoder("skysense-tiny", device="cpu", precision="float64")(batch)
    rough = load_encoder("skysense-tiny", device="cpu", precision="bfloat16")(batch).double()
    error = (rough - exact).norm() / exact.norm()
    assert error < 0.05


def test_spectral_median_of_a_constant_place_is_that_constant():
    def flat(sensor, data, valid):
        data[:] = np.array([0.1 * i for i in range(10)], "f4")[None, :, None, None]
        return data, valid

    stack = file_stack(80, 80, ("s2",), edit=flat)
    lattice = Lattice.from_attrs(stack.attrs)
    encoder = load_encoder("spectral", device="cpu", precision="float64")
    features = encoder(to_batch(stack, plan_windows(lattice, lattice.bounds)))
    from skysense.sensors import S2

    medians = features[0, 6:56].reshape(10, 5, 8, 8)[:, 2]
    expected = (torch.arange(10) * 0.1 - torch.tensor(S2.mean)) / torch.tensor(S2.std)
    assert torch.allclose(medians[:, 0, 0].float(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "skysense-huge"}, "There is no encoder"),
        ({"name": "spectral", "precision": "int4"}, "precision="),
        ({"name": "spectral", "device": "tpu:9"}, "cannot be used here"),
        ({"name": "skysense-v1"}, "skysense convert"),
        ({"name": "skysense-v2"}, "no weights of SkySense V2 were ever published"),
        ({"name": "skysense-tiny", "merge": "2,3"}, "merges tokens in one way only"),
        ({"name": "spectral", "merge": "2,3"}, "merges no tokens"),
        ({"name": "skysense-v2-tiny-untrained", "merge": "5"}, "is no schedule"),
        ({"name": "skysense-v2-tiny-untrained", "merge": (1, 1, 0)}, "is no schedule"),
        ({"name": "spectral", "path": "weights"}, "no weights to load"),
        ({"name": "skysense-tiny-untrained", "path": "weights"}, "no weights to load"),
        ({"name": "skysense-tiny", "seed": 1}, "seed=1 would change nothing.*load skysense-tiny-u"),
    ],
)
def test_an_impossible_encoder_is_refused_in_a_sentence(options, words):
    with pytest.raises(EncoderError, match=words):
        load_encoder(**options)


def test_a_stride_that_is_no_stride_is_refused(batch):
    with pytest.raises(EncoderError, match="stride=15"):
        load_encoder("spectral", device="cpu")(batch, stride=15)


@pytest.fixture(scope="module", params=["spectral", "skysense-tiny", "skysense-v2-tiny-untrained"])
def exact(request):
    return load_encoder(request.param, device="cpu", precision="float64")


def close(a, b):
    both = torch.isnan(a) == torch.isnan(b)
    assert both.all()
    assert torch.allclose(a, b, rtol=0, atol=1e-10, equal_nan=True)


def double(batch):
    return batch.to("cpu", torch.float64)


def with_dates(batch, pick):
    return Batch(
        {
            key: SensorBatch(
                each.pixels[:, pick(key)], each.valid[:, pick(key)], each.doy[:, pick(key)]
            )
            for key, each in batch.sensors.items()
        },
        batch.lonlat,
    )


@pytest.mark.parametrize(("stride", "step", "first"), [(20, 2, 0), (40, 4, 2)])
def test_coarse_is_the_fine_result_at_its_cells_to_ten_digits(exact, batch, stride, step, first):
    fine = exact(double(batch))
    close(exact(double(batch), stride), fine[..., first::step, first::step])


def test_a_window_alone_equals_the_window_in_company_to_ten_digits(exact):
    stack = file_stack(1200, 1200)
    lattice = Lattice.from_attrs(stack.attrs)
    windows = plan_windows(lattice, lattice.bounds)[:3]
    together = exact(double(to_batch(stack, windows)), 40)
    for i, window in enumerate(windows):
        close(exact(double(to_batch(stack, [window])), 40), together[i : i + 1])


def test_order_of_dates_does_not_matter_to_ten_digits(exact, batch):
    turned = with_dates(batch, lambda key: slice(None) if key == "hr" else [2, 0, 1])
    straight = with_dates(batch, lambda key: slice(None) if key == "hr" else [0, 1, 2])
    close(exact(double(turned)), exact(double(straight)))


def test_a_fully_invalid_date_equals_its_absence_to_ten_digits(exact, batch):
    sensors = dict(batch.sensors)
    s2 = sensors["s2"]
    hidden = s2.valid.clone()
    hidden[:, 1] = False
    sensors["s2"] = SensorBatch(s2.pixels, hidden, s2.doy)
    keep = [0, 2, 3]
    gone = {**sensors, "s2": SensorBatch(s2.pixels[:, keep], s2.valid[:, keep], s2.doy[:, keep])}
    close(exact(double(Batch(sensors, batch.lonlat))), exact(double(Batch(gone, batch.lonlat))))


def test_random_weights_stay_untrained_when_they_were_stored(tmp_path):
    save_checkpoint(build_model("tiny"), tmp_path / "w", licence="CC0-1.0", notes=("For a test.",))
    encoder = load_encoder("skysense-tiny", path=tmp_path / "w", device="cpu")
    assert encoder.untrained
    assert encoder.weights.startswith("sha256:")
    features = embed(file_stack(80, 80, ("s2",)), encoder)
    assert features.attrs["untrained"] == 1
    assert "For a test." in features.attrs["notes"]


def test_weights_of_v2_are_loaded_by_its_name_from_a_folder(tmp_path, batch):
    save_checkpoint(build_model("v2-tiny"), tmp_path / "w", licence="CC0-1.0")
    encoder = load_encoder(
        "skysense-v2-tiny", path=tmp_path / "w", device="cpu", precision="float64"
    )
    random = load_encoder("skysense-v2-tiny-untrained", device="cpu", precision="float64")
    assert encoder.untrained
    assert torch.equal(encoder(batch, 40), random(batch, 40))


def test_an_encoder_without_weights_here_is_not_listed_but_says_what_to_do():
    if "skysense-v2-tiny" in SHIPPED:
        pytest.skip("it comes with this version")
    assert "skysense-v2-tiny" not in NAMES
    with pytest.raises(EncoderError, match="give path="):
        load_encoder("skysense-v2-tiny")


def test_a_checkpoint_of_another_size_is_refused_by_name(tmp_path):
    save_checkpoint(build_model("tiny"), tmp_path / "w", licence="CC0-1.0")
    with pytest.raises(EncoderError, match="'tiny' model, but skysense-v1 is 'paper'"):
        load_encoder("skysense-v1", path=tmp_path / "w", device="cpu")


def test_v2_in_small_loads_from_a_folder_and_refuses_a_seed_by_the_name_of_its_own_null(tmp_path):
    model = build_model("v2-tiny", seed=1)
    model.untrained = ""
    save_checkpoint(model, tmp_path / "w", licence="none", source="a test")
    encoder = load_encoder("skysense-v2-tiny", path=tmp_path / "w", device="cpu")
    assert encoder.name == "skysense-v2-tiny"
    assert not encoder.untrained
    with pytest.raises(EncoderError, match="load skysense-v2-tiny-untrained"):
        load_encoder("skysense-v2-tiny", path=tmp_path / "w", seed=1)


def test_the_names_are_those_that_need_nothing_or_say_what_they_need():
    assert set(SHIPPED) <= set(NAMES)
    assert ("skysense-v2-tiny" in NAMES) == ("skysense-v2-tiny" in SHIPPED)
