"""`vertebra inspect`: a data set as the model will see it, in 100 columns."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from tests.core.data_tasks import Topic, shared

from vertebra.cli.inspect import aligned, inspect, main
from vertebra.config.schema import BackboneConfig, DataConfig, TaskChoice
from vertebra.data.survey import shown_tokens
from vertebra.errors import VertebraError
from vertebra.host.hookspecs import hookimpl
from vertebra.host.manager import create_host
from vertebra.host.records import PluginRecord
from vertebra.host.refs import TaskRef


@hookimpl
def register_tasks() -> list[TaskRef]:
    return [TaskRef(name, f"tests.core.data_tasks:{name.title()}") for name in ("topic", "words")]


def output(task: str, data: DataConfig, rows: int = 3, **backbone: Any) -> str:
    host = create_host()
    host.add(PluginRecord("fake", "tests", "1"), lambda: SimpleNamespace(register_tasks=register_tasks))
    console = Console(file=io.StringIO(), width=100, highlight=False)
    inspect(TaskChoice(task, data=data), BackboneConfig(**backbone), host, console, rows)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(cell_len, text.splitlines())) <= 100
    return text


def folder(root: Path, **splits: list[tuple[str, str]]) -> DataConfig:
    for split, rows in splits.items():
        lines = [json.dumps({"text": text, "label": label}) + "\n" for text, label in rows]
        (root / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return DataConfig(path=str(root), test_fraction=0)


def line_with(text: str, beginning: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(beginning)]
    return line.split()


def test_sizes_labels_and_duplicates(tmp_path: Path) -> None:
    data = folder(
        tmp_path,
        train=[("one text", "x"), ("one text", "x"), ("another [bold]text[/bold]", "[y]"), ("a", "x")],
        valid=[("one text", "z"), ("the", "x")],
    )
    text = output("topic", data)
    assert "train-1  2 tokens" in text and "train-3" in text and "train-4" not in text
    assert line_with(text, "train  ")[:3] == ["train", "4", "4"]
    assert line_with(text, "valid  ")[:3] == ["valid", "2", "2"]
    assert line_with(text, "x ") == ["x", "3", "75.0%", "1", "50.0%"]
    assert line_with(text, "[y]")[:4] == ["[y]", "1", "25.0%", "-"]
    assert line_with(text, "z ") == ["z", "-", "1", "50.0%", "not", "in", "train"]
    assert "Repeated inputs within a split: train 1." in text
    assert "The same input in two splits: train and valid 1." in text
    assert "No row is over the context of 'nano', 512 tokens." in text


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("auto", "cut off behind the context (data.too_long=truncate)"),
        ("window", "cut into overlapping windows; no label is lost (data.too_long=window)"),
        ("error", "an error: a run refuses them (data.too_long=error)"),
    ],
)
def test_what_is_too_long(tmp_path: Path, policy: Any, said: str) -> None:
    folder(tmp_path, train=[("word " * 30, "x"), ("a", "y")], valid=[("a b", "x")])
    data = DataConfig(path=str(tmp_path), test_fraction=0, too_long=policy)
    text = " ".join(output("topic", data, context=8).split())
    assert f"1 row is over the context of 'nano', 8 tokens: {said}." in text


def test_many_labels_are_cut_but_unseen_ones_are_shown(tmp_path: Path) -> None:
    train = [(f"text {number}", f"label-{number:02}") for number in range(60)]
    text = output("topic", folder(tmp_path, train=train, valid=[("new", "unseen")]), rows=0)
    assert "… and 40 more labels" in text
    assert line_with(text, "unseen")[-3:] == ["not", "in", "train"]


def test_tokens_stand_above_their_labels(tmp_path: Path) -> None:
    (tmp_path / "train.bmes").write_text("高 B-X\n勇 E-X\nabc O\n" + "\n" + "a O\n", encoding="utf-8")
    text = output("words", DataConfig(path=str(tmp_path), valid_fraction=0, test_fraction=0), rows=1)
    assert "columns by place: 'tokens' is the first, 'tags' the last" in text


def test_characters_of_several_tokens_are_readable() -> None:
    from vertebra.engine.loading import load_tokenizer

    tokenizer = load_tokenizer(BackboneConfig(), create_host())
    task = Topic()
    task.labels = ["x"]
    text = "勇气 naïve 😀\nend"
    row = {"id": "a", "text": text, "label": "x"}
    pairs = shown_tokens(task, row, task.encode(row, tokenizer), tokenizer)
    shown = "".join(token for token, _ in pairs if token != "…")
    assert shown.replace("␣", " ").replace("⏎", "\n") == text
    assert [label for _, label in pairs] == [""] * (len(pairs) - 1) + ["0"]


@given(
    pairs=st.lists(st.tuples(st.text("ab␣高", min_size=1, max_size=8), st.text("BIO-", max_size=8)), max_size=40),
    width=st.integers(20, 100),
)
@settings(deadline=None)
def test_aligned_lines_keep_every_pair_in_its_column(pairs: list[tuple[str, str]], width: int) -> None:
    lines = aligned(pairs, width)
    assert all(line.cell_len <= width for line in lines)
    tokens, labels = lines[::2], lines[1::2]
    assert [line.cell_len for line in tokens] == [line.cell_len for line in labels]
    assert " ".join(line.plain for line in tokens).split() == [token for token, _ in pairs]
    assert " ".join(line.plain for line in labels).split() == [label for _, label in pairs if label]


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    data = shared("ner/conll2003")
    assert main(["task=ner", "--rows", "1", "data=ner/conll2003", f"data.path={data}", "data.limit=200"]) == 0
    text = capsys.readouterr().out
    assert "train-1" in text and "train-2" not in text
    assert "B-ORG" in text and "I-PER" in text
    assert "at most 200 rows of each split" in text


def test_a_path_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(VertebraError, match="nowhere"):
        main(["task=ner", "data=ner/conll", "data.path=./nowhere"])
    assert capsys.readouterr().out == ""
