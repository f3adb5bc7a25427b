"""`vertebra train`: values without quotes, flags anywhere, one run and many."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from training_stand_in import FILES, Runs, stand_in_for_training

from vertebra.cli.arguments import parse, quoted
from vertebra.cli.train import main
from vertebra.config.compose import compose_freely, document_of
from vertebra.config.session import hydra_session
from vertebra.errors import ConfigError
from vertebra.host.manager import create_host

HOST = create_host()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("VERTEBRA_DISABLE", raising=False)
    yield folder


@pytest.fixture(scope="module")
def hydra() -> Iterator[Any]:
    with hydra_session(HOST) as session:
        yield session


def arrived(hydra: Any, *overrides: str) -> dict[str, Any]:
    """Return the settings that Hydra makes of what a user typed."""
    return document_of(compose_freely(hydra, quoted(["task=ner", *overrides], HOST), HOST, []))


# --- values


@pytest.mark.parametrize(
    "value",
    [
        "~/x y",
        "/data/数据",
        "a(1).csv",
        "C:\\x",
        "C:\\x\\",
        "a=b",
        " a ",
        "it's",
        'say "hi"',
        "a,b",
        "[x]",
        "{x: 1}",
        "12",
        "1e5",
        "true",
        "$HOME/x",
        "a#b",
        "#",
        "x: y",
        "@",
        "\\'",
        "'",
        "a'",
        "'a' and 'b'",
        "…",
        "choice(a,b)",
        "NULL ",
    ],
)
def test_a_text_arrives_as_typed(hydra: Any, value: str) -> None:
    assert arrived(hydra, f"data.path={value}")["data"]["path"] == value


typed = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\x00"), min_size=1)


@settings(deadline=None, max_examples=40)
@given(value=typed)
def test_any_text_arrives_as_typed(hydra: Any, value: str) -> None:
    assume(value.lower() != "null" and "${" not in value and value != "???")
    assume(value[0] not in "'\"" or value[-1] != value[0] or len(value) < 2)
    assert arrived(hydra, f"backbone.path={value}", f"data.splits.test={value}")["backbone"]["path"] == value


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("data.path=null", None),
        ("data.path=NULL", None),
        ("data.path=", ""),
        ("data.path='null'", "null"),
        ('data.path="a, b"', "a, b"),
        ("data.path='it\\'s'", "it's"),
        ("+data.path=~/x y", "~/x y"),
        ("data.path=${data.encoding}", "utf-8"),
    ],
)
def test_null_quotes_and_references_keep_their_meaning(hydra: Any, override: str, value: str | None) -> None:
    assert arrived(hydra, override)["data"]["path"] == value


def test_other_settings_keep_hydras_syntax(hydra: Any) -> None:
    document = arrived(
        hydra,
        "trainer.trackers=[]",
        "trainer.learning_rate=3e-5",
        "trainer.max_steps=null",
        "data.columns={tokens: 0, tags: -1}",
        "data.columns.text=文本 (新)",
        "data.cache=false",
        "backbone.revision=12e4567",
        "data.separator=,",
    )
    assert document["trainer"]["trackers"] == []
    assert document["trainer"]["learning_rate"] == 3e-5
    assert document["trainer"]["max_steps"] is None
    assert document["data"]["columns"] == {"tokens": 0, "tags": -1, "text": "文本 (新)"}
    assert document["data"]["cache"] is False
    assert document["backbone"]["revision"] == "12e4567"
    assert document["data"]["separator"] == ","


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("seed=1,2", "seed=1,2"),
        ("seed=range(1,4)", "seed=range(1,4)"),
        ("data.path=~/a b,c(1).csv", "data.path='~/a b','c(1).csv'"),
        ("data.path='a,b',c", "data.path='a,b','c'"),
        ("data.path=it's,that", "data.path='it\\'s','that'"),
        ("backbone.path=choice(a,b)", "backbone.path=choice(a,b)"),
        ("data.path=a(1,2),b", "data.path='a(1,2)','b'"),
        ("backbone.path=null,x", "backbone.path=null,'x'"),
        ("trainer.trackers=[],[tensorboard]", "trainer.trackers=[],[tensorboard]"),
    ],
)
def test_in_a_sweep_commas_part_values(typed: str, sent: str) -> None:
    assert quoted([typed], HOST, multirun=True) == [sent]


# --- flags


@pytest.mark.parametrize(
    "line",
    ["task=ner --multirun seed=1,2", "--multirun task=ner seed=1,2", "task=ner seed=1,2 -m", "-m task=ner seed=1,2"],
)
def test_flags_stand_anywhere(line: str) -> None:
    arguments = parse(line.split(), HOST)
    assert (arguments.multirun, arguments.overrides) == (True, ["task=ner", "seed=1,2"])


def test_help_names_the_groups_and_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["task=ner", "--help"]) == 0
    text = capsys.readouterr().out
    assert "ner/conll2003" in text
    assert "smollm2-135m" in text
    assert len(text.splitlines()) < 40
    assert max(map(len, text.splitlines())) <= 120


def test_cfg_prints_the_composed_configuration(capsys: pytest.CaptureFixture[str], elsewhere: Path) -> None:
    assert main(["task=ner", "--cfg", "job", "data.path=~/数据 (1)", "trainer.epochs=3"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert list(shown) == ["task", "data", "backbone", "adapter", "gpu", "trainer", "seed"]
    assert (shown["data"]["path"], shown["trainer"]["epochs"]) == ("~/数据 (1)", 3)
    assert main(["task=ner", "--cfg", "job", "--package", "gpu", "gpu=cpu"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["device"] == "cpu"
    with pytest.raises(ConfigError, match="Did you mean 'gpt2'"):
        main(["--cfg", "job", "task=ner", "backbone=gpt9"])
    assert list(elsewhere.iterdir()) == []


def test_info_prints_where_options_come_from() -> None:
    command = [sys.executable, "-m", "vertebra", "train", "task=ner", "--info", "searchpath"]  # it sets up logging
    assert "pkg://vertebra_ner.conf" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


# --- runs


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    return stand_in_for_training(monkeypatch)


def test_one_run(runs: Runs, elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["task=ner", "seed=3", "hydra.run.dir=my runs/第一"]) == 0
    [(config, folder)] = runs
    assert (config.seed, folder) == (3, elsewhere / "my runs" / "第一")
    assert capsys.readouterr().out.startswith(f"Run folder: {folder}\n")
    assert sorted(file.name for file in folder.iterdir()) == FILES
    assert sorted(file.name for file in elsewhere.iterdir()) == ["my runs"]


def test_a_run_that_is_refused_leaves_nothing(runs: Runs, elsewhere: Path) -> None:
    with pytest.raises(ConfigError):
        main(["task=ner", "trainer.epochs=0"])
    with pytest.raises(ConfigError):
        main(["task=ner", "--multirun", "seed=1,2", "trainer.epochs=0"])
    assert runs == []
    assert list(elsewhere.iterdir()) == []
