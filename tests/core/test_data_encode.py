"""Encoding a split: order, numbers, what is too long, and when the cache may answer."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.core.data_tasks import Topic, TopicConfig, Words, shared

from vertebra.config.schema import BackboneConfig, DataConfig
from vertebra.data import encode as encode_module
from vertebra.data import keys, tags
from vertebra.data.cache import FeatureCache
from vertebra.data.encode import encode_key, encode_row, encode_split
from vertebra.data.load import load_splits
from vertebra.errors import DataError, PluginError
from vertebra.host.manager import create_host
from vertebra.tasks.features import Features
from vertebra.tasks.task import Row, Task


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from vertebra.engine.loading import load_tokenizer

    return load_tokenizer(BackboneConfig(), create_host())


def word_rows(*lengths: int) -> list[Row]:
    return [
        {"id": f"train-{number}", "tokens": ["a" * (place % 9 + 1) for place in range(length)]}
        for number, length in enumerate(lengths, start=1)
    ]


def topic_rows(*texts: str) -> list[Row]:
    return [{"id": f"train-{number}", "text": text, "label": "x"} for number, text in enumerate(texts, start=1)]


def fitted(rows: Sequence[Row], config: TopicConfig | None = None) -> Topic:
    task = Topic(config)
    task.fit(rows)
    return task


# --- order, numbers, and the context


def test_rows_keep_their_order_and_number(tokenizer: Any) -> None:
    encoded = encode_split(Words(), word_rows(3, 1, 5), tokenizer, context=16)
    assert [(one.example, one.window, len(one)) for one in encoded.features] == [(0, 0, 3), (1, 0, 1), (2, 0, 5)]
    assert encoded.too_long == 0


def test_windows_lose_no_target(tokenizer: Any) -> None:
    rows = word_rows(3, 40, 16, 17)
    encoded = encode_split(Words(), rows, tokenizer, context=16)
    assert encoded.too_long == 2
    assert max(map(len, encoded.features)) == 16
    for number, row in enumerate(rows):
        parts = [one for one in encoded.features if one.example == number]
        assert [part.window for part in parts] == list(range(len(parts)))
        assert [value for part in parts for value in part.target] == [len(word) for word in row["tokens"]]


def test_a_window_without_positions_is_left_out(tokenizer: Any) -> None:
    class LastWord(Words):
        def encode(self, row: Row, tokenizer: Any) -> Features:
            ids = super().encode(row, tokenizer).input_ids
            return Features(ids, target=1, positions=[len(ids) - 1])

    encoded = encode_split(LastWord(), word_rows(40), tokenizer, context=16)
    (only,) = encoded.features
    assert only.positions.tolist() == [15] and only.window == 0 and encoded.too_long == 1


def test_truncation(tokenizer: Any) -> None:
    encoded = encode_split(Words(), word_rows(40, 3), tokenizer, context=16, too_long="truncate")
    assert [len(one) for one in encoded.features] == [16, 3]
    assert len(encoded.features[0].target) == 16 and encoded.too_long == 1


def test_too_long_as_an_error_names_the_row(tokenizer: Any) -> None:
    with pytest.raises(DataError, match=r"Row 'train-2' has 40 tokens; the context is 16\."):
        encode_split(Words(), word_rows(3, 40), tokenizer, context=16, too_long="error")


def test_a_row_without_tokens_is_named(tokenizer: Any) -> None:
    rows = topic_rows("a", "")
    with pytest.raises(DataError, match=r"Row 'train-2' has no tokens"):
        encode_split(fitted(rows), rows, tokenizer, context=16)


def test_several_sequences_of_a_row_are_numbered(tokenizer: Any) -> None:
    class Twice(Words):
        def encode(self, row: Row, tokenizer: Any) -> list[Features]:  # type: ignore[override]
            return [super().encode(row, tokenizer)] * 2

    encoded = encode_split(Twice(), word_rows(2, 20), tokenizer, context=16)
    assert [(one.example, one.window) for one in encoded.features] == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3)]
    assert encoded.too_long == 1


def test_no_rows_are_no_features(tokenizer: Any, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    for _ in range(2):
        assert encode_split(Words(), [], tokenizer, context=16, cache=cache).features == []


# --- a task's mistakes


def returning(features: Any) -> Task:
    class Wrong(Words):
        def encode(self, row: Row, tokenizer: Any) -> Any:
            if isinstance(features, Exception):
                raise features
            return features

    return Wrong()


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (Features([1, 2], positions=[2]), "positions must be from 0 to 1"),
        (Features([1, 2], positions=[-1]), "positions must be from 0 to 1"),
        (Features([1, 2], positions=[0, 1], target=[1]), "1 targets for 2 positions"),
        (Features([1, 2], target=(0, 1)), "target must be what JSON can hold"),
        (Features([1, 2], target=np.int64(1)), "target must be what JSON can hold"),
        (Features([1, 2], target=1, note={"spans": [(0, 1)]}), "note must be what JSON can hold"),
    ],
)
def test_features_that_contradict_themselves_name_task_and_row(tokenizer: Any, features: Features, said: str) -> None:
    with pytest.raises(PluginError, match=r"Task 'words', row 'train-1': ") as error:
        encode_split(returning(features), word_rows(1), tokenizer, context=16)
    assert said in str(error.value)


def test_an_error_in_encode_names_the_row(tokenizer: Any) -> None:
    with pytest.raises(DataError, match=r"^Row 'train-1': too sad\.$"):
        encode_row(returning(DataError("too sad.")), word_rows(1)[0], tokenizer)
    with pytest.raises(KeyError) as error:
        encode_row(returning(KeyError("x")), word_rows(1)[0], tokenizer)
    assert error.value.__notes__ == ["Task 'words' was encoding row 'train-1'."]


# --- the cache


def test_the_second_time_comes_from_the_cache(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = word_rows(3, 40)
    cache = FeatureCache(tmp_path)
    first = encode_split(Words(), rows, tokenizer, context=16, cache=cache)
    monkeypatch.setattr(encode_module, "_encode", None)
    second = encode_split(Words(), rows, tokenizer, context=16, cache=cache)
    assert second.too_long == first.too_long == 1
    assert [one.input_ids.tolist() for one in second.features] == [one.input_ids.tolist() for one in first.features]
    assert [(one.target, one.window) for one in second.features] == [(one.target, one.window) for one in first.features]


def test_the_key_changes_with_all_that_features_are_made_of(tokenizer: Any) -> None:
    rows = topic_rows("a", "b")

    def key(task: Task | None = None, rows_fingerprint: str = "f", tokenizer: Any = tokenizer, **settings: Any) -> str:
        return encode_key(task or fitted(rows), rows_fingerprint, tokenizer, {"context": 16} | settings)

    class Other(Topic):
        pass

    import copy

    changed = copy.deepcopy(tokenizer)
    changed.add_tokens(["vertebra-token"])
    keys = [
        key(),
        key(rows_fingerprint="g"),
        key(fitted(rows, TopicConfig(shout=True))),
        key(Topic()),
        key(context=17),
        key(too_long="error"),
        key(tokenizer=changed),
        key(Other()),
    ]
    assert len(set(keys)) == len(keys)
    assert key() == keys[0]
    tokenizer(["a", "b c"], padding=False, truncation=True, max_length=1)
    assert key() == keys[0], "the tokenizer's last call does not count"


@pytest.mark.parametrize(
    ("package", "helper"),
    [
        ("guest_plugin", "words.py"),
        ("guest_plugin", "text/clean.py"),
        ("guest_plugin/inner", "../words.py"),
        ("guest_plugin/inner", "../text/deep/clean.py"),
        ("guest_space/guest_plugin", "text/clean.py"),
    ],
)
def test_the_key_changes_with_the_code_of_the_task(
    package: str, helper: str, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / package
    file = (folder / helper).resolve()
    for path in (folder / "task.py", file):
        path.parent.mkdir(parents=True, exist_ok=True)
        while path.parent.name not in ("guest_space", tmp_path.name):  # the one is a namespace without a file
            path = path.parent
            (path / "__init__.py").touch()
    file.write_text("LIMIT = 1\n")
    (folder / "task.py").write_text("from tests.core.data_tasks import Words\n\n\nclass Guest(Words):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    task = importlib.import_module(f"{package.replace('/', '.')}.task").Guest()
    before = encode_key(task, "f", tokenizer, {})
    (tmp_path / "of_somebody_else.py").write_text("LIMIT = 1\n")
    (folder / ".#task.py").symlink_to("nowhere")
    assert encode_key(task, "f", tokenizer, {}) == before
    file.write_text("LIMIT = 2\n")
    assert encode_key(task, "f", tokenizer, {}) != before, "a module that encode calls counts, too"
    for name in [name for name in sys.modules if name.startswith("guest_")]:
        del sys.modules[name]


def test_the_key_changes_with_the_code_of_the_core_that_encodes(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = encode_key(Words(), "f", tokenizer, {})
    copied = shutil.copytree(Path(tags.__file__).parent, tmp_path / "data")
    monkeypatch.setattr(keys, "ENCODING", (copied, *keys.ENCODING[1:]))
    assert encode_key(Words(), "f", tokenizer, {}) == before
    (copied / "tags.py").write_text("# another reading of tags")
    assert encode_key(Words(), "f", tokenizer, {}) != before


def test_a_task_without_source_is_never_taken_from_the_cache(tokenizer: Any) -> None:
    namespace: dict[str, Any] = {"Words": Words, "__name__": "typed_at_a_prompt"}
    exec("class Typed(Words):\n    pass\n", namespace)
    task = namespace["Typed"]()
    assert encode_key(task, "f", tokenizer, {}) != encode_key(task, "f", tokenizer, {})


# --- real data


def test_conll2003_is_encoded_whole(tokenizer: Any, tmp_path: Path) -> None:
    host = create_host()
    splits = load_splits(DataConfig(path=shared("ner/conll2003"), limit=400), Words(), host)
    cache = FeatureCache(tmp_path)
    for split, rows in splits.rows.items():
        encoded = encode_split(Words(), rows, tokenizer, context=32, cache=cache, title=split)
        assert sum(one.n_targets for one in encoded.features) == sum(len(row["tokens"]) for row in rows)
        assert encoded.too_long == sum(len(row["tokens"]) > 32 for row in rows) > 0
