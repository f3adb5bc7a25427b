"""Runs of several tasks: composed, trained, in their folders, loaded, compared, resumed, and refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from safetensors.torch import load_file

import vertebra
from vertebra.cli.arguments import quoted
from vertebra.cli.main import main
from vertebra.cli.train import print_run
from vertebra.config.document import from_document, to_document
from vertebra.config.members import compose_tasks
from vertebra.engine.trainer import Trainer
from vertebra.errors import ConfigError, RunError
from vertebra.host.manager import create_host
from vertebra.runs.collect import differing, entries_of, finished_runs, settings_of
from vertebra.runs.compare import compare_runs
from vertebra.runs.folder import RunFolder

HOST = create_host()
TASKS = "tasks=[ner,sentiment]"
TINY = [
    "backbone.init=random",
    "backbone.config={n_layer: 1, n_embd: 32, n_head: 2}",
    "gpu=cpu",
    "gpu.threads=1",
    "trainer.trackers=[]",
]
SMALL = [*TINY, "data.limit=24", "sentiment.data.limit=16", "trainer.batch_size=8", "trainer.learning_rate=1e-2"]
QUICK = [
    *SMALL,
    "ner.weight=2",
    "trainer.epochs=2",
    "trainer.weighting=uncertainty",
    "trainer.sampling=temperature",
    "trainer.checkpoint_every=2",
    "trainer.log_every=1",
]
OF_A_TASK = ("config.yaml", "data.json", "baselines.json", "evaluations.jsonl", "metrics.json", "intervals.json")
RESULTS = ("predictions.jsonl", "figures.json", "report.html", "environment.json", "run.json")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two tasks."""
    folder = tmp_path_factory.mktemp("runs") / "two"
    assert main(["train", TASKS, *QUICK, f"hydra.run.dir={folder}"]) == 0
    return folder


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """Return the lines of a command that is refused."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return [line.removeprefix("vertebra: ") for line in said.splitlines() if line]


def test_the_folder_of_each_task_reads_like_a_runs_own(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state, scores = read(run, "run.json"), read(run, "metrics.json")
    assert state["status"] == "finished" and state["tasks"] == ["ner", "sentiment"]
    assert set(state["loss_weights"]) == {"ner", "sentiment"} and set(state["weights"]) == {"last", "best"}
    for task, first in (("ner", "entity_f1"), ("sentiment", "accuracy")):
        place = run / "tasks" / task
        assert all((place / name).is_file() for name in (*OF_A_TASK, *RESULTS))
        own = read(place, "run.json")
        assert own["tasks"] == [task] and own["status"] == "finished" and own["key"] == state["key"]
        config = from_document(yaml.safe_load((place / "config.yaml").read_text(encoding="utf-8")), HOST)
        assert [choice.name for choice in config.tasks] == [task]
        for split in ("valid", "test"):
            assert {
                f"{task}.{name}": value for name, value in read(place, "metrics.json")[split].items()
            }.items() <= scores[split].items()
            assert next(iter(read(place, "metrics.json")[split])) == first
        lines = [json.loads(line) for line in (place / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [line["split"] for line in lines] == ["valid", "valid", "test"] and first in lines[0]["scores"]
    for split in ("valid", "test"):
        mean = (scores[split]["ner.entity_f1"] + scores[split]["sentiment.accuracy"]) / 2
        assert next(iter(scores[split])) == "mean_score" and scores[split]["mean_score"] == pytest.approx(mean)
    counts = read(run, "data.json")["splits"]["train"]["rows"]
    assert counts == 24 + 16
    page = (run / "report.html").read_text(encoding="utf-8")
    assert 'href="tasks/ner/report.html"' in page and "mean_score" in page
    known = read(run / "tasks" / "ner", "baselines.json").values()
    best = max(one["scores"]["test"]["entity_f1"] for one in known)
    print_run(run, HOST)
    [line] = [line for line in capsys.readouterr().out.splitlines() if "ner.entity_f1" in line][:1]
    assert line.split()[1] == f"{100 * best:.2f}" and f"{100 * best:.2f} <small>" in page
    assert main(["runs", str(run.parent), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["settings"]["task"] == "ner+sentiment" and found["settings"]["sentiment.data.limit"] == 16
    assert found["metric"] == "mean_score"


def test_one_of_its_tasks_is_loaded_predicts_and_is_compared(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for task in ("ner", "sentiment"):
        lines = [
            json.loads(line)
            for line in (run / "tasks" / task / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        loaded = vertebra.load(run, task=task, device="cpu")
        assert set(loaded.model.heads) == {task}
        predicted = loaded.predict([line["input"] for line in lines])
        assert predicted == [line["prediction"] for line in lines]
    capsys.readouterr()
    assert main(["predict", str(run), "--task", "ner", "--text", "Ada met Bo."]) == 0
    one = capsys.readouterr().out
    assert main(["predict", str(run / "tasks" / "ner"), "--text", "Ada met Bo."]) == 0
    assert capsys.readouterr().out == one and json.loads(one)["prediction"]["tags"]
    assert main(["compare", str(run / "tasks" / "ner"), str(run / "tasks" / "ner"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"][0]["difference"] == 0
    assert refused(capsys, "predict", str(run), "--text", "Ada") == [
        f"The run in '{run}' has the tasks ner, sentiment: name one of them, or give its folder, such as "
        f"'{run / 'tasks' / 'ner'}'."
    ]
    assert refused(capsys, "evaluate", str(run), "--task", "qa") == [
        f"The run in '{run}' has no task 'qa'; it has ner, sentiment."
    ]
    with pytest.raises(RunError, match="names 2 tasks: give the folder of one"):
        compare_runs(run, run / "tasks" / "ner", HOST)


def test_an_export_has_what_its_tasks_learnt(run: Path, tmp_path: Path) -> None:
    for place, tasks in ((run, {"ner", "sentiment"}), (run / "tasks" / "ner", {"ner"})):
        folder = tmp_path / place.name
        assert main(["export", str(place), str(folder)]) == 0
        heads = load_file(folder / "heads.safetensors")
        assert {name.partition(".")[0] for name in heads} == set(read(folder, "tasks.json")) == tasks
        whole = load_file(run / "model" / "heads.safetensors")
        assert all(torch.equal(whole[name], one) for name, one in heads.items())


def test_a_leaderboard_has_its_tasks_as_those_of_a_system_of_their_own(run: Path) -> None:
    entries = entries_of(finished_runs([run]))
    assert [entry.task for entry in entries] == ["ner", "sentiment"]
    alone = RunFolder(run / "tasks" / "ner")
    both = [settings_of(alone), {**settings_of(alone), "together": "ner+qa"}]
    assert differing(both[0], both) == {"together": "ner+sentiment"}


def assert_parts_can_be_taken_elsewhere(run: Path, tasks: Sequence[str], scratch: Path) -> None:
    """Each task predicts what it did in the run: opened from there, from a bundle, and beside the others over one backbone."""
    places = {task: run / "tasks" / task for task in tasks}
    together = vertebra.load(places, device="cpu")
    for task, place in places.items():
        lines = [json.loads(line) for line in (place / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
        inputs, expected = ([line[name] for line in lines] for name in ("input", "prediction"))
        bundle = scratch / f"bundle-{task}"
        assert main(["bundle", "export", str(place), str(bundle)]) == 0
        assert main(["bundle", "verify", str(bundle)]) == 0
        alone = vertebra.load(run, task=task, device="cpu").predict(inputs)
        assert (
            alone == vertebra.load(bundle, device="cpu").predict(inputs) == together.predict(task, inputs) == expected
        )


def broken_off(folder: Path, settings: Sequence[str], after: int = 7) -> None:
    """Make a run of both tasks that fails after so many steps."""
    step = Trainer._step

    def breaks_off(self: Trainer) -> None:
        if self.progress.step == after:
            raise RunError("broken off")
        step(self)

    with mock.patch.object(Trainer, "_step", breaks_off):
        assert main(["train", TASKS, *settings, f"hydra.run.dir={folder}"]) == 2


def test_a_run_that_was_broken_off_ends_as_it_would_have(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "part"
    broken_off(folder, QUICK)
    assert not (folder / "tasks" / "ner" / "run.json").exists()
    assert main(["resume", str(folder)]) == 0
    state, other = read(folder, "run.json"), read(run, "run.json")
    assert (state["weights"], state["key"], state["loss_weights"]) == (
        other["weights"],
        other["key"],
        other["loss_weights"],
    )
    names = ["log.jsonl", "evaluations.jsonl", "metrics.json", "intervals.json", "model/heads.safetensors"]
    names += [
        f"tasks/{task}/{name}" for task in ("ner", "sentiment") for name in ("evaluations.jsonl", "predictions.jsonl")
    ]
    for name in names:
        assert (folder / name).read_bytes() == (run / name).read_bytes(), name


def test_python_composes_what_the_command_line_does() -> None:
    settings = {
        "ner": {"data": {"limit": 24}, "weight": 2.0, "share": 0.25},
        "sentiment": {"task": {"label_smoothing": 0.1}},
    }
    made = vertebra.configure(tasks=settings, trainer={"sampling": "uniform"}, gpu="cpu", seed=4)
    line = [
        TASKS,
        "ner.data.limit=24",
        "ner.weight=2",
        "ner.share=0.25",
        "sentiment.task.label_smoothing=0.1",
        "trainer.sampling=uniform",
    ]
    composed = compose_tasks([*line, "gpu=cpu", "seed=4"], HOST)
    assert composed.config == made and composed.folder.parent.name == "ner+sentiment"
    assert from_document(to_document(made), HOST) == made
    assert [choice.data.limit for choice in made.tasks] == [24, None]
    one = vertebra.configure(tasks=["ner"])
    assert one == vertebra.configure(task="ner") == compose_tasks(["tasks=[ner]"], HOST).config


def test_texts_of_one_task_need_no_quotes(tmp_path: Path) -> None:
    file = tmp_path / "my data, 1(2).csv"
    file.write_text("text,label\na,b\n", encoding="utf-8")
    line = quoted([TASKS, "sentiment.data=sentiment/files", f"sentiment.data.path={file}"], HOST)
    assert compose_tasks(line, HOST).config.tasks[1].data.path == str(file)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["tasks=[ner,sentimant]"], "tasks: There is no task 'sentimant'. Did you mean 'sentiment'?"),
        (["tasks=[ner,ner]"], "tasks: 'ner' is named twice, and a task has one head in a run."),
        (["tasks=[]"], "Choose the tasks: tasks=[NAME,NAME]."),
        (["tasks=ner,qa"], "tasks=ner,qa: write a list, as in tasks=[ner,qa]."),
        ([TASKS, "task=qa"], "task= and tasks= cannot both be given: tasks=[…] names all tasks of the run."),
        ([TASKS, "qa.data.limit=3"], "qa.data.limit: task 'qa' is not one of tasks=[ner,sentiment]."),
        (
            [TASKS, "ner.adapter=lora"],
            "ner.adapter: a task has data, task, weight, share, rate and head_from of its own",
        ),
        ([TASKS, "ner.weight=0"], "ner.weight=0: must be greater than 0."),
        ([TASKS, "ner.share=1"], "ner.share=1: must be less than 1."),
        ([TASKS, "ner.share=0.5", "sentiment.share=0.2"], "ner.share=0.5, sentiment.share=0.2: a share is that beside"),
        (["tasks=[ner]", "ner.share=0.5"], "ner.share=0.5: a share is that beside other tasks"),
        (
            ["tasks=[ner,sentiment,qa]", "ner.share=0.5", "qa.share=0.5"],
            "ner.share=0.5, qa.share=0.5: they leave nothing to the other tasks",
        ),
        ([TASKS, "ner.head_from=runs/none"], "ner.head_from=runs/none: There is no run folder 'runs/none'."),
        ([TASKS, "ner.data.limt=3"], "ner: data.limt: there is no such setting. Did you mean 'limit'?"),
        ([TASKS, "trainer.batch_sise=3"], "trainer.batch_sise: there is no such setting. Did you mean 'batch_size'?"),
        ([TASKS, "ner.data=sentiment/sample"], "ner: data=sentiment/sample: not for task=ner"),
        ([TASKS, "trainer.metric=entity_f1"], "trainer.metric=entity_f1: with several tasks it is the mean"),
        ([TASKS, "trainer.more_metrics=[mcc]"], "trainer.more_metrics goes with one task"),
        (
            ["tasks=[ner,lm]"],
            "tasks=[ner,lm]: task=lm learns from running text and not from rows, and is trained alone",
        ),
        (
            ["tasks=[ner,summarization]", "backbone.init=random"],
            "tasks=[ner,summarization]: ner prefers bidirectional, summarization prefers causal",
        ),
        ([TASKS, "--multirun", "seed=1,2"], "tasks=[…] is one run: it goes with none of --cfg, --info and --multirun."),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    line: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (found,) = refused(capsys, "train", *line)
    assert found.startswith(said)
    assert not list(tmp_path.iterdir())


def test_python_is_refused_the_same() -> None:
    for arguments, said in (
        ({"tasks": ["ner", "lm"]}, "task=lm learns from running text"),
        ({"tasks": ["ner"], "task": "ner"}, "tasks= stands for task= and data="),
        ({"tasks": {"ner": {"adapter": "lora"}}}, r"tasks.ner.adapter: there is no such setting"),
        ({"tasks": {"ner": {"weight": -1.0}}}, "weight=-1.0: must be greater than 0"),
        ({}, "Choose a task"),
    ):
        with pytest.raises(ConfigError, match=said):
            vertebra.configure(HOST, **arguments)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_task_that_writes_and_one_that_reads_share_a_causal_backbone_and_an_adapter(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = ["backbone.attention=causal", "adapter=lora", "trainer.max_steps=2", "data.limit=8"]
    settings += ["summarization.task.max_new_tokens=4", "trainer.baselines=false"]
    assert main(["train", "tasks=[ner,summarization]", *TINY, *settings, f"hydra.run.dir={folder}"]) == 0
    assert_parts_can_be_taken_elsewhere(folder, ("ner", "summarization"), tmp_path)
    state = read(folder, "run.json")
    assert state["adapter"]["name"] == "lora" and 0 < state["adapter"]["share"] < 0.5


@pytest.mark.slow
def test_frozen_backbones_and_two_processes(tmp_path: Path) -> None:
    """A frozen backbone reads all tasks once; two processes learn what one learns."""
    log = {}
    for name, more in {
        "one": [],
        "two": ["gpu=ddp", "gpu.device=cpu", "gpu.processes=2"],
        "frozen": ["backbone.freeze=true"],
    }.items():
        folder = tmp_path / name
        line = [
            "train",
            TASKS,
            *SMALL,
            "trainer.max_steps=4",
            "trainer.log_every=1",
            "trainer.weighting=uncertainty",
            "gpu.precision=fp32",
        ]
        assert (
            main(
                [
                    *line,
                    "backbone.init=random",
                    "backbone.config={n_layer: 1, n_embd: 32, n_head: 2, attn_pdrop: 0, embd_pdrop: 0, resid_pdrop: 0}",
                    "ner.task.dropout=0",
                    "sentiment.task.dropout=0",
                    *more,
                    f"hydra.run.dir={folder}",
                ]
            )
            == 0
        )
        log[name] = [json.loads(text) for text in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    for one, two in zip(log["one"], log["two"], strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
        assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-3)
    assert log["frozen"][0]["losses"] == pytest.approx(log["one"][0]["losses"], rel=1e-5)
    assert vertebra.load(tmp_path / "frozen", task="sentiment", device="cpu").predict(["good"])
