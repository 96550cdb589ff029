"""Input that does not fit is refused in a sentence that says what does not."""

import dataclasses

import pytest
import torch
from mini import MINI, make_model

from skysense.errors import EncoderError
from skysense.model import DateFeatures, SensorInput
from skysense.model.inputs import check_pixels


def run(model, inputs, **options):
    with torch.no_grad():
        return model(inputs, **options)


def hr_of(side):
    return SensorInput(
        torch.zeros(2, 1, 3, side, side), torch.ones(2, 1, side // 32, side // 32).bool(),
        torch.zeros(2, 1).long(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda i: {}, {}, r"Sensors \[\] cannot be fused"),
        (lambda i: {"planet": i["s2"]}, {}, "no encoder for 'planet'; it has: hr, s2, s1"),
        (lambda i: {"s2": i["s1"]}, {}, "2 bands, but this encoder reads 10"),
        (lambda i: {"s2": i["s2"]._replace(pixels=i["s2"].pixels[..., 1:])}, {}, "multiples of 4"),
        (lambda i: {"s2": i["s2"]._replace(doy=i["s1"].doy)}, {}, r"days \(2, 3\)"),
        (lambda i: {"s2": i["s2"]._replace(doy=i["s2"].doy + 400)}, {}, "use 1 to 366"),
        (lambda i: {"s2": i["s2"]._replace(doy=i["s2"].doy - 400)}, {}, "use 1 to 366"),
        (lambda i: {"s2": i["s2"]._replace(pixels=i["s2"].pixels / 0)}, {}, "NaN or infinite"),
        (lambda i: {"hr": hr_of(128), "s2": i["s2"]}, {}, "different ground"),
        (lambda i: {"hr": hr_of(64)}, {}, "smaller than the attention window"),
        (lambda i: i, {"step": 3}, "step must be 1, 2 or 4"),
        (lambda i: i, {"step": 2, "offset": (2, 0)}, "offsets at least 0 and below it"),
        (lambda i: i, {"max_tokens": 0}, "at least 1"),
        (lambda i: i, {"cell": torch.tensor([0, 0])}, "without geo-context"),
    ],
)
def test_input_that_does_not_fit_is_refused(model, inputs, change, options, message):
    with pytest.raises(EncoderError, match=message):
        run(model, change(inputs), **options)


@pytest.mark.parametrize(
    ("shape", "valid", "message"),
    [
        ((4, 10, 8, 8), (2, 4, 2, 2), "give .batch, date"),
        ((2, 0, 10, 8, 8), (2, 0, 2, 2), "0 dates"),
        ((2, 4, 10, 8, 8), (2, 3, 2, 2), "validity has shape"),
        ((2, 4, 10, 8, 8), (2, 4, 8, 8), "validity has shape"),
    ],
)
def test_shape_that_does_not_fit_is_refused(shape, valid, message):
    with pytest.raises(EncoderError, match=message):
        check_pixels(MINI, "s2", torch.zeros(shape), torch.ones(valid).bool())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": torch.tensor([0, 3])}, "banks for cells 0 to 2"),
        ({"bank": torch.zeros(2, 5, 7).double()}, "must be .batch 2, prototypes, feature 32"),
        ({"bank": torch.zeros(2, 5, 32).double(), "cell": torch.tensor([0, 0])}, "Both cell and"),
    ],
)
def test_bank_that_does_not_fit_is_refused(placed, inputs, options, message):
    with pytest.raises(EncoderError, match=message):
        run(placed, inputs, **options)


def test_model_without_fusion_still_encodes_and_says_why_it_cannot_fuse(inputs):
    model = make_model(dataclasses.replace(MINI, parts=("s2",)))
    with torch.no_grad():
        values = model.encode_dates("s2", inputs["s2"].pixels)
    assert values.shape == (2, 4, 32, 2, 2)
    with pytest.raises(EncoderError, match="has no fusion part"):
        model.fuse({"s2": DateFeatures(values, inputs["s2"].valid, inputs["s2"].doy)})
