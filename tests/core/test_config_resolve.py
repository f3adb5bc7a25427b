"""`resolve`: everything that is wrong is said at once, and nothing wrong passes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vertebra.config.defaults import GROUPS, core_defaults, task_defaults
from vertebra.config.options import configure
from vertebra.config.resolve import resolve
from vertebra.config.schema import BackboneConfig, DataConfig, RunConfig, TrainerConfig
from vertebra.errors import ConfigError
from vertebra.host.manager import create_host

HOST = create_host()


def document(**changes: Any) -> dict[str, Any]:
    """Return a good document with `group__setting=value` changed."""
    made = {"task": task_defaults(HOST.get("task", "ner")), **core_defaults()}
    made["data"]["format"] = "auto" if "data__path" in changes else "ner_sample"
    for place, value in changes.items():
        group, _, key = place.partition("__")
        if key:
            made[group][key] = value
        else:
            made[group] = value
    return made


def refused(**changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        resolve(document(**changes), HOST)
    return str(caught.value).splitlines()


def test_defaults_alone_are_the_default_run() -> None:
    config = resolve(document(), HOST)
    assert config == RunConfig(tasks=config.tasks)
    assert (config.tasks[0].name, config.tasks[0].data) == ("ner", DataConfig(format="ner_sample"))


def test_what_is_left_out_takes_its_default() -> None:
    config = resolve({"task": {"name": "ner"}, "data": {"format": "ner_sample"}}, HOST)
    assert config == resolve(document(), HOST)


@pytest.mark.parametrize(
    ("place", "value", "line"),
    [
        ("seed", True, "seed=true: must be a valid integer."),
        ("seed", "3", 'seed="3": must be a valid integer.'),
        ("seed", -1, "seed=-1: must be greater than or equal to 0."),
        ("seed", 1.5, "seed=1.5: must be a valid integer."),
        ("trainer__epochs", 0, "trainer.epochs=0: must be greater than 0 or 'auto'."),
        ("trainer__epochs", "many", "trainer.epochs=\"many\": must be a valid number or 'auto'."),
        ("trainer__learning_rate", float("nan"), "trainer.learning_rate=NaN: must be a finite number or 'auto'."),
        ("trainer__clip", float("inf"), "trainer.clip=Infinity: must be a finite number."),
        ("trainer__warmup", 1.0, "trainer.warmup=1.0: must be less than 1 or 'auto'."),
        ("trainer__layer_decay", 1.1, "trainer.layer_decay=1.1: must be less than or equal to 1."),
        ("trainer__batch_size", True, "trainer.batch_size=true: must be a valid integer."),
        ("trainer__trackers", "tensorboard", 'trainer.trackers="tensorboard": must be a valid array.'),
        ("trainer__behaviours", [1], "trainer.behaviours.0=1: must be a valid string."),
        ("gpu__device", "tpu", "gpu.device=\"tpu\": must be 'auto', 'cpu' or 'cuda'."),
        ("gpu__processes", 0, "gpu.processes=0: must be greater than 0 or 'auto'."),
        ("backbone__gradient_checkpointing", 1, "backbone.gradient_checkpointing=1: must be a valid boolean."),
        ("backbone__config", [], "backbone.config=[]: must be an object."),
        ("data__limit", 0, "data.limit=0: must be greater than 0."),
        ("data__columns", {"tokens": 1.5}, "data.columns.tokens=1.5: must be a valid string or a valid integer."),
        ("data__path", 3, "data.path=3: must be a valid string."),
        ("data__splits", {"test": None}, "data.splits.test=null: must be a valid string or a valid array."),
        ("task__dropout", "a lot", 'task.dropout="a lot": must be a valid number.'),
        ("backbone", "nano", 'backbone must hold settings, as in backbone.NAME=VALUE; got "nano".'),
        ("trainer", None, "trainer must hold settings, as in trainer.NAME=VALUE; got null."),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(place: str, value: object, line: str) -> None:
    assert refused(**{place: value}) == [line]


@pytest.mark.parametrize(
    ("place", "start"),
    [
        (
            "trainer__learning_rte",
            "trainer.learning_rte: there is no such setting. Did you mean 'learning_rate'? Known: ",
        ),
        ("data__pth", "data.pth: there is no such setting. Did you mean 'path'? Known: "),
        ("task__drop_out", "task.drop_out: there is no such setting. Did you mean 'dropout'? Known: "),
        ("sede", "sede: there is no such setting. Did you mean 'seed'? Known: task, data, "),
        ("zzz", "zzz: there is no such setting. Known: "),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_one(place: str, start: str) -> None:
    [line] = refused(**{place: 1})
    assert line.startswith(start)


@pytest.mark.parametrize(
    ("place", "value", "line"),
    [
        ("task__name", "nre", "task=nre: There is no task 'nre'. Did you mean 'ner'?"),
        ("task__name", None, "Choose a task: task=NAME. Known: "),
        ("data__format", "csw", "data.format=csw: There is no reader 'csw'. Did you mean 'csv'?"),
        ("backbone__name", "nanno", "backbone.name=nanno: There is no backbone 'nanno'. Did you mean 'nano'?"),
        ("adapter__name", "lorra", "adapter.name=lorra: There is no adapter 'lorra'. Did you mean 'lora'?"),
        ("trainer__optimizer", "adam", "trainer.optimizer=adam: There is no optimizer 'adam'. Did you mean 'adamw'?"),
        ("trainer__schedule", "cosin", "trainer.schedule=cosin: There is no schedule 'cosin'. Did you mean 'cosine'?"),
        ("trainer__metric", "entity_f2", "trainer.metric=entity_f2: There is no metric 'entity_f2'. Did you mean"),
        ("trainer__behaviours", ["fgn"], "trainer.behaviours=fgn: There is no behaviour 'fgn'. Did you mean 'fgm'?"),
        ("trainer__trackers", ["tensorbord"], "trainer.trackers=tensorbord: There is no tracker 'tensorbord'. Did you"),
    ],
)
def test_a_name_that_is_not_registered_is_refused(place: str, value: object, line: str) -> None:
    [said] = refused(**{place: value})
    assert said.startswith(line)


def test_a_tracker_that_is_not_installed_says_how_to_install_it() -> None:
    from importlib.util import find_spec

    if find_spec("wandb") is not None:
        pytest.skip("wandb is installed")
    [line] = refused(trainer__trackers=["wandb"])
    assert "pip install 'vertebra[wandb]'" in line


@pytest.mark.parametrize(
    "path", ["/no/such", "~/no/such", "./no", "../no", "no.csv", "a/b/c", "数据", "a b", "C:\\x", ""]
)
def test_a_local_path_that_does_not_exist_is_refused_at_once(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for changes in ({"data__path": path}, {"backbone__path": path, "backbone__name": "hf"}):
        [line] = refused(**changes)
        assert f".path={path}: there is no such file or folder" in line


def test_a_name_below_a_folder_that_exists_is_no_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve(document(data__path="models/gpt9"), HOST).tasks[0].data.path == "models/gpt9"
    (tmp_path / "models").mkdir()
    assert refused(data__path="models/gpt9") == [
        f"data.path=models/gpt9: there is no such file or folder (looked from {tmp_path})."
    ]


def test_a_path_that_nothing_would_read_is_refused(tmp_path: Path) -> None:
    [line] = refused(data__path=str(tmp_path), data__format="ner_sample")
    assert line.startswith("data.path is set, but format=ner_sample makes its rows itself.")


def test_the_home_folder_is_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "训练 集").mkdir()
    config = resolve(document(data__path="~/训练 集", backbone__path="~/训练 集", backbone__name="hf"), HOST)
    assert config.tasks[0].data.path == config.backbone.path == str(tmp_path / "训练 集")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"backbone__path": "gpt2"}, "backbone.path is for backbone=hf; the backbone 'nano' takes none."),
        (
            {"backbone__name": "hf"},
            "backbone.path must be given for backbone.name=hf: a local model folder or a Hub name.",
        ),
        (
            {"data__format": "csv"},
            "data.path must be given: format=csv reads a local folder or file, or a data set on the Hub.",
        ),
        (
            {"data__valid_fraction": 0.5, "data__test_fraction": 0.5},
            "data.valid_fraction and data.test_fraction must leave rows to train on: their sum must be below 1.",
        ),
    ],
)
def test_combinations_that_cannot_work_are_refused(changes: dict[str, Any], line: str) -> None:
    assert refused(**changes) == [line]


def test_everything_wrong_is_said_at_once() -> None:
    lines = refused(
        sede=1,
        seed=-1,
        task__labels="last",
        data__format="cvs",
        data__limit=-5,
        data__path="./no",
        backbone__name="gpt2",
        gpu__device="gpu",
        trainer__learning_rte=1,
        trainer__epochs=0,
        trainer__optimizer="adam",
        trainer__trackers=["tensorboard", "tb"],
    )
    starts = [line.split(":")[0].split("=")[0] for line in lines]
    assert set(starts) == {
        *("sede", "seed", "task.labels", "data.limit", "data.format", "backbone.name", "gpu.device"),
        *("data.path", "trainer.learning_rte", "trainer.epochs", "trainer.optimizer", "trainer.trackers"),
    }
    assert len(starts) == len(set(starts))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.sampled_from(["task", "seed", "extra", *GROUPS]), JSON)
def test_any_value_gives_a_run_or_a_config_error(place: str, value: object) -> None:
    try:
        config = resolve(document(**{place: value}), HOST)
    except ConfigError as error:
        assert all(line.strip() for line in str(error).splitlines())
    else:
        assert isinstance(config, RunConfig)


@settings(deadline=None)
@given(st.sampled_from([(group, key) for group, keys in document().items() if group in GROUPS for key in keys]), JSON)
def test_any_setting_gives_a_run_or_a_config_error(place: tuple[str, str], value: object) -> None:
    try:
        assert isinstance(resolve(document(**{"__".join(place): value}), HOST), RunConfig)
    except ConfigError as error:
        assert place[0] in str(error)


def test_python_takes_dataclasses_and_lists_every_error() -> None:
    config = configure(
        HOST,
        task="ner",
        data=DataConfig(format="ner_sample", limit=3),
        backbone=BackboneConfig(init="random"),
        trainer=TrainerConfig(epochs=2),
    )
    assert (config.tasks[0].data.limit, config.backbone.init, config.trainer.epochs) == (3, "random", 2)
    with pytest.raises(ConfigError) as caught:
        configure(HOST, task="ner", data="pos/corpus", backbone="gpt9", trainer={"epoch": 1}, gpu={"option": "tpu"})
    text = str(caught.value)
    for part in ("data=pos/corpus: There is no option", "Did you mean 'gpt2'?", "trainer.epoch:", "gpu=tpu:"):
        assert part in text


def test_python_refuses_what_no_configuration_can_hold() -> None:
    with pytest.raises(ConfigError, match="cannot stand in a configuration"):
        configure(HOST, task="ner", trainer={"epochs": object()})


def test_resolving_imports_no_torch() -> None:
    code = "import sys, vertebra.config.resolve, vertebra.config.document; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
