import pytest
from stacks import file_stack

from skysense.batch import to_batch
from skysense.cost import PROGRAM_GB, Cost, operations, speed
from skysense.dates import Dates
from skysense.embedding import embed, forecast
from skysense.encoders import SkySenseEncoder, load_encoder
from skysense.model import PRESETS
from skysense.windows import Lattice, plan_windows


def test_operations_of_the_paper_model_are_the_published_arithmetic():
    one_date = operations(PRESETS["paper"], {"s2": 1}, (64, 64), 4)
    two_dates = operations(PRESETS["paper"], {"s2": 2}, (64, 64), 4)
    hr = operations(PRESETS["paper"], {"hr": 1, "s2": 1}, (64, 64), 4) - one_date
    assert two_dates - one_date == pytest.approx(0.161e12 + 0.158e12, rel=0.05)
    assert hr == pytest.approx(19.3e12, rel=0.03)


def test_operations_of_v2_are_the_arithmetic_of_its_stages():
    """64 × 64 Sentinel pixels are 256 tokens in every stage; hr has 512² to 64² of them."""
    config, window = PRESETS["v2-paper"], (64, 64)
    widths, depths = (352, 704, 1408, 2816), (2, 2, 18, 2)

    def date(tokens, merging):
        total = 0.0
        for i, (n, c, depth) in enumerate(zip(tokens, widths, depths, strict=True)):
            s = 64 if i < 2 else n + 4
            total += depth * n * (24 * c**2 + 4 * s * c) + (merging * n * (c // 2) ** 2 if i else 0)
        return total

    one, two = (operations(config, {"s2": n}, window, 4) for n in (1, 2))
    fused = 256 * 24 * ((3 * (24 + 4 * 3 / 1024) - 2 * (24 + 4 * 2 / 1024)) * 1024**2)
    read = 256 * 2 * 2816 * 1024
    assert two - one == pytest.approx(date([256] * 4, 4) + fused + read)
    hr = operations(config, {"hr": 1, "s2": 1}, window, 4)
    assert hr - two == pytest.approx(date([512**2, 256**2, 128**2, 64**2], 16) - date([256] * 4, 4))


def test_merging_less_costs_more_and_experts_cost_nothing():
    config, window = PRESETS["v2-paper"], (64, 64)
    costs = [
        operations(config, {"hr": 1}, window, 1, merge)
        for merge in ((True, True, True), (True, True, False), (True, False, False))
    ]
    assert costs == sorted(set(costs))
    assert operations(PRESETS["v2-paper-moe"], {"hr": 1}, window, 1) == costs[0]
    s2 = [operations(config, {"s2": 1}, window, 1, merge) for merge in (None, (True, False, False))]
    assert s2[0] == s2[1]


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
    cost = Cost(2, 0.52, 0.1, 0.1, 0.2, 1.3, 40.0)
    held = PROGRAM_GB + 0.52 + 0.1 + 1.3 + (0.1 + 0.2)
    assert cost.sentence(0.2) == f"2 windows, about {held:.1f} GB, 3 min (2 min per window)"
    assert cost.sentence() == f"2 windows, about {held:.1f} GB"


def test_the_sentence_of_a_stack_names_its_dates_and_pixels_too():
    stack = file_stack(640, 640, ("s2", "s1"))
    encoder = load_encoder("spectral", device="cpu")
    words = forecast(stack, encoder, resolution=20, dates=Dates(s2=2, s1=1)).sentence()
    assert words.startswith("2 Sentinel-2 + 1 Sentinel-1 dates, 1,024 pixels, 1 window, about ")
    assert "the time to read" in words


@pytest.mark.parametrize("name", ["spectral", "skysense-tiny", "skysense-v2-tiny-untrained"])
def test_memory_grows_with_windows_dates_and_sensors(name):
    encoder = load_encoder(name, device="cpu", precision="float32")
    stack = file_stack(1200, 640, ("hr", "s2", "s1"))
    few = forecast(stack, encoder, dates=Dates(s2=2, s1=1))
    more = forecast(stack, encoder, dates=Dates(s2=4, s1=3))
    without = forecast(stack, encoder, dates=Dates(s2=2, s1=1, hr=0))
    sizes = [few.batch_gb(n) for n in (1, 2, 4, 8)]
    assert sizes == sorted(set(sizes))
    assert without.batch_gb(1) < few.batch_gb(1) < more.batch_gb(1)
    assert without.peak_gb() < few.peak_gb() < more.peak_gb()


@pytest.mark.parametrize("name", ["spectral", "skysense-tiny", "skysense-v2-tiny-untrained"])
def test_memory_is_at_least_the_tensors_that_are_there_at_once(name):
    encoder = load_encoder(name, device="cpu", precision="float32")
    stack = file_stack(1200, 640)
    cost = forecast(stack, encoder)
    windows = plan_windows(
        Lattice.from_attrs(stack.attrs), (500_000, 5_599_360, 501_200, 5_600_000)
    )
    read = to_batch(stack, windows).sensors.values()
    pixels = sum(each.pixels.nbytes + each.valid.nbytes for each in read)
    features = encoder.dim * 120 * 64 * 4
    held = sum(stack[k]["data"].nbytes + stack[k]["valid"].nbytes for k in ("s2", "s1"))
    weights = 0
    if isinstance(encoder, SkySenseEncoder):
        weights = sum(p.nbytes for p in encoder.model.parameters())
    known = pixels + 2 * features + held + weights  # features of the batch, and of the place
    assert cost.windows == len(windows)
    need = cost.need_gb(len(windows), held=True, streamed=False)
    assert need > known / 1e9
    assert cost.need_gb(len(windows), held=True, streamed=True) == pytest.approx(
        need - features / 1e9
    )


def test_the_encoder_s_working_memory_has_an_end_but_what_it_keeps_has_none():
    cost = Cost(100, 0, 0, 0.1, 0.1, 0, 0, steps=((1.0, 2.0), (0.5, 5.0)))
    assert [cost.batch_gb(n) for n in (1, 2, 4, 20)] == pytest.approx([1.2, 2.4, 2.8, 9.0])


def test_a_batch_is_made_smaller_before_work_is_refused():
    cost = Cost(8, 0.1, 0.1, 0.1, 0.4, 1.0, 0)
    assert cost.batch(8.0) == 5
    assert cost.batch(2.0) == 1
    assert cost.refusal(1, 2.0, streamed=False) == ""
    assert "Pass batch_size=1." in cost.refusal(8, 2.0, streamed=False)
    assert "pass memory_gb=1.6." in cost.refusal(1, 1.5, streamed=False)


def test_features_that_alone_are_too_large_are_to_be_streamed():
    cost = Cost(8, 10.0, 0.1, 0.1, 0.4, 1.0, 0)
    said = cost.refusal(1, 4.0, streamed=False)
    assert said.startswith("This would take 11.5 GB of memory (features 10.0 GB, ")
    assert "out='features.zarr'" in said
    assert cost.refusal(1, 4.0, streamed=True) == ""


def test_a_graphics_card_holds_its_part_and_the_machine_the_rest():
    cost = Cost(8, 1.0, 0.5, 0.1, 0.4, 6.0, 0, steps=((3.0, 9.0),), gpu_gb=8.0)
    assert cost.need_gb(1, held=True, streamed=False) == pytest.approx(1.0 + 0.5 + 0.5)
    assert cost.batch(64.0) == 2
    assert "of the GPU's memory, of which 8.0 GB are free" in cost.refusal(8, 64.0, streamed=False)
