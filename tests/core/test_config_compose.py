"""Composition by Hydra: every choice, every mistake, and no trace on disk or in Hydra's global state."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugin_site import PluginSite
from vertebra.config.compose import Composition, compose
from vertebra.config.defaults import core_defaults, task_defaults
from vertebra.config.options import configure
from vertebra.config.schema import DataConfig
from vertebra.errors import ConfigError, PluginError
from vertebra.host.manager import Host, create_host

HOST = create_host()

TOY = """
from vertebra.host.hookspecs import hookimpl
from vertebra.host.refs import TaskRef

@hookimpl
def register_tasks():
    return [TaskRef("toy", "toy.task:Toy", config="toy.config:ToyConfig")]

@hookimpl
def register_config_packages():
    return ["toy.conf"]
"""
TOY_CONFIG = """
from __future__ import annotations
from dataclasses import dataclass
from vertebra.config.schema import Positive, Strict

@dataclass(frozen=True)
class ToyConfig(Strict):
    labels: tuple[str, ...]
    size: Positive = 3
    prompt: str = "Label:"

    def __post_init__(self) -> None:
        if self.size > 9 and self.labels:
            raise ValueError("size is at most 9")
"""
TOY_FILES = {
    "toy/config.py": TOY_CONFIG,
    "toy/conf/__init__.py": "",
    "toy/conf/data/toy/sample.yaml": "format: csv\npath: /\n",
    "toy/conf/data/toy/large.yaml": "format: json\npath: /\n",
    "toy/conf/experiment/toy_large.yaml": (
        "# @package _global_\n"
        "defaults:\n  - override /task: toy\n  - override /data@_global_.data: toy/large\n  - override /gpu: cpu\n"
        "task:\n  labels: [a]\n"
    ),
}


@pytest.fixture
def site(site: PluginSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PluginSite:
    monkeypatch.chdir(tmp_path)
    return site


def refused(*overrides: str, host: Host = HOST) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compose(overrides, host)
    return str(caught.value).splitlines()


def test_a_task_alone_is_a_run_on_its_sample() -> None:
    composition = compose(["task=ner"], HOST)
    assert composition.config == configure(HOST, task="ner")
    assert composition.config.tasks[0].data.format == "ner_sample"


def test_every_setting_takes_its_own_default_without_a_plus() -> None:
    groups = {"task": task_defaults(HOST.get("task", "ner")), **core_defaults()}
    overrides = [
        f"{group}.{key}={'null' if value is None else value}"
        for group, settings in groups.items()
        if group != "seed"
        for key, value in settings.items()
        if (group, key) not in (("task", "name"), ("data", "format"))
    ]
    assert len(overrides) > 50
    assert compose(["task=ner", "seed=1", *overrides], HOST).config == configure(HOST, task="ner")


def test_the_folder_is_named_but_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    first, second = (compose(["task=ner"], HOST).folder for _ in range(2))
    assert first.parent == second.parent == tmp_path / "runs" / "ner"
    assert first != second
    assert compose(["task=ner", "hydra.run.dir=here"], HOST).folder == tmp_path / "here"
    assert compose(["task=ner", "hydra.run.dir='~/x y/数据'"], HOST).folder == tmp_path / "home" / "x y" / "数据"
    assert compose(["task=ner", "hydra.run.dir='out/${seed}'", "seed=4"], HOST).folder == tmp_path / "out" / "4"
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_changes_several_settings_and_the_line_has_the_last_word() -> None:
    config = compose(["task=ner", "experiment=bidirectional", "backbone.init=auto"], HOST).config
    assert (config.backbone.attention, config.backbone.init) == ("bidirectional", "auto")


def test_every_mistake_of_the_line_is_listed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = refused(
        "task=ner",
        "backbone=gpt9",
        "gpu=sinlge",
        "trainer.learning_rte=3",
        "+backbone.pth=x",
        "++data.pth=x",
        "seed=true",
        "sede=3",
        "trainer.epochs=-1",
        "trainer.batch_size='3'",
        "trainer.trackers=[foo]",
        "task",
        "data.limit=(1",
        "data.split_seed=1,2",
    )
    expected = [
        "'task' cannot be read: write KEY=VALUE",
        "'data.limit=(1' cannot be read",
        "data.split_seed=1,2: several values need --multirun",
        "backbone=gpt9: There is no option 'gpt9'. Did you mean 'gpt2'? Known: distilgpt2, gpt2, ",
        "gpu=sinlge: There is no option 'sinlge'. Did you mean 'single'? Known: auto, cpu, ddp, fsdp, single.",
        "trainer.learning_rte: there is no such setting. Did you mean 'learning_rate'?",
        "backbone.pth: there is no such setting. Did you mean 'path'?",
        "data.pth: there is no such setting. Did you mean 'path'?",
        "sede: there is no such setting. Did you mean 'seed'?",
        "seed=true: must be a valid integer",
        "trainer.epochs=-1: must be greater than 0",
        'trainer.batch_size="3": must be a valid integer',
        "trainer.trackers=foo: There is no tracker 'foo'",
    ]
    assert len(lines) == len(expected)
    for start in expected:
        assert sum(line.startswith(start) for line in lines) == 1, start
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ([], "Choose a task: task=NAME. Known: "),
        (["data=ner/conll"], "Choose a task: task=NAME. Known: "),
        (["task=nre"], "task=nre: There is no task 'nre'. Did you mean 'ner'?"),
        (["task=nre", "data=ner/conll"], "task=nre: There is no task 'nre'. Did you mean 'ner'?"),
        (["task=ner", "data=ner/conl", "data.path=/"], "data=ner/conl: There is no option 'ner/conl'. Did you mean"),
        (
            ["task=ner", "data=nre/sample"],
            "data=nre/sample: There is no option 'nre/sample'. Did you mean 'ner/sample'?",
        ),
        (
            ["task=ner", "experiment=nope"],
            "experiment=nope: There is no option 'nope'. Known: bidirectional, nano, pretrain.",
        ),
        (["task=ner", "adapter=lorra"], "adapter=lorra: There is no option 'lorra'. Did you mean 'lora'?"),
        (["task=ner", "~trainer.nope"], "trainer.nope: there is no such setting."),
        (["task=ner", "seed=${nope}"], "seed: Interpolation key 'nope' not found"),
        (["task=ner", "hydra.run.dir=${nope}"], "hydra.run.dir: Interpolation key 'nope' not found"),
        (
            ["task=ner", "data.path=${oc.env:NO_SUCH_VARIABLE}"],
            "data.path: Environment variable 'NO_SUCH_VARIABLE' not found",
        ),
        (["task=ner", "hydra.rn.dir=x"], "hydra.rn.dir: there is no such setting. Did you mean 'hydra.run.dir'?"),
        (["task=ner", "hydra/launcher=nope"], "hydra/launcher=nope: There is no option 'nope'. Known: basic"),
        (["task=ner", "backbone.path.x=3"], 'backbone.path={"x": 3}: must be a valid string.'),
        (["task=ner", "trainer=3"], "trainer=3: There is no option '3'. Known: default, quick."),
        (["task=ner", "trainer=true"], "trainer=true: There is no option 'true'. Known: default, quick."),
        (["task=3"], "task=3: There is no task '3'. Known: "),
    ],
)
def test_what_hydra_refuses_is_one_line_too(overrides: list[str], line: str) -> None:
    said = refused(*overrides)
    assert len(said) == 1, said
    assert said[0].startswith(line)


def test_hydra_is_left_as_it_was(tmp_path: Path) -> None:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir, version
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra

    (tmp_path / "mine.yaml").write_text("x: 1\n")
    with initialize_config_dir(str(tmp_path), version_base="1.2"):
        before = GlobalHydra.instance().hydra, version.getbase(), set(ConfigStore.instance().repo)
        compose(["task=ner"], HOST)
        refused("task=nre")
        assert (GlobalHydra.instance().hydra, version.getbase(), set(ConfigStore.instance().repo)) == before
        assert hydra_compose("mine") == {"x": 1}
    assert not GlobalHydra.instance().is_initialized()


# --- third-party plugins


def toy(*overrides: str) -> Composition:
    return compose(["task=toy", *overrides], create_host())


def test_a_plugin_brings_task_data_and_experiment(site: PluginSite) -> None:
    site.install("toy", TOY, modules=TOY_FILES)
    config = toy("task.labels=[a,b]", "task.size=4").config
    assert (config.tasks[0].config.labels, config.tasks[0].config.size) == (("a", "b"), 4)
    assert config.tasks[0].data.format == "csv"
    assert toy("task.labels=[]", "data=toy/large").config.tasks[0].data.format == "json"
    large = compose(["experiment=toy_large"], create_host()).config
    assert (large.tasks[0].name, large.tasks[0].data.format, large.gpu.device) == ("toy", "json", "cpu")
    assert configure(task={"option": "toy", "labels": ["a"]}, data="toy/large", gpu="cpu") == large


def test_a_plugins_settings_are_checked_like_the_cores(site: PluginSite) -> None:
    site.install("toy", TOY, modules=TOY_FILES)
    host = create_host()
    assert refused("task=toy", host=host) == ["task.labels must be given."]
    assert refused("task=toy", "task.labels=[1]", "task.sise=3", host=host) == [
        "task.sise: there is no such setting. Did you mean 'size'? Known: labels, size, prompt.",
        "task.labels.0=1: must be a valid string.",
    ]
    [line] = refused("task=toy", "task.labels=[a]", "task.size=10", host=host)
    assert line.endswith(": size is at most 9.")
    assert refused("task=ner", "data=toy/large", host=host) == [
        "data=toy/large: not for task=ner, whose data options are named ner/NAME."
    ]
    with pytest.raises(ConfigError, match="not for task=ner"):
        configure(host, task="ner", data="toy/large")


def test_a_task_without_settings_or_sample(site: PluginSite) -> None:
    source = TOY.replace(', config="toy.config:ToyConfig"', "")
    site.install("toy", source, modules={"toy/conf/__init__.py": "", "toy/conf/data/toy/large.yaml": "path: /\n"})
    host = create_host()
    [line] = refused("task=toy", host=host)
    assert line.startswith("data.path must be given")
    assert refused("task=toy", "task.size=3", "data.path=/", host=host) == [
        "task.size: there is no such setting. Known: none."
    ]
    for overrides in (["data.path=/"], ["data=toy/large"]):
        composition = compose(["task=toy", *overrides], host)
        assert (composition.config.tasks[0].config, composition.config.tasks[0].data.path) == (None, "/")


@pytest.mark.parametrize("splits", ["data.splits.train=b.txt", "data.splits={test: c.txt, train: b.txt}"])
def test_two_files_to_train_on_are_refused(tmp_path: Path, splits: str) -> None:
    file = tmp_path / "a.txt"
    file.touch()
    option = ["task=sentiment", "data=sentiment/financial_phrasebank"]  # which has a data.splits.train
    assert compose([*option, f"data.path={file}"], HOST).config.tasks[0].data.path == str(file)
    compose([*option, f"data.path={tmp_path}", splits], HOST)
    compose([*option, f"data.path={file}", "data.splits={test: c.txt}"], HOST)
    compose([*option, f"data.path={file}", splits, "data.format=parallel"], HOST)  # which names no files by data.splits
    [line] = refused(*option, f"data.path={file}", splits, host=HOST)
    assert "a.txt is a file, which is the training split, and data.splits.train names another" in line
    with pytest.raises(ConfigError, match="names another"):
        configure(HOST, task="sentiment", data=DataConfig(path=str(file), splits={"train": "b.txt"}))


def test_a_broken_config_module_harms_only_its_own_task(site: PluginSite) -> None:
    site.install("toy", TOY, modules={**TOY_FILES, "toy/config.py": "import no_such_module"})
    host = create_host()
    assert compose(["task=ner"], host).config.tasks[0].name == "ner"
    [line] = refused("task=toy", host=host)
    assert "no_such_module" in line


def test_an_option_that_two_plugins_define_is_refused_naming_both(site: PluginSite) -> None:
    site.install("toy", TOY, modules=TOY_FILES)
    other = TOY.replace('"toy', '"rival').replace("toy.", "rival.")
    files = {"rival/conf/__init__.py": "", "rival/conf/data/toy/large.yaml": "path: /\n"}
    site.install("rival", other, modules=files)
    for make in (lambda: compose(["task=ner"], create_host()), lambda: configure(task="ner")):
        with pytest.raises(PluginError, match=r"data=toy/large is defined by 'rival.conf' and by 'toy.conf'"):
            make()


@pytest.mark.parametrize("files", [{}, {"toy/conf/data/toy/sample.yaml": "path: /\n"}], ids=["none", "no __init__.py"])
def test_a_missing_package_of_options_is_named_when_its_task_is_asked_for(
    site: PluginSite, files: dict[str, str]
) -> None:
    site.install("toy", TOY, modules=files)
    host = create_host()
    assert compose(["task=ner"], host)
    [line] = refused("task=toy", host=host)
    assert "'toy.conf' cannot be found" in line


def test_a_file_cannot_take_the_place_of_a_tasks_defaults(site: PluginSite) -> None:
    site.install("toy", TOY, modules={**TOY_FILES, "toy/conf/task/ner.yaml": "name: ner\n"})
    with pytest.raises(PluginError, match=r"takes no option files \('toy.conf'\)"):
        compose(["task=ner"], create_host())


def test_a_blocked_plugin_is_named_when_its_task_is_asked_for(
    site: PluginSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("toy", TOY, modules=TOY_FILES)
    monkeypatch.setenv("VERTEBRA_DISABLE", "toy")
    [line] = refused("task=toy", host=create_host())
    assert "plugin 'toy' (toy 1.0) is blocked by VERTEBRA_DISABLE" in line
