"""What users get wrong, through the real command line: each is one message, exit code 2, and a folder that is true."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bad_files import write_data, write_models
from vertebra.cli.main import main

Captured = pytest.CaptureFixture[str]

TINY = ("backbone.init=random", "backbone.config={n_layer: 1, n_embd: 32, n_head: 2}")
CPU = ("gpu=cpu", "gpu.threads=1", "trainer.max_steps=2", "trainer.trackers=[]")
SHORT = ("data.limit=40", "trainer.max_steps=1", "trainer.trackers=[]")  # for a mistake in a test
COLUMNS = ("data=ner/conll", *TINY)
INTERNALS = re.compile(
    r"Traceback|KeyError|IndexError|TypeError|ValueError|AttributeError|OSError|NoneType|object at 0x|<class|Errno|codec"
)
"""What belongs into a traceback and never into a message."""


@dataclass(frozen=True)
class Places:
    """Where the wrong files are, and where a command may write."""

    files: Path
    out: Path

    def filled(self, text: str) -> str:
        return (
            text.replace("DATA", str(self.files / "data"))
            .replace("OUT", str(self.out))
            .replace("MODELS", str(self.files / "models"))
            .replace("RUNS", str(self.files / "runs"))
        )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data files that are wrong."""
    folder = tmp_path_factory.mktemp("bad input")
    write_data(folder / "data")
    return folder


@pytest.fixture(scope="module")
def models(files: Path) -> None:
    """Model folders that are wrong, beside the data."""
    write_models(files / "models")


@pytest.fixture
def places(files: Path, tmp_path: Path) -> Places:
    return Places(files, tmp_path / "out")


def wrong(*rows: tuple[Any, ...]) -> Any:
    """Parametrise a test by (argument or arguments, what the message says ...)."""
    return pytest.mark.parametrize(
        ("arguments", "says"),
        [pytest.param((given,) if isinstance(given, str) else given, says, id=_name(given)) for given, *says in rows],
    )


def _name(given: str | tuple[str, ...]) -> str:
    return given if isinstance(given, str) else " ".join(given)


def refused(arguments: tuple[str, ...] | list[str], says: list[str], capsys: Captured, lines: int = 1) -> str:
    """Run a command that must be refused, and return what it printed on stderr."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    message = capsys.readouterr().err
    check_message(message, says, lines)
    return message


def check_message(message: str, says: list[str], lines: int = 1) -> None:
    assert message.startswith("vertebra: "), message
    assert message.count("\n") == lines, message
    assert not INTERNALS.search(message), message
    for said in says:
        assert said in message, message


def check_failed(folder: Path, message: str) -> None:
    """The run that could not go on says so, and why, in its folder."""
    state = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert state["status"] == "failed"
    assert state["reason"] in message
    assert not (folder / "model").exists()


# --- the command and its settings: nothing is loaded, nothing is created


@wrong(
    ("trian", "no command 'trian'. Did you mean 'train'?"),
    ("--verson", "no option '--verson' before the command"),
    ("task=ner", "'task=ner' is a setting", "vertebra train task=ner"),
    ("train", "Choose a task: task=NAME. Known: ", "ner"),
    (("train", "gpu=cpu"), "Choose a task: task=NAME. Known: ", "ner"),
    (("train", "task=nre"), "task=nre: There is no task 'nre'. Did you mean 'ner'?"),
    (("train", "task=null"), "Known: ", "ner"),
    (("inspect", "task=nre"), "Did you mean 'ner'?"),
    ("inspect", "Choose a task"),
)
def test_a_wrong_command(arguments: tuple[str, ...], says: list[str], capsys: Captured) -> None:
    refused(arguments, says, capsys)


@wrong(
    ("backbone=nanoo", "backbone=nanoo: There is no option 'nanoo'. Did you mean 'nano'?"),
    ("data=ner/sampel", "There is no option 'ner/sampel'. Did you mean 'ner/sample'?"),
    ("data=pos/sample", "There is no option 'pos/sample'.", "ner/conll"),
    ("data=null", "data=null: There is no option 'null'.", "ner/sample"),
    ("data={path: here}", "There is no option", "ner/conll"),
    ("gpu=gpuu", "gpu=gpuu", "Known: auto, cpu, ddp, fsdp, single"),
    ("trainer=quik", "Did you mean 'quick'?"),
    ("adapter=lorra", "adapter=lorra", "Did you mean 'lora'?"),
    ("experiment=bidirect", "Did you mean 'bidirectional'?"),
    ("trainer.epoch=3", "trainer.epoch: there is no such setting. Did you mean 'epochs'?"),
    ("+trainer.epoch=3", "trainer.epoch: there is no such setting. Did you mean 'epochs'?"),
    ("+trianer.epochs=3", "trianer: there is no such setting. Did you mean 'trainer'?"),
    ("task.label=first", "task.label: there is no such setting. Did you mean 'label_on'?"),
    ("hydra.run.dri=x", "hydra.run.dri: there is no such setting. Did you mean 'hydra.run.dir'?"),
    ("hydra/launcher=slurm", "hydra/launcher=slurm", "Known: basic"),
    ("trainer.batch_size=many", 'trainer.batch_size="many": must be a valid integer'),
    ("data.limit=2.5", "data.limit=2.5: must be a valid integer"),
    ("data.cache=maybe", 'data.cache="maybe": must be a valid boolean'),
    ("trainer.epochs=true", "trainer.epochs=true: must be a valid number or 'auto'"),
    ("trainer.epochs={a: 1}", 'trainer.epochs={"a": 1}: must be a valid number'),
    ("trainer.trackers=tensorboard", 'trainer.trackers="tensorboard"'),
    ("backbone.config=3", "backbone.config=3"),
    ("seed=null", "seed=null: must be a valid integer"),
    ("task.label_on=middle", "task.label_on=\"middle\": must be 'last' or 'first'"),
    ("data.too_long=eror", "'window', 'truncate' or 'error'"),
    ("trainer.batch_size=0", "trainer.batch_size=0: must be greater than 0"),
    ("trainer.learning_rate=-1", "trainer.learning_rate=-1: must be greater than 0"),
    ("trainer.learning_rate=nan", "must be a finite number"),
    ("trainer.warmup=1.0", "trainer.warmup=1.0: must be less than 1"),
    ("data.valid_fraction=1.5", "data.valid_fraction=1.5: must be less than 1"),
    ("seed=-1", "seed=-1: must be greater than or equal to 0"),
    ("backbone=hf", "backbone.path must be given for backbone.name=hf"),
    ("backbone.path=owner/model", "backbone.path is for backbone=hf; the backbone 'nano' takes none"),
    ("data=ner/conll", "data.path must be given: format=columns"),
    ("data.path=DATA/good.conll", "data.path is set, but format=ner_sample makes its rows itself"),
    (("data=ner/conll", "data.path=DATA/godo.conll"), "godo.conll: there is no such file or folder"),
    (("data=ner/conll", "data.path="), "data.path=: there is no such file or folder"),
    (("data.valid_fraction=0.6", "data.test_fraction=0.5"), "their sum must be below 1"),
    (("backbone=hf", "backbone.path=./nowhere"), "backbone.path=./nowhere: there is no such file or folder"),
    ("data.format=clolumns", "There is no reader 'clolumns'. Did you mean 'columns'?"),
    ("data.encoding=utf9", "data.encoding=utf9: There is no text encoding 'utf9'. Did you mean"),
    ("trainer.optimizer=adam", "There is no optimizer 'adam'. Did you mean 'adamw'?"),
    ("trainer.schedule=liner", "There is no schedule 'liner'. Did you mean 'linear'?"),
    ("trainer.metric=entity_f2", "There is no metric 'entity_f2'. Did you mean 'entity_f1'?"),
    ("trainer.behaviours=[swa]", "There is no behaviour 'swa'"),
    ("trainer.trackers=[tensorbord]", "There is no tracker 'tensorbord'. Did you mean 'tensorboard'?"),
    ("trainer.epochs", "'trainer.epochs' cannot be read: write KEY=VALUE"),
    ("=3", "'=3' cannot be read: write KEY=VALUE"),
    ("trainer={", "'trainer={' cannot be read"),
    ("seed=1,2", "seed=1,2: several values need --multirun"),
    ("trainer.epochs=${nothing}", "trainer.epochs: Interpolation key 'nothing' not found"),
    ("trainer.epochs=${oc.env:NOTHING_AT_ALL}", "trainer.epochs: Environment variable 'NOTHING_AT_ALL' not found"),
    ("--mutlirun", "there is no option '--mutlirun'. Did you mean '--multirun'?"),
    ("--cfg=jobs", "invalid choice: 'jobs'", "job"),
    ("--resolve", "--package and --resolve belong to --cfg"),
)
def test_a_wrong_setting(arguments: tuple[str, ...], says: list[str], places: Places, capsys: Captured) -> None:
    given = [places.filled(argument) for argument in arguments]
    small = [] if given[0].startswith(("backbone.config", "gpu")) else [*TINY, "gpu=cpu"]
    refused(["train", "task=ner", *small, *SHORT, *given, f"hydra.run.dir={places.out}"], says, capsys)
    assert not places.out.exists()


def test_no_place_for_the_run(
    places: Places, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(["train", "task=ner", "hydra.run.dir="], ["hydra.run.dir=FOLDER"], capsys)
    refused(["train", "task=ner", "hydra.run.dir=${nothing}"], ["hydra.run.dir: Interpolation key 'nothing'"], capsys)
    assert list(tmp_path.iterdir()) == []


def test_every_error_of_a_configuration_is_said(places: Places, capsys: Captured) -> None:
    given = ["train", "task=ner", "trainer.epoch=3", "backbone=nanoo", "seed=-1", f"hydra.run.dir={places.out}"]
    message = refused(given, ["Did you mean 'epochs'?", "Did you mean 'nano'?", "seed=-1"], capsys, lines=3)
    assert message.count("vertebra: ") == 1
    assert not places.out.exists()


def test_an_error_in_a_sweep_belongs_to_its_job(places: Places, capsys: Captured) -> None:
    given = ["train", "task=ner", "--multirun", "seed=1,x", f"hydra.sweep.dir={places.out}"]
    refused(given, ['seed="x": must be a valid integer', "in 1 of 2 jobs, as seed=x"], capsys)
    assert not places.out.exists()


# --- arguments of the other commands


@wrong(
    ("predict", "predict: ", "RUN_DIR", "`vertebra predict --help`"),
    (("predict", "RUNS/good"), "--text --file is required", "`vertebra predict --help`"),
    (("predict", "RUNS/good", "--text"), "--text: expected one argument"),
    (("predict", "RUNS/good", "--text", "Ada", "--file", "x"), "--file: not allowed with argument --text"),
    (("predict", "RUNS/good", "--text", "Ada", "--ouput", "x"), "no option '--ouput'. Did you mean '--output'?"),
    (("predict", "RUNS/good", "--text", "Ada", "--device", "gpu"), "invalid choice: 'gpu'", "cpu"),
    (("predict", "RUNS/good", "--text", ""), "--text is empty"),
    (("predict", "RUNS/good", "--text", " \n"), "--text is empty"),
    ("evaluate", "RUN_DIR", "`vertebra evaluate --help`"),
    (("evaluate", "RUNS/good", "--split", "dev"), "invalid choice: 'dev'", "valid"),
    (("export", "RUNS/good"), "FOLDER", "`vertebra export --help`"),
    (("export", "RUNS/good", "OUT", "more"), "'more' is one argument too many"),
    (("inspect", "task=ner", "--rows", "many"), "--rows", "'many'"),
    (("inspect", "task=ner", "--rwos", "3"), "no option '--rwos'. Did you mean '--rows'?"),
    (("plugins", "--jsno"), "no option '--jsno'. Did you mean '--json'?"),
    (("tokenizer", "trian"), "'trian'", "train"),
    (("tokenizer", "train"), "--input, --output"),
    (("tokenizer", "train", "--input", "DATA/prsoe.txt", "--output", "OUT"), "Did you mean 'prose.txt'?"),
)
def test_wrong_arguments(arguments: tuple[str, ...], says: list[str], places: Places, capsys: Captured) -> None:
    refused([places.filled(argument) for argument in arguments], says, capsys)
    assert not places.out.exists()


# --- data


@wrong(
    ("empty.conll", "empty.conll' has no rows"),
    ("blank.conll", "blank.conll' has no rows"),
    ("binary.conll", "binary.conll:2: not utf-8 text", "data.encoding"),
    ("latin1.conll", "latin1.conll:241: not utf-8 text (byte 0xfc)", "latin-1"),
    ("cut.conll.gz", "cut.conll.gz: the compressed file is broken or cut off"),
    ("cut.conll.xz", "cut.conll.xz: the compressed file is broken or cut off"),
    ("short.conll", "short.conll:2: 1 columns where the lines before have 2: 'lives'"),
    ("wide.conll", "wide.conll:2: 3 columns where the lines before have 2: 'new york O'"),
    ("tokens.conll", "tokens.conll", "no column for 'tags': there is 1", "data.columns.tags=NUMBER"),
    ("plain_tag.conll", "plain_tag.conll", "row 1", "'LOC'", "B-PER"),
    ("stray", "Row 'valid-1': Tag 'E-LOC' of token 4 is not of the scheme iob2", "B-TYPE, I-TYPE"),
    ("outside.conll", "Every word of the training rows has the tag 'O'", "data.columns.tags"),
    ("prose.txt", "prose.txt:2: 2 columns where the lines before have 4"),
    ("empty_train", "train.conll' has no rows"),
    ("no_train", "has no training rows (it has: test). Set data.splits.train=FILE"),
    ("no_names", "it holds: one.conll, two.conll", "data.splits.train=FILE"),
    ("two_trains", "could be the split 'train': train-a.conll, train-b.conll", "data.splits.train=FILE"),
    ("no_files", "no files named train", "it holds: nothing"),
    (("unseen", "data.splits.train=trian.conll"), "data.splits.train: ", "Did you mean 'train.conll'?"),
    (("unseen", "data.splits.dev=valid.conll"), "data.splits: There is no split 'dev'", "test, train, valid"),
    (("unseen", "data.splits.train=DATA/no_names"), "no_names' is a folder; a file is needed"),
    (("unseen", "data.columns.tokn=0"), "no column of the task 'tokn'. Did you mean 'tokens'?"),
    (("unseen", "data.columns={tokens: 0, tags: 7}"), "no column number 7: there are 2, numbered from 0"),
    (("unseen", "data.columns={tokens: 0, tags: word}"), "all columns by name, or all by number"),
    (("unseen", "data.format=parquet"), "train.conll' as Parquet"),
    (("unseen", "data.encoding=utf-16"), "train.conll:1: not utf-16 text"),
    (("long.conll", "backbone.context=16", "data.too_long=error"), "Row 'train-41' has 60 tokens; the context is 16"),
    (("unseen", "backbone.context=50000"), "backbone.context=50000 is over the 512 tokens that 'nano' can read"),
)
def test_wrong_columns_files(arguments: tuple[str, ...], says: list[str], places: Places, capsys: Captured) -> None:
    train_on_data(arguments, says, places, capsys)


@wrong(
    ("names.csv", "no column 'tokens'. Did you mean 'token'?", "data.columns.tokens=NAME"),
    ("twice.csv", "twice.csv:1: the header names column 'tags' twice"),
    ("uneven.csv", "uneven.csv:2: 3 columns where the lines before have 2"),
    ("quote.csv", "quote.csv:2: the record that begins here is not CSV"),
    ("no_tags.jsonl", "no column 'tags'. Did you mean 'tag'?", "data.columns.tags=NAME"),
    ("text_tags.jsonl", "text_tags.jsonl", "row 1", "column 'tags' must be a list, not 'B-PER'"),
    ("number_tags.jsonl", "row 1", "Column 'tags' must hold strings"),
    ("null_tags.jsonl", "row 1", "column 'tags' is empty"),
    ("fewer_tags.jsonl", "row 1", "2 tokens have 1 tags; each token needs one"),
    ("not_json.jsonl", "not_json.jsonl:2: not JSON"),
    ("scalar.jsonl", "scalar.jsonl:1: a row must be a JSON object"),
    ("same_id.jsonl", "row 2", "id '7' is that of row 1"),
    ("prose.txt", "Cannot tell the format of", "columns, csv, tsv, json or parquet"),
    ("fake.parquet", "fake.parquet' as Parquet"),
    ("whole.parquet", "whole.parquet' as Parquet"),
    ("nobody/nothing", "'nobody/nothing': the Hub cannot be reached", "data.path=FOLDER"),
)
def test_wrong_files_of_other_formats(
    arguments: tuple[str, ...], says: list[str], places: Places, capsys: Captured
) -> None:
    train_on_data((*arguments, "data.format=auto"), says, places, capsys)


def train_on_data(arguments: tuple[str, ...], says: list[str], places: Places, capsys: Captured) -> None:
    name, *others = arguments
    path = name if name.startswith("nobody/") else f"DATA/{name}"
    given = [places.filled(argument) for argument in (*COLUMNS, f"data.path={path}", *others)]
    message = refused(["train", "task=ner", *given, *CPU, f"hydra.run.dir={places.out}"], says, capsys)
    check_failed(places.out, message)


def test_the_sample_has_options_of_its_own(places: Places, capsys: Captured) -> None:
    given = ["train", "task=ner", "data.options.trian=3", *TINY, *CPU, f"hydra.run.dir={places.out}"]
    check_failed(places.out, refused(given, ["data.options.trian", "Did you mean 'train'?"], capsys))


# --- backbones


@wrong(
    ("no_tokenizer", "no_tokenizer' has no tokenizer: put its tokenizer.json beside config.json"),
    ("broken_tokenizer", "Cannot read the tokenizer of", "broken_tokenizer"),
    ("pickled", "pickled' holds no .safetensors weights", "loading them can run code", "backbone.init=random"),
    (("pickled", "backbone.init=pretrained"), "pickled", ".safetensors", "backbone.init=random"),
    ("no_config", "no_config' is not a model folder: it has no config.json"),
    ("broken_config", "broken_config/config.json' is not JSON"),
    ("list_config", "list_config/config.json' is no model's configuration: it has no model_type"),
    ("no_type", "no_type/config.json' is no model's configuration: it has no model_type"),
    ("unknown_type", "transformers has no model family 'gpt7'. Did you mean 'gpt"),
    ("text_for_number", "text_for_number", "'n_layer' expected int"),
    ("other_shape", "do not fit its configuration", "h.0.", "backbone.init=random"),
    ("fewer_entries", "do not fit its configuration", "wte.weight is [16384, 32], not [100, 32]"),
    ("more_layers", "do not fit its configuration", "h.1.", "is missing", "and "),
    ("fewer_heads", "fewer_heads", "divisible by num_heads"),
    ("encoder", "encoder' do not fit its configuration"),
    (("encoder", "backbone.init=random", "backbone.attention=causal"), "(family 'bert') is no causal decoder"),
    (("no_weights", "backbone.init=pretrained"), "Backbone 'hf' has no trained weights", "backbone.init=random"),
    ("cut_weights", "cut_weights': the file is damaged or cut off"),
    ("empty_weights", "empty_weights': the file is damaged or cut off"),
    (("../data/texts.txt",), "texts.txt is a file; give the model's folder"),
    (("good", "backbone.config.n_layer=3"), "h.1.", "is missing", "backbone.init=random"),
    (("good", "backbone.config.n_layr=3"), "There is no setting 'n_layr'. Did you mean 'n_layer'?"),
    (("good", "backbone.config.n_layer=two"), "backbone.config.n_layer=two", "expected int"),
    (("good", "backbone.config.n_layer=-2"), "backbone.config.n_layer=-2: must be at least 1"),
    (("good", "backbone.config.activation_function=gelo"), "'gelo'"),
    (("good", "backbone.config.vocab_size=10", "backbone.init=random"), "16384 entries", "only 10"),
)
@pytest.mark.usefixtures("models")
def test_wrong_model_folders(arguments: tuple[str, ...], says: list[str], places: Places, capsys: Captured) -> None:
    name, *others = arguments
    given = ["backbone=hf", places.filled(f"backbone.path=MODELS/{name}"), *others, "data.limit=40"]
    message = refused(["train", "task=ner", *given, *CPU, f"hydra.run.dir={places.out}"], says, capsys)
    check_failed(places.out, message)


@wrong(
    ("backbone=gpt2", "'openai-community/gpt2' from the Hub", "backbone=hf backbone.path=FOLDER", "backbone=nano"),
    (("backbone=hf", "backbone.path=nobody/nothing"), "'nobody/nothing' from the Hub", "backbone.path=FOLDER"),
    ("backbone.config.n_embd=64", "do not fit its configuration", "Changes of shape need backbone.init=random"),
    ("backbone.config.resid_pdrop=7", "between 0 and 1"),
)
def test_backbones_that_cannot_be_had(
    arguments: tuple[str, ...], says: list[str], places: Places, capsys: Captured
) -> None:
    given = ["train", "task=ner", *arguments, *CPU, "data.limit=40", f"hydra.run.dir={places.out}"]
    check_failed(places.out, refused(given, says, capsys))


def test_a_gpu_that_is_not_there(places: Places, capsys: Captured) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    given = ["train", "task=ner", "gpu=single", *TINY, f"hydra.run.dir={places.out}"]
    check_failed(places.out, refused(given, ["torch finds no CUDA device", "gpu=cpu"], capsys))


# --- where a run is written


@wrong(
    ("DATA/good.conll", "good.conll' is a file", "hydra.run.dir=FOLDER"),
    ("DATA/good.conll/below", "Cannot make the run folder", "good.conll/below"),
    ("RUNS/good", "good' already holds a run", "hydra.run.dir=FOLDER"),
    (f"OUT{'x' * 300}", "xxx", "File name too long"),
)
@pytest.mark.usefixtures("runs")
def test_a_place_that_cannot_be_used(
    arguments: tuple[str, ...], says: list[str], places: Places, capsys: Captured
) -> None:
    [place] = arguments
    given = ["train", "task=ner", *TINY, *CPU, "data.limit=40", places.filled(f"hydra.run.dir={place}")]
    before = snapshot(places.files)
    refused(given, says, capsys)
    assert snapshot(places.files) == before
    assert not places.out.exists()


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return what the good run and the good data hold."""
    files = [folder / "data" / "good.conll", *(folder / "runs" / "good").rglob("*")]
    return {str(path): path.read_bytes() for path in files if path.is_file()}


# --- runs


def rehash(run: Path) -> None:
    """Make the model's manifest fit what was changed."""
    manifest = run / "model" / "manifest.json"
    names = json.loads(manifest.read_text())["files"]
    there = {name: run / "model" / name for name in names if (run / "model" / name).exists()}
    hashes = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in there.items()}
    manifest.write_text(json.dumps({"files": hashes}))


def change_state(run: Path, **changes: Any) -> None:
    known = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**known, **changes}))


@pytest.fixture(scope="module")
def runs(files: Path) -> None:
    """A good run, and copies that are wrong in one way each."""
    folder = files / "runs"
    good = folder / "good"
    assert main(["train", "task=ner", *TINY, *CPU, "data.limit=40", f"hydra.run.dir={good}"]) == 0

    def copy(name: str) -> Path:
        return Path(shutil.copytree(good, folder / name))

    change_state(copy("later"), format=99)
    change_state(copy("no_format"), format=None)
    (copy("list_state") / "run.json").write_text("[]")
    (copy("broken_state") / "run.json").write_text("{")
    (copy("binary_state") / "run.json").write_bytes(b"\xff\xfe\x00")
    (copy("no_state") / "run.json").unlink()
    failed = copy("failed")
    change_state(failed, status="failed", reason="something")
    shutil.rmtree(failed / "model")
    (copy("no_settings") / "config.yaml").unlink()
    (copy("broken_settings") / "config.yaml").write_text("tasks: [1")
    settings = (good / "config.yaml").read_text()
    (copy("other_key") / "config.yaml").write_text(f"{settings}trianer: 3\n")
    (copy("other_task") / "config.yaml").write_text(settings.replace("name: ner", "name: nre"))
    (copy("no_manifest") / "model" / "manifest.json").unlink()
    (copy("no_heads") / "model" / "heads.safetensors").unlink()
    weights = copy("cut_weights") / "model" / "backbone" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    cut = copy("cut_heads")
    (cut / "model" / "heads.safetensors").write_bytes(b"xx")
    rehash(cut)
    labels = copy("no_labels")
    (labels / "model" / "tasks.json").write_text('{"ner": {}}')
    rehash(labels)


@wrong(
    ("nowhere", "no run folder", "nowhere'"),
    ("../data", "data'", "not a whole run folder: it has no run.json"),
    ("../data/good.conll", "no run folder", "good.conll"),
    ("later", "has format 99", "Upgrade vertebra"),
    ("no_format", "not a run folder of vertebra"),
    ("list_state", "not a run folder of vertebra"),
    ("broken_state", "run.json' is not JSON"),
    ("no_state", "it has no run.json"),
    ("failed", "has no model: its status is 'failed'"),
    ("no_manifest", "no_manifest/model' is damaged"),
    ("no_heads", "no_heads/model' is damaged"),
    ("cut_weights", "cut_weights/model' is damaged"),
)
@pytest.mark.parametrize("command", ["predict", "evaluate", "export"])
@pytest.mark.usefixtures("runs")
def test_wrong_run_folders(
    command: str, arguments: tuple[str, ...], says: list[str], places: Places, capsys: Captured
) -> None:
    more = {"predict": ("--text", "Ada lives."), "evaluate": ("--output", "OUT"), "export": ("OUT",)}[command]
    given = [places.filled(argument) for argument in (command, f"RUNS/{arguments[0]}", *more)]
    refused(given, says, capsys)
    assert not places.out.exists()


@wrong(
    ("no_settings", "it has no config.yaml"),
    ("broken_settings", "config.yaml' cannot be read"),
    ("other_key", "trianer: there is no such setting. Did you mean 'trainer'?"),
    ("other_task", "There is no task 'nre'. Did you mean 'ner'?"),
    ("cut_heads", "heads.safetensors"),
    ("no_labels", "tasks.json"),
)
@pytest.mark.usefixtures("runs")
def test_run_folders_that_cannot_predict(
    arguments: tuple[str, ...], says: list[str], places: Places, capsys: Captured
) -> None:
    refused(["predict", places.filled(f"RUNS/{arguments[0]}"), "--text", "Ada lives."], says, capsys)


@wrong(
    ("nope.conll", "nope.conll'"),
    ("empty_train", "empty_train' is a folder; a file is needed"),
    ("empty.conll", "empty.conll' has no rows"),
    ("blank.conll", "blank.conll' has no rows"),
    ("rows.jsonl", "rows.jsonl' row 2: no column 'tokens'", "tekst. To predict, task 'ner' needs tokens."),
    ("names.csv", "names.csv' row 1: no column 'tokens'. Did you mean 'token'?"),
    ("binary.conll", "binary.conll:2: not utf-8 text"),
    ("latin1.conll", "latin1.conll:241: not utf-8 text"),
    ("cut.conll.gz", "cut.conll.gz: the compressed file is broken or cut off"),
    ("short.conll", "short.conll:2: 1 columns where the lines before have 2"),
    ("uneven.csv", "uneven.csv:2: 3 columns"),
    ("not_json.jsonl", "not_json.jsonl:2: not JSON"),
    ("scalar.jsonl", "scalar.jsonl:1: a row must be a JSON object"),
    ("fake.parquet", "fake.parquet' as Parquet"),
)
@pytest.mark.usefixtures("runs")
def test_predict_with_wrong_files(
    arguments: tuple[str, ...], says: list[str], places: Places, capsys: Captured
) -> None:
    given = ["predict", "RUNS/good", "--file", f"DATA/{arguments[0]}", "--output", "OUT"]
    refused([places.filled(argument) for argument in given], says, capsys)
    assert not places.out.exists()
    assert list(places.out.parent.glob(".out*")) == []


@wrong(
    (("--file", "DATA/nope.conll"), "nope.conll'"),
    (("--file", "DATA/no_names"), "no_names' is a folder; a file is needed"),
    (("--file", "DATA/empty.conll"), "empty.conll' has no rows"),
    (("--file", "DATA/latin1.conll"), "latin1.conll:241: not utf-8 text"),
    (("--file", "DATA/cut.conll.gz"), "broken or cut off"),
    (("--file", "DATA/short.conll"), "short.conll:2: 1 columns"),
    (("--file", "DATA/names.csv"), "Did you mean 'token'?"),
    (("--file", "DATA/no_tags.jsonl"), "Did you mean 'tag'?"),
    (("--file", "DATA/tokens.conll"), "no column for 'tags'"),
    (("--file", "DATA/plain_tag.conll"), "plain_tag.conll", "'LOC'"),
    (("--file", "DATA/other_scheme.conll"), "Tag 'E-LOC' of token 4"),
    (("--file", "DATA/fake.parquet"), "fake.parquet' as Parquet"),
    (("--data", "DATA/godo.conll"), "Did you mean 'good.conll'?"),
    (("--data", "nobody/nothing"), "the Hub cannot be reached", "data.path=FOLDER"),
    (("--data", "DATA/no_train", "--split", "valid"), "has no split valid; it has test"),
)
@pytest.mark.usefixtures("runs")
def test_evaluate_with_wrong_files(
    arguments: tuple[str, ...], says: list[str], places: Places, capsys: Captured
) -> None:
    given = ["evaluate", "RUNS/good", *arguments, "--output", "OUT"]
    refused([places.filled(argument) for argument in given], says, capsys)
    assert not places.out.exists()


@wrong(
    (("predict", "--text", "Ada", "--output", "OUT/no/file.jsonl"), "OUT/no' does not exist"),
    (("predict", "--text", "Ada", "--output", "DATA"), "it is a folder. Give the name of a file"),
    (("predict", "--text", "Ada", "--output", "DATA/good.conll/x"), "good.conll' is a file"),
    (("evaluate", "--output", "RUNS/good"), "is the run's own folder"),
    (("evaluate", "--output", "RUNS/later"), "is the folder of another run"),
    (("evaluate", "--output", "DATA/good.conll"), "it is a file, and a folder is needed"),
    (("evaluate", "--output", "DATA/good.conll/x"), "good.conll' is a file"),
    (("export", "DATA"), "exists already; choose a new folder"),
    (("export", "DATA/good.conll"), "exists already; choose a new folder"),
    (("export", "DATA/good.conll/x"), "Cannot write", "good.conll/x"),
)
@pytest.mark.usefixtures("runs")
def test_outputs_that_cannot_be_written(
    arguments: tuple[str, ...], says: list[str], places: Places, capsys: Captured
) -> None:
    command, *others = [places.filled(argument) for argument in arguments]
    before = snapshot(places.files)
    refused([command, places.filled("RUNS/good"), *others], [places.filled(said) for said in says], capsys)
    assert snapshot(places.files) == before
    assert not places.out.exists()


@wrong(
    (("data=ner/conll", "data.path=DATA/short.conll"), "short.conll:2: 1 columns"),
    (("data=ner/conll", "data.path=DATA/godo.conll"), "godo.conll: there is no such file or folder"),
    (("data=ner/conll", "data.path=DATA/outside.conll"), "has the tag 'O'"),
    ("backbone=gpt2", "'openai-community/gpt2' from the Hub"),
    (("backbone=hf", "backbone.path=MODELS/no_tokenizer"), "has no tokenizer"),
)
@pytest.mark.usefixtures("models")
def test_inspect_with_wrong_files(
    arguments: tuple[str, ...], says: list[str], places: Places, capsys: Captured
) -> None:
    refused(["inspect", "task=ner", *(places.filled(argument) for argument in arguments)], says, capsys)


# --- plugins

GREETING = """
from vertebra import TaskRef, hookimpl

@hookimpl
def register_tasks():
    return [TaskRef("greeting", "nobody_has_this:Greeting")]
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A folder of third-party plugins."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "core"))
    from plugin_site import PluginSite

    site = PluginSite(tmp_path / "site", monkeypatch)
    yield site
    site.forget()


def test_a_broken_plugin(site: Any, places: Places, capsys: Captured) -> None:
    site.install("greeting", "raise RuntimeError('the licence ran out')")
    given = ["train", "task=greeting", f"hydra.run.dir={places.out}"]
    says = ["There is no task 'greeting'", "plugin 'greeting' (greeting 1.0) failed", "the licence ran out"]
    refused(given, says, capsys, lines=2)
    assert not places.out.exists()


def test_a_plugin_whose_task_cannot_be_imported(site: Any, places: Places, capsys: Captured) -> None:
    site.install("greeting", GREETING)
    given = ["train", "task=greeting", "data=ner/sample", *CPU, f"hydra.run.dir={places.out}"]
    refused(given, ["not for task=greeting"], capsys)
    data = places.filled("data.path=DATA/good.conll")
    given = ["train", "task=greeting", data, *CPU, f"hydra.run.dir={places.out}"]
    says = ["Cannot import task 'greeting' from 'nobody_has_this:Greeting'"]
    check_failed(places.out, refused(given, says, capsys))


def test_a_blocked_plugin(site: Any, places: Places, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("greeting", GREETING)
    monkeypatch.setenv("VERTEBRA_DISABLE", "greeting")
    given = ["train", "task=greeting", f"hydra.run.dir={places.out}"]
    refused(given, ["There is no task 'greeting'", "is blocked by VERTEBRA_DISABLE"], capsys)
    assert not places.out.exists()


def test_two_plugins_with_one_name(site: Any, places: Places, capsys: Captured) -> None:
    site.install("first", GREETING, plugins={"hello": "first"})
    site.install("second", GREETING.replace('"greeting"', '"farewell"'), plugins={"hello": "second"})
    given = ["train", "task=farewell", f"hydra.run.dir={places.out}"]
    refused(given, ["There is no task 'farewell'", "(second 1.0)", "(first 1.0)", "uninstall one"], capsys, lines=2)
    assert not places.out.exists()


def test_two_plugins_with_one_task(site: Any, places: Places, capsys: Captured) -> None:
    site.install("first", GREETING)
    site.install("second", GREETING)
    data = places.filled("data.path=DATA/good.conll")
    given = ["train", "task=greeting", data, f"hydra.run.dir={places.out}"]
    says = ["The task 'greeting' is registered by two", "(first 1.0)", "(second 1.0)", "VERTEBRA_DISABLE=second"]
    refused(given, says, capsys, lines=2)
    assert not places.out.exists()


# --- in a process of its own


def process(*arguments: str, limit: int | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `vertebra`, where `limit` is the largest file, in bytes, that it may write."""

    def set_limit() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-m", "vertebra", *arguments]
    variables = {**os.environ, "PYTHONWARNINGS": "default", **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, preexec_fn=set_limit)


def test_a_disk_that_is_full(places: Places) -> None:
    folder = f"hydra.run.dir={places.out}"
    done = process("train", "task=ner", *TINY, *CPU, "data.limit=40", "data.cache=false", folder, limit=500_000)
    assert done.returncode == 2, done.stderr
    message = done.stderr[done.stderr.rindex("vertebra: ") :]
    check_message(message, ["Cannot write", str(places.out), "File too large"])
    check_failed(places.out, message)


def test_the_hub_is_not_waited_for(places: Places) -> None:
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    for option, name, advice in (
        ("backbone=gpt2", "openai-community/gpt2", "backbone.path=FOLDER"),
        ("data=ner/conll2003", "eriktks/conll2003", "data.path=FOLDER"),
    ):
        place = places.out / name
        done = process("train", "task=ner", option, *CPU, f"hydra.run.dir={place}", **nobody)
        assert done.returncode == 2
        check_message(done.stderr, [name, "cannot be reached", advice])  # one line: nothing was tried twice
        check_failed(place, done.stderr)


@pytest.mark.usefixtures("models")
def test_nobody_else_prints(places: Places) -> None:
    given = ["backbone=hf", places.filled("backbone.path=MODELS/other_shape"), "data.limit=40"]
    done = process("train", "task=ner", *given, *CPU, f"hydra.run.dir={places.out}")
    assert done.returncode == 2
    check_message(done.stderr, ["other_shape", "do not fit its configuration"])
    check_failed(places.out, done.stderr)


# --- what looks wrong and is not


@pytest.mark.usefixtures("runs", "models")
def test_beside_them_what_is_right_works(places: Places, capsys: Captured) -> None:
    good = places.filled("RUNS/good")
    texts = places.filled("DATA/texts.txt")
    assert main(["predict", good, "--file", texts, "--output", str(places.out)]) == 0
    assert json.loads(places.out.read_text(encoding="utf-8"))["id"] == "row-1"
    assert main(["evaluate", good, "--file", places.filled("DATA/good.conll")]) == 0
    folder = places.out.with_name("run")
    model = ["backbone=hf", places.filled("backbone.path=MODELS/good"), "data.limit=40"]
    assert main(["train", "task=ner", *model, *CPU, f"hydra.run.dir={folder}"]) == 0
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["status"] == "finished"


def test_a_label_that_training_lacks(places: Places, capsys: Captured) -> None:
    given = ["task=ner", *COLUMNS, places.filled("data.path=DATA/unseen")]
    assert main(["inspect", *given]) == 0
    assert "not in train" in capsys.readouterr().out
    assert main(["train", *given, *CPU, f"hydra.run.dir={places.out}"]) == 0
    state = json.loads((places.out / "run.json").read_text(encoding="utf-8"))
    assert state["status"] == "finished"
    assert "valid has labels that train lacks and that cannot be predicted: B-MISC" in state["notes"]
