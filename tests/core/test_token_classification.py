"""Token classification: every word keeps its label, whatever a tokenizer makes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2TokenizerFast, PreTrainedTokenizerFast

from vertebra.engine.packing import pack
from vertebra.errors import DataError
from vertebra.report.figures import ConfusionMatrix, Table
from vertebra.tasks.config import TokenClassificationConfig
from vertebra.tasks.features import Features
from vertebra.tasks.token_classification import UNSEEN, TokenClassification

GPT2 = Path(__file__).resolve().parents[3] / "shared/data/tokenizer/gpt2"
SENTENCES = [
    "EU rejects German call to boycott British lamb .",
    "Peter Blackburn visited New York on 1996-08-22 .",
    "中国国籍，中国国籍，无境外居留权，高勇先生。",
    "中国人民，1966年出生，中国人民，硕士研究生学历。",
]


class PartOfSpeech(TokenClassification):
    """A task of the family that is not about entities."""

    name: ClassVar[str] = "pos"
    metrics: ClassVar[tuple[str, ...]] = ()


def small_bpe() -> PreTrainedTokenizerFast:
    """A byte-level BPE of a few sentences, which knows some Chinese words of two characters as one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 2, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def letters_only() -> PreTrainedTokenizerFast:
    """A tokenizer that drops all that is not a letter: white space and the rest have no token at all."""
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "EU": 1}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[^a-zA-Z]+"), behavior="removed")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


BPE = small_bpe()
LETTERS = letters_only()


@pytest.fixture(scope="session")
def gpt2() -> GPT2TokenizerFast:
    if not GPT2.is_dir():
        pytest.skip(f"needs GPT-2's tokenizer in {GPT2}")
    return GPT2TokenizerFast(vocab=str(GPT2 / "vocab.json"), merges=str(GPT2 / "merges.txt"))


def task(*labels: str, label_on: Any = "last") -> PartOfSpeech:
    """A task that knows these labels."""
    made = PartOfSpeech(TokenClassificationConfig(label_on=label_on))
    made.restore({"labels": list(labels), "by_character": False})
    return made


def encode(words: Sequence[str], tokenizer: Any, label_on: Any = "last") -> Features:
    features = task(label_on=label_on).encode({"tokens": list(words)}, tokenizer)
    assert isinstance(features, Features)
    return features


def labelled_text(features: Features, tokenizer: Any) -> list[str]:
    """The text up to each label, from the label before: what each label's tokens say."""
    starts = [0, *(features.positions + 1)]
    ids = features.input_ids.tolist()
    return [tokenizer.decode(ids[start:end]) for start, end in zip(starts, features.positions + 1, strict=False)]


# --- words and their sub-tokens


@given(st.lists(st.text(), max_size=12), st.sampled_from(["last", "first"]), st.sampled_from([BPE, LETTERS]))
def test_every_word_has_one_position_of_its_own_in_order(words: list[str], label_on: str, tokenizer: Any) -> None:
    features = encode(words, tokenizer, label_on)
    assert len(features.positions) == len(words)
    assert (np.diff(features.positions) > 0).all()
    assert len(features) > 0
    assert all(0 <= position < len(features) for position in features.positions)


CJK_WORDS = st.lists(st.text("中国人民籍，。高x1", min_size=1, max_size=2), min_size=1, max_size=12)


@given(st.one_of(CJK_WORDS, st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=6)))
def test_no_text_is_lost_or_added(words: list[str]) -> None:
    said = BPE.decode(encode(words, BPE).input_ids.tolist())
    assert said.replace(" ", "") == "".join(words).replace(" ", "")


def test_a_label_stands_on_the_last_or_the_first_sub_token(gpt2: GPT2TokenizerFast) -> None:
    words = ["Blackburn", "visited", "Wolverhampton", "."]
    last, first = encode(words, gpt2), encode(words, gpt2, "first")
    assert labelled_text(last, gpt2) == [f" {word}" for word in words]
    assert last.input_ids.tolist() == first.input_ids.tolist()
    assert first.positions.tolist() == [0, *(last.positions[:-1] + 1).tolist()]
    assert len(last) > len(words)


def test_the_first_word_is_read_like_every_other(gpt2: GPT2TokenizerFast) -> None:
    ids = encode(["Blackburn", "met", "Blackburn"], gpt2).input_ids.tolist()
    own = encode(["Blackburn"], gpt2).input_ids.tolist()
    assert ids[: len(own)] == ids[-len(own) :] == own


def test_one_token_over_two_words_makes_each_word_be_read_alone() -> None:
    words = list("中国国籍")
    together = BPE("中国国籍", add_special_tokens=False)["input_ids"]
    features = encode(words, BPE)
    assert len(together) < len(words)
    assert labelled_text(features, BPE) == words


def test_the_bytes_of_one_character_are_all_of_its_word(gpt2: GPT2TokenizerFast) -> None:
    words = ["高", "勇", "：", "𠀀", "👨‍👩‍👧"]
    features = encode(words, gpt2)
    assert [text.strip() for text in labelled_text(features, gpt2)] == words
    assert len(features) > len(words)


@pytest.mark.parametrize("word", ["", " ", "\u200b", "\u3000", "\x00", "\ufe0f", "\xa0 \xa0"])
def test_a_word_that_shows_nothing_keeps_its_label(word: str, gpt2: GPT2TokenizerFast) -> None:
    for tokenizer in (gpt2, BPE, LETTERS):
        for words in ([word], ["a", word, "b"], [word, word], ["高", word, "勇"]):
            features = encode(words, tokenizer)
            assert len(set(features.positions.tolist())) == len(words)


def test_what_a_user_writes_never_becomes_a_special_token(gpt2: GPT2TokenizerFast) -> None:
    for tokenizer in (gpt2, BPE):
        for words in (["<|endoftext|>", "is", "text"], ["", "<|endoftext|>"]):
            features = encode(words, tokenizer)
            assert tokenizer.convert_tokens_to_ids("<|endoftext|>") not in features.input_ids.tolist()
            assert labelled_text(features, tokenizer)[words.index("<|endoftext|>")].strip() == "<|endoftext|>"


def test_a_row_without_words_is_one_token_without_a_label() -> None:
    for tokenizer in (BPE, LETTERS):
        features = task("O").encode({"tokens": [], "tags": []}, tokenizer)
        assert isinstance(features, Features)
        assert (len(features), features.positions.tolist(), features.target, features.n_targets) == (1, [], [], 0)


@given(st.lists(st.text(max_size=8), min_size=1, max_size=30), st.integers(1, 12))
def test_windows_give_each_word_back_its_label(words: list[str], limit: int) -> None:
    tags = [f"tag {number}" for number in range(len(words))]
    made = task(*tags)
    row = {"tokens": words, "tags": tags}
    features = made.encode(row, BPE)
    assert isinstance(features, Features)
    parts = [[tags[number] for number in window.target] for window in features.windows(limit)]
    assert made.combine(row, parts) == tags


# --- labels


def test_labels_are_those_of_the_training_rows_with_o_first() -> None:
    made = PartOfSpeech()
    made.fit([{"tokens": ["a", "bc"], "tags": ["VERB", "NOUN"]}, {"tokens": ["d"], "tags": ["O"]}])
    assert made.state() == {"labels": ["O", "NOUN", "VERB"], "by_character": False}
    other = PartOfSpeech()
    other.restore(json.loads(json.dumps(made.state())))
    assert other.state() == made.state()


def test_training_rows_without_tags_are_refused() -> None:
    with pytest.raises(DataError, match="no tags"):
        PartOfSpeech().fit([{"tokens": [], "tags": []}])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "2 tokens have 1 tags"),
        ({"tokens": ["a", 5], "tags": ["O", "O"]}, r"Column 'tokens' must hold strings, but has 5 \(int\)"),
        ({"tokens": ["a"], "tags": [None]}, r"Column 'tags' must hold strings, but has None"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        PartOfSpeech().check(row)


def test_a_row_for_prediction_needs_no_tags() -> None:
    PartOfSpeech().check({"tokens": ["a"]})
    assert PartOfSpeech().needed_for_prediction() == ("tokens",)
    assert encode(["a"], BPE).target is None


def test_a_label_that_training_lacks_adds_nothing_to_the_loss_but_stays_in_the_reference() -> None:
    made = task("O", "NOUN")
    row = {"tokens": ["a", "b"], "tags": ["NOUN", "NEW"]}
    features = made.encode(row, BPE)
    assert isinstance(features, Features)
    assert features.target == [1, UNSEEN]
    assert made.reference(row) == ["NOUN", "NEW"]
    outputs = torch.tensor([[0.0, 1.0], [3.0, 0.0]])
    known = torch.nn.functional.cross_entropy(outputs[:1], torch.tensor([1]))
    assert made.loss(outputs, torch.tensor(features.target)).item() == pytest.approx(known.item())
    assert made.loss(outputs, torch.tensor([UNSEEN, UNSEEN])).item() == 0
    assert made.describe(row, features, BPE)[-1][1] == "?"


# --- from hidden states to predictions


def test_predictions_come_back_row_by_row_from_a_packed_batch() -> None:
    torch.manual_seed(0)
    made = task("O", "NOUN", "VERB")
    rows = [
        {"tokens": ["x"], "tags": ["O"]},
        {"tokens": ["Peter", "visited", "New", "York"], "tags": ["NOUN", "VERB", "NOUN", "NOUN"]},
        {"tokens": ["", "高"], "tags": ["VERB", "O"]},
    ]
    features = [made.encode(row, BPE) for row in rows]
    batch = pack([one for one in features if isinstance(one, Features)], made.collate)
    assert batch.targets is not None
    right = torch.nn.functional.one_hot(batch.targets, 3).float()
    by_example = {id(one): part for one, part in zip(batch.features, made.decode(right, batch), strict=True)}
    assert [by_example[id(one)] for one in features] == [row["tags"] for row in rows]


def test_the_head_reads_one_position_a_word() -> None:
    made = task("O", "NOUN", "VERB")
    head = made.build_head(16)
    outputs = head(torch.randn(5, 16))
    assert outputs.shape == (5, 3)
    loss = made.loss(outputs, torch.tensor([0, 1, 2, 0, 1]))
    loss.backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_words_that_were_truncated_away_get_the_first_label() -> None:
    made = task("O", "NOUN")
    assert made.combine({"tokens": ["a", "b", "c"]}, [["NOUN"]]) == ["NOUN", "O", "O"]


# --- raw text


def test_raw_text_becomes_words_that_say_where_they_are() -> None:
    row = task("O").row_from_text("Mr. X didn't go, 高勇。")
    assert row["tokens"] == ["Mr.", "X", "did", "n't", "go", ",", "高", "勇", "。"]
    assert [row["text"][start:end] for start, end in row["offsets"]] == row["tokens"]
    assert json.loads(json.dumps(row)) == row


def test_raw_text_is_cut_into_characters_where_the_training_rows_are() -> None:
    made = PartOfSpeech()
    made.fit([{"tokens": ["1", "9", "年"], "tags": ["NUM", "NUM", "NOUN"]}])
    row = made.row_from_text("1966 年IBM")
    assert row["tokens"] == list("1966年IBM")
    assert [row["text"][start:end] for start, end in row["offsets"]] == row["tokens"]


@given(st.text())
def test_any_text_can_be_predicted_on(text: str) -> None:
    for by_character in (False, True):
        made = task("O")
        made.by_character = by_character
        row = made.row_from_text(text)
        features = made.encode(row, BPE)
        assert isinstance(features, Features)
        assert len(features.positions) == len(row["tokens"]) == len(row["offsets"])


# --- the report


def test_figures_count_words() -> None:
    predicted, true = [["O", "NOUN"], ["NOUN"]], [["O", "NOUN"], ["VERB"]]
    confusion, report = task("O").figures(predicted, true)
    assert isinstance(confusion, ConfusionMatrix)
    assert confusion.labels == ("O", "NOUN", "VERB")
    assert confusion.counts == ((1, 0, 0), (0, 1, 0), (0, 1, 0))
    assert isinstance(report, Table)
    rows = {row[0]: row[1:] for row in report.rows}
    assert rows["NOUN"] == (0.5, 1.0, pytest.approx(2 / 3), 1)
    assert rows["accuracy"] == ("", "", pytest.approx(2 / 3), 3)
    assert all(len(row) == len(report.columns) for row in report.rows)


def test_there_are_no_figures_of_nothing() -> None:
    assert task("O").figures([], []) == []
    assert task("O").figures([[]], [[]]) == []


def test_inspection_shows_each_label_on_its_token() -> None:
    made = task("O", "NOUN")
    row = {"tokens": ["Peter", "x"], "tags": ["NOUN", "O"]}
    features = made.encode(row, BPE)
    assert isinstance(features, Features)
    shown = made.describe(row, features, BPE)
    assert len(shown) == len(features)
    assert [label for _, label in shown if label] == ["NOUN", "O"]
    assert made.labels_of(row) == ["NOUN", "O"]
    assert [label for _, label in made.describe(row, encode(["Peter"], BPE), BPE) if label] == []
