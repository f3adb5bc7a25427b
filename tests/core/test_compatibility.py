"""What goes together: what is declared is what the models do, and a run is refused when it is composed, not later."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from plugin_site import PluginSite
from vertebra.cli.main import main
from vertebra.cli.matrix import Cell, find_cells
from vertebra.config.compatibility import MODEL_FAMILIES
from vertebra.config.options import configure
from vertebra.config.schema import BackboneConfig
from vertebra.engine.loading import load_backbone
from vertebra.errors import BackboneError, ConfigError
from vertebra.host.manager import create_host
from vertebra.runs.execute import train

HOST = create_host()
TASKS = HOST.names("task")
END = "<|endoftext|>"


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny language model of each family, which reads bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE({END: 0, **{one: number for number, one in enumerate(alphabet, start=1)}}, []))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=END, bos_token=END, pad_token=END, unk_token=END
    )
    made = {}
    for family in MODEL_FAMILIES:
        folder = tmp_path_factory.mktemp(family)
        config = tiny_models.config(family)
        config.vocab_size = len(alphabet) + 1
        for name in ("max_position_embeddings", "n_positions"):
            if hasattr(config, name):
                setattr(config, name, 512)
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        made[family] = str(folder)
    return made


@pytest.mark.parametrize("family", MODEL_FAMILIES)
def test_a_family_does_what_it_declares_and_no_more(family: str, folders: dict[str, str]) -> None:
    declared = MODEL_FAMILIES[family]

    def loads(*, writes: bool = False, **settings: Any) -> bool:
        try:
            load_backbone(BackboneConfig(name="hf", path=folders[family], **settings), HOST, language_model=writes)
        except BackboneError:
            return False
        return True

    assert loads(attention="causal", packing="padded")
    assert loads(attention="causal", packing="packed") == declared.packed
    assert loads(attention="bidirectional", packing="padded") == declared.bidirectional
    assert loads(writes=True) == declared.writes


def run_cell(cell: Cell, folders: dict[str, str], folder: Path) -> None:
    """Compose the run of a cell, which is refused as declared, or makes a step, an evaluation and a report."""
    names = cell.combination
    assert names.model is not None
    backbone = {
        "option": "hf",
        "path": folders[names.model],
        "attention": 0.5 if names.attention == "by layer" else names.attention,
        "packing": names.packing,
    }

    settings = HOST.get("task", names.task).load_config()
    short = {"max_new_tokens": 4} if hasattr(settings, "max_new_tokens") else {}

    def compose() -> Any:
        return configure(
            HOST,
            task={"option": names.task, **short},
            data={"limit": 4},
            adapter={"option": names.adapter, **({"layers": 1} if names.adapter == "top_layers" else {})},
            backbone=backbone,
            gpu={"device": "cpu", "threads": 1, "precision": "fp32"},
            trainer={"max_steps": 1, "batch_size": 4, "trackers": [], "baselines": False},
        )

    if cell.refusals:
        with pytest.raises(ConfigError) as refused:
            compose()
        assert str(refused.value).splitlines() == [one.line for one in cell.refusals]
        return
    train(compose(), folder, HOST)
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["status"] == "finished"


def worth_a_run(cell: Cell) -> bool:
    """Whether a cell shows something that no other does: adapters are tried on one task of each family, and two models."""
    names = cell.combination
    tasks = ("ner", "sentiment", "qa", "summarization", "recommendation", "lm")
    return names.adapter == "none" or (names.task in tasks and names.model in ("gpt2", "llama"))


CELLS = [cell for cell in find_cells(HOST, TASKS) if worth_a_run(cell)]


def named(cell: Cell) -> str:
    one = cell.combination
    return f"{one.task}-{one.adapter}-{one.attention}-{one.packing}-{one.model}"


def sample() -> list[Cell]:
    """Every way to be refused, and for each family of tasks one cell that runs, on different models."""
    first = {one.rule: cell for cell in reversed(CELLS) for one in cell.refusals}
    chosen = [("ner", "mistral"), ("classification", "gpt_neo"), ("summarization", "qwen3"), ("mntp", "llama")]
    running = [
        next(
            cell
            for cell in CELLS
            if not cell.refusals
            and cell.combination.adapter == "none"
            and (cell.combination.task, cell.combination.model) == pair
        )
        for pair in chosen
    ]
    return [*first.values(), *running]


@pytest.mark.parametrize("cell", sample(), ids=named)
def test_some_cells_are_true(cell: Cell, folders: dict[str, str], tmp_path: Path) -> None:
    run_cell(cell, folders, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS, ids=named)
def test_all_cells_are_true(cell: Cell, folders: dict[str, str], tmp_path: Path) -> None:
    run_cell(cell, folders, tmp_path / "run")


def test_attention_that_follows_the_task_is_refused_where_the_model_cannot(folders: dict[str, str]) -> None:
    backbone = {"option": "hf", "path": folders["gpt_neo"]}
    assert configure(HOST, task="ner", backbone=backbone).backbone.attention == "auto"  # trained weights: causal
    with pytest.raises(
        ConfigError, match=r"task=ner, which reads both ways, does not go with models of the family 'gpt_neo'"
    ):
        configure(HOST, task="ner", backbone={**backbone, "init": "random"})


def test_a_model_that_is_not_on_this_machine_is_left_to_its_loading() -> None:
    backbone = {"option": "hf", "path": "nobody/nothing", "packing": "packed"}
    assert configure(HOST, task="ner", backbone=backbone).backbone.packing == "packed"


# --- the command


def test_the_matrix_on_the_screen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    assert main(["matrix"]) == 0
    said = capsys.readouterr().out
    assert all(task in said for task in TASKS)
    assert "\n1: models of this family" in said
    assert "(trainer.adapters=each): lora, rslora" in said
    assert all(adapter in said for adapter in HOST.names("adapter"))
    row = next(line for line in said.splitlines() if " causal " in line and " packed " in line)
    runs, _, refused = row.partition(" packed ")[2].partition("gemma2")
    assert runs.split() == [name for name, family in MODEL_FAMILIES.items() if family.packed]
    assert refused.split() == ["gpt_neo", "bloom", "(1)"]


def test_the_matrix_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", "--task", "ner", "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)
    assert len(cells) == len(HOST.names("adapter")) * 3 * 2 * len(MODEL_FAMILIES)
    refused = {(one["attention"], one["model"]) for one in cells if one["refused"] and one["packing"] == "padded"}
    one_way = {("bidirectional", name) for name, one in MODEL_FAMILIES.items() if not one.bidirectional}
    assert refused == one_way | {("by layer", name) for name in MODEL_FAMILIES}


def test_a_task_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", "--task", "nre"]) == 2
    assert "Did you mean 'ner'?" in capsys.readouterr().err


# --- what an adapter declares

ADAPTER = """
from vertebra import AdapterRef, hookimpl

@hookimpl
def register_adapters():
    return [
        AdapterRef("before", "guest.adapter:none", packed=False),
        AdapterRef("llamas", "guest.adapter:none", models=("llama",)),
        AdapterRef("words", "guest.adapter:none", tasks=("token-classification",)),
    ]

@hookimpl
def register_config_packages():
    return ["guest.conf"]
"""


@pytest.fixture
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    site = PluginSite(tmp_path / "site", monkeypatch)
    options = {f"guest/conf/adapter/{name}.yaml": f"name: {name}\n" for name in ("before", "llamas", "words")}
    code = {"guest/adapter.py": "def none(backbone, config):\n    return backbone\n", "guest/conf/__init__.py": ""}
    site.install("guest", ADAPTER, modules={**code, **options})
    yield
    site.forget()


@pytest.mark.usefixtures("adapters")
def test_an_adapter_that_needs_padding_gets_it(tmp_path: Path, folders: dict[str, str]) -> None:
    host = create_host()
    backbone = {"option": "hf", "path": folders["llama"]}
    trainer = {"max_steps": 1, "trackers": [], "baselines": False}
    config = configure(host, task="ner", adapter="before", data={"limit": 4}, backbone=backbone, trainer=trainer)
    assert config.backbone.packing == "padded"
    train(config, tmp_path / "run", host)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["backbone"]["packing"] == "padded"
    with pytest.raises(
        ConfigError, match=r"packing=packed does not go with adapter=before, which needs padded batches"
    ):
        configure(host, task="ner", adapter="before", backbone={"packing": "packed"})


@pytest.mark.usefixtures("adapters")
@pytest.mark.parametrize(
    ("task", "adapter", "reason"),
    [
        ("ner", "llamas", "adapter=llamas does not go with models of the family 'gpt2'. It takes: llama."),
        ("sentiment", "words", "a task of the family 'sequence-classification'. It takes: token-classification."),
    ],
)
def test_an_adapter_is_refused_where_it_does_not_belong(task: str, adapter: str, reason: str, capsys: Any) -> None:
    assert main(["train", f"task={task}", f"adapter={adapter}"]) == 2
    assert reason in capsys.readouterr().err
    assert configure(create_host(), task="ner", adapter="words").adapter.name == "words"


@pytest.mark.usefixtures("adapters")
def test_the_matrix_has_the_adapters_of_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)
    assert {one["adapter"] for one in cells} == {*HOST.names("adapter"), "before", "llamas", "words"}
    runs = {one["model"] for one in cells if one["adapter"] == "llamas" and not one["refused"]}
    assert runs == {"llama"}
    assert {one["adapter"] for one in cells if one["each"]} == {"lora", "rslora"}
