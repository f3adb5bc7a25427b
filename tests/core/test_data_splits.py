"""Splits: given, found by name, cut; and what is local."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.data_tasks import shared

from vertebra.config.schema import DataConfig
from vertebra.data.splits import cut, find_files, find_format, on_hub, pick_splits
from vertebra.errors import DataError


def folder(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a\tb\n", encoding="utf-8")
    return root


def found(path: Path | str, **data: Any) -> dict[str, list[str]]:
    files = find_files(DataConfig(path=str(path), **data))
    return {split: [file.name for file in some] for split, some in files.items()}


@pytest.mark.parametrize(
    ("train", "valid", "test"),
    [
        ("train.txt", "valid.txt", "test.txt"),
        ("train.csv.gz", "dev.csv.gz", "test.csv.gz"),
        ("training.jsonl", "validation.jsonl", "testing.jsonl"),
        ("sst2_train.tsv", "sst2_val.tsv", "sst2_test.tsv"),
        ("books.train.jsonl.xz", "books.valid.jsonl.xz", "books.test.jsonl.xz"),
        ("Train.conll", "Dev.conll", "Test.conll"),
        ("eng.train", "eng.testa", "eng.testb"),
    ],
)
def test_splits_are_found_by_name(tmp_path: Path, train: str, valid: str, test: str) -> None:
    folder(tmp_path, train, valid, test, "README.md", ".train.tsv", "latest.tsv", "license.txt")
    assert found(tmp_path) == {"train": [train], "valid": [valid], "test": [test]}


def test_shards_of_a_split_stay_together(tmp_path: Path) -> None:
    names = [f"train-0000{number}-of-00002.parquet" for number in range(2)]
    folder(tmp_path, *names, "test-00000-of-00001.parquet")
    assert found(tmp_path) == {"train": names, "test": ["test-00000-of-00001.parquet"]}


def test_an_exact_name_comes_first(tmp_path: Path) -> None:
    folder(tmp_path, "train.tsv", "train_extra.tsv", "test.tsv", "test_labels.tsv")
    assert found(tmp_path) == {"train": ["train.tsv"], "test": ["test.tsv"]}


def test_several_candidates_are_refused(tmp_path: Path) -> None:
    folder(tmp_path, "train.de", "train.en")
    with pytest.raises(DataError, match=r"split 'train': train\.de, train\.en.*data\.splits\.train=FILE"):
        found(tmp_path)


@pytest.mark.parametrize("beside", [(), ("train.tsv",), ("train.tsv", "test.tsv")])
def test_a_file_is_never_two_splits(tmp_path: Path, beside: tuple[str, ...]) -> None:
    folder(tmp_path, "train_dev.tsv", *beside)
    with pytest.raises(
        DataError, match=r"'train_dev\.tsv' could be the split 'train' or 'valid'.*data\.splits\.(train|valid)=FILE"
    ):
        found(tmp_path)
    named = found(tmp_path, splits={"train": "train_dev.tsv"})
    assert named == {"train": ["train_dev.tsv"]} | ({"test": ["test.tsv"]} if "test.tsv" in beside else {})
    folder(tmp_path, "train.tsv", "dev.tsv")
    assert found(tmp_path) == {"train": ["train.tsv"], "valid": ["dev.tsv"]} | (
        {"test": ["test.tsv"]} if "test.tsv" in beside else {}
    ), "what is called exactly so comes first"


def test_a_split_of_the_hub_is_never_two() -> None:
    data = DataConfig(path="owner/name", splits={"train": "validation"})
    assert pick_splits(data, ["train", "validation"]) == {"train": "validation"}
    assert pick_splits(DataConfig(path="owner/name"), ["train", "dev"]) == {"train": "train", "valid": "dev"}


def test_the_format_decides_between_candidates(tmp_path: Path) -> None:
    folder(tmp_path, "train.csv", "train.json")
    assert found(tmp_path, format="json") == {"train": ["train.json"]}


def test_given_splits(tmp_path: Path) -> None:
    folder(tmp_path, "one.tsv", "two.tsv", "test.tsv", "deeper/three.tsv")
    splits = {"train": "one.tsv", "valid": "deeper/three.tsv"}
    assert found(tmp_path, splits=splits) == {"train": ["one.tsv"], "valid": ["three.tsv"], "test": ["test.tsv"]}
    assert found(tmp_path / "one.tsv") == {"train": ["one.tsv"]}
    absolute = str(tmp_path / "two.tsv")
    assert found(tmp_path, splits={"train": absolute})["train"] == ["two.tsv"]


def test_a_file_is_the_training_split_whatever_an_option_says(tmp_path: Path) -> None:
    folder(tmp_path, "one.tsv", "two.tsv", "three.tsv")
    splits = {"train": "two.tsv", "test": "three.tsv"}
    assert found(tmp_path / "one.tsv", splits=splits) == {"train": ["one.tsv"], "test": ["three.tsv"]}


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, "one.tsv", "two.tsv")
    with pytest.raises(DataError, match=r"data\.splits\.train: There is no file.*Did you mean 'one\.tsv'"):
        found(tmp_path, splits={"train": "one.tvs"})
    with pytest.raises(DataError, match=r"data\.splits: There is no split 'dev'.*Known: test, train, valid"):
        found(tmp_path, splits={"dev": "one.tsv"})
    with pytest.raises(DataError, match=r"no files named train.*holds: one\.tsv, two\.tsv"):
        found(tmp_path)
    with pytest.raises(DataError, match="holds: nothing"):
        found(folder(tmp_path / "empty", "inner/train.tsv"))
    with pytest.raises(DataError, match=r"data\.path is not set"):
        find_files(DataConfig())


def test_one_file_alone_is_train(tmp_path: Path) -> None:
    assert found(folder(tmp_path, "everything.tsv", "README.md")) == {"train": ["everything.tsv"]}


def test_a_local_path_is_never_asked_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder(tmp_path, "conll/train.tsv")
    for path in ("./owner/name", "/owner/name", "~/name", "../name", "a/b/c", "数据", "my data", "name.csv", "x.bmes"):
        assert not on_hub(path), path
    assert not on_hub("conll")
    for path in ("owner/name", "conll2003", "nyu-mll/glue"):
        assert on_hub(path), path
    for path in ("./owner/name", "name.jsonl.gz", "数据"):
        with pytest.raises(DataError, match=r"no file or folder.*conll.*OWNER/NAME"):
            find_format(DataConfig(path=path))


def test_a_text_file_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("A sentence\nand one more.\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"Cannot tell the format.*Set data\.format"):
        find_format(DataConfig(path=str(tmp_path)))


@given(
    n_rows=st.integers(1, 300),
    valid=st.floats(0, 0.9),
    test=st.floats(0, 0.9),
    seed=st.integers(0, 5),
)
@settings(deadline=None)
def test_a_cut_is_a_partition_and_reproducible(n_rows: int, valid: float, test: float, seed: int) -> None:
    data = DataConfig(valid_fraction=valid, test_fraction=test, split_seed=seed)
    rows = list(range(n_rows))
    pieces = cut(rows, data, ["valid", "test"])
    assert sorted(row for piece in pieces.values() for row in piece) == rows
    assert all(piece == sorted(piece) and piece for piece in pieces.values()), "in order, none empty"
    assert pieces == cut(rows, data, ["valid", "test"])
    assert set(cut(rows, data, ["valid"])) <= {"train", "valid"}


def test_a_cut_stays_the_same_in_every_version() -> None:
    rows = list(range(20))
    assert cut(rows, DataConfig(), ["valid", "test"]) == {
        "train": [0, 1, 2, 4, 5, 6, 8, 10, 11, 12, 13, 14, 15, 16, 17, 19],
        "valid": [7, 9],
        "test": [3, 18],
    }
    assert cut(rows, DataConfig(split_seed=1), ["test"])["test"] != [3, 18]


def test_real_folders() -> None:
    assert found(shared("classification/banking77")) == {"train": ["train.csv"], "test": ["test.csv"]}
    assert found(shared("summarization/dialogsum")) == {"valid": ["valid.jsonl.gz"], "test": ["test.jsonl.gz"]}
    with pytest.raises(DataError, match=r"books\.train\.jsonl\.xz, wiki\.train\.jsonl\.xz"):
        found(shared("lm"))
