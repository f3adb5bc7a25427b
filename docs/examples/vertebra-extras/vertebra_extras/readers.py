import sqlite3
from contextlib import closing
from pathlib import Path

from vertebra.errors import DataError


def read(data):
    """Return the rows of the tables train, valid and test, or of those that `data.splits` names; train must be there."""
    tables = {"train": "train", "valid": "valid", "test": "test"} | data.splits
    try:
        with closing(sqlite3.connect(f"{Path(data.path).resolve().as_uri()}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            there = {row["name"] for row in database.execute("SELECT name FROM sqlite_master")}
            if missing := sorted({"train", *data.splits} - {split for split in tables if tables[split] in there}):
                known = ", ".join(sorted(there)) or "none"
                raise DataError(f"'{data.path}' has no table '{tables[missing[0]]}' for {missing[0]}. Tables: {known}.")
            return {split: rows(database, table) for split, table in tables.items() if table in there}
    except sqlite3.Error as error:
        raise DataError(f"'{data.path}' cannot be read as an SQLite database: {error}.") from error


def rows(database, table):
    quoted = table.replace('"', '""')
    return [dict(row) for row in database.execute(f'SELECT * FROM "{quoted}"')]
