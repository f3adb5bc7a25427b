"""Data of question answering: SQuAD's JSON, the samples, and the options."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tests.core.data_tasks import shared

from vertebra.config.options import configure
from vertebra.config.schema import DataConfig
from vertebra.data.load import Splits, load_splits
from vertebra.errors import DataError
from vertebra.host.manager import Host, create_host
from vertebra.runs.tasks import load_task
from vertebra.tasks.answers import answers_of
from vertebra_qa.config import AnswerSelectionConfig, QAConfig
from vertebra_qa.sample import read_candidates, read_contexts
from vertebra_qa.task import QA


@pytest.fixture(scope="module")
def host() -> Host:
    return create_host()


def load(host: Host, option: str, **data: Any) -> Splits:
    choice = configure(host, task=option.partition("/")[0], data={"option": option, **data}).tasks[0]
    return load_splits(choice.data, load_task(choice, host), host)


def question(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"q{number}", "question": "Where?", "answers": [{"text": "Paris", "answer_start": 3}], **more}


def squad(path: Path, *questions: dict[str, Any], context: str = "In Paris.", **more: Any) -> str:
    document = {
        "version": "v2.0",
        "data": [{"title": "x", "paragraphs": [{"context": context, "qas": list(questions)}]}],
    }
    text = json.dumps(document | more)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


# --- SQuAD's JSON


@pytest.mark.parametrize("name", ["all.json", "all.json.gz"])
def test_questions_are_rows(tmp_path: Path, host: Host, name: str) -> None:
    impossible = question(2, is_impossible=True, plausible_answers=[{"text": "In", "answer_start": 0}])
    path = squad(tmp_path / name, question(1), impossible | {"answers": []}, question(3, is_impossible=False))
    rows = load(host, "qa/squad", path=path, valid_fraction=0.0, test_fraction=0.0).rows["train"]
    assert [row["id"] for row in rows] == ["q1", "q2", "q3"]
    assert [len(answers_of(row)) for row in rows] == [1, 0, 1]
    assert rows[0]["context"] == "In Paris." and rows[0]["question"] == "Where?"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"answers": [{"text": "Rome", "answer_start": 3}]},
            r"row 2 of .* \(all\.json, article 1, paragraph 1\): the answer 'Rome' does not stand at character 3",
        ),
        ({"question": " "}, r"row 2 of .* \(all\.json, article 1, paragraph 1\): the question is empty"),
        ({"question": None}, r"row 2 of .* \(all\.json, article 1, paragraph 1\): column 'question' is empty"),
        ({"answers": None}, r"row 2 of .* \(all\.json, article 1, paragraph 1\): column 'answers' is empty"),
        ({"id": "q1"}, r"row 2 of .* \(all\.json, article 1, paragraph 1\): id 'q1' is that of row 1"),
    ],
)
def test_wrong_questions_are_named_or_skipped(tmp_path: Path, host: Host, change: dict[str, Any], message: str) -> None:
    path = squad(tmp_path / "all.json", question(1), question(2, **change), question(3))
    with pytest.raises(DataError, match=f"train {message}"):
        load(host, "qa/squad", path=path)
    splits = load(host, "qa/squad", path=path, bad_rows="skip", valid_fraction=0.0, test_fraction=0.0)
    assert [row["id"] for row in splits.rows["train"]] == ["q1", "q3"]
    assert splits.notes[0].startswith(
        "train: 1 rows skipped (data.bad_rows=skip), the first is row 2 (all.json, article 1, paragraph 1): "
    )


def test_an_empty_context_is_named(tmp_path: Path, host: Host) -> None:
    with pytest.raises(DataError, match=r"train row 1 of .*: the context is empty"):
        load(host, "qa/squad", path=squad(tmp_path / "all.json", question(1, answers=[]), context=" "))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"all\.json:1: not JSON.*A file of SQuAD is one object"),
        ('{"data": [\n{"paragraphs": [{"context": "x \\ud83d Paris"}]}]}', r"all\.json:2: half of a surrogate pair"),
        ("[]", "has no list 'data': it is not of SQuAD's form"),
        ('{"data": []}', "has no questions"),
        ('{"data": [{}]}', "article 1 has no list 'paragraphs'"),
        ('{"data": [{"paragraphs": [{"context": "a"}]}]}', "article 1, paragraph 1 has no list 'qas'"),
        ('{"data": [{"paragraphs": [{"qas": [{}], "context": "a"}]}]}', "a question needs 'question'"),
        ('{"data": [{"paragraphs": [{"qas": [{"question": "a"}]}]}]}', "and its paragraph 'context'"),
        ('{"data": [{"paragraphs": [{"qas": [{"question": "a"}], "context": "a"}]}]}', "no column 'answers'"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path: Path, host: Host, text: str, message: str) -> None:
    path = tmp_path / "all.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load(host, "qa/squad", path=str(path))


def test_squad_v2_tests_on_dev_and_cuts_validation_by_context(tmp_path: Path, host: Host) -> None:
    paragraphs = [{"context": f"In Paris {n}.", "qas": [question(10 * n + k) for k in range(3)]} for n in range(10)]
    squad(tmp_path / "train-v2.0.json", data=[{"paragraphs": paragraphs}])
    squad(tmp_path / "dev-v2.0.json", question(1))
    splits = load(host, "qa/squad_v2", path=str(tmp_path), valid_fraction=0.2).rows
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 24, "valid": 6, "test": 1}
    assert not {row["context"] for row in splits["train"]} & {row["context"] for row in splits["valid"]}


def test_squadshifts_is_trained_on_two_domains_and_tested_on_a_third(host: Host) -> None:
    splits = load(host, "qa/squadshifts", path=shared("qa/squadshifts")).rows
    assert len(splits["train"]) + len(splits["valid"]) == 7938 + 9803
    assert len(splits["test"]) == 9885
    assert not {row["context"] for row in splits["train"]} & {row["context"] for row in splits["valid"]}


def test_half_of_squad_v2_s_dev_set(host: Host) -> None:
    splits = load(host, "qa/squad", path=shared("qa/squad_v2/dev_half.json.gz"))
    rows = [row for some in splits.rows.values() for row in some]
    assert len(rows) == 6078
    assert 0.4 < sum(not answers_of(row) for row in rows) / len(rows) < 0.6


# --- the samples and the options


@pytest.mark.parametrize("read", [read_contexts, read_candidates])
def test_the_seed_makes_the_sample(read: Any) -> None:
    def sample(**options: Any) -> Any:
        return read(DataConfig(options=options))

    assert sample(seed=5) == sample(seed=5) != sample(seed=6)
    assert {split: len(rows) for split, rows in sample(train=7, valid=3, test=2).items()} == {
        "train": 7,
        "valid": 3,
        "test": 2,
    }
    with pytest.raises(DataError, match=r"data\.options\.sed: .* Did you mean 'seed'\?"):
        sample(sed=1)


def test_some_questions_of_the_sample_have_no_answer(host: Host) -> None:
    rows = load(host, "qa/sample").rows["train"]
    without = [row for row in rows if not answers_of(row)]
    assert 0.15 < len(without) / len(rows) < 0.25
    assert not any(
        answers_of(row) == [] for row in load(host, "qa/sample", options={"unanswerable": 0.0}).rows["train"]
    )


def test_names_of_the_test_part_do_not_stand_in_training(host: Host) -> None:
    splits = load(host, "qa/sample").rows
    known = {word for row in splits["train"] for word in row["context"].split()}
    for row in splits["test"]:
        subject = next(word for word in row["question"].split()[1:] if word[0].isupper())
        assert subject not in known


def test_no_candidate_is_told_by_its_place_or_by_the_name_alone(host: Host) -> None:
    rows = load(host, "answer_selection/sample").rows["train"]
    places = [row["labels"].index(1) for row in rows]
    assert all(row["labels"].count(1) == 1 for row in rows)
    assert all(250 < places.count(place) < 420 for place in range(3))
    for row in rows:
        subject = next(word for word in row["query"].split()[1:] if word[0].isupper())
        assert all(subject in candidate for candidate in row["candidates"])


def test_the_options_choose_task_settings_and_columns(host: Host) -> None:
    qa = configure(host, task="qa").tasks[0]
    assert isinstance(qa.config, QAConfig) and qa.data.format == "qa_sample"
    selection = configure(host, task="answer_selection").tasks[0]
    assert isinstance(selection.config, AnswerSelectionConfig) and selection.data.format == "answer_selection_sample"
    shifts = configure(host, task="qa", data={"option": "qa/squadshifts", "path": "."}).tasks[0].data
    assert shifts.splits["train"] == ("new_wiki.json.gz", "reddit.json.gz") and shifts.split_by == "context"


def test_the_plugin_brings_what_its_tasks_name(host: Host) -> None:
    for name in ("qa", "answer_selection"):
        for metric in host.get("task", name).load().metrics:
            assert host.get("metric", metric).load().name == metric
    assert host.get("task", "qa").load() is QA
