"""The shipped options: each composes, says only what differs, and means the same with and without Hydra."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vertebra.config.compose import compose
from vertebra.config.defaults import GROUPS, defaults_of
from vertebra.config.options import Option, configure, find_options
from vertebra.host.manager import create_host

HOST = create_host()
OPTIONS = [option for names in find_options(HOST).values() for option in names.values()]
PLAIN = [option for option in OPTIONS if option.group in GROUPS]


def name(option: Option) -> str:
    return f"{option.group}={option.name}"


def given(option: Option, folder: Path) -> dict[str, str]:
    """Return what an option leaves to the user, as groups of settings."""
    needs = option.group in ("data", "backbone") and "path" not in option.read()
    form = option.read().get("format", "auto")
    made = form != "auto" and not getattr(HOST.get("reader", form), "reads_path", True)
    return {"path": str(folder)} if needs and not made and option.name != "nano" else {}


@pytest.mark.parametrize("option", PLAIN, ids=name)
def test_hydra_and_python_make_the_same_run_of_every_option(
    option: Option, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = given(option, tmp_path)
    task = option.name.partition("/")[0] if option.group == "data" else HOST.names("task")[0]
    overrides = [f"task={task}", name(option), *(f"{option.group}.{key}='{value}'" for key, value in settings.items())]
    arguments: dict[str, Any] = {"task": task, option.group: {"option": option.name, **settings}}
    assert configure(HOST, **arguments) == compose(overrides, HOST).config
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.group == "experiment"], ids=name)
def test_every_experiment_composes(option: Option, tmp_path: Path) -> None:
    assert compose([f"task={HOST.names('task')[0]}", name(option), f"hydra.run.dir='{tmp_path}/run'"], HOST)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", PLAIN, ids=name)
def test_an_option_says_only_what_differs_from_the_defaults(option: Option) -> None:
    defaults = defaults_of(GROUPS[option.group])
    settings = option.read()
    assert set(settings) <= set(defaults)
    assert {key: value for key, value in settings.items() if value == defaults[key]} == {}


@pytest.mark.parametrize("option", OPTIONS, ids=name)
def test_an_option_explains_itself_or_names_a_model(option: Option) -> None:
    text = option.file.read_text(encoding="utf-8")
    assert text.startswith("#") or option.group == "backbone"
    assert option.group == "experiment" or "${" not in text  # Python reads the file as it stands


def test_the_core_ships_the_promised_backbones() -> None:
    own = [option for option in OPTIONS if option.package == "vertebra_conf" and option.group == "backbone"]
    shipped = {option.name: option.read() for option in own}
    assert shipped["gpt2-xl"] == {"name": "hf", "path": "openai-community/gpt2-xl"}
    assert shipped["qwen3-0.6b"]["path"] == "Qwen/Qwen3-0.6B"
    assert {"hf", "gpt2", "gpt2-medium", "gpt2-large", "distilgpt2", "smollm2-135m", "llama-3.2-1b"} < set(shipped)


def test_python_needs_no_hydra() -> None:
    code = (
        "import sys; from vertebra.config.options import configure; configure(task='ner', seed=3);"
        " print(sorted({name.partition('.')[0] for name in sys.modules} & {'hydra', 'omegaconf', 'torch', 'transformers'}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_same_choices_with_changed_settings(tmp_path: Path) -> None:
    overrides = [
        "task=ner",
        "task.label_on=first",
        "data=ner/conll",
        f"data.path='{tmp_path}'",
        "data.columns={tokens: 0, tags: -1}",
        "data.splits.test=eng.testb",
        "backbone=gpt2",
        "backbone.config.attn_pdrop=0.0",
        "gpu=cpu",
        "gpu.threads=2",
        "trainer=quick",
        "trainer.learning_rate=3e-5",
        "trainer.trackers=[]",
        "seed=7",
    ]
    config = configure(
        HOST,
        task={"option": "ner", "label_on": "first"},
        data={
            "option": "ner/conll",
            "path": tmp_path,
            "columns": {"tokens": 0, "tags": -1},
            "splits": {"test": "eng.testb"},
        },
        backbone={"option": "gpt2", "config": {"attn_pdrop": 0.0}},
        gpu={"option": "cpu", "threads": 2},
        trainer={"option": "quick", "learning_rate": 3e-5, "trackers": ()},
        seed=7,
    )
    assert config == compose(overrides, HOST).config
    assert config.tasks[0].data.columns == {"tokens": 0, "tags": -1}
    assert config.tasks[0].config.label_on == "first"
    assert config.trainer.learning_rate == 3e-5
    assert config.trainer.max_steps == 50
