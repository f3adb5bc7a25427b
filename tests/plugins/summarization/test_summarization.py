"""Summaries: the task, its sample, its scores beside rough independent ones, its files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from vertebra.config.options import configure
from vertebra.config.schema import DataConfig
from vertebra.data.load import load_splits
from vertebra.errors import DataError
from vertebra.host.manager import create_host
from vertebra_summarization.baselines import Lead, lead
from vertebra_summarization.config import SummarizationConfig
from vertebra_summarization.metrics import NovelBigrams, Rouge, Rouge1, Rouge2, RougeL, SummaryLengthRatio
from vertebra_summarization.sample import read as read_sample
from vertebra_summarization.task import Summarization
from vertebra_summarization.words import Words

DATA = Path(__file__).resolve().parents[4] / "shared/data/summarization"


# --- scores

# Of signs alone rouge-score finds no words, and gives 0 to identical texts; there the scores differ on purpose.
ENGLISH = st.lists(
    st.sampled_from(["the", "meetings", "meeting", "was", "cancelled", "on", "12", "Friday", ",", "report's", "due"]),
    min_size=1,
).filter(lambda words: set(words) != {","})


@given(st.lists(st.tuples(ENGLISH, st.lists(ENGLISH, min_size=1, max_size=3)), min_size=1, max_size=5))
@settings(max_examples=40)
def test_english_scores_are_those_of_rouge_score(rows: list[tuple[list[str], list[list[str]]]]) -> None:
    official = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    pairs = [(" ".join(one), [" ".join(words) for words in right]) for one, right in rows]
    for metric in (Rouge1(), Rouge2(), RougeL()):
        counts = np.asarray([metric.count(*pair) for pair in pairs])
        expected = [official.score_multi(right, one)[metric.kind].fmeasure for one, right in pairs]
        assert metric.score(counts) == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.parametrize("language", ["auto", "zh"])
@pytest.mark.parametrize("text", ["会议取消了", "会議は中止です。", "Встреча отменена", "الاجتماع ملغى", "회의 취소"])
def test_identical_texts_of_any_script_score_one(text: str, language: str) -> None:
    assert RougeL(language).value(text, text) == 1.0
    assert Rouge1(language).value(text, ["other", text]) == 1.0


@given(st.text().filter(str.strip))
def test_no_text_differs_from_itself(text: str) -> None:
    assert Rouge1().value(text, text) == pytest.approx(1.0)


def test_chinese_is_compared_character_by_character() -> None:
    assert Words().tokenize("GPT-2会议2026") == [["gpt", "2", "会", "议", "2026"]]
    assert Rouge1().value("会议改期", "会议取消") == pytest.approx(0.5)
    assert Rouge2().value("会议改期", "会议取消") == pytest.approx(1 / 3)


@pytest.mark.parametrize("metric", [Rouge1, Rouge2, RougeL])
def test_both_sides_of_a_comparison_are_cut_alike(metric: type[Rouge]) -> None:
    english = "Companies announced running shoes and shiny boxes"
    for one, other in ((english, f"{english} 東京"), (f"{english} 東京", english)):
        assert metric().value(one, other) > 0.8, "all words of the one are in the other, in their order"
    assert metric().value("phố cổ", "đường phố cổ đẹp") == metric("vi").value("phố cổ", "đường phố cổ đẹp") > 0
    assert metric().value(english, [f"{english} 東京", english]) == 1.0
    document = f"Tokyo (東京): {english}."
    assert NovelBigrams().count_row({"document": document}, english, "x") == (0, 6), "a copy has nothing new"
    assert SummaryLengthRatio().count("Moscow Москва", "Москва") == (2, 1)


def test_the_language_can_be_given() -> None:
    task = Summarization(SummarizationConfig(language="en"))
    assert RougeL.for_task(task).value("Réunion", "R union") == 1.0, "rouge-score drops what is not English"
    assert RougeL("fr").value("Réunion", "R union") == 0.0


def test_length_and_novelty_are_counted_over_all_rows() -> None:
    length, novel = SummaryLengthRatio(), NovelBigrams()
    counts = np.asarray([length.count("a b c", ["a", "a b c"]), length.count("a", "a b c d")])
    assert length.score(counts) == pytest.approx(4 / 6)
    row = {"document": "the sales meeting is on Friday"}
    assert novel.count_row(row, "sales meeting cancelled", "x") == (1, 2)
    assert novel.count_row(row, "meeting", "x") == (0, 0)
    assert novel.score(np.zeros((1, 2))) == 0.0


# --- the baseline


@pytest.mark.parametrize(
    ("document", "limit", "expected"),
    [
        ("Dear all, the lift works. Thank you.", 99, "Dear all, the lift works."),
        ("Dear all, the lift works. Thank you.", 3, "Dear all, the"),
        ("version 2.5 is here. Bye.", 99, "version 2.5 is here."),
        ("no end\nsecond line", 99, "no end"),
        ("会议取消了。谢谢。", 99, "会议取消了。"),
        ("会议取消了。谢谢。", 2, "会议"),
        ("  \n ", 5, ""),
    ],
)
def test_the_lead_is_the_first_sentence(document: str, limit: int, expected: str) -> None:
    assert lead(document, limit) == expected


def test_the_lead_is_cut_where_validation_says() -> None:
    task = Summarization()
    rows = [
        {"document": "one two three four five six seven eight nine ten. More.", "summary": "one two three four"}
    ] * 3
    baseline = Lead(task)
    baseline.fit(rows, rows)
    assert baseline.limit == 4
    assert baseline.predict(rows[:1]) == ["one two three four"]
    baseline.fit([{**rows[0], "summary": ["a b", "c"]}], [])
    assert baseline.limit == 2


# --- data


def test_the_sample_does_not_stand_twice_and_summaries_are_short() -> None:
    data = read_sample(DataConfig())
    documents = [row["document"] for rows in data.values() for row in rows]
    assert len(set(documents)) == len(documents)
    assert all(len(row["summary"].split()) <= 6 for rows in data.values() for row in rows)
    assert read_sample(DataConfig()) == data != read_sample(DataConfig(options={"seed": 2}))
    with pytest.raises(DataError, match=r"data\.options\.sed"):
        read_sample(DataConfig(options={"sed": 2}))


def write(folder: Path, **files: list[dict[str, Any]]) -> None:
    for name, rows in files.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode()))


def splits_of(path: Path, **data: Any) -> Any:
    host = create_host()
    changes = {"option": "summarization/aeslc", "path": str(path), **data}
    choice = configure(host, task="summarization", data=changes).tasks[0]
    return load_splits(choice.data, Summarization(choice.config), host)


def test_summaries_in_several_columns_are_the_references_of_one_row(tmp_path: Path) -> None:
    write(
        tmp_path,
        train=[{"id": "a", "document": "d", "summary": "s", "extra_summaries": []}] * 1,
        valid=[{"id": "b", "document": "d", "summary": "s", "extra_summaries": ["t", "s"]}],
        test=[{"fname": "c", "dialogue": "d", "summary1": "s", "summary2": "t", "summary3": "u"}],
    )
    rows = splits_of(tmp_path).rows
    assert rows["train"] == [{"id": "a", "document": "d", "summary": ["s"]}]
    assert rows["valid"] == [{"id": "b", "document": "d", "summary": ["s", "t"]}]
    assert rows["test"] == [{"id": "c", "document": "d", "summary": ["s", "t", "u"]}]
    task = Summarization(SummarizationConfig(references="first"))
    assert Summarization().reference(rows["test"][0]) == ["s", "t", "u"]
    assert task.reference(rows["test"][0]) == "s"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"document": "", "summary": "s"}, "train row 2 .*column 'document' is empty"),
        ({"document": "d", "summary": " "}, "train row 2 .*column 'summary' is empty"),
        ({"document": "d", "summary": ["good", None]}, r"train row 2 .*'summary' must be a text or a list of texts"),
        ({"document": "d", "summary": {"a": 1}}, r"train row 2 .*'summary' must be a text or a list of texts"),
        ({"document": "d"}, r"train\.jsonl\.gz:2: no summary; it has document"),
        ({"summary": "d"}, r"train\.jsonl\.gz:2: no column for the document; it has summary"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    write(tmp_path, train=[{"document": "d", "summary": "s"}, row])
    with pytest.raises(DataError, match=message):
        splits_of(tmp_path)


def test_an_empty_file_is_no_missing_split(tmp_path: Path) -> None:
    write(tmp_path, train=[{"document": "d", "summary": "s"}] * 20, valid=[])
    with pytest.raises(DataError, match=r"The valid split of '.*' has no rows"):
        splits_of(tmp_path)


@pytest.mark.parametrize(
    ("option", "folder", "rows"),
    [
        ("sample", None, {"train": 1500, "valid": 120, "test": 120}),
        ("aeslc", "aeslc", {"train": 14436, "valid": 1960, "test": 1906}),
        ("dialogsum", "dialogsum", {"valid": 500, "test": 500}),
    ],
)
def test_each_data_option_loads(option: str, folder: str | None, rows: dict[str, int]) -> None:
    if folder and not (DATA / folder).is_dir():
        pytest.skip(f"needs {DATA / folder}")
    changes: dict[str, Any] = {"option": f"summarization/{option}"} | ({"path": str(DATA / folder)} if folder else {})
    host = create_host()
    choice = configure(host, task="summarization", data=changes).tasks[0]
    splits = load_splits(choice.data, Summarization(choice.config), host, for_training=False)
    assert {name: len(some) for name, some in splits.rows.items()} == rows
    if option == "dialogsum":
        assert {len(row["summary"]) for row in splits.rows["test"]} <= {1, 2, 3}


def test_the_plugin_brings_what_its_task_names() -> None:
    host = create_host()
    assert host.get("task", "summarization").load() is Summarization
    for name in Summarization.metrics:
        assert host.get("metric", name).load().for_task(Summarization()).name == name


@pytest.mark.slow
def test_the_sample_is_learnt_from_random_weights(tmp_path: Path) -> None:
    import vertebra

    config = configure(create_host(), task="summarization", trainer={"epochs": 6.0, "trackers": []})
    scores = vertebra.train(config, tmp_path / "run").metrics
    assert scores["test"]["rougeL"] > 0.8, "the lead sentence has 0.21"
