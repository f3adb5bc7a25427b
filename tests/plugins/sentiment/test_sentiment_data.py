"""The data options of the plugin: real data sets, users' files, and files that are broken."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from vertebra.config.options import configure
from vertebra.data.load import Splits, load_splits
from vertebra.errors import DataError
from vertebra.host.manager import create_host
from vertebra.runs.tasks import load_metrics, load_task
from vertebra.tasks.sequence_classification import SequenceClassification
from vertebra_sentiment.config import ClassificationConfig, SentimentConfig
from vertebra_sentiment.task import Classification, Sentiment

DATA = Path(__file__).resolve().parents[4] / "shared/data"


def load(option: str, path: Path | None = None, task: Any = None, **settings: Any) -> tuple[Any, Splits]:
    """The task, fitted, and the rows of a data option."""
    if path is not None and not path.exists():
        pytest.skip(f"needs {path}")
    host = create_host()
    data = {"option": option, **({"path": str(path)} if path else {}), **settings}
    choice = configure(host, task=task or option.split("/")[0], data=data).tasks[0]
    made = load_task(choice, host)
    splits = load_splits(choice.data, made, host)
    made.fit(splits.rows["train"])
    return made, splits


def sizes(splits: Splits) -> dict[str, int]:
    return {split: len(rows) for split, rows in splits.rows.items()}


def test_sst2_has_two_labels_by_hand_cut_splits() -> None:
    task, splits = load("sentiment/sst2", DATA / "sentiment/sst2")
    assert sizes(splits) == {"train": 6920, "valid": 872, "test": 1821}
    assert task.labels == ["0", "1"]
    assert splits.notes == ()
    assert Counter(row["label"] for row in splits.rows["test"]) == {"0": 912, "1": 909}
    assert splits.rows["valid"][0]["text"] == "one long string of cliches"


def test_financial_phrasebank_is_latin_1_and_cut_by_the_core() -> None:
    place = DATA / "sentiment/financial_phrasebank"
    task, splits = load("sentiment/financial_phrasebank", place)
    assert sizes(splits) == {"train": 3876, "valid": 485, "test": 485}
    assert sum(sizes(splits).values()) == 4846
    assert task.labels == ["negative", "neutral", "positive"]
    assert any("ä" in row["text"] for row in splits.rows["train"])
    assert not any("\ufffd" in row["text"] for rows in splits.rows.values() for row in rows)
    assert any("cut by seed 0" in note for note in splits.notes)
    _, agreed = load("sentiment/financial_phrasebank", place, splits={"train": "Sentences_AllAgree.txt"})
    assert sum(sizes(agreed).values()) == 2264


def test_banking77_has_77_labels_and_no_validation_of_its_own() -> None:
    task, splits = load("classification/banking77", DATA / "classification/banking77")
    assert sizes(splits) == {"train": 9003, "valid": 1000, "test": 3080}
    assert len(task.labels) == 77
    assert Counter(Counter(row["label"] for row in splits.rows["test"]).values()) == {40: 77}
    assert "I still have not received my new card, I ordered over a week ago." in {
        row["text"] for row in splits.rows["test"]
    }


@pytest.mark.parametrize("task", ["sentiment", "classification"])
@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("rows.csv", "text,label\n" + '"good, really",pos\nbad,neg\n' * 6),
        ("rows.tsv", "text\tlabel\n" + "good\tpos\nbad\tneg\n" * 6),
        ("rows.jsonl", "".join(f'{{"text": "t{n}", "label": {n % 2}}}\n' for n in range(12))),
    ],
)
def test_a_user_s_file_needs_nothing_but_its_path(tmp_path: Path, task: str, file: str, content: str) -> None:
    (tmp_path / file).write_text(content, encoding="utf-8")
    made, splits = load(f"{task}/files", tmp_path / file, valid_fraction=0.2, test_fraction=0.2)
    assert sizes(splits) == {"train": 8, "valid": 2, "test": 2}
    assert len(made.labels) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\ngood,pos\n  ,neg\n", r"train row 2 of '.*rows.csv' \(rows.csv:3\): column 'text' is empty"),
        ("text,label\ngood,pos\nbad,\n", r"train row 2 of '.*rows.csv' \(rows.csv:3\): a label is empty"),
        (
            'text,label\n"good\n\nfilm",pos\n  ,neg\n',
            r"train row 2 of '.*rows.csv' \(rows.csv:5\): column 'text' is empty",
        ),
        ("text,label\ngood,pos\nfine,pos\n", "Every training row has the same label"),
        ("text,lable\ngood,pos\n", "no column 'label'.* Did you mean 'lable'"),
        ("text,label\ngood,pos\nbad,neg,neg\n", "rows.csv:3: 3 columns where the lines before have 2"),
    ],
)
def test_a_bad_file_is_refused_by_row(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "rows.csv").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load("sentiment/files", tmp_path / "rows.csv", valid_fraction=0.0, test_fraction=0.0)


def test_a_label_outside_the_declared_ones_is_refused_by_row(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\ngood,pos\nbad,neg\nfine,pso\n", encoding="utf-8")
    task = {"option": "sentiment", "labels": ["neg", "pos"]}
    with pytest.raises(DataError, match=r"train row 3 of .*There is no label 'pso'\. Did you mean 'pos'"):
        load("sentiment/files", tmp_path / "rows.csv", task=task)


def test_the_plugin_brings_its_tasks() -> None:
    host = create_host()
    for name, task, config in (
        ("sentiment", Sentiment, SentimentConfig),
        ("classification", Classification, ClassificationConfig),
    ):
        assert host.get("task", name).load() is task
        assert host.get("task", name).load_config() is config
        for kind in ("single", "multi", "ordinal"):
            made: SequenceClassification = task(config(kind=kind))
            assert tuple(metric.name for metric in load_metrics(made, host)) == made.metrics
