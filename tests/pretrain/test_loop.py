import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_run import RUN, RUN_V2

from skysense.errors import Cancelled, EncoderError, WeightsError
from skysense.pretrain import processes
from skysense.pretrain.config import PRESETS, pretraining, without
from skysense.pretrain.data import open_places
from skysense.pretrain.journal import read_log
from skysense.pretrain.loader import Loader
from skysense.pretrain.loop import begin, make_step, pretrain
from skysense.pretrain.schedule import rates
from skysense.pretrain.start import views_of
from skysense.pretrain.step import follow, look, matched
from skysense.weights import build_model, load_checkpoint

SCRIPT = Path(__file__).parents[1] / "small_run.py"


@pytest.fixture(scope="module")
def finished(places, tmp_path_factory):
    """A run of six steps that nothing interrupted."""
    out = tmp_path_factory.mktemp("finished")
    pretrain(RUN, places, out, workers=0, save_every=2, report=lambda _: None)
    return out


@pytest.fixture(scope="module")
def finished_v2(labelled, tmp_path_factory):
    """The same of SkySense V2, from real places and synthetic ones with labels."""
    out = tmp_path_factory.mktemp("finished-v2")
    pretrain(RUN_V2, labelled, out, workers=0, save_every=2, report=lambda _: None)
    return out


@pytest.fixture(params=["V1", "V2"])
def whole_run(request):
    """A run, the folder of its places, and that of what became of it."""
    later = request.param == "V2"
    found = request.getfixturevalue("finished_v2" if later else "finished")
    return (
        RUN_V2 if later else RUN,
        request.getfixturevalue("labelled" if later else "places"),
        found,
    )


def tensors(out):
    return load_checkpoint(out / "weights").model.state_dict()


def assert_same_run(one, other):
    mine, theirs = tensors(one), tensors(other)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)
    kept = [{k: v for k, v in line.items() if k not in ("seconds", "waiting")}
            for line in read_log(one)]  # fmt: skip
    again = [{k: v for k, v in line.items() if k not in ("seconds", "waiting")}
             for line in read_log(other)]  # fmt: skip
    assert kept == again


def loader(places, **options):
    given = {"batch": 4, "steps": 6, "seed": 0, **options}
    return Loader(open_places(places), RUN.views, RUN.augment, **given)


def test_a_run_that_was_stopped_goes_on_bit_for_bit(whole_run, tmp_path):
    asked, (run, places, found) = iter([False, False, True]), whole_run
    with pytest.raises(Cancelled, match="step 3 of 6"):
        pretrain(run, places, tmp_path, workers=0, report=lambda _: None,
                 cancelled=lambda: next(asked))  # fmt: skip
    pretrain(run, places, tmp_path, workers=0, report=lambda _: None)
    assert_same_run(found, tmp_path)


def test_a_run_that_was_killed_goes_on_bit_for_bit(places, tmp_path):
    """SIGKILL after the first saved state, wherever the run is by then."""
    command = [sys.executable, str(SCRIPT), str(places)]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = subprocess.Popen([*command, str(killed), "12"], env=alone)
    while not (killed / "state.json").is_file():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with (killed / "log.jsonl").open("a") as log:
        log.write('{"step": 99, "half a li')
    for out in (killed, whole):
        subprocess.run([*command, str(out), "12"], env=alone, check=True)
    assert_same_run(whole, killed)


def test_the_log_has_one_line_a_step_with_every_loss_and_sign_of_collapse(finished):
    lines = read_log(finished)
    assert [line["step"] for line in lines] == list(range(1, 7))
    first = lines[0]
    assert {"loss", "rate", "momentum", "gradient", "waiting", "seconds"} <= first.keys()
    for name in ("fused/pixel", "fused/object", "fused/image", "fused/deviation", "fused/rank",
                 "fused/overlap", "fused/pixel/entropy", "fused/pixel/agreement"):  # fmt: skip
        assert name in first


def test_the_log_of_v2_has_its_losses_and_where_each_sensor_s_tokens_went(finished_v2):
    lines = read_log(finished_v2)
    assert "query/alike" in lines[0]
    assert {"query", "query/entropy", "text", "text/agreement", "balance"} <= lines[-1].keys()
    assert any(line["text/count"] for line in lines)
    shares = [value for name, value in lines[0].items() if name.startswith("experts/s2/1/")]
    assert sum(shares) == pytest.approx(1, abs=1e-4)
    assert 0 <= lines[0]["experts/entropy"] <= 1
    loss = sum(v for k, v in lines[0].items()
               if k.count("/") == 1 and k.split("/")[1] in ("pixel", "object", "image"))  # fmt: skip
    loss += sum(lines[0][k] for k in ("query", "apart", "text")) + 0.01 * lines[0]["balance"]
    loss += sum(0.5 * v for k, v in lines[0].items() if k in ("align/s2-s1", "align/s1-s2"))
    loss += sum(10 * v for k, v in lines[0].items() if k.startswith("predict/"))
    assert lines[0]["loss"] == pytest.approx(loss, rel=1e-4)


def test_nothing_of_v2_is_in_the_log_of_v1(finished):
    own = ("query", "apart", "text", "balance", "experts")
    assert not [k for line in read_log(finished) for k in line if k.split("/")[0] in own]


def test_the_gradient_of_one_step_of_v2_reaches_all_that_is_its_own(labelled):
    run = begin(RUN_V2, "cpu")
    pairs = Loader(open_places(labelled), RUN_V2.views, RUN_V2.augment, batch=4, steps=20, seed=0)
    pair = next(p for p in pairs if len(p.u.sensors) == 2 and (p.labels >= 0).any())
    with torch.no_grad():
        seen = look(run.teacher.model, pair, 1)
    loss, _, _ = run.student(pair, seen, run.teacher.heads, RUN_V2.loss, 0.05)
    loss.backward()
    still = {
        name for name, p in run.student.named_parameters() if p.grad is None or not p.grad.any()
    }
    own = [name for name in still if "query" in name or "queries" in name or "text" in name]
    own += [
        name for name in still if "router" in name or ("prompts" in name and ".hr." not in name)
    ]
    # a bias of keys moves all scores of a query alike
    assert own == []


@torch.no_grad()
def test_queries_look_at_cells_spread_over_a_view_and_at_those_where_it_meets_the_other(labelled):
    pair, model = loader(labelled)[0], begin(RUN_V2, "cpu").student.model
    view, m, width = look(model, pair, 0), pair.cells[0].shape[1], model.config.fusion.dim
    for found, part in ((view.found.spread, slice(m, None)), (view.found.met, slice(m))):
        wanted = model.queries(view.fused[:, part, :width], view.seen[:, part])
        torch.testing.assert_close(found, wanted, equal_nan=True)
    assert not torch.equal(view.found.spread, view.found.met)


def test_the_teacher_s_queries_follow_the_student_s():
    run = begin(RUN_V2, "cpu")
    before = run.teacher.model.queries.tokens.clone()
    with torch.no_grad():
        run.student.model.queries.tokens.add_(1.0)
    follow(run.teacher, run.student, 0.75)
    torch.testing.assert_close(run.teacher.model.queries.tokens, before + 0.25)


def test_a_finished_run_leaves_trained_half_precision_weights_that_say_what_they_saw(finished):
    checkpoint = load_checkpoint(finished / "weights")
    assert checkpoint.licence == "Apache-2.0"
    assert "2 real and 0 synthetic" in checkpoint.notes[0]
    assert not checkpoint.model.untrained
    assert {t.dtype for t in checkpoint.model.state_dict().values()} == {torch.float16, torch.bool}
    seen = json.loads((finished / "weights" / "data.json").read_text())["places"]
    assert {place["licence"] for place in seen} == {"CC0-1.0"}


def test_the_bank_of_the_cell_of_the_places_was_trained_and_no_other(finished):
    banks = load_checkpoint(finished / "weights").model.prototypes
    assert int(banks.trained.sum()) == 1
    assert banks.bank[banks.trained].abs().sum() > 0
    assert banks.bank[~banks.trained].abs().sum() == 0


def test_another_configuration_does_not_go_on_with_this_run(places, finished):
    other = dataclasses.replace(RUN, rate=2e-3)
    with pytest.raises(WeightsError, match="another configuration"):
        pretrain(other, places, finished, workers=0)


def test_a_damaged_state_is_a_sentence(places, tmp_path):
    pretrain(dataclasses.replace(RUN, steps=1), places, tmp_path, workers=0, report=lambda _: None)
    (tmp_path / "state.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises(WeightsError, match="cannot be read"):
        pretrain(dataclasses.replace(RUN, steps=1), places, tmp_path, workers=0)


def test_a_loss_that_is_no_number_stops_the_run_with_advice(places):
    run = begin(RUN, "cpu")
    with torch.no_grad():
        run.student.model.fusion.input.bias.fill_(torch.nan)
    with pytest.raises(EncoderError, match="lower rate"):
        make_step(run, iter(loader(places)), 0)


def test_accumulated_passes_make_one_step(places):
    run = begin(dataclasses.replace(RUN, accumulate=2), "cpu")
    pairs = iter(loader(places, steps=4))
    make_step(run, pairs, 0)
    assert next(pairs).plan.step == 2
    assert {int(state["step"]) for state in run.optimiser.state.values()} == {1}


def test_recomputed_activations_change_nothing(places):
    pair, gradients = loader(places)[0], []
    for again in (False, True):
        run = begin(dataclasses.replace(RUN, checkpoint=again), "cpu")
        with torch.no_grad():
            seen = look(run.teacher.model, pair, 1)
        loss, _, _ = run.student(pair, seen, run.teacher.heads, RUN.loss, 0.05)
        loss.backward()
        gradients.append([p.grad for p in run.student.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_mixed_precision_stays_near_single_precision(places):
    losses = [
        make_step(begin(dataclasses.replace(RUN, precision=p), "cpu"), iter(loader(places)), 0)[
            "loss"
        ]
        for p in ("float32", "bfloat16")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_the_teacher_is_the_moving_average_of_the_student():
    run = begin(RUN, "cpu")
    before = run.teacher.model.fusion.input.weight.clone()
    with torch.no_grad():
        run.student.model.fusion.input.weight.add_(1.0)
    follow(run.teacher, run.student, 0.75)
    torch.testing.assert_close(run.teacher.model.fusion.input.weight, before + 0.25)


def test_student_and_teacher_share_one_bank():
    run = begin(RUN, "cpu")
    assert run.teacher.model.prototypes.bank is run.student.model.prototypes.bank


def test_learning_makes_two_views_of_the_same_places_agree(places):
    plain = dataclasses.replace(without(RUN, ("prediction",)), start=False)
    run = begin(dataclasses.replace(plain, steps=30, rate=3e-3), "cpu")
    pairs = itertools.repeat(loader(places)[0])
    agreed = [make_step(run, pairs, step)["fused/pixel/agreement"] for step in range(30)]
    assert sum(agreed[-5:]) > 2 * sum(agreed[:5])


def test_learning_makes_the_other_view_easier_to_predict(places):
    run = begin(dataclasses.replace(RUN, steps=30, rate=3e-3), "cpu")
    pairs = itertools.repeat(loader(places)[0])
    missed = [make_step(run, pairs, step)["predict/s2"] for step in range(30)]
    assert sum(missed[-5:]) < 0.5 * sum(missed[:5])


def test_where_views_are_not_whole_tokens_apart_no_token_meets_another(places):
    pair = next(p for p in loader(places) if p.plan.whole and "s2" in p.u.sensors)
    loose = dataclasses.replace(pair, plan=dataclasses.replace(pair.plan, whole=False))
    model = begin(RUN, "cpu").student.model
    with torch.no_grad():
        whole, apart = (matched(look(model, p, 0), look(model, p, 1), p)[0] for p in (pair, loose))
    assert whole.parts["s2"].weight.any()
    assert not apart.parts["s2"].weight.any()
    assert apart.parts["s2"].image_weight.any()
    assert torch.equal(apart.parts["fused"].weight, whole.parts["fused"].weight)
    assert (whole.parts["fused"].phase is None, apart.parts["fused"].phase is None) == (False, True)


def test_without_prediction_nothing_is_predicted(places):
    run = begin(without(RUN, ("prediction",)), "cpu")
    assert not any(name.startswith("predict") for name in make_step(run, iter(loader(places)), 0))


def test_a_run_starts_from_its_places_unless_told_otherwise(places):
    random = build_model(RUN.model, seed=RUN.seed).head_s2.conv.weight

    def weight(config):
        examples = views_of(open_places(places), config)
        return begin(config, "cpu", examples=examples).student.model.head_s2.conv.weight

    assert not torch.equal(weight(RUN), random)
    assert torch.equal(weight(RUN), weight(RUN))
    assert torch.equal(weight(dataclasses.replace(RUN, start=False)), random)


def test_rates_rise_fall_and_end_where_they_should():
    run = dataclasses.replace(
        RUN, steps=100, rate=1.0, warmup=0.1, last_rate=0.01, teacher=0.9,
        temperature=(0.04, 0.08), temperature_warmup=0.5,
    )  # fmt: skip
    first, warm, middle, last = (rates(run, step) for step in (0, 9, 50, 99))
    assert first.rate == pytest.approx(0.1)
    assert warm.rate == pytest.approx(1.0)
    assert middle.momentum == pytest.approx(0.95)
    assert last.rate == pytest.approx(0.01, abs=1e-3)
    assert (first.temperature, middle.temperature) == (0.04, pytest.approx(0.08))
    assert first.momentum == 0.9 < last.momentum < 1


def test_heads_learn_alone_first_and_then_the_encoder_too():
    run = dataclasses.replace(
        RUN, steps=100, rate=1.0, head_rate=2.0, alone=20, warmup=0.1, last_rate=0.01
    )
    assert [rates(run, step).rate for step in (0, 19)] == [0, 0]
    assert [rates(run, step).rate for step in (20, 29)] == pytest.approx([0.1, 1])
    assert [rates(run, step).heads for step in (0, 9)] == pytest.approx([0.2, 2])
    assert rates(run, 99).rate == pytest.approx(0.01, abs=1e-3)
    short = dataclasses.replace(run, alone=1000)
    assert [rates(short, step).rate > 0 for step in (24, 25)] == [False, True]


def test_while_heads_learn_alone_the_encoder_stays_as_it_was(places):
    run = begin(dataclasses.replace(RUN, steps=40, alone=2), "cpu")
    model, heads = (
        {name: p.clone() for name, p in part.named_parameters()}
        for part in (run.student.model, run.student.heads)
    )
    pairs = iter(loader(places))
    make_step(run, pairs, 0)
    assert all(torch.equal(p, model[name]) for name, p in run.student.model.named_parameters())
    assert any(not torch.equal(p, heads[n]) for n, p in run.student.heads.named_parameters())
    make_step(run, pairs, 2)
    assert not all(torch.equal(p, model[n]) for n, p in run.student.model.named_parameters())


def test_an_ablation_lacks_its_part_and_nothing_else():
    plain = pretraining("tiny")
    assert without(plain, ()) == plain
    assert without(plain, ("object",)).loss == dataclasses.replace(plain.loss, object=0.0)
    bankless = without(plain, ("prototypes",))
    assert (bankless.model.prototypes.context, bankless.views.cells) == (False, 0)
    assert dataclasses.replace(bankless, model=plain.model, views=plain.views) == plain


def test_an_ablation_of_v2_lacks_its_part_and_nothing_else():
    plain = pretraining("v2-tiny")
    assert without(plain, ()) == plain
    assert without(plain, ("text",)).loss == dataclasses.replace(plain.loss, text=0.0)
    assert without(plain, ("balance",)).loss == dataclasses.replace(plain.loss, balance=0.0)
    assert "queries" not in without(plain, ("queries",)).model.parts
    no_queries = dataclasses.replace(plain.loss, query=0.0, apart=0.0)
    assert without(plain, ("queries",)).loss == no_queries
    assert without(plain, ("prompts",)).model.backbone.prompts == 0
    assert without(plain, ("experts",)).model.backbone.moe_blocks == 0
    assert without(plain, ("experts",)).loss == dataclasses.replace(plain.loss, balance=0.0)
    alike = without(plain, ("merging",)).model
    assert alike.tokens_s2 == dataclasses.replace(
        plain.model.tokens_s2, merge=(True, True, True), repeat=8
    )
    assert alike.tokens_s1.merge == alike.tokens_hr.merge == plain.model.tokens_hr.merge


@pytest.mark.parametrize("part", ["queries", "prompts", "merging", "experts"])
def test_an_ablation_of_v2_still_learns(labelled, part):
    config = without(RUN_V2, (part,))
    pairs = Loader(open_places(labelled), config.views, config.augment, batch=4, steps=1, seed=0)
    line = make_step(begin(config, "cpu"), iter(pairs), 0)
    assert ("query" in line, "balance" in line) == (part != "queries", part != "experts")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_a_run(name):
    assert pretraining(name).model.prototypes.context


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: pretraining("huge"), "no model 'huge'"),
        (lambda: without(RUN, ("colour",)), "colour cannot be left out"),
        (lambda: without(RUN, ("queries", "experts")), "no queries and no experts to leave out"),
        (lambda: without(without(RUN_V2, ("text",)), ("text",)), "no text to leave out"),
        (lambda: dataclasses.replace(RUN, words="clip"), "loss.text is 0"),
        (lambda: dataclasses.replace(RUN, loss=RUN_V2.loss), "no semantic queries.*no experts"),
        (lambda: dataclasses.replace(RUN, steps=0), "at least 1"),
        (lambda: dataclasses.replace(RUN, warmup=2.0), "between 0 and 1"),
        (lambda: dataclasses.replace(RUN, rate=0.0), "positive"),
        (lambda: dataclasses.replace(RUN, alone=-1), "negative"),
        (lambda: dataclasses.replace(RUN, precision="int8"), "bfloat16"),
        (lambda: processes.wrapped(torch.nn.Linear(1, 1), "zero"), "ddp, fsdp"),
    ],
)
def test_impossible_runs_are_refused_in_a_sentence(call, sentence):
    with pytest.raises(EncoderError, match=sentence):
        call()
