"""The NER task: tags of any scheme in, typed stretches of text out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vertebra.config.schema import DataConfig
from vertebra.data.formats import columns_rows
from vertebra.data.load import load_splits
from vertebra.errors import DataError
from vertebra.host.manager import create_host
from vertebra.report.figures import Table
from vertebra.tasks.task import Row
from vertebra_ner.config import NERConfig
from vertebra_ner.task import NER

DATA = Path(__file__).resolve().parents[4] / "shared/data/ner"


def fitted(*tag_lists: list[str]) -> NER:
    task = NER(NERConfig())
    task.fit([{"tokens": ["word"] * len(tags), "tags": tags} for tags in tag_lists])
    return task


def rows_of(name: str, file: str, column: str) -> list[Row]:
    path = DATA / name / file
    if not path.is_file():
        pytest.skip(f"needs {path}")
    return [{"tokens": row["0"], "tags": row[column]} for row in columns_rows(path, DataConfig())]


# --- tags


@pytest.mark.parametrize(
    "tags",
    [
        ["I-PER", "I-PER", "B-PER", "O", "I-LOC"],  # IOB1
        ["B-PER", "I-PER", "B-PER", "O", "B-LOC"],  # IOB2
        ["B-PER", "E-PER", "S-PER", "O", "S-LOC"],  # BIOES and BMES
        ["B-PER", "L-PER", "U-PER", "O", "U-LOC"],  # BILOU
    ],
)
def test_the_scheme_of_the_training_rows_is_read_as_iob2(tags: list[str]) -> None:
    task = fitted(tags)
    row = {"tokens": ["a"] * 5, "tags": tags}
    assert task.tags(row) == ["B-PER", "I-PER", "B-PER", "O", "B-LOC"]
    assert task.labels == ["O", "B-LOC", "B-PER", "I-PER"]
    assert task.reference(row)["tags"] == task.tags(row)
    assert task.labels_of(row) == task.tags(row)


def test_the_training_rows_decide_for_all_splits() -> None:
    task = fitted(["I-PER", "I-PER"], ["I-LOC", "O"])
    assert task.tags({"tokens": ["a", "b"], "tags": ["O", "I-PER"]}) == ["O", "B-PER"]
    with pytest.raises(DataError, match="S-PER"):
        task.tags({"tokens": ["a"], "tags": ["S-PER"]})


def test_what_was_learnt_comes_back_from_json() -> None:
    task = fitted(["B-PER", "E-PER", "S-PER", "O"])
    other = NER()
    other.restore(json.loads(json.dumps(task.state())))
    assert other.state() == task.state()
    assert other.tags({"tokens": ["a"], "tags": ["S-PER"]}) == ["B-PER"]


@pytest.mark.parametrize("tag", ["PER", "NN", "", "X-PER", "B-", "B"])
def test_a_tag_of_no_scheme_is_refused(tag: str) -> None:
    with pytest.raises(DataError, match="marks no entity"):
        NER().check({"tokens": ["a", "b"], "tags": ["O", tag]})


def test_the_family_s_checks_hold_too() -> None:
    with pytest.raises(DataError, match="2 tokens have 1 tags"):
        NER().check({"tokens": ["a", "b"], "tags": ["O"]})
    NER().check({"tokens": ["a", "b"], "tags": ["O", "S-PER"]})


# --- predictions


def test_entities_of_raw_text_say_where_they_stand_in_it() -> None:
    task = fitted(["B-PER", "I-PER", "O", "B-LOC"])
    row = task.row_from_text("Mr.  X\nin 北京。")
    assert row["tokens"] == ["Mr.", "X", "in", "北", "京", "。"]
    prediction = task.combine(row, [["B-PER", "I-PER", "O", "B-LOC", "I-LOC", "O"]])
    assert prediction["entities"] == [
        {"type": "PER", "text": "Mr.  X", "start": 0, "end": 6, "first": 0, "last": 1},
        {"type": "LOC", "text": "北京", "start": 10, "end": 12, "first": 3, "last": 4},
    ]
    assert json.loads(json.dumps(prediction)) == prediction


def test_entities_of_words_are_written_with_spaces_but_not_between_chinese_characters() -> None:
    task = fitted(["B-PER", "I-PER", "O"])
    english = task.reference({"tokens": ["met", "New", "York"], "tags": ["O", "B-PER", "I-PER"]})
    assert english["entities"][0] == {"type": "PER", "text": "New York", "start": 4, "end": 12, "first": 1, "last": 2}
    chinese = task.reference({"tokens": ["在", "高", "勇"], "tags": ["O", "B-PER", "I-PER"]})
    assert chinese["entities"][0] == {"type": "PER", "text": "高勇", "start": 1, "end": 3, "first": 1, "last": 2}


TAGS = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])


@given(st.lists(st.lists(TAGS, max_size=6), min_size=1, max_size=4))
def test_predictions_are_well_formed_also_where_windows_meet(parts: list[list[str]]) -> None:
    task = fitted(["B-PER", "I-PER", "O", "B-LOC", "I-LOC"])
    joined = [tag for part in parts for tag in part]
    prediction = task.combine({"tokens": ["w"] * len(joined)}, parts)
    tags = prediction["tags"]
    assert [tag[2:] for tag in tags] == [tag[2:] for tag in joined]
    for before, tag in zip(["O", *tags], tags, strict=False):
        assert not tag.startswith("I-") or before[2:] == tag[2:]
    marked = [number for one in prediction["entities"] for number in range(one["first"], one["last"] + 1)]
    assert marked == [number for number, tag in enumerate(tags) if tag != "O"]


@given(st.text())
def test_entity_offsets_point_into_any_text(text: str) -> None:
    task = fitted(["B-PER", "I-PER", "O"])
    row = task.row_from_text(text)
    count = len(row["tokens"])
    prediction = task.combine(row, [["B-PER", "I-PER"] * (count // 2) + ["O"] * (count % 2)])
    assert all(one["text"] == text[one["start"] : one["end"]] != "" for one in prediction["entities"])
    assert len(prediction["entities"]) == count // 2


# --- the report


def test_the_report_has_both_kinds_of_scores_and_says_which_is_which() -> None:
    task = fitted(["B-PER", "I-PER", "O", "B-LOC"])
    row = {"tokens": ["a", "b", "c", "d"], "tags": ["B-PER", "I-PER", "O", "B-LOC"]}
    reference = task.reference(row)
    prediction = task.combine(row, [["B-PER", "O", "O", "B-LOC"]])
    by_entity, _, by_word = task.figures([prediction], [reference])
    assert isinstance(by_entity, Table)
    assert isinstance(by_word, Table)
    entities = {cells[0]: cells[1:] for cells in by_entity.rows}
    words = {cells[0]: cells[1:] for cells in by_word.rows}
    assert entities["PER"] == (0.0, 0.0, 0.0, 1)
    assert entities["LOC"] == (1.0, 1.0, 1.0, 1)
    assert entities["micro avg"] == (0.5, 0.5, 0.5, 2)
    assert words["B-PER"] == (1.0, 1.0, 1.0, 1)
    assert "strict" in by_entity.note
    assert "single words" in by_entity.note
    assert "scikit-learn" in by_word.note


@pytest.mark.parametrize("tags", [["O", "O"], ["B-PER", "O"]])
def test_the_report_bears_data_and_predictions_without_entities(tags: list[str]) -> None:
    task = fitted(["B-PER", "O"])
    row = {"tokens": ["a", "b"], "tags": tags}
    nothing = task.combine(row, [["O", "O"]])
    assert task.figures([nothing], [task.reference(row)])
    assert task.figures([], []) == []


# --- real data


def test_conll2003_has_as_many_entities_as_its_authors_counted() -> None:
    train, test = rows_of("conll2003", "train.txt", "3"), rows_of("conll2003", "test.txt", "3")
    task = NER()
    task.fit(train)
    assert str(task.scheme) == "iob1"
    assert task.labels == ["O"] + [f"{letter}-{kind}" for letter in "BI" for kind in ("LOC", "MISC", "ORG", "PER")]
    assert sum(len(task.reference(row)["entities"]) for row in test) == 5648  # Tjong Kim Sang and De Meulder, table 2
    assert sum(len(task.reference(row)["entities"]) for row in train) == 23499


def test_resume_zh_is_read_character_by_character() -> None:
    train, test = rows_of("resume_zh", "train.bmes", "1"), rows_of("resume_zh", "test.bmes", "1")
    task = NER()
    task.fit(train)
    assert str(task.scheme) == "bmes"
    assert task.by_character
    reference = task.reference(train[0])
    assert [(one["type"], one["text"]) for one in reference["entities"]][:2] == [("NAME", "高勇"), ("CONT", "中国国籍")]
    assert {tag for row in test for tag in task.tags(row)} <= set(task.labels)


# --- the plugin's options


@pytest.mark.parametrize(
    ("option", "folder", "rows"),
    [
        ("sample", None, {"train": 800, "valid": 120, "test": 120}),
        ("conll2003", "conll2003", {"train": 14041, "valid": 3250, "test": 3453}),
        ("conll", "conll2003", {"train": 14041, "valid": 3250, "test": 3453}),
        ("resume_zh", "resume_zh", {"train": 3821, "valid": 463, "test": 477}),
    ],
)
def test_each_data_option_loads(option: str, folder: str | None, rows: dict[str, int]) -> None:
    from vertebra.config.options import configure

    if folder and not (DATA / folder).is_dir():
        pytest.skip(f"needs {DATA / folder}")
    changes: dict[str, Any] = {"option": f"ner/{option}"} | ({"path": str(DATA / folder)} if folder else {})
    host = create_host()
    choice = configure(host, task="ner", data=changes).tasks[0]
    assert isinstance(choice.config, NERConfig)
    splits = load_splits(choice.data, NER(choice.config), host)
    assert {name: len(some) for name, some in splits.rows.items()} == rows


def test_the_plugin_brings_what_its_task_names() -> None:
    host = create_host()
    assert host.get("task", "ner").load() is NER
    for name in NER.metrics:
        metric = host.get("metric", name).load()()
        assert metric.name == name
