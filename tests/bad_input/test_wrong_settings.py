"""Wrong commands, arguments and settings, through the real command line: nothing is loaded, nothing is created."""

from __future__ import annotations

from pathlib import Path

import pytest
from refusals import SHORT, TINY, Captured, Places, refused, wrong


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
