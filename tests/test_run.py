"""Whole runs: from the command line and from Python, evaluated, used for prediction, exported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from safetensors import SafetensorError

import vertebra
from vertebra.cli.main import main
from vertebra.errors import DataError
from vertebra.host.hookspecs import hookimpl
from vertebra.host.manager import create_host
from vertebra.runs.folder import RunFolder
from vertebra_ner.baselines import CRF

SMALL = [
    "backbone.init=random",
    "backbone.config={n_layer: 1, n_embd: 32, n_head: 2}",
    "gpu=cpu",
    "gpu.threads=1",
    "data.limit=60",
]
QUICK = [*SMALL, "trainer.max_steps=4", "trainer.learning_rate=1e-2"]


def command(*arguments: str) -> None:
    """Run the command line in this process; it must succeed."""
    assert main(list(arguments)) == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the sample."""
    folder = tmp_path_factory.mktemp("runs") / "first run"
    command("train", "task=ner", *QUICK, f"hydra.run.dir={folder}")
    return folder


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_a_run_folder_says_everything(run: Path) -> None:
    state = read(run, "run.json")
    assert state["format"] == 1 and state["status"] == "finished" and state["reason"] is None
    assert len(state["key"]) == 32
    assert state["plugins"].keys() >= {"core", "ner"}
    assert state["backbone"]["packing"] == "packed" and state["backbone"]["attention"] == "bidirectional"
    assert "random weights" in state["notes"]
    scores = read(run, "metrics.json")
    intervals = read(run, "intervals.json")
    for split in ("valid", "test"):
        assert set(scores[split]) == {"entity_f1", "entity_precision", "entity_recall", "token_accuracy"}
        for name, score in scores[split].items():
            low, high = intervals[split][name]
            assert 0 <= low <= score <= high <= 1
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert config["trainer"]["learning_rate"] == 0.01
    assert config["trainer"]["epochs"] != "auto" and config["gpu"]["precision"] in ("fp32", "bf16")
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len({(line["split"], line["id"]) for line in lines}) == len(lines) == 120
    assert (run / "log.jsonl").read_text(encoding="utf-8").count("\n") >= 1
    assert "random weights" in (run / "report.html").read_text(encoding="utf-8")
    assert list((run / "tensorboard").rglob("events*"))
    assert not (run / "checkpoints").exists()
    assert not list(run.rglob("*.bin")) and not list(run.rglob("*.pkl"))


def test_a_run_has_its_baselines_beside_its_scores(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baselines = read(run, "baselines.json")
    assert list(baselines) == ["most frequent tag", "known entities", "CRF"]
    page = unescape((run / "report.html").read_text(encoding="utf-8"))
    for name, one in baselines.items():
        assert one["scores"].keys() == one["intervals"].keys() == {"valid", "test"}
        assert f"{100 * one['scores']['test']['entity_f1']:.2f}" in page
        assert name in page and one["summary"] in page
    command("evaluate", str(run))
    out = capsys.readouterr().out
    assert all(f"{100 * one['scores']['valid']['token_accuracy']:.2f}" in out for one in baselines.values())
    file = tmp_path / "other.jsonl"
    file.write_text(json.dumps({"tokens": ["qzx", "vkw"], "tags": ["B-PER", "O"]}) + "\n", encoding="utf-8")
    command("evaluate", str(run), "--file", str(file), "--output", str(tmp_path / "other"))
    out = capsys.readouterr().out
    assert "most frequent tag" in out and "CRF" in out
    of_other = read(tmp_path / "other", "baselines.json")
    for name in ("most frequent tag", "known entities"):  # words that training lacks: all are outside any entity
        assert of_other[name]["scores"]["test"]["token_accuracy"] == 0.5 and of_other[name]["scores"].keys() == {"test"}


def test_notes_and_report_beside_the_scores_of_other_rows_are_theirs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, other = tmp_path / "run", tmp_path / "other.tsv"
    command("train", "task=sentiment", *QUICK, f"hydra.run.dir={folder}")
    capsys.readouterr()
    command("evaluate", str(folder))
    out = capsys.readouterr().out
    assert "synthetic data" in out and "report.html" in out
    long = " ".join(["long"] * 2000)
    other.write_text(f"text\tlabel\nI liked it\tpositive\nso so\tneutral\n{long}\tnegative\n", encoding="utf-8")
    command("evaluate", str(folder), "--file", str(other))
    out = " ".join(capsys.readouterr().out.split())
    assert "synthetic data" not in out and "report.html" not in out
    assert "test has labels that train lacks and that cannot be predicted: neutral" in out
    assert "rows of test longer than the context: 1" in out


def test_other_rows_are_evaluated_without_baselines_where_the_run_s_own_data_have_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, moved = tmp_path / "own.conll", tmp_path / "moved.conll"
    own.write_text("Ada B-PER\nworks O\n\n" * 20, encoding="utf-8")
    folder = tmp_path / "run"
    command("train", "task=ner", "data=ner/conll", f"data.path={own}", *QUICK, f"hydra.run.dir={folder}")
    capsys.readouterr()
    own.rename(moved)
    command("evaluate", str(folder), "--file", str(moved))
    out = capsys.readouterr().out
    assert "entity_f1" in out and "CRF" not in out
    assert "fitting baselines failed: There is no file or folder" in " ".join(out.split())


def test_baselines_change_nothing_and_can_be_left_out(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "without"
    command("train", "task=ner", *QUICK, "trainer.baselines=false", f"hydra.run.dir={folder}")
    assert not (folder / "baselines.json").exists()
    assert read(folder, "run.json")["key"] == read(run, "run.json")["key"]
    assert read(folder, "run.json")["weights"] == read(run, "run.json")["weights"]
    assert "No baselines were computed for this run." in (folder / "report.html").read_text(encoding="utf-8")


def test_a_baseline_that_fails_is_a_note_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: CRF, rows: Any) -> list[Any]:
        raise ImportError("No module named 'nowhere'")

    monkeypatch.setattr(CRF, "predict", broken)
    folder = tmp_path / "noted"
    command("train", "task=ner", *QUICK, "data.cache=false", f"hydra.run.dir={folder}")
    assert list(read(folder, "baselines.json")) == ["most frequent tag", "known entities"]
    note = "baseline 'CRF' failed: ImportError: No module named 'nowhere'"
    assert note in read(folder, "run.json")["notes"]


def test_a_run_in_a_folder_called_tasks_has_a_model_of_its_own(tmp_path: Path) -> None:
    """Only in the folder of a run of several tasks does a task have the model of that run; others' folders stay as they are."""
    file = tmp_path / "model" / "mine.txt"
    file.parent.mkdir()
    file.write_text("kept", encoding="utf-8")
    quick = [*SMALL, "trainer.max_steps=1", "trainer.baselines=false", "trainer.trackers=[]"]
    folder = tmp_path / "tasks" / "ner"
    assert RunFolder(folder).model == folder / "model"
    command("train", "task=ner", *quick, f"hydra.run.dir={folder}")
    assert file.read_text(encoding="utf-8") == "kept" and list(file.parent.iterdir()) == [file]
    assert (folder / "model" / "heads.safetensors").is_file()
    assert vertebra.load(folder).predict(["Ada lives in Rome."])


def test_evaluate_finds_the_scores_of_the_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command("evaluate", str(run), "--output", str(tmp_path / "again"))
    assert read(tmp_path / "again", "metrics.json") == read(run, "metrics.json")
    again, first = ((folder / "predictions.jsonl").read_text(encoding="utf-8") for folder in (tmp_path / "again", run))
    assert again == first
    assert "entity_f1" in capsys.readouterr().out
    command("evaluate", str(run), "--split", "test")
    assert "valid" not in capsys.readouterr().out


def test_prediction_is_the_same_alone_in_a_batch_and_from_a_file(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["Mr Orvann visited Talbek.", "李明在北京工作。", "Nothing here", "A b c " * 30]
    loaded = vertebra.load(run)
    together = loaded.predict(texts)
    assert [loaded.predict([text])[0] for text in texts] == together
    for text, prediction in zip(texts, together, strict=True):
        for entity in prediction["entities"]:
            assert text[entity["start"] : entity["end"]] == entity["text"]

    file, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_text("".join(json.dumps({"id": f"n{n}", "text": text}) + "\n" for n, text in enumerate(texts)))
    command("predict", str(run), "--file", str(file), "--output", str(output))
    lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in lines] == ["n0", "n1", "n2", "n3"]
    assert [line["prediction"] for line in lines] == together
    capsys.readouterr()
    command("predict", str(run), "--text", texts[0], "--text", texts[1])
    printed = [json.loads(line)["prediction"] for line in capsys.readouterr().out.splitlines()]
    assert printed == together[:2]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tokens": ["Ada", 1843]}, "Row 2: Column 'tokens' must hold strings, but has 1843"),
        ({"tokens": "Ada slept"}, "Row 2: column 'tokens' must be a list, not 'Ada slept'"),
        ({"tokens": None}, "Row 2: column 'tokens' is empty"),
        (5, "Row 2 must be a text, or a mapping of columns to values, not 5"),
    ],
)
def test_a_row_that_cannot_be_predicted_on_is_refused_by_its_number(
    run: Path, row: Any, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError) as error:
        vertebra.load(run).predict(["Ada slept.", row])
    assert str(error.value).startswith(said) and "\n" not in str(error.value)
    if isinstance(row, dict):
        file = tmp_path / "in.jsonl"
        file.write_text(json.dumps({"text": "Ada slept."}) + "\n" + json.dumps(row) + "\n", encoding="utf-8")
        assert main(["predict", str(run), "--file", str(file)]) == 2
        assert f"{file}:2: {said.removeprefix('Row 2: ')}" in capsys.readouterr().err


def test_an_exported_backbone_loads_in_plain_transformers(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "exported"
    command("export", str(run), str(folder))
    code = (
        "import sys, torch\n"
        "from transformers import AutoModel, AutoTokenizer\n"
        "folder = sys.argv[1]\n"
        "model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)\n"
        "ids = tokenizer('Ada visited Paris.', return_tensors='pt').input_ids\n"
        "torch.save(model(ids, is_causal=False).last_hidden_state.detach(), folder + '/hidden.pt')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True, timeout=120)
    hidden_1TD = torch.load(folder / "hidden.pt", weights_only=True)

    from vertebra.engine.packing import pack
    from vertebra.tasks.features import Features

    backbone = vertebra.load(run, device="cpu").model.backbone
    ids = backbone.tokenizer("Ada visited Paris.").input_ids
    with torch.no_grad():
        own_TD = backbone(pack([Features(ids, positions=range(len(ids)))], lambda _: None))
    torch.testing.assert_close(own_TD, hidden_1TD[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (OSError(28, "No space left"), 2), (SafetensorError("full"), 2)]
)
def test_an_export_that_is_broken_off_leaves_nothing(
    run: Path, tmp_path: Path, error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "exported"
    with mock.patch("shutil.copy2", side_effect=error):  # of the heads, after the backbone
        assert main(["export", str(run), str(folder)]) == code
    said = capsys.readouterr().err
    assert "Traceback" not in said and (code == 130 or said.startswith(f"vertebra: Cannot write '{folder}': "))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("attention", "said"),
    [
        ("causal", None),
        (1.0, "is_causal=False"),
        (0.5, "attention 0.5"),
        (["causal", "bidirectional"], "vertebra.load"),
    ],
)
def test_an_export_says_how_its_layers_attend(
    run: Path, tmp_path: Path, attention: Any, said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = RunFolder(shutil.copytree(run, tmp_path / "run"))
    copy.update_state(backbone={**copy.read_state()["backbone"], "attention": attention})
    capsys.readouterr()
    command("export", str(copy.path), str(tmp_path / "exported"))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 if said is None else said in lines[1]


def test_python_without_hydra_gives_the_same_run(run: Path, tmp_path: Path) -> None:
    code = (
        "import sys, vertebra\n"
        "config = vertebra.configure(task='ner', gpu={'option': 'cpu', 'threads': 1}, data={'limit': 60},\n"
        "    backbone={'init': 'random', 'config': {'n_layer': 1, 'n_embd': 32, 'n_head': 2}},\n"
        "    trainer={'max_steps': 4, 'learning_rate': 1e-2})\n"
        "vertebra.train(config, sys.argv[1])\n"
        "assert 'hydra' not in sys.modules and 'omegaconf' not in sys.modules\n"
    )
    folder = tmp_path / "from python"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, timeout=120)
    assert read(folder, "metrics.json") == read(run, "metrics.json")
    assert read(folder, "run.json")["key"] == read(run, "run.json")["key"]


def test_multirun_makes_a_run_for_each_seed(tmp_path: Path) -> None:
    arguments = ["task=ner", "--multirun", "backbone=nano", "seed=1,2", *QUICK, f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    command("train", *arguments)
    states = sorted((tmp_path / "sweep").rglob("run.json"))
    assert len(states) == 2
    found = [json.loads(state.read_text(encoding="utf-8")) for state in states]
    assert [state["status"] for state in found] == ["finished", "finished"]
    assert found[0]["key"] != found[1]["key"]


def test_the_hooks_of_a_whole_run(tmp_path: Path) -> None:
    fired: list[str] = []

    class Watcher:
        @hookimpl
        def run_started(self, run: Any) -> None:
            assert run.examples == {"train": 60, "valid": 60, "test": 60}
            fired.append("run_started")

        @hookimpl
        def epoch_started(self) -> None:
            fired.append("epoch_started")

        @hookimpl
        def step_started(self) -> None:
            fired.append("step_started")

        @hookimpl
        def step_ended(self) -> None:
            fired.append("step_ended")

        @hookimpl
        def evaluation_ended(self, evaluation: Any) -> None:
            fired.append(f"evaluation_ended {evaluation.split}")

        @hookimpl
        def checkpoint_saved(self) -> None:
            fired.append("checkpoint_saved")

        @hookimpl
        def run_failed(self) -> None:
            fired.append("run_failed")

        @hookimpl
        def run_ended(self, run: Any) -> None:
            assert set(run.metrics) == {"valid", "test"}
            fired.append("run_ended")

    host = create_host()
    host.manager.register(Watcher())
    config = vertebra.configure(
        host,
        task="ner",
        gpu={"option": "cpu", "threads": 1},
        data={"limit": 60},
        backbone={"init": "random", "config": {"n_layer": 1, "n_embd": 32, "n_head": 2}},
        trainer={"max_steps": 2},
    )
    vertebra.train(config, tmp_path / "run", host)
    step = ["step_started", "step_ended"]
    evaluated = ["evaluation_ended valid", "checkpoint_saved", "evaluation_ended test"]
    assert fired == ["run_started", "epoch_started", *step, *step, *evaluated, "run_ended"]


@pytest.mark.parametrize("arguments", [["backbone.context=5000"], ["trainer.learning_rate=1e30", "gpu.precision=fp32"]])
def test_a_run_that_fails_says_so_in_its_folder(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main(["train", "task=ner", *QUICK, *arguments, f"hydra.run.dir={folder}"]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("vertebra: ") and "Traceback" not in message
    state = read(folder, "run.json")
    assert state["status"] == "failed" and state["reason"] in message


def test_a_place_that_is_taken_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "run.json").read_text(encoding="utf-8")
    assert main(["train", "task=ner", *QUICK, f"hydra.run.dir={run}"]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert (run / "run.json").read_text(encoding="utf-8") == before


def test_a_damaged_model_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    file = copy / "model" / "backbone" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert main(["predict", str(copy), "--text", "x"]) == 2
    assert "damaged" in capsys.readouterr().err
