"""A stranger's run folder, backbone folder or configuration executes nothing: it is refused in one line, or harmless.

Every payload, if it ever ran, would write the marker file; no test may leave one.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import vertebra
from strangers import Payload, sign
from vertebra.cli.main import main
from vertebra.engine.checkpoints import MANIFEST, is_whole
from vertebra.host.manager import create_host
from vertebra.report.html import write_report
from vertebra.runs.folder import RunFolder

SMALL = [
    "backbone.init=random",
    "backbone.config={n_layer: 1, n_embd: 32, n_head: 2}",
    "gpu=cpu",
    "gpu.threads=1",
    "data.limit=40",
]
QUICK = [*SMALL, "trainer.max_steps=2", "trainer.trackers=[]"]
TEXT = "Mr Orvann visited Talbek."
PICKLES = (
    "pytorch_model.bin",
    "model.bin",
    "model.pt",
    "optimizer.pt",
    "optimizer.bin",
    "scheduler.pt",
    "training_args.bin",
    "random_states_0.pkl",
    "rng_state.pth",
    "state.pkl",
    "adapter_model.bin",
    "heads.bin",
    "tokenizer.pkl",
)


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """The file that nothing may write."""
    file = tmp_path / "executed"
    yield file
    assert not file.exists()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "original"
    assert main(["train", "task=ner", *QUICK, f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be tampered with."""
    return Path(shutil.copytree(original, tmp_path / "run"))


def change(file: Path, **values: Any) -> None:
    """Change entries of a JSON file; all of it where it holds no mapping."""
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**content, **values}), encoding="utf-8")


def configure(run: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit the configuration of a run."""
    file = run / "config.yaml"
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    edit(document)
    file.write_text(yaml.safe_dump(document), encoding="utf-8")


# --- pickles


def put_pickles(folder: Path, marker: Path) -> None:
    """Put a payload under every name that some library would look for, as torch writes it and plain."""
    for number, name in enumerate(PICKLES):
        if number % 2:
            torch.save({"state": Payload(marker)}, folder / name)
        else:
            (folder / name).write_bytes(pickle.dumps(Payload(marker)))


def test_the_payload_would_work(tmp_path: Path) -> None:
    file = tmp_path / "written"
    pickle.loads(pickle.dumps(Payload(file)))
    assert file.exists()


def test_pickles_in_a_run_folder_are_never_read(run: Path, marker: Path) -> None:
    for folder in (run, run / "model", run / "model" / "backbone"):
        put_pickles(folder, marker)
    sign(run / "model")
    assert main(["predict", str(run), "--text", TEXT]) == 0
    assert main(["evaluate", str(run), "--split", "test"]) == 0
    assert main(["export", str(run), str(run.parent / "exported")]) == 0


def test_a_backbone_folder_with_pickled_weights_is_refused(
    run: Path, marker: Path, refused: Callable[..., str]
) -> None:
    folder = run / "model" / "backbone"
    (folder / "model.safetensors").unlink()
    put_pickles(folder, marker)
    arguments = ("train", "task=ner", *QUICK[1:], "backbone=hf", f"backbone.path={folder}")
    assert "safetensors" in refused(*arguments, f"hydra.run.dir={run.parent / 'new'}")
    sign(run / "model")
    assert "safetensors" in refused("predict", run, "--text", TEXT)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "../outside.safetensors", "/etc/passwd", 7])
def test_an_index_that_names_other_files_than_safetensors_beside_it_is_refused(
    name: Any, run: Path, marker: Path, refused: Callable[..., str]
) -> None:
    folder = run / "model" / "backbone"
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    put_pickles(folder, marker)
    index = {"metadata": {}, "weight_map": {"wte.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    sign(run / "model")
    assert "model.safetensors.index.json" in refused("predict", run, "--text", TEXT)


def test_a_configuration_cannot_name_pickled_weights(run: Path, marker: Path) -> None:
    folder = run / "model" / "backbone"
    put_pickles(folder, marker)
    change(folder / "config.json", transformers_weights="adapter_model.bin")
    sign(run / "model")
    assert main(["predict", str(run), "--text", TEXT]) == 0


# --- code that a model folder brings

EVIL_MODULE = """import pathlib
pathlib.Path({marker!r}).touch()


class Evil:
    pass


EvilConfig = EvilModel = EvilTokenizer = Evil
"""
CODE = {
    "auto_map in config.json": (
        "config.json",
        {"auto_map": {"AutoConfig": "modeling_evil.EvilConfig", "AutoModel": "modeling_evil.EvilModel"}},
    ),
    "auto_map and an unknown family": (
        "config.json",
        {"model_type": "evil", "auto_map": {"AutoConfig": "modeling_evil.EvilConfig"}},
    ),
    "auto_map of another repository": (
        "config.json",
        {"model_type": "evil", "auto_map": {"AutoConfig": "evil/repository--modeling_evil.EvilConfig"}},
    ),
    "trust_remote_code in config.json": (
        "config.json",
        {"trust_remote_code": True, "model_type": "evil", "auto_map": {"AutoConfig": "modeling_evil.EvilConfig"}},
    ),
    "architectures": ("config.json", {"architectures": ["modeling_evil.EvilModel"]}),
    "attention from the Hub": ("config.json", {"attn_implementation": "evil/kernel:evil"}),
    "attention from the Hub, internal": ("config.json", {"_attn_implementation": "evil/kernel"}),
    "attention from the Hub, most internal": ("config.json", {"_attn_implementation_internal": "evil/kernel"}),
    "auto_map in tokenizer_config.json": (
        "tokenizer_config.json",
        {"auto_map": {"AutoTokenizer": ["modeling_evil.EvilTokenizer", "modeling_evil.EvilTokenizer"]}},
    ),
    "auto_map of an unknown tokenizer": (
        "tokenizer_config.json",
        {
            "tokenizer_class": "EvilTokenizer",
            "auto_map": {"AutoTokenizer": [None, "modeling_evil.EvilTokenizer"]},
            "trust_remote_code": True,
        },
    ),
    "tokenizer_class by path": ("tokenizer_config.json", {"tokenizer_class": "../modeling_evil.EvilTokenizer"}),
    "tokenizer_class by module": ("tokenizer_config.json", {"tokenizer_class": "modeling_evil.EvilTokenizer"}),
    "tokenizer_class of os": ("tokenizer_config.json", {"tokenizer_class": "os.system"}),
    "chat template": (
        "tokenizer_config.json",
        {"chat_template": "{{ cycler.__init__.__globals__.os.system('touch ' ~ marker) }}"},
    ),
    "quantization": ("config.json", {"quantization_config": {"quant_method": "evil", "modules": ["os"]}}),
    "quantization by a library": ("config.json", {"quantization_config": {"quant_method": "bitsandbytes"}}),
    "type of os": ("config.json", {"dtype": "os.system"}),
    "activation by path": ("config.json", {"activation_function": "os.system"}),
}


@pytest.mark.parametrize("case", CODE)
def test_code_in_a_model_folder_is_not_run(
    case: str, run: Path, marker: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run / "model" / "backbone"
    monkeypatch.chdir(folder)  # where a relative import would find it
    (folder / "modeling_evil.py").write_text(EVIL_MODULE.format(marker=str(marker)), encoding="utf-8")
    file, values = CODE[case]
    change(folder / file, **values)
    sign(run / "model")
    code = main(["predict", str(run), "--text", TEXT])
    err = capsys.readouterr().err
    print(case, code, err)
    assert (code, err.count("vertebra: ")) in [(0, 0), (2, 1)]


# --- configurations

TOUCH = "touch {marker}"


@pytest.mark.parametrize(
    "settings",
    [
        ["+task._target_=os.system", "+task._args_=['{touch}']"],
        ["+task.model._target_=os.system", "+task.model.command='{touch}'"],
        ["++backbone._target_=os.system", "++backbone.command='{touch}'"],
        ["+_target_=os.system", "+_args_=['{touch}']"],
        ["trainer={{_target_: os.system, command: '{touch}'}}"],
        ["trainer.optimizer={{_target_: subprocess.getoutput, cmd: '{touch}'}}"],
        ["trainer.optimizer=os.system"],
        ["trainer.behaviours=['os:system']"],
        ["task.name=os:system"],
        ["task=os.system"],
        ["backbone.name=vertebra.engine.sources:nano"],
        ["data.format=os:system"],
        ["backbone.config._target_=os.system"],
    ],
)
def test_a_configuration_on_the_command_line_names_no_code(
    settings: list[str], tmp_path: Path, marker: Path, refused: Callable[..., str]
) -> None:
    touch = TOUCH.format(marker=marker)
    choice = [] if settings[0].startswith("task=") else ["task=ner"]
    given = [setting.format(touch=touch) for setting in settings]
    refused("train", *choice, *QUICK, *given, f"hydra.run.dir={tmp_path / 'new'}")
    assert not (tmp_path / "new" / "model").exists()


EDITS: dict[str, Callable[[dict[str, Any], str], object]] = {
    "_target_ in the task": lambda c, touch: c["tasks"][0].update(_target_="os.system", _args_=[touch]),
    "_target_ in the task's settings": lambda c, touch: c["tasks"][0].update(
        config={"_target_": "os.system", "_args_": [touch]}
    ),
    "_target_ in the backbone": lambda c, touch: c["backbone"].update(_target_="os.system", command=touch),
    "_target_ at the top": lambda c, touch: c.update(_target_="os.system", _args_=[touch]),
    "_target_ for a trainer": lambda c, touch: c.update(trainer={"_target_": "os.system", "command": touch}),
    "code as the task": lambda c, touch: c["tasks"][0].update(name="os:system"),
    "a path as the task": lambda c, touch: c["tasks"][0].update(name="../../evil"),
    "a mapping as the task": lambda c, touch: c["tasks"][0].update(name={"_target_": "os.system"}),
    "no task": lambda c, touch: c.update(tasks=[]),
    "two tasks": lambda c, touch: c.update(tasks=[c["tasks"][0], c["tasks"][0]]),
    "a text for the backbone": lambda c, touch: c.update(backbone="evil"),
    "a text for the task's settings": lambda c, touch: c["tasks"][0].update(config="evil"),
    "a huge seed": lambda c, touch: c.update(seed=10**400),
    "a negative seed": lambda c, touch: c.update(seed=-1),
    "a negative context": lambda c, touch: c["backbone"].update(context=-1),
    "a huge context": lambda c, touch: c["backbone"].update(context=10**30),
    "no number": lambda c, touch: c["trainer"].update(learning_rate=float("nan")),
}


@pytest.mark.parametrize("case", EDITS)
def test_a_configuration_in_a_run_folder_names_no_code(
    case: str, run: Path, marker: Path, refused: Callable[..., str]
) -> None:
    configure(run, lambda document: EDITS[case](document, TOUCH.format(marker=marker)))
    refused("predict", run, "--text", TEXT)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['{touch}']",
        "tasks: !!python/object/apply:os.system ['{touch}']",
        "seed: !!python/object/new:os.system ['{touch}']",
        "seed: !!python/name:os.system",
        "tasks: !!python/module:os",
        "seed: 2001-99-99",
        "seed: " + "9" * 5000,
        "[" * 5000,
        "- evil",
    ],
)
def test_tags_in_a_yaml_file_make_nothing(text: str, run: Path, marker: Path, refused: Callable[..., str]) -> None:
    touch = TOUCH.format(marker=marker)
    (run / "config.yaml").write_text(text.format(touch=touch), encoding="utf-8")
    assert "config.yaml" in refused("predict", run, "--text", TEXT)


# --- the other files of a run

STATES = {
    "no task": {"other": {"labels": ["O"]}},
    "code as the scheme": {"ner": {"labels": ["O"], "by_character": False, "scheme": "os.system"}},
    "a list": [],
    "a text": {"ner": "evil"},
    "no labels": {"ner": {"labels": None, "by_character": False, "scheme": "IOB2"}},
    "a path as the task": {"../../ner": {}},
}


@pytest.mark.parametrize("case", STATES)
def test_what_a_task_learnt_is_only_read(case: str, run: Path, marker: Path, refused: Callable[..., str]) -> None:
    (run / "model" / "tasks.json").write_text(json.dumps(STATES[case]), encoding="utf-8")
    sign(run / "model")
    refused("predict", run, "--text", TEXT)


@pytest.mark.parametrize(
    "values",
    [{"format": "os.system"}, {"format": 10**30}, {"backbone": None}, {"backbone": {"attention": "../../evil"}}],
)
def test_a_run_json_that_lies_is_refused(
    values: dict[str, Any], run: Path, marker: Path, refused: Callable[..., str]
) -> None:
    change(run / "run.json", **values)
    assert "run.json" in refused("predict", run, "--text", TEXT) or "format" in values


@pytest.mark.parametrize("file", ["run.json", "model/tasks.json", "model/manifest.json"])
@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000, "\x00", "NaN", '"evil"'])
def test_broken_json_is_refused(file: str, text: str, run: Path, refused: Callable[..., str]) -> None:
    (run / file).write_text(text, encoding="utf-8")
    if file == "model/tasks.json":
        sign(run / "model")
    refused("predict", run, "--text", TEXT)


@pytest.mark.parametrize("name", ["/dev/zero", "../outside", "backbone/../../outside", "backbone/link", "", "."])
def test_a_manifest_reads_nothing_outside_its_folder(
    name: str, run: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "outside").write_bytes(b"")
    (run / "model" / "backbone" / "link").symlink_to(run / "outside")
    empty = hashlib.sha256(b"").hexdigest()
    (run / "model" / MANIFEST).write_text(json.dumps({"files": {name: empty}}), encoding="utf-8")
    assert not is_whole(run / "model")
    assert "damaged" in refused("predict", run, "--text", TEXT)


@pytest.mark.parametrize("name", ["backbone/model.safetensors", "tasks.json", "backbone/notes.txt"])
def test_links_out_of_a_model_are_not_followed(name: str, run: Path, refused: Callable[..., str]) -> None:
    secret = run.parent / "secret"
    secret.write_text("secret", encoding="utf-8")
    file = run / "model" / name
    file.unlink(missing_ok=True)
    sign(run / "model")
    file.symlink_to(secret)
    assert "damaged" in refused("predict", run, "--text", TEXT)
    assert "damaged" in refused("export", run, run.parent / "exported")
    assert not (run.parent / "exported").exists()


def safetensors(header: Any, size: int | None = None) -> bytes:
    """Return a file with this header; `size` is the length of the header that the file claims."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + b"\0" * 64


LIES = {
    "a huge header": safetensors({}, 2**63),
    "a header over the file": safetensors({}, 10**6),
    "data over the file": safetensors({"w": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}),
    "a shape over its data": safetensors({"w": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 64]}}),
    "a negative shape": safetensors({"w": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}),
    "an unknown type": safetensors({"w": {"dtype": "os.system", "shape": [4], "data_offsets": [0, 16]}}),
    "no header": b"",
    "a pickle": pickle.dumps({"w": 1}),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("name", ["backbone/model.safetensors", "heads.safetensors"])
def test_weights_with_a_lying_header_are_refused(
    name: str, lie: str, run: Path, marker: Path, refused: Callable[..., str]
) -> None:
    (run / "model" / name).write_bytes(LIES[lie])
    sign(run / "model")
    refused("predict", run, "--text", TEXT)


@pytest.mark.parametrize(
    "values",
    [
        {"n_embd": -8},
        {"n_embd": 10**30},
        {"n_layer": 10**9},
        {"n_head": 0},
        {"n_positions": -1},
        {"vocab_size": 10**15},
        {"n_layer": "os.system"},
        {"model_type": "../../evil"},
        {"model_type": ["gpt2"]},
    ],
)
def test_impossible_shapes_are_refused(
    values: dict[str, Any], run: Path, marker: Path, refused: Callable[..., str]
) -> None:
    change(run / "model" / "backbone" / "config.json", **values)
    sign(run / "model")
    refused("predict", run, "--text", TEXT)


# --- the report

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def test_a_report_shows_texts_and_never_runs_them(run: Path) -> None:
    folder = RunFolder(run)
    change(run / "run.json", reason=SCRIPT, status=SCRIPT, notes=[SCRIPT], tasks=[SCRIPT], plugins={SCRIPT: SCRIPT})
    change(
        run / "run.json", key=SCRIPT, backbone={"name": SCRIPT, "parameters": 1, "init": SCRIPT, "fingerprint": SCRIPT}
    )
    change(run / "environment.json", **{SCRIPT: SCRIPT, "python": SCRIPT})
    change(run / "data.json", notes=[SCRIPT], fingerprint=SCRIPT)
    configure(run, lambda document: document["tasks"][0]["data"].update(path=SCRIPT))
    for name in ("metrics.json", "intervals.json"):
        content = json.loads((run / name).read_text(encoding="utf-8"))
        value = 0.5 if name == "metrics.json" else [0.4, 0.6]
        folder.write_json(name, {split: {SCRIPT: value, **scores} for split, scores in content.items()})
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line.update(id=SCRIPT, score=0.0)
        line["input"]["tokens"] = [SCRIPT] * len(line["input"]["tokens"])
        line["prediction"]["tags"] = [SCRIPT] * len(line["prediction"]["tags"])
    folder.write_lines("predictions.jsonl", lines)
    table = {"kind": "table", "title": SCRIPT, "columns": [SCRIPT], "rows": [[SCRIPT]], "note": SCRIPT}
    matrix = {"kind": "confusion", "title": SCRIPT, "labels": [SCRIPT], "counts": [[1]], "note": SCRIPT}
    folder.write_json("figures.json", {"test": [table, matrix]})
    folder.append_line(
        "evaluations.jsonl",
        {"step": 2, "epoch": 1.0, "split": "valid", "scores": {SCRIPT: 0.5}, "loss": 1.0, "best": True},
    )
    write_report(folder, create_host())
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in page
    assert "<script" not in page and "<img" not in page


BASELINE = {
    "summary": "s",
    "seconds": 1.0,
    "scores": {"test": {"entity_f1": 0.5}},
    "intervals": {"test": {"entity_f1": [0, 1]}},
}


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"a": []},
        {"a": {}},
        {"a": {**BASELINE, "summary": 3}},
        {"a": {**BASELINE, "seconds": "long"}},
        {"a": {**BASELINE, "scores": {"test": 0.5}}},
        {"a": {**BASELINE, "scores": {"test": {"entity_f1": SCRIPT}}}},
        {"a": {**BASELINE, "intervals": {"test": {"entity_f1": [1]}}}},
        {"a": {**BASELINE, "intervals": {"test": {"entity_f1": [None, 1]}}}},
    ],
)
def test_baselines_that_are_none_are_refused(content: Any, run: Path, refused: Callable[..., str]) -> None:
    RunFolder(run).write_json("baselines.json", content)
    assert "baselines.json' does not hold the scores of baselines" in refused("evaluate", run)


# --- a run that stopped: its checkpoints are read, too


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A run that failed after its first checkpoint."""
    host = create_host()

    class Failing:
        @vertebra.hookimpl
        def step_started(self, step: int) -> None:
            if step == 1:
                raise vertebra.VertebraError("enough")

    host.manager.register(Failing())
    config = vertebra.configure(
        host,
        task="ner",
        gpu={"option": "cpu", "threads": 1},
        data={"limit": 40},
        backbone={"init": "random", "config": {"n_layer": 1, "n_embd": 32, "n_head": 2}},
        trainer={"max_steps": 2, "evaluate_every": 1, "trackers": []},
    )
    folder = tmp_path / "stopped"
    with pytest.raises(vertebra.VertebraError, match="enough"):
        vertebra.train(config, folder, host)
    return folder


@pytest.mark.parametrize("protocol", ["torch", "plain"])
def test_a_pickle_as_the_trainers_state_is_refused(
    protocol: str, stopped: Path, marker: Path, refused: Callable[..., str]
) -> None:
    (checkpoint,) = (stopped / "checkpoints").glob("step-*")
    if protocol == "torch":
        torch.save({"state": {}, "param_groups": Payload(marker)}, checkpoint / "optimizer.pt")
    else:
        (checkpoint / "optimizer.pt").write_bytes(pickle.dumps(Payload(marker), protocol=2))
    sign(checkpoint)
    assert "step-00000001" in refused("resume", stopped)


@pytest.mark.parametrize("state", ["[]", '{"step": "../../evil"}', '{"step": -5}', '{"evil": 1}', "[" * 100_000])
def test_a_state_that_lies_is_refused(state: str, stopped: Path, refused: Callable[..., str]) -> None:
    (checkpoint,) = (stopped / "checkpoints").glob("step-*")
    (checkpoint / "state.json").write_text(state, encoding="utf-8")
    sign(checkpoint)
    assert "checkpoint" in refused("resume", stopped)


def test_a_resumed_run_takes_no_code_from_its_configuration(
    stopped: Path, marker: Path, refused: Callable[..., str]
) -> None:
    configure(stopped, lambda document: document["trainer"].update(behaviours=["os:system"]))
    state = {name: value for name, value in RunFolder(stopped).read_state().items() if name != "key"}
    RunFolder(stopped).write_json("run.json", state)
    assert "os:system" in refused("resume", stopped)
