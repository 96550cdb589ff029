"""The composition: what may change its result, and what may not, for V1 and V2 alike."""

import copy
import dataclasses
import itertools

import pytest
import torch
from mini import BOTH, DENSE_V2, MINI, make_inputs, make_model

from skysense.errors import EncoderError
from skysense.model import DateFeatures, SensorInput
from skysense.model.prototypes import read_out

SUBSETS = [s for n in (1, 2, 3) for s in itertools.combinations(("hr", "s2", "s1"), n)]


@pytest.fixture(params=BOTH)
def model(request):
    """The mini models in float64."""
    return make_model(BOTH[request.param])


def run(model, inputs, **options):
    with torch.no_grad():
        return model(inputs, **options)


def assert_equal(a, b, tolerance=1e-10):
    assert a.shape == b.shape
    assert torch.equal(a.isnan(), b.isnan())
    assert (a - b).nan_to_num().abs().max() <= tolerance


def plain(model, inputs):
    """The same features, spelled out: every token up-sampled, all of them masked in one batch."""
    tokens, masks = [], []
    for sensor in ("hr", "s2", "s1"):
        if sensor not in inputs:
            continue
        pixels, valid, doy = inputs[sensor]
        b, t = doy.shape
        x = model.maps_of(sensor, pixels.flatten(0, 1)).permute(0, 3, 1, 2)
        if sensor != "hr":
            x = getattr(model, f"head_{sensor}")(x)
            valid = valid.repeat_interleave(4, 2).repeat_interleave(4, 3)
        x = x.unflatten(0, (b, t)).permute(0, 3, 4, 1, 2)  # b h w t c
        if model.calendar is not None and model.config.fusion.calendar in (sensor, "all"):
            row = (doy - 1).clamp(max=model.config.fusion.calendar_rows - 1)
            x = x + (model.calendar.table[0][row] * (doy > 0)[..., None])[:, None, None]
        tokens.append(x)
        masks.append(valid.permute(0, 2, 3, 1))
    x, mask = torch.cat(tokens, 3), torch.cat(masks, 3)
    b, h, w = mask.shape[:3]
    out = model.fusion.levels(x.flatten(0, 2), mask.flatten(0, 2))[-1][:, 0]
    out = out.masked_fill(~mask.flatten(0, 2).any(1)[:, None], torch.nan)
    return out.view(b, h, w, -1).permute(0, 3, 1, 2)


@pytest.mark.parametrize("subset", SUBSETS, ids="+".join)
def test_fast_form_equals_the_plain_one_for_any_sensors(model, inputs, subset):
    chosen = {s: inputs[s] for s in subset}
    with torch.no_grad():
        expected = plain(model, chosen)
    assert_equal(run(model, chosen), expected)


@pytest.mark.parametrize("calendar", ["all", "none"])
def test_fast_form_equals_the_plain_one_for_other_calendars(model, inputs, calendar):
    fusion = dataclasses.replace(model.config.fusion, calendar=calendar)
    model = make_model(dataclasses.replace(model.config, fusion=fusion))
    with torch.no_grad():
        expected = plain(model, inputs)
    assert_equal(run(model, inputs), expected)


@pytest.mark.parametrize("subset", [("hr",), ("s2", "s1"), ("hr", "s2", "s1")], ids="+".join)
@pytest.mark.parametrize(("step", "offset"), [(2, (0, 0)), (2, (1, 0)), (4, (2, 2)), (4, (3, 1))])
def test_coarse_lattice_is_the_fine_one_at_its_places(model, inputs, subset, step, offset):
    chosen = {s: inputs[s] for s in subset}
    fine = run(model, chosen)[:, :, offset[0] :: step, offset[1] :: step]
    assert_equal(run(model, chosen, step=step, offset=offset), fine)


def test_order_of_dates_is_irrelevant(model, inputs):
    turned = {
        s: SensorInput(*(x.flip(1) for x in given)) for s, given in reversed(list(inputs.items()))
    }
    assert_equal(run(model, turned), run(model, inputs))


def test_invalid_date_equals_leaving_it_out(model, inputs):
    inputs["s2"].valid[:, 1] = False
    kept = [0, 2, 3]
    less = inputs | {"s2": SensorInput(*(x[:, kept] for x in inputs["s2"]))}
    assert_equal(run(model, inputs), run(model, less))


def test_sensor_without_a_valid_token_equals_leaving_it_out(model, inputs):
    inputs["hr"].valid[:] = False
    less = {s: v for s, v in inputs.items() if s != "hr"}
    assert_equal(run(model, inputs), run(model, less))


def test_features_of_invalid_tokens_change_nothing(model, inputs):
    with torch.no_grad():
        features = {
            s: DateFeatures(model.encode_dates(s, g.pixels, g.valid), g.valid, g.doy)
            for s, g in inputs.items()
        }
        other = {
            s: f._replace(values=f.values.masked_fill(~f.valid[:, :, None], 1e6))
            for s, f in features.items()
        }
        assert_equal(model.fuse(other), model.fuse(features), 0.0)


def test_encoding_then_fusing_equals_forward(model, inputs):
    with torch.no_grad():
        features = {
            s: DateFeatures(model.encode_dates(s, g.pixels), g.valid, g.doy)
            for s, g in inputs.items()
        }
        assert_equal(model.fuse(features), model(inputs))


def test_places_without_a_valid_token_are_nan_and_no_others(model, inputs):
    seen = torch.zeros(2, 8, 8, dtype=torch.bool)
    for sensor, given in inputs.items():
        valid = given.valid.any(1)
        if sensor != "hr":
            valid = valid.repeat_interleave(4, 1).repeat_interleave(4, 2)
        seen |= valid
    out = run(model, inputs)
    assert torch.equal(out.isnan(), ~seen[:, None].expand_as(out))
    assert 0 < (~seen).sum() < 100


def test_nothing_valid_at_all_gives_nan_everywhere(model, inputs):
    for given in inputs.values():
        given.valid[:] = False
    out = run(model, inputs)
    assert out.shape == (2, 32, 8, 8)
    assert out.isnan().all()


def test_window_does_not_depend_on_its_batch(model, inputs):
    both = run(model, inputs)
    for i in range(2):
        alone = run(model, {s: SensorInput(*(x[i : i + 1] for x in g)) for s, g in inputs.items()})
        assert_equal(alone, both[i : i + 1])


@pytest.mark.parametrize("max_tokens", [1, 7, 100])
def test_tokens_in_flight_change_nothing(model, inputs, max_tokens):
    assert_equal(run(model, inputs, max_tokens=max_tokens), run(model, inputs))


def test_float32_agrees_with_float64(model, inputs):
    expected = run(model, inputs)
    short = run(model.float(), inputs)
    assert short.dtype == torch.float32
    assert (short - expected).nan_to_num().norm() <= 1e-5 * expected.nan_to_num().norm()


def test_plain_tuples_are_inputs_too(model, inputs):
    assert_equal(run(model, {s: tuple(g) for s, g in inputs.items()}), run(model, inputs), 0.0)


def test_dates_without_a_valid_token_are_not_encoded(model, inputs):
    inputs["s2"].valid[1, 2] = False
    with torch.no_grad():
        some = model.encode_dates("s2", inputs["s2"].pixels, inputs["s2"].valid)
        every = model.encode_dates("s2", inputs["s2"].pixels)
    assert some[1, 2].abs().max() == 0
    used = inputs["s2"].valid.flatten(2).any(-1)
    assert_equal(some[used], every[used])


def test_inputs_are_not_changed(model, inputs):
    before = copy.deepcopy(inputs)
    run(model, inputs)
    for sensor, given in inputs.items():
        assert all(torch.equal(a, b) for a, b in zip(given, before[sensor], strict=True))


# Remembered values


def test_remembered_values_equal_computed_ones(model, inputs):
    run(model, inputs)
    remembered = run(model, inputs)
    with torch.enable_grad():
        computed = model(inputs)
    assert_equal(remembered, computed.detach())


def change_in_place(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)


def step_optimiser(model):
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(model.parameters(), lr=0.01).step()


def load_others(model):
    model.load_state_dict(make_model(model.config, seed=9).state_dict())


def assign_others(model):
    model.load_state_dict(make_model(model.config, seed=9).state_dict(), assign=True)


def round_trip_to_float32(model):
    model.float().double()


@pytest.mark.parametrize(
    "change", [change_in_place, step_optimiser, load_others, assign_others, round_trip_to_float32]
)
def test_remembered_values_follow_the_parameters(model, inputs, change):
    with torch.inference_mode():
        before = model(inputs)
    change(model)
    after = run(model, inputs)
    with torch.enable_grad():
        expected = model(inputs)
    assert_equal(after, expected.detach())
    assert (after - before).nan_to_num().abs().max() > 1e-9


def test_copy_of_a_model_forgets_what_the_first_remembers(model, inputs):
    run(model, inputs)
    other = copy.deepcopy(model)
    change_in_place(other)
    with torch.enable_grad():
        expected = other(inputs)
    assert_equal(run(other, inputs), expected.detach())


# Gradients


@pytest.mark.parametrize("config", [MINI, DENSE_V2], ids=["V1", "V2"])
@pytest.mark.parametrize("subset", SUBSETS, ids="+".join)
def test_gradient_reaches_every_parameter_that_took_part(inputs, subset, config):
    fusion = dataclasses.replace(config.fusion, calendar="all")
    model = make_model(dataclasses.replace(config, fusion=fusion)).train()
    chosen = {s: inputs[s] for s in subset}
    for given in chosen.values():
        given.valid[:] = True
    torch.manual_seed(0)
    model(chosen).square().mean().backward()
    took_part = ("backbone", "fusion", "calendar", *subset, *(f"head_{s}" for s in subset))
    for name, parameter in model.named_parameters():
        part = name.partition(".")[0]
        if part not in took_part:
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name


def fusing(model):
    """Parameters that features are made with: all but V2's queries, which read features."""
    return {n: p for n, p in model.named_parameters() if not n.startswith("queries.")}


def test_gradient_equals_that_of_the_plain_form(model, inputs):
    for given in inputs.values():
        given.valid[:] = True
    model(inputs).square().sum().backward()
    fast = {n: p.grad.clone() for n, p in fusing(model).items()}
    model.zero_grad()
    plain(model, inputs).square().sum().backward()
    for name, parameter in fusing(model).items():
        assert (fast[name] - parameter.grad).abs().max() <= 1e-8 * (1 + fast[name].abs().max()), (
            name
        )


def test_unseen_places_send_no_nan_into_gradients(model, inputs):
    out = model(inputs)
    assert out.isnan().any()
    out[~out.isnan()].sum().backward()
    assert all(p.grad.isfinite().all() for p in fusing(model).values())


# Calendar


def with_days(inputs, sensor, doy):
    given = inputs[sensor]
    return inputs | {sensor: given._replace(doy=torch.full_like(given.doy, doy))}


def test_unknown_dates_add_nothing(model, inputs):
    unknown = run(model, with_days(inputs, "s2", 0))
    with torch.no_grad():
        model.calendar.table.zero_()
    assert_equal(unknown, run(model, with_days(inputs, "s2", 200)))


def test_last_day_of_a_leap_year_shares_the_row_before(model, inputs):
    assert_equal(
        run(model, with_days(inputs, "s2", 366)), run(model, with_days(inputs, "s2", 365)), 0.0
    )


def test_first_of_january_is_the_first_row(model, inputs):
    before = run(model, with_days(inputs, "s2", 1))
    with torch.no_grad():
        model.calendar.table[:, 1:].zero_()
    assert_equal(run(model, with_days(inputs, "s2", 1)), before)


def test_calendar_concerns_sentinel_2_only_by_default(model, inputs):
    assert_equal(
        run(model, with_days(inputs, "s1", 10)), run(model, with_days(inputs, "s1", 200)), 0.0
    )
    changed = run(model, with_days(inputs, "s2", 10)) - run(model, with_days(inputs, "s2", 200))
    assert changed.nan_to_num().abs().max() > 1e-3


# Prototypes


def test_read_out_is_concatenated_to_the_features(placed, model, inputs):
    out = run(placed, inputs, cell=torch.tensor([1, 1]))
    fused = run(model, inputs)
    assert_equal(out[:, :32], fused)
    assert_equal(out[:, 32:], read_out(fused, placed.prototypes.bank[[1, 1]]))


def test_cell_never_trained_unknown_or_not_given_reads_zeros(placed, inputs):
    out = run(placed, inputs, cell=torch.tensor([0, -1]))
    context = out[:, 32:]
    assert torch.equal(context.isnan(), out[:, :32].isnan())
    assert context.nan_to_num().abs().max() == 0
    assert_equal(run(placed, inputs), out)


def test_given_bank_equals_the_same_bank_held(placed, inputs):
    bank = placed.prototypes.bank[[1, 1]]
    assert_equal(run(placed, inputs, bank=bank), run(placed, inputs, cell=torch.tensor([1, 1])))


def test_places_named_one_by_one_are_the_cells_of_the_map():
    model, inputs = make_model(), make_inputs()
    features = {
        s: (model.encode_dates(s, *given[:2]), given.valid, given.doy)
        for s, given in inputs.items()
    }
    whole = model.fuse(features).flatten(2)  # b c 64
    at = torch.tensor([[0, 63, 17, 17], [5, 9, 62, 1]])
    got = model.fuse(features, at=at)[..., 0]  # b c n
    wanted = whole.gather(2, at[:, None].expand(-1, whole.shape[1], -1))
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12, equal_nan=True)


def test_places_outside_the_window_are_refused():
    model, inputs = make_model(), make_inputs()
    features = {s: (model.encode_dates(s, *g[:2]), g.valid, g.doy) for s, g in inputs.items()}
    with pytest.raises(EncoderError, match="numbered 0 to 63"):
        model.fuse(features, at=torch.tensor([[0, 64], [0, 1]]))
