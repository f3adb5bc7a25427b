"""Rows that belong together: grouped into one, kept on one side of a cut, from several files; bad ones skipped by choice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.data_tasks import Topic, shared

from vertebra.cli.arguments import quoted
from vertebra.config.schema import DataConfig
from vertebra.data.inputs import iterate_file
from vertebra.data.load import Splits, load_splits
from vertebra.data.splits import cut, find_files, pick_splits
from vertebra.errors import DataError
from vertebra.host.manager import Host, create_host
from vertebra.tasks.config import RankingConfig
from vertebra.tasks.ranking import Ranking

PAIRS = [
    {"question_id": "q1", "question": "who", "answer": "a", "label": 0},
    {"question_id": "q1", "question": "who", "answer": "b", "label": 1},
    {"question_id": "q2", "question": "when", "answer": "c", "label": 1},
    {"question_id": "q1", "question": "who", "answer": "d", "label": 0},
]
COLUMNS: dict[str, str | int] = {"query": "question", "candidates": "answer", "labels": "label"}


class Choice(Ranking):
    """A task of the family."""

    name: ClassVar[str] = "choice"
    metrics: ClassVar[tuple[str, ...]] = ()


@pytest.fixture(scope="module")
def host() -> Host:
    return create_host()


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def load(path: str, host: Host, **data: Any) -> Splits:
    settings = {"group_by": "question_id", "columns": COLUMNS, "valid_fraction": 0.0, "test_fraction": 0.0} | data
    return load_splits(DataConfig(path=path, **settings), Choice(RankingConfig()), host)


# --- grouped rows


def test_rows_with_the_same_value_become_one(tmp_path: Path, host: Host) -> None:
    assert load(lines(tmp_path / "train.jsonl", PAIRS), host).rows["train"] == [
        {"query": "who", "candidates": ["a", "b", "d"], "labels": [0, 1, 0], "id": "q1"},
        {"query": "when", "candidates": ["c"], "labels": [1], "id": "q2"},
    ]


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (
            4,
            {"question": "whom"},
            "row 4: column 'question' is 'whom', but row 1 of the same question_id 'q1' has 'who'",
        ),
        (2, {"question_id": None}, "row 2: column 'question_id' must say which rows belong together, not None"),
        (2, {"question_id": []}, r"row 2: column 'question_id' must say which rows belong together, not \[\]"),
        (1, {"label": 2}, "train row 1 of .*: label 1 must be 0 or 1, not 2"),
        (3, {"answer": " "}, "train row 3 of .*: candidate 1 must be a text that is not empty"),
    ],
)
def test_what_does_not_fit_its_group_is_named(
    tmp_path: Path, host: Host, number: int, change: dict[str, Any], message: str
) -> None:
    rows = [row | (change if place == number else {}) for place, row in enumerate(PAIRS, start=1)]
    with pytest.raises(DataError, match=message):
        load(lines(tmp_path / "train.jsonl", rows), host)


@pytest.mark.parametrize(
    ("column", "says"), [("question_id", "to group by"), ("answer", "data.columns.candidates=NAME")]
)
def test_a_row_that_lacks_a_column_is_named(tmp_path: Path, host: Host, column: str, says: str) -> None:
    rows = [*PAIRS, {name: value for name, value in PAIRS[0].items() if name != column}]
    with pytest.raises(DataError, match=f"row 5: no column '{column}'.*{says}"):
        load(lines(tmp_path / "train.jsonl", rows), host)


def test_a_misspelt_column_to_group_by_is_named(tmp_path: Path, host: Host) -> None:
    with pytest.raises(DataError, match=r"row 1: no column 'question_ids' to group by\. Did you mean 'question_id'\?"):
        load(lines(tmp_path / "train.jsonl", PAIRS), host, group_by="question_ids")


def test_a_cut_never_parts_a_group(tmp_path: Path, host: Host) -> None:
    rows = [PAIRS[0] | {"question_id": str(number // 3), "answer": f"a{number}"} for number in range(60)]
    splits = load(lines(tmp_path / "train.jsonl", rows), host, test_fraction=0.3).rows
    assert {split: len(some) for split, some in splits.items()} == {"train": 14, "test": 6}
    assert all(len(row["candidates"]) == 3 for some in splits.values() for row in some)


def test_flat_rows_are_grouped_for_prediction_too(tmp_path: Path) -> None:
    unlabelled = [{name: value for name, value in row.items() if name != "label"} for row in PAIRS]
    whole = {"id": "mine", "query": "where", "candidates": ["x", "y"]}
    path = lines(tmp_path / "new.jsonl", [*unlabelled, whole])
    data = DataConfig(group_by="question_id", columns=COLUMNS)
    assert list(iterate_file(Path(path), data, Choice())) == [
        {"query": "who", "candidates": ["a", "b"], "id": "q1"},
        {"query": "when", "candidates": ["c"], "id": "q2"},
        {"query": "who", "candidates": ["d"], "id": "q1"},
        whole,
    ]


def test_wikiqa_has_as_many_questions_as_its_readme_says(host: Host) -> None:
    splits = load(shared("answer_selection/wikiqa"), host).rows
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 873, "valid": 126, "test": 243}
    assert sum(len(row["candidates"]) for row in splits["test"]) == 2351


# --- rows that stay together


@given(st.lists(st.integers(0, 8), min_size=1, max_size=60), st.floats(0, 0.6), st.integers(0, 3))
def test_a_cut_keeps_rows_of_one_value_together(values: list[int], fraction: float, seed: int) -> None:
    rows = list(enumerate(values))
    data = DataConfig(test_fraction=fraction, valid_fraction=0.2, split_seed=seed)
    pieces = cut(rows, data, ["valid", "test"], together=lambda row: row[1])
    assert sorted(row for piece in pieces.values() for row in piece) == rows
    homes = [{value for _, value in piece} for piece in pieces.values()]
    assert sum(map(len, homes)) == len(set(values))
    assert pieces["train"]


def test_split_by_is_a_column_of_the_task(tmp_path: Path, host: Host) -> None:
    rows = [{"text": f"text {number}", "label": str(number % 10)} for number in range(100)]
    path = lines(tmp_path / "all.jsonl", rows)
    splits = load_splits(DataConfig(path=path, split_by="label"), Topic(), host)
    assert {split: len({row["label"] for row in some}) for split, some in splits.rows.items()} == {
        "train": 8,
        "valid": 1,
        "test": 1,
    }
    assert splits.notes[0] == "valid: 10% of the training rows (10), cut by seed 0, rows of one label together"
    with pytest.raises(DataError, match=r"data\.split_by: There is no column of the task 'lable'"):
        load_splits(DataConfig(path=path, split_by="lable"), Topic(), host)


# --- several files for one split


def test_several_files_make_one_split(tmp_path: Path, host: Host) -> None:
    for name in ("wiki", "reddit", "dev"):
        lines(tmp_path / f"{name}.jsonl", [{"text": name, "label": "1"}])
    data = DataConfig(path=str(tmp_path), splits={"train": ("wiki.jsonl", "reddit.jsonl"), "test": "dev.jsonl"})
    assert {split: len(files) for split, files in find_files(data).items()} == {"train": 2, "test": 1}
    rows = load_splits(DataConfig(**{**data.__dict__, "valid_fraction": 0.0}), Topic(), host).rows
    assert [row["text"] for row in rows["train"]] == ["wiki", "reddit"]
    assert [row["id"] for row in rows["train"]] == ["train-1", "train-2"]


def test_a_wrong_list_of_files_is_refused(tmp_path: Path) -> None:
    lines(tmp_path / "wiki.jsonl", [])
    with pytest.raises(DataError, match=r"data\.splits\.train: There is no file.*Did you mean 'wiki\.jsonl'"):
        find_files(DataConfig(path=str(tmp_path), splits={"train": ("wiki.jsonl", "wki.jsonl")}))
    with pytest.raises(DataError, match=r"data\.splits\.train: the list of files is empty"):
        find_files(DataConfig(path=str(tmp_path), splits={"train": ()}))
    with pytest.raises(DataError, match="several splits of the Hub cannot"):
        pick_splits(DataConfig(splits={"train": ("a", "b")}), ["a", "b"])


def test_the_command_line_takes_a_list_of_files(host: Host) -> None:
    given = ["task=ner", "data.splits.train=[a.txt,b.txt]", "data.splits.test=c d.txt", "data.path=[x]"]
    assert quoted(given, host)[1:] == [
        "data.splits.train=[a.txt,b.txt]",
        "data.splits.test='c d.txt'",
        "data.path='[x]'",
    ]


# --- bad rows


def test_bad_rows_are_skipped_by_choice_and_counted(tmp_path: Path, host: Host) -> None:
    rows = [{"query": "q", "candidates": ["a", "b"], "labels": [0, 1]} for _ in range(5)]
    rows[1]["labels"] = [1]
    rows[3]["query"] = " "
    path = lines(tmp_path / "train.jsonl", rows)
    with pytest.raises(DataError, match=r"train row 2 of .*: 2 candidates have 1 labels; each needs one"):
        load(path, host, group_by=None, columns={})
    splits = load(path, host, group_by=None, columns={}, bad_rows="skip")
    assert [row["id"] for row in splits.rows["train"]] == ["train-1", "train-3", "train-5"]
    note = (
        "train: 2 rows skipped (data.bad_rows=skip), the first is row 2 (train.jsonl:2): 2 candidates have 1 labels; each "
        "needs one. Others: 4."
    )
    assert splits.notes == (note,)
