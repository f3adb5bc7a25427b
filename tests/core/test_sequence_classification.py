"""Sequence classification: texts and pairs, one label, several, or one of a scale."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from vertebra.data.encode import encode_split
from vertebra.engine.packing import pack
from vertebra.errors import ConfigError, DataError
from vertebra.report.figures import ConfusionMatrix, Table
from vertebra.tasks.config import SequenceClassificationConfig
from vertebra.tasks.features import Features
from vertebra.tasks.heads import run_head
from vertebra.tasks.labelling import UNSEEN
from vertebra.tasks.sequence_classification import SequenceClassification
from vertebra.tasks.task import Row

WORDS = ["<|endoftext|>", "<unk>", "good", "bad", "food", "not", "|", "<", ">", "endoftext", "room"]


def make_tokenizer(**special: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **special)


TOKENIZER = make_tokenizer(eos_token="<|endoftext|>")
ROWS: list[Row] = [
    {"id": "1", "text": "good food", "label": "pos"},
    {"id": "2", "text": "bad", "label": "neg"},
    {"id": "3", "text": "not good", "label": "neg"},
]


class Texts(SequenceClassification):
    name = "texts"


def task(**settings: Any) -> Texts:
    return Texts(SequenceClassificationConfig(**settings))


def fitted(*labels: Any, **settings: Any) -> Texts:
    made = task(**settings)
    made.fit([{"text": "a", "label": label} for label in labels])
    return made


def encode(made: Texts, row: Row, tokenizer: Any = TOKENIZER) -> Features:
    features = made.encode(row, tokenizer)
    assert isinstance(features, Features)
    return features


# --- texts


def test_mean_and_attention_read_every_token_and_last_the_last() -> None:
    for pooling, positions in (("mean", [0, 1]), ("attention", [0, 1]), ("last", [1])):
        features = encode(fitted("pos", "neg", pooling=pooling), ROWS[0])
        assert features.positions.tolist() == positions
        assert (features.target, features.n_targets, features.per_position) == (1, 1, False)


def test_a_pair_has_a_separator_of_the_tokenizer_between_its_texts() -> None:
    row = {"text": "good", "text_b": "bad food", "label": "pos"}
    with_separator = make_tokenizer(eos_token="<|endoftext|>", sep_token="|")
    without = make_tokenizer()
    tokens = {
        (tokenizer.sep_token, wanted): [
            WORDS[one] for one in encode(fitted("pos", "neg", pair=True, separator=wanted), row, tokenizer).input_ids
        ]
        for tokenizer, wanted in ((TOKENIZER, "auto"), (with_separator, "auto"), (TOKENIZER, "not"))
    }
    assert tokens == {
        (None, "auto"): ["good", "<|endoftext|>", "bad", "food"],
        ("|", "auto"): ["good", "|", "bad", "food"],
        (None, "not"): ["good", "not", "bad", "food"],
    }
    assert len(encode(fitted("pos", "neg", pair=True), row, without)) == 3  # a new line, which this one does not know
    assert task(pair=True).columns == {"text": str, "text_b": str, "label": str}
    assert task(pair=True).needed_for_prediction() == ("text", "text_b")
    with pytest.raises(DataError, match="needs the columns text, text_b"):
        task(pair=True).row_from_text("good")


def test_what_a_user_writes_never_becomes_a_special_token() -> None:
    ids = encode(fitted("pos", "neg"), {"text": "good <|endoftext|>"}).input_ids.tolist()
    assert WORDS.index("<|endoftext|>") not in ids


@pytest.mark.parametrize("text", ["", " ", "\n\t\u3000"])
def test_an_empty_text_is_refused_in_data_and_at_prediction(text: str) -> None:
    with pytest.raises(DataError, match="column 'text' is empty"):
        task().check({"text": text, "label": "pos"})
    with pytest.raises(DataError, match="Row '7': column 'text' is empty"):
        encode_split(fitted("pos", "neg"), [{"id": "7", "text": text}], TOKENIZER, context=8)
    with pytest.raises(DataError, match="column 'text_b' is empty"):
        task(pair=True).check({"text": "a", "text_b": text})


@pytest.mark.parametrize("pooling", ["mean", "last", "attention"])
@given(st.integers(1, 60))
def test_windows_read_every_token_once_and_each_has_the_target(pooling: str, length: int) -> None:
    made = fitted("pos", "neg", pooling=pooling)
    row = {"id": "1", "text": " ".join(["good", "bad", "food"][n % 3] for n in range(length)), "label": "pos"}
    encoded = encode_split(made, [row], TOKENIZER, context=8, too_long="window")
    assert [one.target for one in encoded.features] == [1] * len(encoded.features)
    assert all(len(one) <= 8 for one in encoded.features)
    if pooling == "last":
        assert all(one.positions.tolist() == [len(one) - 1] for one in encoded.features)
        assert len(encoded.features) == (1 if length <= 8 else 1 + -(-(length - 8) // 6))
    else:
        assert sum(len(one.positions) for one in encoded.features) == length
    truncated = encode_split(made, [row], TOKENIZER, context=8)
    (only,) = truncated.features
    assert len(only) == min(length, 8) == only.positions[-1] + 1 and truncated.too_long == (length > 8)


def test_windows_are_averaged_in_log_probabilities() -> None:
    made = fitted("a", "b", "c")
    parts = [[np.log(p) for p in window] for window in ([0.7, 0.2, 0.1], [0.1, 0.8, 0.1])]
    expected = np.sqrt(np.array([0.7, 0.2, 0.1]) * np.array([0.1, 0.8, 0.1]))
    prediction = made.combine({}, parts)
    assert prediction["label"] == "b"
    assert prediction["probability"] == pytest.approx((expected / expected.sum())[1], abs=1e-6)
    several = fitted(["a"], ["b"], kind="multi").combine({}, [[2.0, -1.0], [-1.0, -1.0]])
    assert several == {"labels": ["a"], "probabilities": {"a": 0.622459, "b": 0.268941}}


# --- labels


def test_labels_are_those_of_the_training_rows_and_come_back_from_json() -> None:
    made = fitted("neg", "pos", "neg", class_weights="balanced")
    assert made.state() == {"labels": ["neg", "pos"], "weights": [0.75, 1.5], "threshold": 0.5}
    other = task()
    other.restore(json.loads(json.dumps(made.state())))
    assert other.state() == made.state()
    assert fitted("10", "9", "-1").labels == ["-1", "9", "10"]
    assert fitted("b", "a", labels=("c", "b", "a")).labels == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("settings", "labels", "error", "message"),
    [
        ({}, ["a", "a"], DataError, "Every training row has the same label .a.: there is nothing to learn"),
        ({"kind": "multi"}, [["a"], ["a"]], DataError, "the same label"),
        ({"kind": "multi"}, [[], []], DataError, "the same label .none."),
        ({"kind": "ordinal"}, ["low", "high"], ConfigError, r"order of the labels, lowest first: task\.labels=\["),
        ({"kind": "ordinal", "threshold": "auto"}, ["1", "2"], ConfigError, "not for task.kind=ordinal"),
        ({"threshold": "auto"}, ["a", "b", "c"], ConfigError, "task.threshold=auto is for two labels; there are 3"),
        ({"class_weights": {"goood": 2.0}}, ["good", "bad"], ConfigError, "'goood'. Did you mean 'good'"),
    ],
)
def test_what_cannot_be_learnt_is_refused(settings: Any, labels: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        fitted(*labels, **settings)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"label_separator is for task\.kind=multi; this is single"):
        task(label_separator="|")
    with pytest.raises(ConfigError, match="a label twice: 1, 1"):
        task(labels=(1, "1"))


@pytest.mark.parametrize(
    ("settings", "label", "message"),
    [
        ({}, " ", "a label is empty"),
        ({"labels": ("good", "bad")}, "god", "There is no label 'god'. Did you mean 'good'"),
        ({"kind": "multi"}, ["good", ""], "a label is empty"),
        ({"kind": "multi"}, ["good", None], "must hold texts, but has None"),
        ({"kind": "multi"}, ["good", True], "must hold texts, but has True"),
        ({"kind": "multi", "label_separator": "|"}, "good||bad", "a label is empty"),
    ],
)
def test_a_label_that_cannot_be_used_is_refused(settings: Any, label: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        task(**settings).check({"text": "food", "label": label})


def test_several_labels_come_as_a_list_or_as_one_text() -> None:
    made = fitted(["food", 7], ["room"], [], kind="multi")
    assert made.columns["label"] is list
    assert made.labels == ["7", "food", "room"]
    assert encode(made, {"text": "good", "label": ["room", "food"]}).target == {"labels": [1, 2]}
    split = fitted("food | 7", "room", "", kind="multi", label_separator="|")
    assert split.columns["label"] is str
    assert split.labels == made.labels
    assert [split.labels_of({"label": one}) for one in ("", "room|food ")] == [[], ["room", "food"]]


def test_an_unseen_label_adds_nothing_to_the_loss_and_is_missed() -> None:
    made = fitted("neg", "pos")
    row = {"text": "food", "label": "mixed"}
    assert encode(made, row).target == UNSEEN
    assert made.reference(row) == {"label": "mixed"}
    outputs = torch.tensor([[0.0, 1.0], [3.0, 0.0]])
    known = F.cross_entropy(outputs[:1], torch.tensor([1]))
    torch.testing.assert_close(made.loss(outputs, torch.tensor([1, UNSEEN])), known)
    assert made.loss(outputs, torch.tensor([UNSEEN, UNSEEN])).item() == 0
    assert made.describe(row, encode(made, row), TOKENIZER) == [("food", "mixed?")]
    several = fitted(["a"], ["b"], kind="multi")
    assert encode(several, {"text": "food", "label": ["new", "b"]}).target == {"labels": [1]}
    assert several.reference({"label": ["new", "b"]}) == {"labels": ["b", "new"]}
    scale = fitted("1", "2", "3", kind="ordinal")
    with pytest.raises(DataError, match=r"label '9' is not on the scale 1, 2, 3: give all labels in task\.labels"):
        encode(scale, {"text": "food", "label": "9"})


# --- the loss


@pytest.mark.parametrize("kind", ["single", "ordinal"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_one_label_is_pytorch_s(kind: str, smoothing: float) -> None:
    made = fitted("1", "2", "3", "3", kind=kind, label_smoothing=smoothing, class_weights="balanced")
    outputs, targets = torch.randn(4, 3), torch.tensor([0, 1, 2, 2])
    each = F.cross_entropy(outputs, targets, label_smoothing=smoothing, reduction="none")
    weights = torch.tensor([4 / 3, 4 / 3, 2 / 3, 2 / 3])
    torch.testing.assert_close(made.loss(outputs, targets), (each * weights).mean())


def test_a_batch_cut_into_pieces_has_the_same_loss() -> None:
    for made in (fitted("a", "b", "b", class_weights="balanced"), fitted("a", "b", class_weights={"b": 5.0})):
        outputs, targets = torch.randn(5, 2), torch.tensor([0, 1, 1, 0, 1])
        whole = made.loss(outputs, targets)
        parts = made.loss(outputs[:2], targets[:2]) * 2 / 5 + made.loss(outputs[2:], targets[2:]) * 3 / 5
        torch.testing.assert_close(parts, whole)


def test_the_loss_of_several_labels_is_pytorch_s() -> None:
    made = fitted(["a"], ["a", "b"], ["a"], [], kind="multi", class_weights="balanced", label_smoothing=0.2)
    assert made.state()["weights"] == [pytest.approx(1 / 3), 3.0]
    features = [encode(made, {"text": "good", "label": label}) for label in (["b"], ["a", "b"], [])]
    targets = made.collate(features)
    assert targets is not None and targets.tolist() == [[0, 1], [1, 1], [0, 0]]
    outputs = torch.randn(3, 2)
    expected = F.binary_cross_entropy_with_logits(outputs, targets * 0.8 + 0.1, pos_weight=torch.tensor([1 / 3, 3.0]))
    torch.testing.assert_close(made.loss(outputs, targets), expected)
    assert made.collate([encode(made, {"text": "good"})]) is None


# --- from hidden states to predictions


@pytest.mark.parametrize("kind", ["single", "multi", "ordinal"])
@pytest.mark.parametrize("pooling", ["mean", "last", "attention"])
def test_each_text_has_outputs_a_loss_and_a_prediction(kind: Any, pooling: Any) -> None:
    labels = [["1"], ["2"], ["1", "3"]] if kind == "multi" else ["1", "2", "3"]
    made = fitted(*labels, kind=kind, pooling=pooling)
    rows = [{"text": "good " * (n + 1), "label": label} for n, label in enumerate(labels)]
    batch = pack([encode(made, row) for row in rows], made.collate)
    head = made.build_head(6)
    outputs = run_head(head, torch.randn(sum(batch.position_counts), 6), batch)
    assert outputs.shape == (3, 3)
    assert batch.targets is not None
    made.loss(outputs, batch.targets).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    for row, logits in zip(rows, made.decode(outputs, batch), strict=True):
        prediction = made.combine(row, [logits])
        assert json.loads(json.dumps(prediction)) == prediction
        assert prediction.keys() >= made.reference(row).keys()
        assert set(prediction["probabilities"]) == {"1", "2", "3"}
        if kind != "multi":
            assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-5)
            assert prediction["probability"] == prediction["probabilities"][prediction["label"]]


def test_of_many_labels_the_likeliest_are_shown() -> None:
    made = fitted(*map(str, range(77)))
    prediction = made.combine({}, [[float(n) for n in range(77)]])
    assert list(prediction["probabilities"]) == ["76", "75", "74", "73", "72"]


def test_a_label_of_a_scale_is_predicted_by_the_median() -> None:
    made = fitted("1", "2", "3", kind="ordinal")
    assert made.combine({}, [np.log([0.4, 0.25, 0.35]).tolist()])["label"] == "2"
    assert made.combine({}, [np.log([0.2, 0.2, 0.6]).tolist()])["label"] == "3"
    assert fitted("a", "b", kind="ordinal", labels=("b", "a")).labels == ["b", "a"]


def test_a_threshold_is_chosen_on_validation_and_kept() -> None:
    made = fitted("neg", "pos", threshold="auto")
    chances = [(0.1, "neg"), (0.2, "pos"), (0.3, "pos"), (0.4, "pos")]
    rows = [{"text": "a", "label": label} for _, label in chances]
    parts = [[np.log([1 - p, p]).tolist()] for p, _ in chances]
    assert [made.combine(*pair)["label"] for pair in zip(rows, parts, strict=True)] == ["neg"] * 4
    made.calibrate(rows, parts)
    assert made.state()["threshold"] == pytest.approx(0.15)
    predictions = [made.combine(*pair) for pair in zip(rows, parts, strict=True)]
    assert [one["label"] for one in predictions] == ["neg", "pos", "pos", "pos"]
    assert predictions[1]["probability"] == 0.2
    fixed = fitted("neg", "pos", threshold=0.25)
    fixed.calibrate(rows, parts)
    assert [fixed.combine(*pair)["label"] for pair in zip(rows, parts, strict=True)] == ["neg", "neg", "pos", "pos"]
    several = fitted(["a"], ["b"], kind="multi", threshold="auto")
    several.calibrate([{"label": ["a"]}, {"label": []}], [[[-2.0, -4.0]], [[-4.0, -4.0]]])
    assert several.combine({}, [[-2.0, -4.0]])["labels"] == ["a"]


# --- the report


def test_figures_say_how_each_label_fares() -> None:
    made = fitted("neg", "pos")
    predictions = [{"label": "pos", "probability": 0.9}, {"label": "pos", "probability": 0.6}]
    report, confusion, reliability = made.figures(predictions, [{"label": "pos"}, {"label": "mixed"}])
    assert isinstance(report, Table)
    assert {row[0]: row[1:] for row in report.rows}["pos"] == (0.5, 1.0, pytest.approx(2 / 3), 1)
    assert isinstance(confusion, ConfusionMatrix)
    assert confusion.labels == ("neg", "pos", "mixed")
    assert confusion.counts == ((0, 0, 0), (0, 1, 0), (0, 1, 0))
    assert isinstance(reliability, Table)
    assert [row[1:] for row in reliability.rows] == [(1, 0.6, 0.0), (1, 0.9, 1.0)]
    assert made.figures([], []) == []


def test_figures_of_several_and_of_very_many_labels() -> None:
    made = fitted(["a"], ["b"], kind="multi")
    (report,) = made.figures([{"labels": ["a"]}, {"labels": []}], [{"labels": ["a", "new"]}, {"labels": ["a"]}])
    assert isinstance(report, Table)
    rows = {row[0]: row[1:] for row in report.rows}
    assert rows["a"] == (1.0, 0.5, pytest.approx(2 / 3), 2)
    assert rows["new"] == (0.0, 0.0, 0.0, 1)
    many = fitted(*map(str, range(150)))
    predictions = [{"label": str(n % 3), "probability": 0.5} for n in range(150)]
    figure = many.figures(predictions, [{"label": str(n)} for n in range(150)])[1]
    assert isinstance(figure, Table) and len(figure.rows) == 20 and "150 labels" in figure.note
