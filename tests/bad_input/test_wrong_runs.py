"""Wrong places for a run, and run folders that are wrong, through the real command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from refusals import COLUMNS, CPU, TINY, Captured, Places, refused, wrong

from vertebra.cli.main import main


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
    ("rows.jsonl", "rows.jsonl:2: no column 'tokens'", "tekst. To predict, task 'ner' needs tokens."),
    ("names.csv", "names.csv:2: no column 'tokens'. Did you mean 'token'?"),
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
