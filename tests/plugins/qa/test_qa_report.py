"""What the report says of answers: tables of groups, scores of rankings, and what a model must beat."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vertebra.config.schema import DataConfig
from vertebra.metrics.metric import Metric
from vertebra.report.figures import Table
from vertebra_qa.answer_selection import AnswerSelection
from vertebra_qa.metrics import AnswerF1
from vertebra_qa.overlap import SharedWords, WordOverlap
from vertebra_qa.ranking_metrics import MeanAveragePrecision, MeanReciprocalRank, PrecisionAt1
from vertebra_qa.sample import read_candidates, read_contexts
from vertebra_qa.task import QA

ROWS = [
    {"question": "Where is it?", "context": "It is in Paris.", "answers": [{"text": "Paris", "start": 9}]},
    {"question": "How many, and who?", "context": "12 big dogs ran", "answers": [{"text": "12 big dogs", "start": 0}]},
    {"question": "Is it there?", "context": "It is in Paris.", "answers": []},
]


def score(metric: Metric, predictions: list[Any], references: list[Any]) -> float:
    counts = [metric.count(*pair) for pair in zip(predictions, references, strict=True)]
    return metric.score(np.asarray(counts, dtype=np.float64))


# --- tables


def test_tables_say_where_answers_fail() -> None:
    task = QA()
    references = [task.reference(row) for row in ROWS]
    tables = task.figures([{"text": "Paris"}, {"text": "12"}, {"text": "it"}], references)
    assert all(isinstance(table, Table) for table in tables)
    kinds, words, lengths = (
        {cells[0]: cells[1:] for cells in table.rows} for table in tables if isinstance(table, Table)
    )
    assert kinds["all"] == (3, 3, pytest.approx(1 / 3), pytest.approx(0.5))
    assert kinds["with an answer"] == (2, 2, 0.5, 0.75)
    assert kinds["without"] == (1, 1, 0.0, 0.0)
    assert set(words) == {"where", "how many", "other"} and words["how many"] == (1, 1, 0.0, 0.5)
    assert set(lengths) == {"1", "3–5", "no answer"}
    assert task.figures([], []) == []


# --- rankings


def test_queries_without_a_right_candidate_do_not_count() -> None:
    def ranking(*scores: float) -> list[dict[str, Any]]:
        return [{"candidate": place, "text": "x", "score": value} for place, value in enumerate(scores)]

    right = [{"candidate": 1, "text": "x"}]
    predictions, references = [ranking(3.0, 2.0, 1.0), ranking(1.0, 2.0)], [right, []]
    for metric, expected in ((MeanAveragePrecision(), 0.5), (MeanReciprocalRank(), 0.5), (PrecisionAt1(), 0.0)):
        assert score(metric, predictions, references) == expected
        assert score(metric, predictions[1:], references[1:]) == 0.0
    assert score(PrecisionAt1(), [ranking(1.0, 1.0)], [right]) == 0.5, "a tie counts half"


# --- baselines


def test_the_span_baseline_finds_what_stands_near_the_question_s_words() -> None:
    task = QA()
    rows = [
        {
            "question": f"Which town lies beside the river Xor{n}?",
            "context": f"Some people met. Near the river Xor{n} Velden{n} stands. Others went to Rome and then home.",
            "answers": [{"text": f"Velden{n}", "start": len(f"Some people met. Near the river Xor{n} ")}],
        }
        for n in range(20)
    ]
    task.fit(rows)
    baseline = WordOverlap(task)
    baseline.fit(rows[:15], rows[15:])
    assert baseline.length == 1
    predictions = baseline.predict([{name: row[name] for name in ("question", "context")} for row in rows])
    for prediction, row in zip(predictions, rows, strict=True):
        assert row["context"][prediction["start"] : prediction["end"]] == prediction["text"]
    assert score(AnswerF1(), predictions, [task.reference(row) for row in rows]) == 1.0


def test_the_span_baseline_may_give_no_answer() -> None:
    task = QA()
    data = read_contexts(DataConfig(options={"train": 200, "valid": 100, "test": 50, "unanswerable": 0.9}))
    task.fit(data["train"])
    baseline = WordOverlap(task)
    baseline.fit(data["train"], data["valid"])
    withheld = [one["text"] == "" for one in baseline.predict(data["test"])]
    assert sum(withheld) > 25
    assert baseline.predict([{"question": "?", "context": "..."}])[0]["text"] == ""


def test_the_span_baseline_reads_chinese() -> None:
    row = {"question": "谁在北京?", "context": "高勇在北京。天气很好。", "answers": [{"text": "高勇", "start": 0}]}
    task = QA()
    task.fit([row])
    baseline = WordOverlap(task)
    baseline.fit([row] + [{**row, "context": f"其他{c}文字。", "answers": []} for c in "甲乙丙丁戊己庚"], [])
    (prediction,) = baseline.predict([row])
    assert prediction["text"] in row["context"]


def test_the_ranking_baseline_counts_rare_words() -> None:
    data = read_candidates(DataConfig(options={"train": 50}))
    baseline = SharedWords(AnswerSelection())
    baseline.fit(data["train"], data["valid"])
    row = {"query": "Where is the Zorb ?", "candidates": ["the the is .", "a Zorb", "nothing"]}
    (ranking,) = baseline.predict([row])
    assert [one["candidate"] for one in ranking] == [1, 0, 2]
    assert ranking[2]["score"] == 0
    assert all(one["text"] == row["candidates"][one["candidate"]] for one in ranking)


def test_candidates_that_share_the_same_words_are_tied() -> None:
    baseline = SharedWords(AnswerSelection())
    words = [f"w{number}" for number in range(40)]
    seen = {"query": "", "candidates": [" ".join(words[number:]) for number in range(40)]}
    baseline.fit([seen], [])
    random = np.random.default_rng(0)
    for _ in range(50):
        shared = random.choice(words, size=8, replace=False).tolist()
        candidates = [random.permutation([*shared, *(f"z{k}" for k in range(n, n + 20))]).tolist() for n in range(4)]
        (ranking,) = baseline.predict(
            [{"query": " ".join(shared), "candidates": [" ".join(one) for one in candidates]}]
        )
        assert len({one["score"] for one in ranking}) == 1


def test_counting_words_does_not_solve_the_samples() -> None:
    qa, selection = QA(), AnswerSelection()
    contexts, candidates = read_contexts(DataConfig()), read_candidates(DataConfig())
    qa.fit(contexts["train"])
    (spans,), (shared_words,) = qa.baselines(), selection.baselines()
    spans.fit(contexts["train"], contexts["valid"])
    shared_words.fit(candidates["train"], candidates["valid"])
    found = spans.predict(contexts["test"])
    assert score(AnswerF1(), found, [qa.reference(row) for row in contexts["test"]]) < 0.5
    ranked = shared_words.predict(candidates["test"])
    assert score(MeanAveragePrecision(), ranked, [selection.reference(row) for row in candidates["test"]]) < 0.8
