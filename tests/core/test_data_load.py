"""Rows for a task: mapped, converted, checked, with ids; and files for prediction, row by row."""

from __future__ import annotations

import gzip
import itertools
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.core.data_tasks import Scored, Topic, Words, shared

from vertebra.config.schema import DataConfig
from vertebra.data.formats import STREAMS
from vertebra.data.inputs import checked, iterate_file, iterate_mixed_file
from vertebra.data.load import Splits, load_splits
from vertebra.errors import DataError
from vertebra.host.manager import Host, create_host
from vertebra.host.refs import ReaderRef
from vertebra.tasks.task import Row, Task


@pytest.fixture(scope="module")
def host() -> Host:
    return create_host()


def lines(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def topics(number: int, **more: Any) -> list[dict[str, Any]]:
    return [{"text": f"text {place}", "label": str(place % 3), **more} for place in range(number)]


def refused(data: DataConfig, task: Task, host: Host) -> str:
    with pytest.raises(DataError) as error:
        load_splits(data, task, host)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- whole data sets


def test_rows_have_the_task_s_columns_and_an_id(tmp_path: Path, host: Host) -> None:
    lines(tmp_path, "train.jsonl", topics(3, other="x"))
    lines(tmp_path, "test.jsonl", topics(2))
    splits = load_splits(DataConfig(path=str(tmp_path), valid_fraction=0), Topic(), host)
    assert splits.rows == {
        "train": [{"text": f"text {place}", "label": str(place), "id": f"train-{place + 1}"} for place in range(3)],
        "test": [{"text": f"text {place}", "label": str(place), "id": f"test-{place + 1}"} for place in range(2)],
    }
    assert splits.notes == ()


def test_missing_splits_are_cut_and_noted(tmp_path: Path, host: Host) -> None:
    path = lines(tmp_path, "all.jsonl", topics(100))
    splits = load_splits(DataConfig(path=str(path), limit=70), Topic(), host)
    assert {split: len(rows) for split, rows in splits.rows.items()} == {"train": 70, "valid": 10, "test": 10}
    assert all(row["text"] == f"text {int(row['id'].removeprefix('train-')) - 1}" for row in splits.rows["test"])
    assert splits.notes == (
        "valid: 10% of the training rows (10), cut by seed 0",
        "test: 10% of the training rows (10), cut by seed 0",
        "at most 70 rows of each split (data.limit)",
    )
    again = load_splits(DataConfig(path=str(path), limit=70), Topic(), host)
    assert again == splits


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path, host: Host) -> None:
    def fingerprint(name: str, rows: list[dict[str, Any]], **data: Any) -> str:
        return load_splits(DataConfig(path=str(lines(tmp_path, name, rows)), **data), Topic(), host).fingerprint

    plain = fingerprint("a.jsonl", topics(9))
    assert fingerprint("b.jsonl", topics(9, other=1)) == plain, "what the task does not see does not count"
    assert fingerprint("b.jsonl", topics(8)) != plain
    assert fingerprint("b.jsonl", topics(9)[::-1]) != plain
    assert fingerprint("b.jsonl", topics(9), split_seed=1) != plain
    assert fingerprint("b.jsonl", topics(9), columns={"text": "label", "label": "text"}) != plain


def test_columns_are_mapped_by_name_or_number(tmp_path: Path, host: Host) -> None:
    (tmp_path / "named.csv").write_text("topic,body\nx,a\ny,b\n", encoding="utf-8")
    (tmp_path / "bare.csv").write_text("x,a\ny,b\n", encoding="utf-8")
    (tmp_path / "bare.conll").write_text("a NN x\n", encoding="utf-8")

    def train(name: str, task: Task, **data: Any) -> Splits:
        return load_splits(DataConfig(path=str(tmp_path / name), valid_fraction=0, test_fraction=0, **data), task, host)

    wanted = [{"text": "a", "label": "x", "id": "train-1"}, {"text": "b", "label": "y", "id": "train-2"}]
    assert train("named.csv", Topic(), columns={"text": "body", "label": "topic"}).rows == {"train": wanted}
    assert train("bare.csv", Topic(), columns={"text": -1, "label": 0}).rows == {"train": wanted}
    by_place = train("bare.conll", Words())
    assert by_place.rows["train"] == [{"tokens": ["a"], "tags": ["x"], "id": "train-1"}]
    assert by_place.notes == ("columns by place: 'tokens' is the first, 'tags' the last",)
    named_elsewhere = train("bare.conll", Words(), columns={"tags": "ner_tags"})
    assert named_elsewhere == by_place, "an option file may map the Hub's names; a file of columns has none"
    assert train("bare.conll", Words(), columns={"tokens": 0, "tags": 1}).rows["train"][0]["tags"] == ["NN"]


def test_a_missing_column_says_what_is_there(tmp_path: Path, host: Host) -> None:
    path = lines(tmp_path, "train.jsonl", [{"txt": "a", "label": "x"}])
    message = refused(DataConfig(path=str(path)), Topic(), host)
    assert "no column 'text'. Did you mean 'txt'? There are: txt, label. Set data.columns.text=NAME" in message
    (tmp_path / "bare.tsv").write_text("a\tx\n", encoding="utf-8")
    message = refused(DataConfig(path=str(tmp_path / "bare.tsv"), columns={"text": 0, "label": 2}), Topic(), host)
    assert "no column number 2: there are 2, numbered from 0" in message
    message = refused(DataConfig(path=str(tmp_path / "bare.tsv"), columns={"text": 0}), Topic(), host)
    assert "no column" in message and "data.columns.label=" in message
    path = lines(tmp_path, "later.jsonl", [*topics(2), {"text": "a"}])
    assert f"train row 3 of '{path}' (later.jsonl:3) has no column 'label'" in refused(
        DataConfig(path=str(path)), Topic(), host
    )


def test_a_wrong_mapping_is_refused(tmp_path: Path, host: Host) -> None:
    path = str(lines(tmp_path, "train.jsonl", topics(3)))
    message = refused(DataConfig(path=path, columns={"txt": "text"}), Topic(), host)
    assert "There is no column of the task 'txt'. Did you mean 'text'?" in message
    assert "all by number" in refused(DataConfig(path=path, columns={"text": "text", "label": 1}), Topic(), host)


def test_values_become_what_the_task_declares(tmp_path: Path, host: Host) -> None:
    rows = [
        {"text": "a", "count": "3", "score": "0.5", "good": "true"},
        {"text": 7, "count": 4.0, "score": 1, "good": 0},
    ]
    path = lines(tmp_path, "train.jsonl", rows)
    train = load_splits(DataConfig(path=str(path), valid_fraction=0, test_fraction=0), Scored(), host).rows["train"]
    assert train == [
        {"text": "a", "count": 3, "score": 0.5, "good": True, "id": "train-1"},
        {"text": "7", "count": 4, "score": 1.0, "good": False, "id": "train-2"},
    ]
    assert [type(value) for value in train[1].values()] == [str, int, float, bool, str]


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("text", None, "column 'text' is empty"),
        ("text", ["a"], "must be a text, not ['a']"),
        ("text", 1.5, "must be a text, not 1.5"),
        ("count", 1.5, "must be a whole number, not 1.5"),
        ("count", "many", "must be a whole number, not 'many'"),
        ("score", "high", "must be a number, not 'high'"),
        ("score", "nan", "must be a number, not 'nan'"),
        ("score", 10**400, "must be a number, not 1000"),
        ("score", True, "must be a number, not True"),
        ("good", "perhaps", "must be true or false, not 'perhaps'"),
    ],
)
def test_a_wrong_value_is_named_with_its_row(tmp_path: Path, host: Host, column: str, value: Any, said: str) -> None:
    row = {"text": "a", "count": 3, "score": 0.5, "good": True}
    path = lines(tmp_path, "train.jsonl", [row, row | {column: value}])
    message = refused(DataConfig(path=str(path)), Scored(), host)
    assert message.startswith(f"train row 2 of '{path}' (train.jsonl:2): column '{column}'") and said in message
    assert message.endswith("data.bad_rows=skip, which counts them.")


def test_a_text_is_no_list(tmp_path: Path, host: Host) -> None:
    path = lines(tmp_path, "train.jsonl", [{"tokens": "a b", "tags": ["x"]}])
    assert "column 'tokens' must be a list, not 'a b'" in refused(DataConfig(path=str(path)), Words(), host)


def test_what_the_task_refuses_is_named_with_its_row(tmp_path: Path, host: Host) -> None:
    lines(tmp_path, "train.jsonl", topics(3))
    lines(tmp_path, "test.jsonl", [*topics(4), {"text": "a", "label": "forbidden"}])
    message = refused(DataConfig(path=str(tmp_path)), Topic(), host)
    assert message.startswith(f"test row 5 of '{tmp_path}' (test.jsonl:5): the label 'forbidden'")


def test_own_ids(tmp_path: Path, host: Host) -> None:
    rows = [row | {"id": number, "key": f"k{number}"} for number, row in enumerate(topics(3), start=7)]
    path = str(lines(tmp_path, "train.jsonl", rows))
    data = DataConfig(path=path, valid_fraction=0, test_fraction=0)
    assert [row["id"] for row in load_splits(data, Topic(), host).rows["train"]] == ["7", "8", "9"]
    data = DataConfig(path=path, valid_fraction=0, test_fraction=0, columns={"id": "key"})
    assert [row["id"] for row in load_splits(data, Topic(), host).rows["train"]] == ["k7", "k8", "k9"]
    path = str(lines(tmp_path, "twice.jsonl", [*rows, rows[1]]))
    assert f"train row 4 of '{path}' (twice.jsonl:4): id '8' is that of row 2, too" in refused(
        DataConfig(path=path), Topic(), host
    )
    assert "no column 'kye'. Did you mean 'key'?" in refused(
        DataConfig(path=path, columns={"id": "kye"}), Topic(), host
    )


def test_without_training_rows_nothing_is_loaded(tmp_path: Path, host: Host) -> None:
    lines(tmp_path, "test.jsonl", topics(3))
    assert "has no training rows (it has: test)" in refused(DataConfig(path=str(tmp_path)), Topic(), host)
    (tmp_path / "train.jsonl").touch()
    assert "train.jsonl' has no rows" in refused(DataConfig(path=str(tmp_path)), Topic(), host)


def strange(data: DataConfig) -> dict[str, list[Row]]:
    return {"train": topics(3), "dev": topics(1)}


def empty(data: DataConfig) -> dict[str, list[Row]]:
    return {"train": topics(30), "valid": []}


def test_a_split_whose_rows_are_all_skipped_is_refused(tmp_path: Path, host: Host) -> None:
    lines(tmp_path, "train.jsonl", topics(30))
    lines(tmp_path, "valid.jsonl", [{"text": "a", "label": "forbidden"}])
    message = refused(DataConfig(path=str(tmp_path), bad_rows="skip"), Topic(), host)
    assert (
        "has no rows (valid: 1 rows skipped (data.bad_rows=skip), the first is row 1 (valid.jsonl:1): the label"
        in message
    )


def test_a_reader_of_a_plugin_gives_the_known_splits() -> None:
    class OneReader(Host):
        def get(self, kind: str, name: str) -> ReaderRef:
            return ReaderRef(name, f"{__name__}:{name}", splits="parts" if name == "empty" else None)

    message = refused(DataConfig(format="strange"), Topic(), OneReader())
    assert message == "The reader 'strange' gave the split 'dev'; splits are train, valid, test."
    message = refused(DataConfig(format="strange", splits={"test": "nosuch.txt"}), Topic(), OneReader())
    assert "the reader 'strange' finds its splits by itself, and would not read data.splits.test" in message
    message = refused(DataConfig(format="empty", splits={"validation": "x"}), Topic(), OneReader())
    assert "data.splits: There is no split 'validation'" in message
    message = refused(DataConfig(format="empty", path="place"), Topic(), OneReader())
    assert message.startswith("The valid split of 'place' has no rows.")


def test_real_data_sets(host: Host) -> None:
    banking = load_splits(
        DataConfig(path=shared("classification/banking77"), columns={"label": "category"}), Topic(), host
    )
    assert {split: len(rows) for split, rows in banking.rows.items()} == {"train": 9003, "valid": 1000, "test": 3080}
    assert len({row["label"] for row in banking.rows["test"]}) == 77
    data = DataConfig(path=shared("sentiment/sst2"), columns={"text": 0, "label": 1})
    sst2 = load_splits(data, Topic(), host)
    assert {split: len(rows) for split, rows in sst2.rows.items()} == {"train": 6920, "valid": 872, "test": 1821}
    assert "for a file without a header" in refused(DataConfig(path=shared("sentiment/sst2")), Topic(), host)
    conll = load_splits(DataConfig(path=shared("ner/conll2003")), Words(), host)
    assert conll.rows["test"][0]["tokens"][:4] == ["SOCCER", "-", "JAPAN", "GET"]


# --- files for prediction


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.jsonl", '{"text": "a b"}\n{"text": "c"}\n'),
        ("in.json", '[{"text": "a b"}, {"text": "c"}]'),
        ("in.csv", "text,label\na b,x\nc,y\n"),
        ("in.tsv", "text\na b\nc\n"),
        ("in.txt", "a b\n\nc\n"),
        ("in", "a b\nc\n"),
    ],
)
def test_every_format_gives_rows_for_prediction(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    wanted = [{"text": "a b", "id": "row-1"}, {"text": "c", "id": "row-2"}]
    assert list(iterate_file(path, DataConfig(), Topic())) == wanted
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(content.encode()))
    assert list(iterate_file(packed, DataConfig(), Topic())) == wanted
    assert [row["tokens"] for row in iterate_file(path, DataConfig(), Words())] == [["a", "b"], ["c"]]


def test_prediction_follows_the_mapping_where_it_fits(tmp_path: Path) -> None:
    data = DataConfig(columns={"text": "body", "label": "topic"})
    path = lines(tmp_path, "in.jsonl", [{"body": "a", "id": 0}, {"text": "b"}])
    assert list(iterate_file(path, data, Topic())) == [{"text": "a", "id": "0"}, {"text": "b", "id": "row-2"}]
    path = lines(tmp_path, "keyed.jsonl", [{"text": "a", "key": "k"}, {"text": "b"}])
    rows = list(iterate_file(path, DataConfig(columns={"id": "key"}), Topic()))
    assert [row["id"] for row in rows] == ["k", "row-2"]
    path = tmp_path / "in.conll"
    path.write_text("a\nb\n\nc\n", encoding="utf-8")
    rows = list(iterate_file(path, DataConfig(columns={"tokens": 0, "tags": -1}), Words()))
    assert [row["tokens"] for row in rows] == [["a", "b"], ["c"]]


def test_numbers_of_the_training_data_say_nothing_of_columns_with_names(tmp_path: Path) -> None:
    data = DataConfig(format="tsv", columns={"text": 0, "label": 1, "id": 2})
    path = lines(tmp_path, "in.jsonl", [{"id": "r1", "text": "good movie"}, {"n": 1, "text": "bad"}])
    wanted = [{"text": "good movie", "id": "r1"}, {"text": "bad", "id": "row-2"}]
    assert list(iterate_file(path, data, Topic())) == wanted
    assert [row for _, row in iterate_mixed_file(tagged(tmp_path, path), {"topic": (data, Topic())})] == wanted
    for name, content in (("in.csv", "id;text\nr1;good movie\n"), ("in.tsv", "id\ttext\nr1\tgood movie\n")):
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert list(iterate_file(tmp_path / name, data, Topic())) == wanted[:1], "its header names what is needed"
    (tmp_path / "bare.tsv").write_text("good movie\t\tr1\n", encoding="utf-8")
    assert list(iterate_file(tmp_path / "bare.tsv", data, Topic())) == wanted[:1], "no names, so the numbers count"
    (tmp_path / "in.txt").write_text("Ada slept\n", encoding="utf-8")
    data = DataConfig(format="columns", columns={"tokens": 0, "tags": 1})
    assert [row["tokens"] for row in iterate_file(tmp_path / "in.txt", data, Words())] == [["Ada", "slept"]]


def tagged(folder: Path, path: Path) -> Path:
    """Return a copy of a file whose rows name the task `topic`."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return lines(folder, f"tagged-{path.name}", [{"task": "topic"} | row for row in rows])


def test_a_txt_to_predict_on_is_text_unless_the_training_data_were_like_its_content(tmp_path: Path) -> None:
    texts, sentences = tmp_path / "texts.txt", tmp_path / "test.txt"
    texts.write_text("Ada sleeps.\n\nBob walks.\n\nEve runs.\n", encoding="utf-8")
    sentences.write_text("Ada A\nsleeps B\n\nBob A\n\n", encoding="utf-8")

    def tokens(file: Path, **data: Any) -> list[list[str]]:
        return [row["tokens"] for row in iterate_file(file, DataConfig(**data), Words())]

    as_text = [["Ada", "sleeps."], ["Bob", "walks."], ["Eve", "runs."]]
    in_columns = [["Ada", "sleeps"], ["Bob"]]
    (tmp_path / "train.txt").write_text("a A\nb B\n\nc A\nd B\n", encoding="utf-8")
    for data in ({"format": "columns"}, {"format": "json"}, {"path": str(tmp_path / "train.txt")}, {}):
        assert tokens(texts, **data) == as_text
    assert tokens(sentences, format="columns") == tokens(sentences, path=str(tmp_path / "train.txt")) == in_columns
    assert tokens(sentences, format="json") == [["Ada", "A"], ["sleeps", "B"], ["Bob", "A"]]
    (tmp_path / "train.txt").rename(tmp_path / "moved.txt")
    with pytest.raises(DataError, match=r"test\.txt' could be one text a line, or columns.*such as \.conll"):
        tokens(sentences, path=str(tmp_path / "train.txt"))


def test_a_cell_without_anything_is_refused(tmp_path: Path, host: Host) -> None:
    path = tmp_path / "train.conll"
    path.write_text("a\tx\n\nb\tx\n\ty\n", encoding="utf-8")
    message = refused(DataConfig(path=str(path)), Words(), host)
    assert message.startswith(
        f"train row 2 of '{path}' (train.conll:3): line 2 of this sentence has nothing in column 'tok"
    )
    path.write_text("a\t\n", encoding="utf-8")
    assert "nothing in column 'tags'" in refused(DataConfig(path=str(path)), Words(), host)
    assert [row["tokens"] for row in iterate_file(path, DataConfig(), Words())] == [["a"]], "tags are not needed"


def test_the_training_data_s_encoding_and_separator_say_nothing_of_other_files(tmp_path: Path) -> None:
    data = DataConfig(format="tsv", encoding="latin-1", separator="@", columns={"text": 0, "label": 1})
    (tmp_path / "in.jsonl").write_text('{"text": "Café"}\n', encoding="utf-8")
    (tmp_path / "in.csv").write_text("Café,@x\n", encoding="utf-8")
    (tmp_path / "in.tsv").write_text("Café@x\n", encoding="utf-8")
    (tmp_path / "old.txt").write_text("Café\n", encoding="latin-1")
    for name in ("in.jsonl", "in.csv", "in.tsv"):
        assert [row["text"] for row in iterate_file(tmp_path / name, data, Topic())] == ["Café"], name
    with pytest.raises(DataError, match=r"not utf-8 text.*--encoding"):
        list(iterate_file(tmp_path / "old.txt", data, Topic()))
    assert [row["text"] for row in iterate_file(tmp_path / "old.txt", data, Topic(), "latin-1")] == ["Café"]


def test_a_bad_row_for_prediction_is_named(tmp_path: Path) -> None:
    path = lines(tmp_path, "in.jsonl", [{"text": "a"}, {"txt": "b"}])
    with pytest.raises(DataError, match=r"in\.jsonl:2: no column 'text'\. Did you mean 'txt'"):
        list(iterate_file(path, DataConfig(), Topic()))
    with pytest.raises(DataError, match=r"no file or folder.*Did you mean 'in\.jsonl'"):
        list(iterate_file(tmp_path / "in.json", DataConfig(), Topic()))


def test_a_row_for_prediction_is_what_the_task_declares() -> None:
    row = {"text": 5, "label": None, "note": None, "id": "a"}
    assert checked(row, Topic()) == {"text": "5", "note": None, "id": "a"}, "a label that is not known is left out"
    assert checked({"text": "a", "label": 3}, Topic()) == {"text": "a", "label": "3"}
    for wrong, said in (({"text": ["a"]}, "must be a text"), ({"text": "a", "label": "forbidden"}, "not allowed")):
        with pytest.raises(DataError, match=said):
            checked(wrong, Topic())


def test_memory_does_not_grow_with_a_file_for_prediction(tmp_path: Path) -> None:
    def peak(number: int) -> int:
        path = tmp_path / f"{number}.jsonl.gz"
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": f"text {place} " * 20}) + "\n" for place in range(number))
        tracemalloc.start()
        count = sum(1 for _ in iterate_file(path, DataConfig(), Topic()))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count == number
        return most

    peak(10)  # what is imported and cached at first use
    assert peak(20_000) < peak(200) + 200_000


def test_prediction_starts_before_the_file_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def endless(path: Path, data: DataConfig) -> Iterator[Row]:
        return ({"text": str(number)} for number in itertools.count())

    monkeypatch.setitem(STREAMS, "json", endless)
    first = next(iter(iterate_file(lines(tmp_path, "in.jsonl", []), DataConfig(), Topic())))
    assert first == {"text": "0", "id": "row-1"}
