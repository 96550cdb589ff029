"""What a view's pixels go through, sensor by sensor: never the same noise for two of them.

Mirroring and turning belong to the geometry (`skysense.pretrain.views`) and are the same for all
sensors. Here are only changes that leave every pixel where it is, and each is a pure function of
an array and a generator. The paper names blur and solarisation for high resolution and jittered
dates; the rest imitates what differs between two images of unchanged ground.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from skysense.errors import EncoderError
from skysense.sensors import MIN_BANDS, SENSORS


@dataclass(frozen=True)
class AugmentConfig:
    """Strengths. Chances are per view, and per date where a function says so.

    Raises:
        EncoderError: If a value is out of range.
    """

    hr_jitter: float = 0.8
    """Chance that the colours of a date are changed (BYOL and DINO use 0.8)."""
    hr_brightness: float = 0.3
    """Largest relative change of brightness. BYOL's 0.4 is for photographs; orthophotos vary less."""
    hr_contrast: float = 0.3
    hr_saturation: float = 0.2
    hr_hue: float = 0.05
    """Largest turn of the hue (share of a full circle); more would make dry grass green."""
    hr_blur: float = 0.5
    """Chance of a Gaussian blur (DINO's)."""
    hr_sigma: tuple[float, float] = (0.3, 2.0)
    """Its deviation in pixels: up to 0.6 m, about what 1 m imagery looks like after resampling."""
    hr_solarise: tuple[float, float] = (0.2, 0.0)
    """Chance of solarisation in the student's and in the teacher's view (BYOL and DINO: one only)."""
    s2_drop: float = 0.3
    """Chance that a view lacks bands, as many products do; `s2_drop_most` at most."""
    s2_drop_most: int = 3
    s2_gain: float = 0.05
    """Deviation of a date's gain: sun angle and atmosphere after correction (L2A is good to 5 %)."""
    s2_band_gain: float = 0.02
    """Deviation of the gain of single bands within a date."""
    s2_offset: float = 0.005
    """Deviation of a date's offset (reflectance): haze; L2A is specified as 0.005 + 5 %."""
    s1_looks: tuple[float, float] = (8.0, 64.0)
    """Looks of the additional speckle. Ground range products have about 4.4: twice that adds a
    deviation of 1.5 dB, 64 one of 0.5 dB.
    """
    s1_offset: float = 0.3
    """Deviation of a date's calibration (dB); Sentinel-1 is specified to 1 dB (three deviations)."""

    def __post_init__(self) -> None:
        chances = (self.hr_jitter, self.hr_blur, *self.hr_solarise, self.s2_drop)
        if not all(0 <= chance <= 1 for chance in chances):
            raise EncoderError("The chances in AugmentConfig must lie within 0 to 1.")
        for name in ("hr_brightness", "hr_contrast", "hr_saturation", "hr_hue"):
            if not 0 <= getattr(self, name) < 1:
                raise EncoderError(f"{name} is {getattr(self, name)}; it must lie within 0 to 1.")
        for name in ("hr_sigma", "s1_looks"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise EncoderError(f"{name} is {(low, high)}; both must be above 0, in order.")
        if min(self.s2_gain, self.s2_band_gain, self.s2_offset, self.s1_offset) < 0:
            raise EncoderError("Deviations in AugmentConfig must be at least 0.")


def augment(
    key: str,
    pixels: np.ndarray,
    side: int,
    config: AugmentConfig,
    rng: np.random.Generator,
    missing: tuple[int, ...] = (),
) -> None:
    """Change one sensor's view in place.

    Args:
        key: `hr`, `s2` or `s1`.
        pixels: (t, c, h, w) float32 in contract units, finite.
        side: 0 for the student's view, 1 for the teacher's.
        config: Strengths.
        rng: The generator of this view and sensor.
        missing: Bands that are not there anyway.

    Raises:
        EncoderError: For high resolution, if kornia is not installed.
    """
    if key == "hr":
        for date in pixels:
            date[:] = recoloured(date, config, rng, config.hr_solarise[side])
    elif key == "s2":
        tinted(pixels, config, rng)
        for band in dropped_bands(config, rng, missing):
            pixels[:, band] = SENSORS["s2"].mean[band]
    else:
        speckled(pixels, config, rng)


def dropped_bands(
    config: AugmentConfig, rng: np.random.Generator, missing: tuple[int, ...] = ()
) -> list[int]:
    """Sentinel-2 bands that a view is to lack beside those missing anyway."""
    there = [band for band in range(len(SENSORS["s2"].names)) if band not in missing]
    most = min(config.s2_drop_most, len(there) - MIN_BANDS["s2"])
    if most < 1 or rng.random() >= config.s2_drop:
        return []
    return rng.choice(there, int(rng.integers(1, most + 1)), replace=False).tolist()


def tinted(pixels: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> None:
    """Reflectance (t, c, h, w) under another gain and offset per date and band, in place."""
    t, c = pixels.shape[:2]
    gain = 1 + config.s2_gain * rng.standard_normal((t, 1))
    gain = gain * (1 + config.s2_band_gain * rng.standard_normal((t, c)))
    offset = config.s2_offset * rng.standard_normal((t, 1))
    pixels *= gain.astype(np.float32)[:, :, None, None]
    pixels += offset.astype(np.float32)[:, :, None, None]


def speckled(pixels: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> None:
    """Backscatter (t, c, h, w) in dB under more speckle, in place.

    Speckle multiplies linear power by a gamma variate of mean 1 and shape L, the number of looks,
    independently per pixel and band; its mean power stays. L is drawn per view.
    """
    low, high = np.log(config.s1_looks)
    looks = np.float32(np.exp(rng.uniform(low, high)))
    factor = rng.standard_gamma(looks, pixels.shape, dtype=np.float32) / looks
    offset = config.s1_offset * rng.standard_normal((len(pixels), 1, 1, 1))
    np.log10(np.maximum(factor, np.float32(1e-6)), out=factor)
    factor *= np.float32(10)
    pixels += factor
    pixels += offset.astype(np.float32)


def recoloured(
    image: np.ndarray, config: AugmentConfig, rng: np.random.Generator, solarise: float = 0.0
) -> np.ndarray:
    """One RGB image (3, h, w) in 0..255 with other colours, perhaps blurred, perhaps solarised.

    Raises:
        EncoderError: If kornia is not installed.
    """
    # all drawn first, so that what one step does never depends on another
    draws = rng.random(3)
    change = rng.uniform(-1, 1, 4)
    sigma = float(rng.uniform(*config.hr_sigma))
    kornia = _kornia()
    import torch

    x = torch.from_numpy(np.ascontiguousarray(image))[None] / 255  # 1 3 h w, 0..1
    if draws[0] < config.hr_jitter:
        limits = (config.hr_brightness, config.hr_contrast, config.hr_saturation, config.hr_hue)
        bright, contrast, saturation, hue = (
            float(c * s) for c, s in zip(change, limits, strict=True)
        )
        enhance = kornia.enhance
        x = enhance.adjust_brightness_accumulative(x, 1 + bright)
        x = enhance.adjust_contrast_with_mean_subtraction(x, 1 + contrast)
        x = enhance.adjust_saturation_with_gray_subtraction(x, 1 + saturation)
        x = enhance.adjust_hue(x, hue * 2 * np.pi)
    if draws[1] < config.hr_blur:
        size = 2 * round(3 * sigma) + 1
        x = kornia.filters.gaussian_blur2d(x, (size, size), (sigma, sigma))
    if draws[2] < solarise:
        x = kornia.enhance.solarize(x, 0.5)
    return (x[0].clamp(0, 1) * 255).numpy()


def _kornia() -> Any:
    try:
        import kornia
    except ImportError as error:
        raise EncoderError(
            "Augmenting high-resolution views needs kornia, which is not installed. Run "
            "pip install 'skysense[pretrain]', or train without augmentation."
        ) from error
    return kornia
