"""A user's own files of interactions and items, and MovieLens' files: read, or refused by name and place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vertebra.config.schema import DataConfig
from vertebra.data.load import load_splits
from vertebra.data.readers import NotedRows
from vertebra.errors import DataError
from vertebra.host.manager import create_host
from vertebra_recommendation import files, movielens
from vertebra_recommendation.task import Recommendation

INTERACTIONS = "user,item,time\nann,b,2026-01-02\nann,a,2026-01-01\nann,c,2026-01-02T10:00:00+00:00\n"
ITEMS = """{"item": "a", "text": "an apple"}
{"item": "b", "text": "a pear", "title": "Pear"}
{"item": "c", "text": "a plum"}
"""


def folder_of(tmp_path: Path, **contents: str) -> Path:
    for name, content in contents.items():
        (tmp_path / name.replace("_", ".", 1)).write_text(content, encoding="utf-8")
    return tmp_path


def read(path: Path, **options: Any) -> NotedRows:
    return files.read(DataConfig(path=str(path), format="interactions", options=options))


def test_files_become_rows_in_the_order_of_time(tmp_path: Path) -> None:
    rows = read(folder_of(tmp_path, interactions_csv=INTERACTIONS, items_jsonl=ITEMS))
    assert rows["test"] == [{"id": "ann", "user": "ann", "history": ["a", "b"], "next": ["c"]}]
    assert [item["title"] for item in rows["items"]] == ["an apple", "Pear", "a plum"]


def test_files_and_columns_may_have_other_names(tmp_path: Path) -> None:
    log = "who\twhat\twhen\nx\t1\t3\nx\t2\t1.5\nx\t3\t2\n"
    table = "what,about\n1,one\n2,two\n3,three\n"
    folder = folder_of(tmp_path, log_tsv=log, films_csv=table)
    columns = {"user": "who", "item": "what", "time": "when", "text": "about"}
    rows = read(folder, interactions="log", items="films.csv", **columns)
    assert rows["test"][0]["history"] == ["2", "3"]
    splits = load_splits(
        DataConfig(
            path=str(folder), format="interactions", options={"interactions": "log", "items": "films", **columns}
        ),
        Recommendation(),
        create_host(),
    )
    assert splits.tables["items"][0] == {"item": "1", "title": "one", "text": "one"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("time\n", "when\n"), r"interactions\.csv:2: no column 'time'.*data\.options\.time=NAME"),
        (("ann,a,2026-01-01", "ann,a,tomorrow"), r"interactions\.csv:3: the time 'tomorrow' is neither"),
        (("ann,a,2026-01-01", "ann,a,nan"), r"interactions\.csv:3: the time 'nan' is neither"),
        (("ann,a,", ",a,"), r"interactions\.csv:3: column 'user' must be a text or a number, not ''"),
        (("ann,a,", "ann,d,"), r"1 items have no text \(d\), with 1 interactions, first at .*interactions\.csv:3"),
        (("ann,a,", "ann,b,"), r"user 'ann' took item 'b' before"),
        (("ann,a,", "bob,a,"), r"2 users have fewer than 3 interactions"),
    ],
)
def test_bad_interactions_are_named(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    assert change[0] in INTERACTIONS
    folder = folder_of(tmp_path, interactions_csv=INTERACTIONS.replace(*change), items_jsonl=ITEMS)
    with pytest.raises(DataError, match=message):
        read(folder)


def test_missing_files_are_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, interaction_csv=INTERACTIONS, items_jsonl=ITEMS)
    with pytest.raises(DataError, match=r"no file 'interactions'.* Did you mean 'interaction\.csv'\?"):
        read(folder)
    with pytest.raises(DataError, match="There is no folder"):
        read(tmp_path / "nowhere")
    (tmp_path / "items.csv").write_text("item,text\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"more than one file 'items'"):
        read(folder, interactions="interaction")


def test_items_without_the_column_of_texts_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, interactions_csv=INTERACTIONS, items_jsonl=ITEMS.replace('"text"', '"words"'))
    with pytest.raises(DataError, match=r"items\.jsonl:1: no column 'text'"):
        read(folder)


def test_repeated_items_of_the_table_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, interactions_csv=INTERACTIONS, items_jsonl=ITEMS + '{"item": "a", "text": "again"}\n')
    with pytest.raises(DataError, match="items row 4: item 'a' is that of row 1, too"):
        load_splits(DataConfig(path=str(folder), format="interactions"), Recommendation(), create_host())


# --- MovieLens

FILM = "|".join(["1", "Café, The (1995)", "", "", "", *["0"] * 18, "1"]) + "\n"


def films(tmp_path: Path, ratings: str, table: str) -> NotedRows:
    (tmp_path / "u.data").write_text(ratings, encoding="latin-1")
    (tmp_path / "u.item").write_text(table, encoding="latin-1")
    return movielens.read(DataConfig(path=str(tmp_path), encoding="latin-1", options={"repeats": "keep"}))


def test_films_are_read_in_latin_1_with_year_and_genres(tmp_path: Path) -> None:
    rows = films(tmp_path, "7\t1\t5\t3\n7\t1\t5\t4\n7\t1\t1\t5\n", FILM)
    assert rows["items"] == [{"item": "1", "title": "Café, The (1995)", "text": "Café, The 1995 western"}]
    assert rows["test"] == [{"id": "7", "user": "7", "history": ["1", "1"], "next": ["1"]}]


def test_bad_lines_of_movielens_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"u\.data:2: four whole numbers are wanted"):
        films(tmp_path, "7\t1\t5\t3\n7\t1\t5\n", FILM)
    with pytest.raises(DataError, match=r"u\.item:2: 2 fields where 24 are wanted"):
        films(tmp_path, "7\t1\t5\t3\n", FILM + "2|x\n")
    with pytest.raises(DataError, match=r"u\.item"):
        movielens.read(DataConfig(path=str(tmp_path / "u.data")))
