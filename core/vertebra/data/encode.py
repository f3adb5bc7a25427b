"""Encode a split: rows into features that fit the context, numbered, checked, and kept in the cache."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import sys
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from vertebra import __version__
from vertebra.data.cache import Encoded, FeatureCache
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


def fit_context(pieces: list[Features], limit: int, policy: TooLong, row: Row) -> list[Features]:
    """Cut the features of a row to sequences of at most `limit` tokens, as the policy says."""
    fitted: list[Features] = []
    for piece in pieces:
        if len(piece) <= limit:
            fitted.append(piece)
        elif policy == "window":
            windows = list(piece.windows(limit))
            # A window in which the head reads nothing is not worth its computation.
            fitted.extend([window for window in windows if len(window.positions)] or windows[:1])
        elif policy == "truncate":
            fitted.append(piece.truncated(limit))
        else:
            raise DataError(
                f"Row '{row['id']}' has {len(piece)} tokens; the context is {limit}. Shorten it, or use "
                "data.too_long=truncate or window."
            )
    return fitted


def encode_key(task: Task, rows_fingerprint: str, tokenizer: PreTrainedTokenizerBase, settings: dict[str, Any]) -> str:
    """Return the cache key: a hash of the rows, the tokenizer, the task with its settings and state, and the code.

    The code is that of the packages of the task's class and its bases; a task without source files (typed at a prompt)
    has a new key each time.
    """
    config: Any = task.config
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = dataclasses.asdict(config)
    document = {
        "rows": rows_fingerprint,
        "tokenizer": _tokenizer_fingerprint(tokenizer),
        "task": f"{task.name} {type(task).__module__}.{type(task).__qualname__}",
        "config": config,
        "state": task.state(),
        "settings": settings,
        "code": _code_fingerprint(type(task)),
        "vertebra": __version__,
    }
    return _hash(json.dumps(document, sort_keys=True, default=repr))


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
        too_long += any(len(piece) > context for piece in pieces)
        fitted = fit_context(pieces, context, policy, row)
        features.extend(dataclasses.replace(one, example=number, window=place) for place, one in enumerate(fitted))
    return Encoded(features, too_long)


def _check(piece: Features, task: Task, row: Row) -> None:
    """Refuse features that contradict themselves: they would fail later, without a word of the row."""
    what = f"Task '{task.name}', row '{row['id']}':"
    if len(piece.positions) and not 0 <= piece.positions.min() <= piece.positions.max() < len(piece):
        raise PluginError(f"{what} positions must be from 0 to {len(piece) - 1}, got {piece.positions.tolist()[:8]}.")
    if piece.per_position and len(piece.target) != len(piece.positions):
        raise PluginError(f"{what} {len(piece.target)} targets for {len(piece.positions)} positions.")
    for name, value in (("target", piece.target), ("note", piece.note)):
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
    return _hash(json.dumps([type(tokenizer).__name__, behaviour, settings], sort_keys=True, default=repr))


def _code_fingerprint(task_class: type) -> str:
    modules = {base.__module__ for base in task_class.__mro__} | {Features.__module__}
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted({path for name in modules for path in _sources(name)}):
        digest.update(path.read_bytes())
    if not _has_source(task_class):
        digest.update(uuid.uuid4().bytes)
    return digest.hexdigest()


def _sources(module_name: str) -> list[Path]:
    """Return the source files that a module may call: those of its package, where it is in one."""
    module = sys.modules.get(module_name)
    file = getattr(module, "__file__", None)
    if file is None or module_name in sys.stdlib_module_names:
        return []
    path = Path(file)
    return sorted(path.parent.glob("*.py")) if getattr(module, "__package__", "") else [path]


def _has_source(task_class: type) -> bool:
    find: Callable[[Any], object] = inspect.getsource
    try:
        find(task_class)
    except (OSError, TypeError):
        return False
    return True


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
