"""The protocol can say no: noise scores at chance, the truth scores one."""

import numpy as np
import pytest
from labelled import SIDE, fields, oracle, task

from skysense.errors import AnalysisError
from skysense.evaluation import probes
from skysense.evaluation.outputs import noise
from skysense.evaluation.run import evaluate, from_json, merged, questions, score, to_json
from skysense.evaluation.tasks import POSITION, Images, Labels, Task, position


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    made = task()
    records, skipped = evaluate([oracle()], [made], cache=cache)
    assert not skipped
    return {(r.network, r.output, r.sensors): r for r in records}, made, cache


def mean(record, metric):
    assert len(record.scores[metric]) == 5
    return np.mean(record.scores[metric])


def test_an_encoder_that_outputs_noise_scores_at_chance(scores):
    record = scores[0]["none", "noise", "s2+s1"]
    share = np.bincount(fields().ravel()) / SIDE**2
    # A classifier that answers at random, each class equally often, hits share / 4 of the pixels.
    chance = float(np.mean(share / 4 / (share + 1 / 4 - share / 4)))
    for metric in ("linear", "knn", "shots1", "shots5", "shots20"):
        assert mean(record, metric) == pytest.approx(chance, abs=0.03), metric
    assert abs(mean(record, "ari")) < 0.01
    assert mean(record, "nmi") < 0.02
    assert mean(record, "purity") == pytest.approx(share.max(), abs=0.06)


def test_an_encoder_that_knows_the_truth_scores_one(scores):
    record = scores[0]["oracle", "features", "s2"]
    for metric in ("linear", "knn", "shots1", "shots5", "shots20", "ari", "nmi", "purity"):
        assert mean(record, metric) > 0.999, metric


def test_raw_dates_and_percentiles_stand_beside_every_encoder(scores):
    rows = set(scores[0])
    for output in ("raw", "percentiles"):
        for sensors in ("s2", "s1", "s2+s1"):
            assert ("none", output, sensors) in rows


def test_finished_scores_are_read_and_not_computed_again(scores, monkeypatch):
    records, made, cache = scores
    monkeypatch.setattr("skysense.evaluation.run.encode", None)
    again, _ = evaluate([oracle()], [made], cache=cache)
    assert {r.key: r.scores for r in again} == {r.key: r.scores for r in records.values()}


def test_numbers_survive_writing_and_merging(scores):
    records = list(scores[0].values())
    read = from_json(to_json(records, []))
    assert read == records
    assert merged(read, records[:1]) == records
    with pytest.raises(AnalysisError, match="protocol"):
        from_json('{"protocol": 0, "records": []}')


def test_what_an_output_did_not_see_is_scored_all_the_same():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(100, 6)).astype("f4")
    values[::7] = np.nan
    values[:, 2] = 3.0
    rows = probes.standardised(values)
    assert rows.shape == (100, 5)
    assert (rows[::7] == 0).all()
    assert np.abs(rows[np.isfinite(values).all(1)].mean(0)).max() < 1e-6


def test_units_of_features_change_no_score():
    made = task()
    images = made.load()
    asked = questions(made, images)
    rng = np.random.default_rng(1)
    values = rng.normal(size=(SIDE**2, 5)) + np.eye(4)[fields().ravel()] @ rng.normal(size=(4, 5))
    first = score(values.astype("f4"), asked, "pixels")
    again = score((1000 * values + 50).astype("f4"), asked, "pixels")
    for metric in ("linear", "knn", "shots", "ari"):
        assert np.allclose(first[metric], again[metric], atol=0.01), metric


def test_few_clicks_are_classified_as_segment_does_where_the_scales_agree():
    from skysense.analysis.segmentation import fit

    rng = np.random.default_rng(2)
    truth = np.repeat(np.arange(4), 100)
    values = rng.normal(size=(400, 8)) + rng.normal(size=(4, 8))[truth]
    cells = {str(c): np.flatnonzero(truth == c)[:6] for c in range(4)}
    marked = np.concatenate(list(cells.values()))
    rows = (values - values[marked].mean(0)) / values[marked].std(0)
    weights, offset = fit(rows, cells)
    found = probes.few_shot(rows[marked], truth[marked], rows)
    assert (found == (rows @ weights + offset).argmax(1)).mean() > 0.99


def test_linear_probe_is_the_same_in_the_span_of_the_rows():
    rng = np.random.default_rng(3)
    classes = rng.integers(0, 3, 40)
    rows = rng.normal(size=(40, 30)) + rng.normal(size=(3, 30))[classes]
    others = rng.normal(size=(7, 30))
    wide = np.concatenate([rows, np.zeros((40, 30))], axis=1)
    inner = np.arange(40) % 2 == 0
    a = probes.linear_scores(rows, classes, inner, others, 3)
    b = probes.linear_scores(
        wide, classes, inner, np.concatenate([others, np.zeros((7, 30))], axis=1), 3
    )
    assert np.allclose(a, b, atol=1e-8)


def test_mean_iou_of_a_known_confusion():
    truth, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 0])
    assert probes.mean_iou(predicted, truth, 4) == pytest.approx((2 / 4 + 2 / 3 + 0) / 3)


def test_a_rare_class_is_left_out_and_named():
    made = task()
    images = made.load()
    index = images.labels["fields"].index.copy()
    index[:20] = 4
    labels = {"fields": Labels(("a", "b", "c", "d", "rare"), index)}
    changed = Images(
        images.stack, image=images.image, metres=images.metres, labels=labels, resolution=10
    )
    asked = questions(made, changed)
    assert asked.names == ("a", "b", "c", "d")
    assert "rare (20)" in asked.note


def test_patches_are_scored_by_accuracy_and_precision():
    rng = np.random.default_rng(4)
    index = np.arange(60) % 6
    images = Images(
        image=np.arange(60), metres=np.zeros((60, 2)), group=np.arange(60),
        labels={"scene": Labels(tuple("abcdef"), index)},
    )  # fmt: skip
    made = Task("patches", "made-up", "patches", "scene", lambda: images, ("s2",), block=0.0)
    asked = questions(made, images)
    knows = score(np.eye(6)[index].astype("f4"), asked, "patches")
    chance = score(rng.normal(size=(60, 16)).astype("f4"), asked, "patches")
    assert np.mean(knows["linear"]) == np.mean(knows["map"]) == np.mean(knows["shots1"]) == 1
    assert np.mean(chance["linear"]) == pytest.approx(1 / 6, abs=0.12)
    assert "shots20" not in knows


def test_the_noise_encoder_gives_noise_of_the_right_shape():
    images = task().load()
    from skysense.evaluation.tasks import encode

    values = encode(images, noise(("s2", "s1")))
    assert values.shape == (SIDE**2, 64)
    assert abs(values.mean()) < 0.01
    assert values.std() == pytest.approx(1, abs=0.01)


def test_knowing_only_the_position_is_a_null_model_of_its_own(scores):
    record = scores[0]["none", "position", "s2+s1"]
    chance = scores[0]["none", "noise", "s2+s1"]
    assert (
        mean(record, "shots20") < mean(chance, "shots20") + 0.1
    )  # these fields are smaller than blocks
    images = task().load()
    values = position(images)
    assert values.shape == (SIDE**2, POSITION)
    assert len(np.unique(values, axis=0)) == SIDE**2
