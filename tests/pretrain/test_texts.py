"""Alignment with words: the formula, who takes part, and the words themselves."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch

from skysense.errors import EncoderError
from skysense.pretrain.heads import TextHead
from skysense.pretrain.terms import LossConfig
from skysense.pretrain.texts import text_loss
from skysense.pretrain.words import ATTRIBUTES, CLASSES, table
from skysense.sources import synthetic_plan

CONFIG = LossConfig()
B, M, WIDTH = 3, 40, 12


@pytest.fixture
def head():
    torch.manual_seed(0)
    return TextHead(WIDTH, table()).double()


@pytest.fixture
def cells():
    """Features, which were seen, and labels of which a third is missing."""
    g = torch.Generator().manual_seed(1)
    fused = torch.randn(B, M, WIDTH, generator=g, dtype=torch.float64)
    seen = torch.rand(B, M, generator=g) < 0.8
    labels = torch.randint(0, len(CLASSES), (B, M), generator=g)
    return fused, seen, labels.masked_fill(torch.rand(B, M, generator=g) < 0.3, -1)


def plain_loss(head, fused, seen, labels):
    """-log softmax_k(F_i · T_k / τ)[j], mean over labelled positions, one after the other."""
    rows = [(b, i) for b in range(B) for i in range(M) if seen[b, i] and labels[b, i] >= 0]
    x = torch.stack([fused[at] for at in rows])
    x = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-6).sqrt()
    words, losses = table().double(), []
    for row, at in zip(x, rows, strict=True):
        z = head.read.weight @ row
        scores = words @ (z / z.norm()) / CONFIG.text_temperature
        losses.append(scores.exp().sum().log() - scores[labels[at]])
    return torch.stack(losses).mean()


def test_it_is_the_formula_position_by_position(head, cells):
    term = text_loss(head, *cells, CONFIG)
    torch.testing.assert_close(term.loss, plain_loss(head, *cells))
    assert int(term.count) == int((cells[1] & (cells[2] >= 0)).sum())


def test_the_order_of_places_and_positions_changes_nothing(head, cells):
    before = text_loss(head, *cells, CONFIG).loss
    order = torch.randperm(M)
    mixed = [x[torch.tensor([2, 0, 1])][:, order] for x in cells]
    torch.testing.assert_close(text_loss(head, *mixed, CONFIG).loss, before)


def test_cells_unseen_or_without_label_take_no_part_whatever_they_hold(head, cells):
    fused, seen, labels = cells
    off = ~(seen & (labels >= 0))
    before = text_loss(head, *cells, CONFIG).loss
    for fill in (torch.nan, 1e6):
        x = fused.masked_fill(off[..., None], fill).requires_grad_()
        loss = text_loss(head, x, seen, labels, CONFIG).loss
        torch.testing.assert_close(loss, before)
        loss.backward()
        assert not x.grad[off].any()
        assert x.grad[~off].any(-1).all()


def test_features_that_know_nothing_cost_log_k(head, cells):
    same = torch.full((B, M, WIDTH), 3.0, dtype=torch.float64)
    loss = text_loss(head, same, *cells[1:], CONFIG).loss
    assert float(loss) == pytest.approx(math.log(len(CLASSES)), abs=1e-9)


def test_features_that_are_the_words_cost_next_to_nothing():
    words = table().double()
    labels = torch.arange(len(CLASSES)).repeat(B, 5)
    fused = words[labels]
    rows = fused.flatten(0, 1)
    head = TextHead(words.shape[1], words).double()
    with torch.no_grad():  # undo the standardisation but for the mean
        head.read.weight.copy_(rows.std(0, correction=0).diag())
    x = fused - rows.mean(0)
    nearly = text_loss(head, x, torch.ones_like(labels, dtype=torch.bool), labels, CONFIG)
    assert float(nearly.loss) < 0.1
    assert float(nearly.probe[1]) == labels.numel()


def test_without_labels_it_is_zero_and_so_are_gradients(head, cells):
    fused, seen, labels = cells
    fused.requires_grad_()
    term = text_loss(head, fused, seen, torch.full_like(labels, -1), CONFIG)
    term.loss.backward()
    assert (float(term.loss), int(term.count)) == (0, 0)
    assert not fused.grad.any()
    assert not head.read.weight.grad.any()


def test_words_are_those_of_the_synthetic_classes_in_their_order():
    assert CLASSES == synthetic_plan.CLASSES


def test_every_class_has_a_vector_of_its_own_and_like_classes_are_near():
    words = table()
    assert words.shape == (len(CLASSES), len(ATTRIBUTES))
    near = words @ words.T
    torch.testing.assert_close(near.diagonal(), torch.ones(len(CLASSES)))
    assert (near - 2 * torch.eye(len(CLASSES))).max() < 0.7  # at least two answers differ
    at = CLASSES.index
    forests = near[at("deciduous forest"), at("conifers")]
    assert forests > near[at("deciduous forest"), at("water")]
    assert near[at("maize"), at("winter wheat")] > near[at("maize"), at("built-up")]


def test_a_class_without_words_is_refused_in_a_sentence():
    with pytest.raises(EncoderError, match="no words for 'lava'"):
        table(names=("water", "lava"))


def test_a_text_encoder_on_this_disk_may_stand_for_the_table(tmp_path, monkeypatch):
    asked = {}

    class Encoder:
        def __init__(self, folder, **options):
            asked.update(folder=folder, **options)

        def encode(self, names, **_):
            return torch.arange(3.0 * len(names)).view(len(names), 3) + 1

    fake = SimpleNamespace(SentenceTransformer=Encoder)
    monkeypatch.setitem(sys.modules, "sentence_transformers", fake)
    words = table(str(tmp_path))
    assert words.shape == (len(CLASSES), 3)
    torch.testing.assert_close(words.norm(dim=-1), torch.ones(len(CLASSES)))
    assert (asked["folder"], asked["local_files_only"]) == (str(tmp_path), True)


def test_a_text_encoder_that_is_not_at_hand_is_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(EncoderError, match="no folder"):
        table(str(tmp_path / "none"))
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(EncoderError, match=r"pip install 'skysense\[text\]'"):
        table(str(tmp_path))
