"""Span extraction: answers keep their characters, through tokens, windows and back."""

from __future__ import annotations

import itertools
import json
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.test_token_classification import BPE, GPT2, LETTERS
from transformers import GPT2TokenizerFast

from vertebra.engine.packing import PackedBatch, pack
from vertebra.errors import DataError
from vertebra.tasks.answers import answers_of
from vertebra.tasks.config import SpanExtractionConfig
from vertebra.tasks.features import Features
from vertebra.tasks.span_extraction import SpanExtraction, best_spans, best_threshold
from vertebra.tasks.task import Row

TEXT = st.text("ab .\n,é中国👍 ", min_size=1, max_size=60).filter(lambda text: bool(text.strip()))


class Lookup(SpanExtraction):
    """A task of the family."""

    name: ClassVar[str] = "lookup"
    metrics: ClassVar[tuple[str, ...]] = ()


def task(**settings_: Any) -> Lookup:
    return Lookup(SpanExtractionConfig(**settings_))


def row(context: str, *answers: tuple[str, int], question: str = "Who?") -> Row:
    return {"question": question, "context": context, "answers": [{"text": t, "start": s} for t, s in answers]}


def encode(given_row: Row, tokenizer: Any = BPE, **settings_: Any) -> Features:
    features = task(**settings_).encode(given_row, tokenizer)
    assert isinstance(features, Features)
    return features


def certain(batch: PackedBatch) -> torch.Tensor:
    """Log-probabilities of a model that knows the first answer of each sequence."""
    outputs = []
    for one in batch.features:
        none = len(one.positions) - 1
        start, end = (one.target["spans"] or [(none, none)])[0]
        logits = torch.full((len(one.positions), 2), -9.0)
        logits[start, 0] = logits[end, 1] = 9.0
        outputs.append(logits.log_softmax(dim=0))
    return torch.cat(outputs)


def predicted(made: Lookup, given_row: Row, features: list[Features]) -> dict[str, Any]:
    """What the task predicts where the model is certain, through a packed batch and back in the windows' order."""
    batch = pack(features, made.collate)
    by_identity = {id(one): part for one, part in zip(batch.features, made.decode(certain(batch), batch), strict=True)}
    return made.combine(given_row, [by_identity[id(one)] for one in features])


# --- from rows to tokens and back


@given(context=TEXT, data=st.data(), tokenizer=st.sampled_from([BPE]))
def test_the_answer_s_own_characters_come_back(context: str, data: st.DataObject, tokenizer: Any) -> None:
    start = data.draw(st.integers(0, len(context) - 1))
    end = data.draw(st.integers(start + 1, len(context)))
    answer = context[start:end]
    if not answer.strip():
        return
    given_row = row(context, (answer, start))
    features = encode(given_row, tokenizer, longest_answer=100)
    first, last = features.target["spans"][0]
    note = features.note
    assert note["starts"][first] <= start + len(answer) - len(answer.lstrip())
    assert note["ends"][last] >= end - (len(answer) - len(answer.rstrip()))
    found = predicted(task(longest_answer=100), given_row, [features])
    # A token may reach over the answer's edge; what is predicted is then whole tokens, and never less than the answer.
    assert answer.strip() in found["text"]
    assert context[found["start"] : found["end"]] == found["text"] == found["text"].strip()


def test_the_question_comes_first_and_the_last_token_stands_for_no_answer() -> None:
    features = encode(row("Peter visited New York.", ("Peter", 0)))
    text = BPE.decode(features.input_ids.tolist())
    assert text == "Who?\nPeter visited New York.\n"
    assert features.positions[-1] == len(features) - 1
    assert BPE.decode(features.input_ids[features.positions].tolist()) == "Peter visited New York.\n"


def test_leading_spaces_do_not_belong_to_an_answer() -> None:
    if not GPT2.is_dir():
        pytest.skip(f"needs GPT-2's tokenizer in {GPT2}")
    gpt2 = GPT2TokenizerFast(vocab=str(GPT2 / "vocab.json"), merges=str(GPT2 / "merges.txt"))
    for context, answer in ((" Paris is  good", "Paris"), ("in Paris\n\n today", "Paris"), ("a  Paris", "Paris")):
        given_row = row(context, (answer, context.index(answer)))
        found = predicted(task(), given_row, [encode(given_row, gpt2)])
        assert (found["text"], found["start"]) == (answer, context.index(answer))


def test_what_a_user_writes_never_becomes_a_special_token() -> None:
    features = encode(row("a <|endoftext|> b", ("b", 16), question="<|endoftext|>?"))
    assert BPE.convert_tokens_to_ids("<|endoftext|>") not in features.input_ids.tolist()


def test_a_context_or_an_answer_without_tokens_is_refused() -> None:
    with pytest.raises(DataError, match="the context has no tokens"):
        encode(row("123"), LETTERS)
    with pytest.raises(DataError, match="no token for the answer at character 3"):
        encode(row("EU 12", ("12", 3)), LETTERS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": " "}, "the question is empty"),
        ({"context": "\n"}, "the context is empty"),
        (
            {"answers": [{"text": "York", "start": 3}]},
            "'York' does not stand at character 3 .* 'er v' there; it stands at 18",
        ),
        ({"answers": [{"text": "Rome", "start": 0}]}, "stands nowhere else in it."),
        ({"answers": [{"text": "Peter", "start": -23}]}, "does not stand at character -23"),
        ({"answers": [{"text": " ", "start": 5}]}, "an answer is empty"),
        ({"answers": [{"text": "Peter"}]}, "the place of its first character as a number"),
        ({"answers": ["Peter"]}, "an answer needs a text"),
        ({"answers": "Peter"}, "answers must be a list"),
        ({"answers": {"text": ["Peter"], "answer_start": []}}, "as many texts as starts"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        task().check({**row("Peter visited New York."), **change})


def test_answers_come_in_any_usual_form() -> None:
    forms: list[Any] = [
        [{"text": "b", "start": 2}],
        [{"text": "b", "answer_start": 2}],
        {"text": ["b"], "answer_start": [2]},
    ]
    for answers in forms:
        (answer,) = answers_of({"context": "a b", "answers": answers})
        assert (answer.text, answer.start, answer.end) == ("b", 2, 3)
    assert answers_of({"context": "a b", "answers": {"text": [], "answer_start": []}}) == []


# --- windows

LONG = " ".join(f"w{number}" for number in range(300))


@pytest.mark.parametrize(("window", "overlap"), [(64, 16), (64, 0), (40, 500), (16, 8)])
def test_windows_cover_the_context_each_with_the_question(window: int, overlap: int) -> None:
    made = task(window=window, overlap=overlap)
    features = made.encode(row(LONG, ("w150", LONG.index("w150")), question="Where is it?"), BPE)
    windows = list(made.windows(features, 1000))
    assert all(len(one) <= window and len(one.positions) == len(one.note["starts"]) + 1 for one in windows)
    covered = {start for one in windows for start in one.note["starts"]}
    assert covered == set(features.note["starts"])
    assert all((one.input_ids[: one.note["head"]] == windows[0].input_ids[: one.note["head"]]).all() for one in windows)
    starts = [one.note["starts"][0] for one in windows]
    assert starts == sorted(set(starts))
    whole = [one for one in windows if one.target["spans"]]
    assert all(LONG[one.note["starts"][one.target["spans"][0][0]] :].strip().startswith("w150") for one in whole)
    if overlap >= 16:
        assert whole


@settings(max_examples=30)
@given(st.integers(20, 80), st.integers(0, 60), st.integers(0, 299))
def test_an_answer_is_found_again_through_windows(window: int, overlap: int, number: int) -> None:
    made = task(window=window, overlap=overlap)
    given_row = row(LONG, (f"w{number}", f"{LONG} ".index(f"w{number} ")))
    windows = list(made.windows(encode(given_row), 1000))
    if any(one.target["spans"] for one in windows):  # without overlap a window's edge may part an answer's tokens
        found = predicted(made, given_row, windows)
        assert (found["text"], found["start"]) == (f"w{number}", given_row["answers"][0]["start"])
        assert found["score"] == pytest.approx(1, abs=1e-3)


def test_the_context_of_the_backbone_is_the_limit_too() -> None:
    made = task(window=384)
    assert all(len(one) <= 50 for one in made.windows(encode(row(LONG)), 50))
    assert len(made.shorten(encode(row(LONG)), 50)) == 50
    short = encode(row("a b"))
    assert made.shorten(short, 50) is short
    assert list(made.windows(short, 50)) == [short]


def test_a_huge_question_leaves_half_of_a_window_to_the_context() -> None:
    made = task(window=32)
    features = made.encode(row("a b c", question=LONG), BPE)
    windows = list(made.windows(features, 1000))
    assert all(one.note["head"] == 16 and len(one) <= 32 for one in windows)
    assert BPE.decode(windows[0].input_ids[:16].tolist()).endswith("\n")


# --- loss


def test_the_loss_is_the_cross_entropy_of_start_and_end_within_each_window() -> None:
    torch.manual_seed(0)
    made = task(dropout=0.0)
    rows = [row("a b c d", ("b", 2)), row("a b"), row("x y z w v u", ("x y", 0))]
    batch = pack([encode(one) for one in rows], made.collate)
    head = made.build_head(8)
    hidden = torch.randn(sum(batch.position_counts), 8)
    outputs = head(hidden, batch)
    logits = head.linear(hidden).split(list(batch.position_counts))
    expected = []
    for one, own in zip(batch.features, logits, strict=True):
        start, end = (one.target["spans"] or [(len(own) - 1, len(own) - 1)])[0]
        sides = [
            torch.nn.functional.cross_entropy(own[:, side], torch.tensor(place))
            for side, place in enumerate((start, end))
        ]
        expected.append(sum(sides) / 2)
    assert batch.targets is not None
    loss = made.loss(outputs, batch.targets)
    assert loss.item() == pytest.approx(torch.stack(expected).mean().item(), abs=1e-5)
    assert batch.n_targets == 3
    loss.backward()
    assert head.linear.weight.grad is not None and head.linear.weight.grad.isfinite().all()


def test_the_answers_of_one_row_share_its_weight() -> None:
    made = task()
    several = [encode(row("a b c", ("a", 0), ("a", 0), ("c", 4))), encode(row("a b c d e f g", ("b", 2)))]
    batch = pack(several, made.collate)
    outputs = torch.randn(sum(batch.position_counts), 2)
    assert batch.targets is not None
    apart = []
    for answers in itertools.product((("a", 0), ("a", 0), ("c", 4)), repeat=1):
        one = pack([encode(row("a b c", *answers)), several[1]], made.collate)
        assert one.targets is not None
        apart.append(made.loss(outputs, one.targets).item())
    assert made.loss(outputs, batch.targets).item() == pytest.approx(np.mean(apart), abs=1e-5)


def test_rows_for_prediction_have_no_targets() -> None:
    features = task().encode({"question": "a", "context": "b"}, BPE)
    assert isinstance(features, Features) and features.target is None and features.n_targets == 0
    assert pack([features], task().collate).targets is None
    assert next(iter(task(window=16).windows(encode(row(LONG)), 50))).target is not None


# --- the best spans


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 12), st.integers(1, 6), st.integers(0, 99))
def test_best_spans_are_those_of_trying_all(n_windows: int, size: int, longest: int, n_best: int, seed: int) -> None:
    scores = torch.randn(n_windows, size, 2, generator=torch.Generator().manual_seed(seed))
    values, firsts, lasts = best_spans(scores, longest, n_best)
    for number in range(n_windows):
        every = sorted(
            (
                (float(scores[number, i, 0] + scores[number, j, 1]), i, j)
                for i in range(size)
                for j in range(i, min(size, i + longest))
            ),
            reverse=True,
        )
        found = [
            one for one in zip(*(x[number].tolist() for x in (values, firsts, lasts)), strict=True) if one[0] > -1e9
        ]
        assert [one[1:] for one in found] == [one[1:] for one in every[:n_best]]
        assert [one[0] for one in found] == pytest.approx([one[0] for one in every[:n_best]])


def test_windows_are_joined_as_in_bert_s_recipe() -> None:
    made = task(n_best=2)
    given_row = row("Peter visited New York.")
    parts = [
        {"none": -0.1, "spans": [[-4.0, 0, 5], [-5.0, 0, 13]]},
        {"none": -6.0, "spans": [[-0.5, 14, 18], [-1.0, 13, 22], [-4.5, 0, 5], [-7.0, 5, 6]]},
    ]
    found = made.candidates(given_row, parts)
    assert found.spans == [(-0.5, 14, 17), (-1.0, 14, 22)]
    assert (found.none, found.no_answer) == (-6.0, -5.5)
    assert made.combine(given_row, parts)["n_best"] == [
        {"text": "New", "start": 14, "end": 17, "score": pytest.approx(np.exp(-0.5))},
        {"text": "New York", "start": 14, "end": 22, "score": pytest.approx(np.exp(-1.0))},
    ]


# --- no answer


def test_a_threshold_is_chosen_only_where_training_has_rows_without_answers() -> None:
    made = task()
    made.fit([row("a b", ("a", 0))])
    rows, parts = [row("a b")], [[{"none": -0.01, "spans": [[-5.0, 0, 1]]}]]
    made.calibrate(rows, parts)
    assert made.state() == {"unanswerable": False, "threshold": 0.0}
    assert made.combine(rows[0], parts[0])["text"] == "a"
    made.fit([row("a b", ("a", 0)), row("a b")])
    assert made.combine(rows[0], parts[0])["text"] == ""
    made.calibrate([row("a b", ("a", 0))], parts)
    assert made.threshold == pytest.approx(4.99)
    assert made.combine(rows[0], parts[0])["text"] == "a"
    other = task()
    other.restore(json.loads(json.dumps(made.state())))
    assert other.state() == made.state()


def test_a_withheld_answer_still_lists_the_spans() -> None:
    made = task(n_best=2)
    made.restore({"unanswerable": True, "threshold": 0.0})
    found = made.combine(row("a b"), [{"none": -0.1, "spans": [[-3.0, 0, 1], [-4.0, 2, 3]]}])
    assert (found["text"], found["start"], found["end"]) == ("", None, None)
    assert found["score"] == pytest.approx(np.exp(-0.1))
    assert [one["text"] for one in found["n_best"]] == ["", "a"]
    assert made.right(found, made.reference(row("a b")))
    assert not made.right(found, made.reference(row("a b", ("a", 0))))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(-4, 4), st.sampled_from([-1.0, 0.0, 0.4, 1.0])), min_size=1, max_size=12))
def test_the_threshold_is_the_best_of_all(pairs: list[tuple[int, float]]) -> None:
    def gained(threshold: float) -> float:
        return sum(gain for value, gain in pairs if value <= threshold)

    chosen = best_threshold([float(value) for value, _ in pairs], [gain for _, gain in pairs])
    assert gained(chosen) == pytest.approx(max(gained(value) for value in range(-6, 6)))


def test_rows_without_a_single_answer_teach_nothing() -> None:
    with pytest.raises(DataError, match="No training row has an answer"):
        task().fit([row("a b")])


def test_inspection_marks_the_answer() -> None:
    made = task()
    given_row = row("Peter visited New York.", ("New York", 14))
    marked = [token for token, label in made.describe(given_row, encode(given_row), BPE) if label == "answer"]
    assert BPE.convert_tokens_to_string(marked).strip() == "New York"
    assert made.describe(row("a"), encode(row("a")), BPE)[-1][1] == "no answer"
