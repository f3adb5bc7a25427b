"""Whole runs of a task that writes: trained, evaluated, used for prediction, resumed, frozen, by two processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

import vertebra
from vertebra.cli.main import main
from vertebra.errors import RunError

TINY = [
    "backbone.init=random",
    "backbone.config={n_layer: 1, n_embd: 32, n_head: 2, resid_pdrop: 0.0, embd_pdrop: 0.0}",
    "gpu=cpu",
    "gpu.threads=1",
    "gpu.precision=fp32",
    "data.limit=24",
    "task.max_new_tokens=8",
    "trainer.batch_size=8",
    "trainer.learning_rate=3e-3",
    "trainer.trackers=[]",
    "trainer.log_every=1",
]


def command(*arguments: str) -> None:
    """Run the command line in this process; it must succeed."""
    assert main(list(arguments)) == 0


def train(folder: Path, *settings: str) -> Path:
    command("train", "task=summarization", *TINY, *settings, f"hydra.run.dir={folder}")
    return folder


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the sample of summaries."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    return train(folder, "trainer.max_steps=6", "trainer.evaluate_every=3", "task.texts_while_training=5")


def test_training_lowers_the_loss_and_every_row_gets_a_text_in_the_end(run: Path) -> None:
    losses = [line["loss"] for line in lines(run, "log.jsonl")]
    assert losses[-1] < losses[0]
    predictions = lines(run, "predictions.jsonl")
    assert [line["split"] for line in predictions] == ["valid"] * 24 + ["test"] * 24
    assert all(isinstance(line["prediction"], str) for line in predictions)
    assert all(line["reference"] and list(line["input"]) == ["document"] for line in predictions)
    notes = read(run, "run.json")["notes"]
    assert any("5 of 24 rows of valid" in note for note in notes)
    assert {"rougeL", "rouge1", "rouge2"} <= set(read(run, "metrics.json")["test"])


def test_the_shared_matrix_is_saved_once_and_transformers_loads_the_language_model(run: Path) -> None:
    backbone = run / "model" / "backbone"
    assert load_file(run / "model" / "heads.safetensors") == {}
    assert not any("lm_head" in name for name in load_file(backbone / "model.safetensors"))
    model = AutoModelForCausalLM.from_pretrained(backbone)
    assert model.lm_head.weight is model.transformer.wte.weight
    inside = AutoModel.from_pretrained(backbone)
    assert inside.wte.weight.equal(model.lm_head.weight)


def test_predictions_are_what_transformers_writes_with_the_saved_model(run: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(run / "model" / "backbone").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "model" / "backbone")
    for line in lines(run, "predictions.jsonl")[:4]:
        prompt = tokenizer(f"{line['input']['document']}\n\nTL;DR:", return_tensors="pt")
        ids = model.generate(**prompt, max_new_tokens=8, do_sample=False, pad_token_id=0)
        text = tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
        assert line["prediction"] == text.strip()


def test_a_loaded_run_predicts_texts_and_rows_as_the_run_did(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = vertebra.load(run, device="cpu")
    wanted = lines(run, "predictions.jsonl")[:3]
    texts = [line["input"]["document"] for line in wanted]
    assert loaded.predict(texts) == [line["prediction"] for line in wanted]
    assert loaded.predict([{"document": texts[0]}]) == [wanted[0]["prediction"]]
    command("predict", str(run), "--text", texts[0])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["prediction"] == wanted[0]["prediction"]


def test_beams_write_what_transformers_finds_with_as_many(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = AutoModelForCausalLM.from_pretrained(run / "model" / "backbone").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "model" / "backbone")
    texts = [line["input"]["document"] for line in lines(run, "predictions.jsonl")[:6]]
    found = vertebra.load(run, device="cpu", settings={"beams": 4, "length_penalty": 0.5}).predict(texts)
    for text, prediction in zip(texts, found, strict=True):
        prompt = tokenizer(f"{text}\n\nTL;DR:", return_tensors="pt")
        ids = model.generate(**prompt, max_new_tokens=8, num_beams=4, length_penalty=0.5, pad_token_id=0)
        assert prediction == tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    settings = ["--set", "task.beams=4", "--set", "length_penalty=0.5"]
    command("predict", str(run), "--text", texts[0], *settings)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["prediction"] == found[0]


def test_a_setting_that_training_did_not_read_can_be_changed_later(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(
        "evaluate", str(run), "--split", "test", "--set", "task.max_new_tokens=1", "--output", str(tmp_path / "short")
    )
    assert "task.max_new_tokens=1" in capsys.readouterr().out
    settings = yaml.safe_load((tmp_path / "short" / "config.yaml").read_text(encoding="utf-8"))["tasks"][0]["config"]
    assert settings["max_new_tokens"] == 1
    assert scores_of_baselines(tmp_path / "short") == scores_of_baselines(run), "which write no tokens"
    long = [line["prediction"] for line in lines(run, "predictions.jsonl") if line["split"] == "test"]
    short = [line["prediction"] for line in lines(tmp_path / "short", "predictions.jsonl")]
    assert long != short
    assert all(one.startswith(other) for one, other in zip(long, short, strict=True))


def scores_of_baselines(folder: Path) -> dict[str, Any]:
    return {name: one["scores"] for name, one in read(folder, "baselines.json").items()}


def test_baselines_are_compared_with_what_the_model_is(tmp_path: Path) -> None:
    rows = [
        {"document": f"Number {n} is red. It is big.", "summary": [f"{n} is big", f"Number {n} is red"]}
        for n in range(40)
    ]
    for split, some in {"train": rows[:20], "valid": rows[20:30], "test": rows[30:]}.items():
        text = "".join(json.dumps(row) + "\n" for row in some)
        (tmp_path / f"{split}.jsonl").write_text(text, encoding="utf-8")
    folder = train(tmp_path / "run", "data=summarization/files", f"data.path={tmp_path}", "trainer.max_steps=1")
    command("evaluate", str(folder), "--set", "task.references=first", "--output", str(tmp_path / "first"))
    of_all, of_first = (
        scores_of_baselines(one)["lead sentence"]["test"]["rougeL"] for one in (folder, tmp_path / "first")
    )
    assert of_all == 1 > of_first > 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("task.prompt={document}", "task.prompt: was settled in training. What can be changed after it: beams, "),
        ("task.beam=4", "task.beam: there is no such setting. Did you mean 'beams'?"),
        ("task.beams=0", "task.beams=0"),
        ("task.beams", "must be a setting of the task and its value"),
        ("task.temperature=hot", 'task.temperature="hot": must be a valid number'),
    ],
)
def test_what_cannot_be_changed_later_is_one_line(
    run: Path, setting: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(run), "--text", "A text.", "--set", setting]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert "\n" not in said


def test_beams_and_draws_exclude_each_other(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = "vertebra: task: beams=4 looks for the likeliest text, and temperature=0.7 draws one: leave out one of the two.\n"
    both = ["--set", "task.beams=4", "--set", "task.temperature=0.7"]
    assert main(["predict", str(run), "--text", "A text.", *both]) == 2
    assert capsys.readouterr().err == said
    folder = run.with_name("never")
    assert main(["train", "task=summarization", "task.beams=4", "task.temperature=0.7", f"hydra.run.dir={folder}"]) == 2
    assert capsys.readouterr().err == said
    assert not folder.exists()
    assert main(["predict", str(run), str(run), "--text", "A text.", *both]) == 2
    assert "--set changes a setting of one task" in capsys.readouterr().err
    with pytest.raises(RunError, match="beams are of one task"):
        vertebra.load([run, run], settings={"beams": 4})  # type: ignore[call-overload]


def test_evaluating_again_gives_the_same_scores(run: Path, tmp_path: Path) -> None:
    command("evaluate", str(run), "--output", str(tmp_path / "again"))
    assert read(tmp_path / "again", "metrics.json") == read(run, "metrics.json")


def test_export_says_how_the_model_is_loaded(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command("export", str(run), str(tmp_path / "model"))
    assert "AutoModelForCausalLM.from_pretrained" in capsys.readouterr().out
    AutoModelForCausalLM.from_pretrained(tmp_path / "model")


def test_the_validation_loss_can_choose_the_best_checkpoint_without_any_text(tmp_path: Path) -> None:
    settings = ["task.texts_while_training=0", "trainer.metric=loss", "trainer.max_steps=4", "trainer.evaluate_every=2"]
    folder = train(tmp_path / "run", *settings)
    evaluations = [line for line in lines(folder, "evaluations.jsonl") if line["split"] == "valid"]
    assert [line["scores"] for line in evaluations] == [{}, {}]
    best = min(evaluations, key=lambda line: line["loss"])
    assert [line["best"] for line in evaluations][-1] == (best is evaluations[-1])
    assert read(folder, "metrics.json")["valid"]["rougeL"] >= 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("task.texts_while_training=0", "set trainer.metric=loss"),
        ("backbone.attention=bidirectional", "would have seen itself"),
        ("data.too_long=window", "data.too_long=window cuts rows into windows"),
        ("task.prompt=Summary:", "must have {document} once"),
        ("task.beams=0", "task.beams=0"),
    ],
)
def test_settings_under_which_no_text_can_be_written_are_refused(
    setting: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "task=summarization", *TINY, setting, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    assert message in capsys.readouterr().err


def test_a_frozen_backbone_trains_an_output_matrix_of_its_own(tmp_path: Path) -> None:
    folder = train(tmp_path / "run", "backbone.freeze=true", "trainer.max_steps=6", "trainer.learning_rate=1e-2")
    losses = [line["loss"] for line in lines(folder, "log.jsonl")]
    assert losses[-1] < losses[0]
    saved = load_file(folder / "model" / "backbone" / "model.safetensors")
    assert not saved["lm_head.weight"].equal(saved["transformer.wte.weight"])
    model = AutoModelForCausalLM.from_pretrained(folder / "model" / "backbone")
    assert model.lm_head.weight is not model.transformer.wte.weight
    loaded = vertebra.load(folder, device="cpu")
    wanted = lines(folder, "predictions.jsonl")[:3]
    assert loaded.predict([line["input"]["document"] for line in wanted]) == [line["prediction"] for line in wanted]


def test_sampled_texts_are_a_function_of_the_seed(tmp_path: Path) -> None:
    settings = ["trainer.max_steps=1", "task.temperature=1.0", "task.top_k=50"]
    first, second = (train(tmp_path / name, *settings) for name in ("a", "b"))
    other = train(tmp_path / "c", *settings, "task.sampling_seed=99")
    texts = [[line["prediction"] for line in lines(folder, "predictions.jsonl")] for folder in (first, second, other)]
    assert texts[0] == texts[1] != texts[2]


def test_what_is_drawn_for_a_row_is_a_function_of_its_number_in_the_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = train(tmp_path / "run", "trainer.max_steps=1", "task.temperature=1.0", "adapter=lora")
    lines_of_test = [line for line in lines(folder, "predictions.jsonl") if line["split"] == "test"]
    inputs = [line["input"]["document"] for line in lines_of_test[:8]]
    for module in ("load", "loaded_tasks"):
        monkeypatch.setattr(f"vertebra.runs.{module}.CHUNK", 5)
    assert vertebra.load(folder, device="cpu").predict(inputs) == [line["prediction"] for line in lines_of_test[:8]]
    tasks = vertebra.load({"one": folder, "other": folder}, device="cpu")
    mixed = tasks.predict_mixed([(name, text) for text in inputs for name in ("one", "other")])
    texts = {"one": mixed[::2], "other": mixed[1::2]}
    assert texts["one"] == texts["other"] == tasks.predict("one", inputs)
    same = tasks.predict("one", inputs[:1] * 8)
    assert len(set(same)) == 8, "and rows further on are not those before them"


def test_padded_batches_train_the_same_model(run: Path, tmp_path: Path) -> None:
    settings = ["trainer.max_steps=6", "trainer.evaluate_every=3", "backbone.packing=padded"]
    padded = train(tmp_path / "run", *settings)
    ours, theirs = ([line["loss"] for line in lines(folder, "log.jsonl")] for folder in (run, padded))
    assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.slow
def test_two_processes_learn_and_write_what_one_does(run: Path, tmp_path: Path) -> None:
    both = train(
        tmp_path / "run",
        *["trainer.max_steps=6", "trainer.evaluate_every=3", "task.texts_while_training=5"],
        *["gpu=ddp", "gpu.device=cpu", "gpu.processes=2", "gpu.threads=1", "gpu.precision=fp32"],
    )
    ours, theirs = ([line["loss"] for line in lines(folder, "log.jsonl")] for folder in (run, both))
    assert ours == pytest.approx(theirs, rel=1e-4)
    one, two = (read(folder, "metrics.json") for folder in (run, both))
    assert one["test"]["rougeL"] == pytest.approx(two["test"]["rougeL"], abs=0.02)
    assert len(lines(both, "predictions.jsonl")) == 48


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    from vertebra.engine import trainer as module
    from vertebra.errors import StoppedError

    settings = ["trainer.max_steps=4", "trainer.evaluate_every=2", "trainer.checkpoint_every=1"]
    whole = train(tmp_path / "whole", *settings)
    stopped = tmp_path / "stopped"
    step = module.Trainer._step

    def stop_at_three(self: module.Trainer) -> None:
        if self.progress.step == 3:
            raise StoppedError("stopped by the test")
        step(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Trainer, "_step", stop_at_three)
        assert main(["train", "task=summarization", *TINY, *settings, f"hydra.run.dir={stopped}"]) != 0
    command("resume", str(stopped))
    one, other = (load_file(folder / "model" / "backbone" / "model.safetensors") for folder in (whole, stopped))
    assert all(torch.equal(one[name], other[name]) for name in one)
