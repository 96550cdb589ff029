import pytest
from stacks import file_stack

from skysense.cost import Cost, operations, speed
from skysense.embedding import embed, forecast
from skysense.encoders import load_encoder
from skysense.model import PRESETS


def test_operations_of_the_paper_model_are_the_published_arithmetic():
    one_date = operations(PRESETS["paper"], {"s2": 1}, (64, 64), 4)
    two_dates = operations(PRESETS["paper"], {"s2": 2}, (64, 64), 4)
    hr = operations(PRESETS["paper"], {"hr": 1, "s2": 1}, (64, 64), 4) - one_date
    assert two_dates - one_date == pytest.approx(0.161e12 + 0.158e12, rel=0.05)
    assert hr == pytest.approx(19.3e12, rel=0.03)


def test_forecast_counts_the_windows_and_bytes_that_embed_makes():
    stack, seen = file_stack(1200, 640, ("s2",)), []
    encoder = load_encoder("skysense-tiny", device="cpu")
    cost = forecast(stack, encoder, resolution=40)
    features = embed(
        stack, encoder, resolution=40, progress=lambda done, total, _: seen.append(total)
    )
    assert cost.windows == seen[-1]
    assert cost.output_gb * 1e9 == pytest.approx(features.nbytes)


def test_speed_is_zero_without_a_network_and_positive_with_one():
    assert speed(load_encoder("spectral", device="cpu"), ("s2",)) == 0
    assert speed(load_encoder("skysense-tiny", device="cpu"), ("s2",)) > 0


def test_the_sentence_names_windows_memory_and_time():
    cost = Cost(2, 0.5, 0.1, 0.3, 3.3, 40.0)
    assert cost.sentence(0.2) == "2 windows, about 4.1 GB, 3 min (2 min per window)"
    assert cost.sentence() == "2 windows, about 4.1 GB"
