import sqlite3
from contextlib import closing

import pytest
from vertebra_extras.metrics import Brier
from vertebra_extras.readers import read

from vertebra import DataConfig
from vertebra.errors import DataError


@pytest.mark.parametrize(
    ("probabilities", "score"),
    [({"a": 1.0, "b": 0.0}, 0), ({"a": 0.0, "b": 1.0}, 2), ({"a": 0.5, "b": 0.5}, 0.5), ({}, 1)],
)
def test_brier(probabilities, score):
    assert Brier().value({"label": "a", "probabilities": probabilities}, {"label": "a"}) == pytest.approx(score)


def test_brier_of_a_label_without_probabilities():
    assert [Brier().value({"label": one}, {"label": "a"}) for one in "ab"] == [0, 2]


@pytest.fixture
def database(tmp_path):
    file = tmp_path / "texts 1.db"
    with closing(sqlite3.connect(file)) as made:
        made.execute('CREATE TABLE train ("text" TEXT, "label" TEXT)')
        made.execute('CREATE TABLE "the ""rest""" ("text" TEXT, "label" TEXT)')
        made.executemany("INSERT INTO train VALUES (?, ?)", [("bright", "good"), ("dull", "bad")])
        made.commit()
    return file


def test_tables_become_splits(database):
    assert read(DataConfig(path=str(database))) == {
        "train": [{"text": "bright", "label": "good"}, {"text": "dull", "label": "bad"}]
    }
    assert read(DataConfig(path=str(database), splits={"test": 'the "rest"'}))["test"] == []


def test_what_is_no_database_or_has_no_such_table_is_said(database, tmp_path):
    with pytest.raises(DataError, match=r"no table 'dev' for valid\. Tables: the \"rest\", train"):
        read(DataConfig(path=str(database), splits={"valid": "dev"}))
    (tmp_path / "text.db").write_text("This is no database, but it is long enough to be taken for one." * 20)
    for name in ("text.db", "none.db"):
        with pytest.raises(DataError, match="cannot be read as an SQLite database"):
            read(DataConfig(path=str(tmp_path / name)))
