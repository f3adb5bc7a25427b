"""What a reader of scores must know of the rows that they are of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vertebra.data.cache import Encoded
from vertebra.data.files import listed
from vertebra.data.splits import TRAIN
from vertebra.tasks.task import Row, Task


def data_notes(
    task: Task, said: Sequence[str], rows: Mapping[str, Iterable[Row]], encoded: Mapping[str, Encoded]
) -> list[str]:
    """Return the notes of a task's rows by split: what was `said` on reading them, and what labels and lengths add."""
    too_long = {split: one.too_long for split, one in encoded.items() if one.too_long}
    return [
        *said,
        *unseen_labels(task, rows),
        *(f"rows of {split} longer than the context: {count}" for split, count in too_long.items()),
        *task.notes({split: one.features for split, one in encoded.items()}),
    ]


def unseen_labels(task: Task, rows: Mapping[str, Iterable[Row]]) -> list[str]:
    """Return a note for each split with labels that the training rows lack, which a fitted task cannot predict.

    Without training rows there is nothing to compare with.
    """
    if TRAIN not in rows:
        return []
    labels = {split: {label for row in some for label in task.labels_of(row)} for split, some in rows.items()}
    return [
        f"{split} has labels that train lacks and that cannot be predicted: {listed(sorted(names))}"
        for split, found in labels.items()
        if (names := found - labels[TRAIN])
    ]
