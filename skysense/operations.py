"""Arithmetic of a model, counted from its configuration: operations, and how wide its tokens get."""

from collections.abc import Iterator, Mapping, Sequence

from skysense.model import ModelConfig, SkySenseConfig, SkySenseV2Config
from skysense.model.backbone import SWIN_STAGES


def operations(
    config: ModelConfig,
    dates: Mapping[str, int],
    window: tuple[int, int],
    step: int,
    merge: Sequence[bool] | None = None,
) -> float:
    """Operations of one window: matrix products of the encoders and of the fusion transformer.

    A transformer layer of width C over n tokens in sequences of s takes n (24 C² + 4 s C). A token
    passes one expert, however many there are.

    Args:
        config: The model.
        dates: Sensor to number of dates.
        window: (rows, columns) of 10 m cells.
        step: 10 m cells per fused place along one axis.
        merge: V2's schedule for high resolution; the configuration's if None.
    """
    cells, fusion = window[0] * window[1], config.fusion
    places = cells / step**2
    total = 0.0
    for key, count in dates.items():
        total += count * _date(config, key, cells * (1024 if key == "hr" else 1), merge)
        read = 2 * getattr(config, key).out_dim * fusion.dim
        total += places * count * read
    length = sum(dates.values()) + 1
    return total + _layers(places * length, length, fusion.dim, fusion.layers)


def widest(
    config: ModelConfig, key: str, pixels: float, merge: Sequence[bool] | None = None
) -> float:
    """Numbers in the largest of the maps that one image of a sensor passes through.

    Args:
        config: The model.
        key: The sensor.
        pixels: Of the image.
        merge: As `operations`.
    """
    if isinstance(config, SkySenseV2Config):
        return max(n * width for n, width, _ in _stages(config, key, pixels, merge))
    part = getattr(config, key)
    return pixels / part.patch**2 * part.dim


def _date(config: ModelConfig, key: str, pixels: float, merge: Sequence[bool] | None) -> float:
    """Operations of encoding one image."""
    if isinstance(config, SkySenseV2Config):
        return _backbone(config, key, pixels, merge)
    if key == "hr":
        return _swin(config, pixels)
    vit = getattr(config, key)
    tokens = pixels / vit.patch**2
    return _layers(tokens, tokens, vit.dim, vit.layers)


def _layers(tokens: float, sequence: float, width: int, layers: int) -> float:
    return layers * tokens * (24 * width**2 + 4 * sequence * width)


def _swin(config: SkySenseConfig, pixels: float) -> float:
    hr, total = config.hr, 0.0
    for stage, depth in enumerate(hr.depths):
        width = hr.dim * 2**stage
        tokens = pixels / hr.patch**2 / 4**stage
        total += _layers(tokens, hr.window**2, width, depth)
        if stage:
            total += tokens * 16 * (width / 2) ** 2
    return total


def _stages(
    config: SkySenseV2Config, key: str, pixels: float, merge: Sequence[bool] | None
) -> Iterator[tuple[float, int, bool]]:
    """Tokens and width of each stage of V2, and whether tokens were merged before it."""
    given = config.tokens(key)
    schedule = given.merge if merge is None or key != "hr" else merge
    tokens = pixels * given.repeat**2 / config.backbone.patch**2
    for width, merged in zip(config.backbone.widths, (False, *schedule), strict=True):
        tokens /= 4 if merged else 1
        yield tokens, width, merged


def _backbone(
    config: SkySenseV2Config, key: str, pixels: float, merge: Sequence[bool] | None
) -> float:
    b, total = config.backbone, 0.0
    for i, (tokens, width, merged) in enumerate(_stages(config, key, pixels, merge)):
        sequence = b.window**2 if i < SWIN_STAGES else tokens + b.prompts
        total += _layers(tokens, sequence, width, b.depths[i])
        if i:
            total += tokens * (16 if merged else 4) * (width / 2) ** 2
    return total
