"""Data sets on the Hub, through `datasets`, with an answer within seconds where the Hub cannot be reached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from vertebra.config.schema import DataConfig
from vertebra.data.splits import pick_splits
from vertebra.errors import DataError
from vertebra.hub import hub_answers, offline

Row = dict[str, Any]


def read_hub(data: DataConfig) -> dict[str, list[Row]]:
    """Return the rows of each split of a Hub data set; class labels come as their names.

    What `datasets` has in its own cache is read without a network.
    """
    import datasets

    assert data.path is not None
    reachable = hub_answers()
    try:
        with nullcontext() if reachable else _offline(datasets):
            loaded = datasets.load_dataset(data.path, data.config_name, revision=data.revision)
    except Exception as error:  # datasets raises a dozen kinds, and not all of them are its own
        raise DataError(_explain(data, error, reachable)) from error
    splits = pick_splits(data, list(loaded))
    return {split: _rows(loaded[name]) for split, name in splits.items()}


def label_names(schema: Any) -> dict[str, list[str]]:
    """Return the names of the class labels in an Arrow schema that `datasets` wrote, by column."""
    if b"ClassLabel" not in (schema.metadata or {}).get(b"huggingface", b""):
        return {}
    import datasets

    return _label_names(datasets.Features.from_arrow_schema(schema))


def name_labels(row: Row, names: Mapping[str, list[str]]) -> Row:
    """Return the row with the numbers of class labels replaced by their names; -1 (no label) by None."""
    return {column: _named(value, names[column]) if column in names else value for column, value in row.items()}


def _rows(dataset: Any) -> list[Row]:
    names = _label_names(dataset.features)
    return [name_labels(row, names) for row in dataset]


def _label_names(features: Mapping[str, Any]) -> dict[str, list[str]]:
    """Find class labels in features, also as the elements of a list."""
    innermost = {column: getattr(feature, "feature", feature) for column, feature in features.items()}
    return {column: feature.names for column, feature in innermost.items() if hasattr(feature, "names")}


def _named(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    return names[value] if isinstance(value, int) and value >= 0 else None


@contextmanager
def _offline(datasets: Any) -> Iterator[None]:
    """Let `datasets` read its cache alone."""
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        with offline():
            yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _explain(data: DataConfig, error: BaseException, reachable: bool) -> str:
    local = f"A local folder or file is given as data.path=FOLDER (a relative one as ./{data.path})."
    if not reachable or "LocalEntryNotFound" in str(error):  # a proxy may answer where the Hub does not
        reason = "the Hub cannot be reached, and it is not in the local cache"
        return f"Cannot get the data set '{data.path}': {reason}. {local}"
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return f"Cannot get the data set '{data.path}' from the Hub: {lines[0]} {local}"
