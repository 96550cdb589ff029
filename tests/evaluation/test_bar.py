"""The bar says pass or fail, and by how much."""

import dataclasses

import numpy as np
import pytest

from skysense.evaluation.bar import Mean, interval, verdicts, worths
from skysense.evaluation.run import Record
from skysense.evaluation.table import page, tasks_page

SPREAD = (-0.01, 0.0, 0.01, 0.0, 0.0)
"""What the five draws of blocks and clicks change, for everyone alike."""


def record(
    network, output, task, value, *, sensors="s2+s1", seen="no", untrained=False, against=""
):
    scores = {"shots": [value + d for d in SPREAD]}
    null = "untrained" if network == "ours" else ""
    return Record(
        network,
        output,
        sensors,
        task,
        task,
        "pixels",
        False,
        seen,
        untrained,
        "w",
        null,
        against,
        scores=scores,
    )


def runs(ours, seen_site="yes"):
    made = []
    for task, seen in (("a", seen_site), ("b", "no")):
        made += [
            record("none", "raw", task, 0.50),
            record("none", "percentiles", task, 0.45),
            record("untrained", "s2 tokens", task, 0.48, sensors="s2", untrained=True),
            record("untrained", "fused", task, 0.25, untrained=True),
            record("ours", "fused", task, ours[task], seen=seen),
        ]
    return made


def test_a_network_that_beats_everything_passes():
    found = verdicts(runs({"a": 0.55, "b": 0.52}))
    assert [v.passed for v in found] == [True, True, True]
    assert found[0].difference.value == pytest.approx(0.535 - 0.25)
    assert found[1].difference.value == pytest.approx(0.035)
    assert found[2].difference.value == pytest.approx(0.02)
    assert [v.difference.tasks for v in found] == [2, 2, 1]


def test_a_network_that_only_remembers_its_sites_fails_on_the_unseen_one():
    found = verdicts(runs({"a": 0.70, "b": 0.40}))
    assert [v.passed for v in found] == [True, True, False]
    assert "raw dates" in found[2].detail


def test_a_difference_smaller_than_its_interval_is_called_so():
    noisy = [
        r if r.network != "ours" else record("ours", "fused", r.task, 0.505)
        for r in runs({"a": 0, "b": 0})
    ]
    found = verdicts(noisy)
    assert found[0].word == "pass"
    assert interval(np.zeros(5)).half == 0
    wide = dataclasses.replace(found[1], difference=Mean(0.005, 0.02, 2))
    assert wide.word == "pass, within the interval"
    assert dataclasses.replace(wide, passed=False, least=0.01).word == "FAIL, within the interval"


def test_learning_less_than_the_margin_fails():
    assert [v.passed for v in verdicts(runs({"a": 0.35, "b": 0.35}))] == [False, False, False]


def test_unknown_training_data_never_pass_as_unseen():
    records = [
        r if r.network != "ours" else record("ours", "fused", r.task, 0.9, seen="unknown")
        for r in runs({"a": 0.9, "b": 0.9})
    ]
    found = verdicts(records)
    assert not found[-1].passed
    assert "without a list" in found[-1].detail


def test_interval_is_that_of_student():
    mean = interval([0.1, 0.2, 0.3, 0.4, 0.5])
    assert mean.value == pytest.approx(0.3)
    assert mean.half == pytest.approx(
        2.776 * np.std([1, 2, 3, 4, 5], ddof=1) / 10 / 5**0.5, rel=1e-3
    )


def ablated(**values):
    """`runs` and, beside them, `ours` without one part."""
    return [
        *runs({"a": 0.55, "b": 0.52}),
        *(
            record(
                "less", "fused", task, value, seen="yes" if task == "a" else "no", against="ours"
            )
            for task, value in values.items()
        ),
    ]


def test_a_part_is_worth_what_the_run_without_it_lacks_seed_by_seed():
    (found,) = worths(ablated(a=0.50, b=0.53))
    assert (found.network, found.against, found.output) == ("less", "ours", "fused")
    assert found.every.value == pytest.approx(-0.02)
    assert found.every.half == pytest.approx(0), "what the draws do to both is no difference"
    assert found.every.tasks == 2
    assert found.better == 1
    assert found.unseen is not None
    assert found.unseen.value == pytest.approx(0.01)
    assert found.unseen.tasks == 1


def test_only_maps_that_both_runs_answered_are_compared():
    (found,) = worths(ablated(b=0.50))
    assert found.every.tasks == 1
    assert found.every.value == pytest.approx(-0.02)


def test_a_run_without_a_part_is_not_held_to_the_bar():
    records = ablated(a=0.50, b=0.53)
    assert {each.network for each in verdicts(records)} == {"ours"}
    text = page(records, [], [])
    assert "| less | ours | fused | -2.0 ± 0.0 | 1 of 2 | +1.0 ± 0.0 |" in text
    assert text.count("| less |") == 1


def test_the_page_states_the_bar_and_who_saw_what():
    text = page(runs({"a": 0.70, "b": 0.40}), [], [])
    assert "**pass**" in text
    assert "**FAIL**" in text
    assert "| network | output | mean | a | b |" in text
    assert "|  | sensors |  | s2+s1 | s2+s1 |" in text
    assert "|  | imagery seen in training |  | yes | no |" in text
    assert "| ours | fused | **55.0 ± 0.9** | 70.0 ± 0.9 | 40.0 ± 0.9 |" in text


def test_the_second_page_has_every_network_task_by_task_and_leads_back():
    text = tasks_page(ablated(a=0.50, b=0.53))
    assert "(evaluation.md)" in text
    assert text.index("### a") < text.index("### b")
    assert text.count("| less |") == 2
