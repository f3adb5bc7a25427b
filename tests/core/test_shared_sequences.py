"""Tables beside rows, and sequences that rows share: checked, encoded once, computed once, and part of a training pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from vertebra.config.schema import BackboneConfig, DataConfig, GPUConfig
from vertebra.data.encode import encode_shared
from vertebra.data.load import load_splits
from vertebra.data.readers import NotedRows
from vertebra.engine.budget_measurement import peak_memory
from vertebra.engine.devices import set_up
from vertebra.engine.evaluate import share
from vertebra.engine.loading import load_backbone
from vertebra.engine.model import TaskModel
from vertebra.engine.packing import pack
from vertebra.errors import DataError, PluginError
from vertebra.host.manager import Host, create_host
from vertebra.host.refs import ReaderRef
from vertebra.tasks.features import Features
from vertebra.tasks.task import Row, Task

TABLE: list[dict[str, Any]] = [{"name": "a", "weight": 1}, {"name": "b", "weight": "2"}]


class Choice(Task):
    """A text is one of the names of a table."""

    name: ClassVar[str] = "choice"
    columns: ClassVar[dict[str, type]] = {"text": str, "label": str}
    tables: ClassVar[Mapping[str, dict[str, type]]] = {"names": {"name": str, "weight": int}}
    metrics: ClassVar[tuple[str, ...]] = ()
    names: Sequence[str] = ()
    vectors: Sequence[Tensor] = ()

    def read_tables(self, tables: Mapping[str, Sequence[Row]]) -> None:
        self.names = [row["name"] * row["weight"] for row in tables["names"]]

    def check(self, row: Row) -> None:
        if row["label"] not in self.names:
            raise DataError(f"{row['label']} is not in the table.")

    def encode_shared(self, tokenizer: Any) -> list[Features]:
        return [Features(tokenizer(name)["input_ids"]) for name in self.names]

    def encode(self, row: Row, tokenizer: Any) -> Features:
        return Features(tokenizer(row["text"])["input_ids"], target=self.names.index(row["label"]))

    def complete(self, features: Sequence[Features], seed: int) -> list[Features]:
        return [*features, *self.shared]

    def build_head(self, width: int) -> nn.Module:
        return nn.Linear(width, 3)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.sum() / len(targets)

    def collate(self, features: Sequence[Features]) -> Tensor:
        return torch.tensor([one.target for one in features if one.target is not None])

    def decode(self, outputs: Tensor, batch: Any) -> list[Any]:
        return outputs.tolist()

    def take_shared(self, head: nn.Module, outputs: Sequence[Tensor]) -> None:
        self.vectors = outputs


DATA: dict[str, list[Row]] = {}
"""What the reader gives; a test sets it."""


def read(config: DataConfig) -> dict[str, list[Row]]:
    return DATA


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = create_host()
    ref = ReaderRef("shared_test", f"{__name__}:read", reads_path=False)
    inner = made.get
    monkeypatch.setattr(made, "get", lambda kind, name: ref if name == "shared_test" else inner(kind, name))
    return made


def load(host: Host, task: Task, data: dict[str, list[Row]]) -> Any:
    global DATA
    DATA = data
    return load_splits(DataConfig(format="shared_test", test_fraction=0.0, valid_fraction=0.0), task, host)


ROWS = [{"text": "x", "label": "bb"}]


def test_a_task_gets_its_tables_before_its_rows_are_checked(host: Host) -> None:
    splits = load(host, Choice(), NotedRows({"train": ROWS, "names": TABLE}, ["3 names skipped"]))
    assert splits.tables == {"names": [{"name": "a", "weight": 1}, {"name": "b", "weight": 2}]}
    assert list(splits.rows) == ["train"]
    assert "3 names skipped" in splits.notes
    other = load(host, Choice(), {"train": ROWS, "names": [*TABLE, {"name": "c", "weight": 1}]})
    assert other.fingerprint != splits.fingerprint
    with pytest.raises(DataError, match=r"train row 1: bb is not in the table"):
        load(host, Choice(), {"train": ROWS, "names": TABLE[:1]})


def test_bad_tables_are_named(host: Host) -> None:
    with pytest.raises(DataError, match=r"no table 'names', which task 'choice' needs \(columns: name, weight\)"):
        load(host, Choice(), {"train": ROWS})
    with pytest.raises(DataError, match=r"names row 2: column 'weight' must be a whole number, not 'two'"):
        load(host, Choice(), {"train": ROWS, "names": [TABLE[0], {"name": "b", "weight": "two"}]})
    with pytest.raises(DataError, match=r"gave the split 'others'"):
        load(host, Choice(), {"train": ROWS, "names": TABLE, "others": TABLE})


def prepared() -> tuple[Choice, TaskModel, Any]:
    devices = set_up(GPUConfig(device="cpu", precision="fp32", threads=1, token_budget=2))
    backbone = load_backbone(
        BackboneConfig(init="random", config={"n_layer": 1, "n_embd": 32, "n_head": 2}), create_host()
    )
    task = Choice()
    task.read_tables({"names": [{"name": name, "weight": 1} for name in ("one", "seventy seven", "two", "a b c")]})
    task.shared = encode_shared(task, backbone.tokenizer, context=backbone.info.context)
    return task, TaskModel(backbone, {"choice": task.build_head(32)}), devices


def test_what_rows_share_is_computed_once_and_given_in_its_order() -> None:
    task, model, devices = prepared()
    share(model, task, devices)
    assert [len(one) for one in task.vectors] == [1, 1, 1, 1]
    with torch.no_grad():
        for one, vector in zip(task.shared, task.vectors, strict=True):
            torch.testing.assert_close(model(pack([one], task.collate), "choice"), vector, rtol=1e-4, atol=1e-5)


def test_shared_sequences_are_cut_to_the_context_and_empty_ones_refused() -> None:
    task, model, _ = prepared()
    short = encode_shared(task, model.backbone.tokenizer, context=2)
    assert max(map(len, short)) == 2 and [one.example for one in short] == [0, 1, 2, 3]
    task.names = ["a", ""]
    with pytest.raises(DataError, match="Sequence 2 that the rows of task 'choice' share has no tokens"):
        encode_shared(task, model.backbone.tokenizer, context=8)


def test_shared_sequences_that_contradict_themselves_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    task, model, _ = prepared()
    monkeypatch.setattr(task, "encode_shared", lambda tokenizer: [Features([1, 2], positions=[2])])  # type: ignore[arg-type]
    with pytest.raises(PluginError, match="positions must be from 0 to 1"):
        encode_shared(task, model.backbone.tokenizer, context=8)


def test_a_pass_that_is_measured_is_a_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    task, model, devices = prepared()
    for name in ("reset_peak_memory_stats", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda device: 0)
    seen: list[int] = []
    model.register_forward_pre_hook(lambda module, arguments: seen.append(len(arguments[0])))
    peak_memory(model, task, [Features([1, 2], target=0)], devices)  # type: ignore[arg-type]
    assert seen == [5]


def test_a_task_without_shared_sequences_is_left_alone() -> None:
    task, model, devices = prepared()
    task.shared = ()
    share(model, task, devices)
    assert task.vectors == ()
