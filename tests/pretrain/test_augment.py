import builtins
from dataclasses import replace

import numpy as np
import pytest

from skysense.errors import EncoderError
from skysense.pretrain.augment import (
    AugmentConfig,
    augment,
    dropped_bands,
    recoloured,
    speckled,
    tinted,
)
from skysense.sensors import MIN_BANDS, SENSORS

CONFIG = AugmentConfig()
ALWAYS = AugmentConfig(hr_jitter=1.0, hr_blur=1.0, hr_solarise=(1.0, 1.0), s2_drop=1.0)


def rng(seed=0):
    return np.random.default_rng(seed)


def image(seed=0, side=48):
    return rng(seed).uniform(0, 255, (3, side, side)).astype(np.float32)


def view(key, seed=0, t=3, side=16):
    spec = SENSORS[key]
    mean, std = (np.array(v)[:, None, None] for v in (spec.mean, spec.std))
    values = mean + std * rng(seed).standard_normal((t, len(mean), side, side))
    return (values.clip(0, 255) if key == "hr" else values).astype(np.float32)


def test_speckle_keeps_the_mean_power_and_has_the_variance_of_its_looks():
    config = AugmentConfig(s1_looks=(16.0, 16.0), s1_offset=0.0)
    flat = np.full((4, 2, 256, 256), -12.0, np.float32)
    speckled(flat, config, rng())
    power = 10 ** (flat.astype(float) / 10)
    assert power.mean() == pytest.approx(10**-1.2, rel=2e-3)
    assert power.var() / power.mean() ** 2 == pytest.approx(1 / 16, rel=1e-2)


def test_speckle_is_independent_per_pixel_band_and_date():
    config = AugmentConfig(s1_offset=0.0)
    flat = np.zeros((2, 2, 64, 64), np.float32)
    speckled(flat, config, rng())
    each = flat.reshape(4, -1)
    assert np.abs(np.corrcoef(each) - np.eye(4)).max() < 0.06
    assert abs(np.corrcoef(flat[0, 0, :, :-1].ravel(), flat[0, 0, :, 1:].ravel())[0, 1]) < 0.06


def test_a_date_of_sentinel_2_changes_by_one_line_per_band():
    before = view("s2")
    after = before.copy()
    tinted(after, CONFIG, rng())
    for date in range(3):
        offsets = []
        for band in range(10):
            slope, offset = np.polyfit(before[date, band].ravel(), after[date, band].ravel(), 1)
            assert np.allclose(after[date, band], slope * before[date, band] + offset, atol=1e-5)
            assert abs(slope - 1) < 0.35
            offsets.append(offset)
        assert np.ptp(offsets) < 1e-5  # haze is grey


def test_gains_and_offsets_have_the_deviations_the_config_says():
    after = np.ones((4000, 10, 1, 1), np.float32)
    config = AugmentConfig(s2_offset=0.0)
    tinted(after, config, rng())
    assert after.mean() == pytest.approx(1.0, abs=5e-3)
    expected = np.hypot(config.s2_gain, config.s2_band_gain)
    assert after[:, 0].std() == pytest.approx(expected, rel=0.05)


def test_enough_bands_always_stay():
    kept = []
    for seed in range(200):
        missing = tuple(range(seed % 7))
        gone = dropped_bands(ALWAYS, rng(seed), missing)
        assert not set(gone) & set(missing)
        kept.append(10 - len(missing) - len(gone))
        if len(missing) < 6:
            assert 1 <= len(gone) <= ALWAYS.s2_drop_most
    assert min(kept) == MIN_BANDS["s2"]


def test_a_dropped_band_is_at_the_mean_on_every_date():
    pixels = view("s2")
    augment("s2", pixels, 0, ALWAYS, rng())
    mean = np.array(SENSORS["s2"].mean, np.float32)
    gone = (pixels == mean[:, None, None]).all(axis=(2, 3))
    assert (gone == gone[0]).all()
    assert 1 <= gone[0].sum() <= ALWAYS.s2_drop_most


def test_without_strength_colours_stay():
    still = replace(CONFIG, hr_jitter=0.0, hr_blur=0.0)
    assert np.allclose(recoloured(image(), still, rng()), image(), atol=1e-3)
    weak = replace(
        CONFIG,
        hr_jitter=1.0,
        hr_blur=0.0,
        hr_brightness=0,
        hr_contrast=0,
        hr_saturation=0,
        hr_hue=0,
    )
    assert np.allclose(recoloured(image(), weak, rng()), image(), atol=0.05)


def test_blur_keeps_the_mean_and_takes_the_detail():
    config = replace(CONFIG, hr_jitter=0.0, hr_blur=1.0, hr_sigma=(2.0, 2.0))
    blurred = recoloured(image(side=128), config, rng())
    assert blurred.mean() == pytest.approx(image(side=128).mean(), rel=0.01)
    # white noise under a Gaussian of deviation s keeps 1 / (4 pi s^2) of its variance
    inner = blurred[:, 8:-8, 8:-8]
    assert inner.var() / image(side=128).var() == pytest.approx(1 / (16 * np.pi), rel=0.2)


def test_solarisation_inverts_what_is_bright():
    config = replace(CONFIG, hr_jitter=0.0, hr_blur=0.0)
    out = recoloured(image(), config, rng(), solarise=1.0)
    bright = image() >= 127.5
    assert np.allclose(out[bright], 255 - image()[bright], atol=1e-2)
    assert np.allclose(out[~bright], image()[~bright], atol=1e-2)


def test_only_the_students_view_is_solarised():
    config = replace(CONFIG, hr_jitter=0.0, hr_blur=0.0, hr_solarise=(1.0, 0.0))
    bright = np.full((1, 3, 8, 8), 200.0, np.float32)
    student, teacher = bright.copy(), bright.copy()
    augment("hr", student, 0, config, rng())
    augment("hr", teacher, 1, config, rng())
    assert np.allclose(student, 55, atol=0.1)
    assert np.allclose(teacher, 200, atol=0.1)


@pytest.mark.parametrize("key", ["hr", "s2", "s1"])
def test_the_same_seed_gives_the_same_noise_and_another_gives_another(key):
    views = [view(key) for _ in range(3)]
    for pixels, seed in zip(views, (1, 1, 2), strict=True):
        augment(key, pixels, 0, CONFIG, rng(seed))
        assert np.isfinite(pixels).all()
        assert pixels.dtype == np.float32
    assert (views[0] == views[1]).all()
    assert (views[0] != views[2]).any()


def test_colours_stay_within_range():
    for seed in range(10):
        out = recoloured(image(seed), ALWAYS, rng(seed), solarise=0.5)
        assert out.min() >= 0
        assert out.max() <= 255


def test_without_kornia_a_sentence_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("kornia"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EncoderError, match=r"pip install 'skysense\[pretrain\]'"):
        recoloured(image(), CONFIG, rng())


@pytest.mark.parametrize(
    "wrong", [{"hr_blur": 2.0}, {"hr_hue": 1.0}, {"s1_looks": (0.0, 4.0)}, {"s2_gain": -1.0}]
)
def test_impossible_strengths_are_refused_in_a_sentence(wrong):
    with pytest.raises(EncoderError, match=r"must"):
        AugmentConfig(**wrong)
