"""Encode a split: rows into features that fit the context, numbered, checked, and kept in the cache."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from vertebra.data.cache import Encoded, FeatureCache
from vertebra.data.keys import code_fingerprint, hashed, task_parts
from vertebra.data.load import fingerprint
from vertebra.errors import DataError, PluginError, VertebraError
from vertebra.tasks.features import Features, as_list

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from vertebra.tasks.task import Row, Task

T = TypeVar("T")
TooLong = Literal["window", "truncate", "error"]


def encode_split(
    task: Task,
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    *,
    context: int,
    too_long: Literal["auto", "window", "truncate", "error"] = "auto",
    cache: FeatureCache | None = None,
    title: str = "encoding",
) -> Encoded:
    """Return the features of all rows, in their order; the windows of a row stand together.

    `context` is the most tokens a sequence may have; `too_long` says what happens to a row with more (auto: as the task
    prefers). `cache` is where the result is looked up and kept; `title` stands before the progress bar, which is
    shown in a terminal. Raises `DataError` for a row that has no tokens, or too many where that is an error, and
    `PluginError` for features that contradict themselves.
    """
    policy: TooLong = task.too_long if too_long == "auto" else too_long
    key = ""
    if cache is not None:
        key = encode_key(task, fingerprint(rows), tokenizer, {"context": context, "too_long": policy})
        found = cache.get(key)
        if found is not None:
            return found
    encoded = _encode(task, rows, tokenizer, context, policy, title)
    if cache is not None:
        cache.put(key, encoded)
    return encoded


def encode_shared(task: Task, tokenizer: PreTrainedTokenizerBase, *, context: int) -> list[Features]:
    """Return the sequences of `Task.encode_shared`, numbered in their order; longer ones are cut off behind the context."""
    pieces = task.encode_shared(tokenizer)
    for number, piece in enumerate(pieces, start=1):
        if not len(piece):
            raise DataError(f"Sequence {number} that the rows of task '{task.name}' share has no tokens: it is empty.")
        _check(piece, task, {"id": f"shared-{number}"})
    return [dataclasses.replace(piece.truncated(context), example=number) for number, piece in enumerate(pieces)]


def encode_row(task: Task, row: Row, tokenizer: PreTrainedTokenizerBase) -> list[Features]:
    """Return what the task makes of one row, before anything is cut; checked, with errors that name the row."""
    try:
        pieces = as_list(task.encode(row, tokenizer))
    except VertebraError as error:
        raise type(error)(f"Row '{row['id']}': {error}") from error
    except Exception as error:
        error.add_note(f"Task '{task.name}' was encoding row '{row['id']}'.")
        raise
    if not pieces or not all(len(piece) for piece in pieces):
        raise DataError(f"Row '{row['id']}' has no tokens: its text is empty.")
    for piece in pieces:
        _check(piece, task, row)
    return pieces


def fit_context(
    task: Task, pieces: list[Features], limit: int, policy: TooLong, row: Row
) -> tuple[list[Features], bool]:
    """Cut the features of a row to sequences of at most `limit` tokens, as the policy says; say whether it was too long."""
    fitted: list[Features] = []
    over = False
    for piece in pieces:
        shortened = task.shorten(piece, limit)
        too_long = len(shortened) < len(piece)
        over = over or too_long
        if policy == "window":
            windows = list(task.windows(piece, limit))
            # A window in which the head reads nothing is not worth its computation.
            fitted.extend([window for window in windows if len(window.positions)] or windows[:1])
        elif not too_long or policy == "truncate":
            fitted.append(shortened)
        else:
            raise DataError(
                f"Row '{row['id']}' has {len(piece)} tokens; the context is {limit}. Shorten it, or use "
                "data.too_long=truncate or window."
            )
    return fitted, over


def encode_key(task: Task, rows_fingerprint: str, tokenizer: PreTrainedTokenizerBase, settings: dict[str, Any]) -> str:
    """Return the cache key: a hash of the rows, the tokenizer, the task with its settings and state, and the code.

    The code is that of the packages of the task's class and its bases, and the core's own; a task without source files (typed
    at a prompt) has a new key each time.
    """
    document = {
        **task_parts(task),
        "rows": rows_fingerprint,
        "tokenizer": _tokenizer_fingerprint(tokenizer),
        "settings": settings,
        "code": code_fingerprint(type(task), Features),
    }
    return hashed(document)


def with_progress(items: Sequence[T], title: str) -> Iterable[T]:
    """Return the items to iterate over, with a progress bar where the error output is a terminal."""
    if not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, title, console=Console(stderr=True), transient=True)


def _encode(
    task: Task,
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    policy: TooLong,
    title: str,
) -> Encoded:
    features: list[Features] = []
    too_long = 0
    for number, row in enumerate(with_progress(rows, title)):
        pieces = encode_row(task, row, tokenizer)
        fitted, over = fit_context(task, pieces, context, policy, row)
        too_long += over
        features.extend(dataclasses.replace(one, example=number, window=place) for place, one in enumerate(fitted))
    return Encoded(features, too_long)


def _check(piece: Features, task: Task, row: Row) -> None:
    """Refuse features that contradict themselves: they would fail later, without a word of the row."""
    what = f"Task '{task.name}', row '{row['id']}':"
    if len(piece.positions) and not 0 <= piece.positions.min() <= piece.positions.max() < len(piece):
        raise PluginError(f"{what} positions must be from 0 to {len(piece) - 1}, got {piece.positions.tolist()[:8]}.")
    if piece.per_position and len(piece.target) != len(piece.positions):
        raise PluginError(f"{what} {len(piece.target)} targets for {len(piece.positions)} positions.")
    whole_numbers = isinstance(piece.target, np.ndarray) and piece.target.dtype.kind == "i"
    for name, value in (("target", None if whole_numbers else piece.target), ("note", piece.note)):
        if not _is_json(value):
            raise PluginError(f"{what} {name} must be what JSON can hold (no tuples, no arrays), got {value!r:.80}.")


def _is_json(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_json(one) for one in value)
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_json(one) for name, one in value.items())
    return value is None or type(value) in (int, float, str, bool)


# --- what a key is made of


def _tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of what a tokenizer does: its backend, without the padding and truncation of the last call."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    behaviour = {**backend, "padding": None, "truncation": None}
    settings = {name: value for name, value in tokenizer.init_kwargs.items() if name != "name_or_path"}
    return hashed([type(tokenizer).__name__, behaviour, settings])
