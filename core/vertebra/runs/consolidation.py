"""Elastic weight consolidation: what an earlier run's task needs of the backbone that a run goes on with.

RUN/fisher/     fisher.safetensors, how much each weight of the backbone matters; about.json, to which task, by how many rows.
                A run that is resumed reads it, and needs the earlier run no more
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vertebra.config.schema import TrainerConfig
from vertebra.data.keys import hashed
from vertebra.data.load import load_splits
from vertebra.engine.backbone import Backbone
from vertebra.engine.checkpoints import is_whole, write_folder
from vertebra.engine.devices import Devices
from vertebra.engine.fisher import fisher_diagonal
from vertebra.errors import RunError
from vertebra.host.manager import Host
from vertebra.report.progress import working
from vertebra.runs.corpora import read_corpora
from vertebra.runs.folder import FISHER, RunFolder
from vertebra.runs.load import LoadedRun, load_saved, open_saved
from vertebra.tasks.corpus_task import CorpusTask
from vertebra.tasks.features import Features

WEIGHTS = "fisher.safetensors"


@dataclass(frozen=True)
class Importance:
    """How much each weight of a backbone matters to the task of the run that left it."""

    fisher: Mapping[str, Tensor]
    """The diagonal of the Fisher information, by the names of the backbone's parameters."""
    task: str
    rows: int
    """Training rows that it was estimated from."""
    source: str
    """A hash of the run and the task that it is of."""

    @property
    def note(self) -> str:
        """What a reader of the results must know."""
        return (
            f"the backbone is pulled to where it began, by what {self.rows} rows of task '{self.task}' need of it (EWC)"
        )


def find_importance(
    config: TrainerConfig, run: RunFolder, backbone: Backbone, devices: Devices, host: Host
) -> Importance | None:
    """Return what the folder of a run keeps, or else compute it and keep it there; None where `trainer.ewc` is 0.

    `backbone` is as the run begins with it. `RunError` where it is not the one that the earlier run left, or where what is
    kept is damaged. Every process must come here.
    """
    if not config.ewc:
        return None
    assert config.ewc_from is not None
    place = Path(devices.from_main(str(run.path.absolute()))) / FISHER
    if devices.agree(not place.exists()):
        found = _compute(config.ewc_from, config.ewc_rows, backbone, devices, host)
        if devices.accelerator.is_main_process:
            _keep(found, place)
    devices.accelerator.wait_for_everyone()
    return _read(place)


def _compute(path: str, at_most: int, backbone: Backbone, devices: Devices, host: Host) -> Importance:
    past = load_saved(open_saved(path, host), devices, host)
    _refuse_other_weights(past, backbone)
    examples, task = _drawn_rows(past, at_most, host), past.task
    what = f"finding out what {len(examples)} training rows of task '{task.name}' need of the backbone (EWC)"
    with working(what) if devices.accelerator.is_main_process else nullcontext():
        fisher = fisher_diagonal(past.model, task, examples, devices)
    return Importance(fisher, task.name, len(examples), hashed([past.folder.read_state().get("key"), task.name]))


def _refuse_other_weights(past: LoadedRun, backbone: Backbone) -> None:
    """Raise `RunError` where a run does not begin with the backbone that the earlier one left."""
    own, its = dict(backbone.named_parameters()), dict(past.model.backbone.named_parameters())
    same_shapes = {name: one.shape for name, one in own.items()} == {name: one.shape for name, one in its.items()}
    if not same_shapes or backbone.tokenizer.get_vocab() != past.model.backbone.tokenizer.get_vocab():
        different = "its shapes or its vocabulary differ"
    elif not all(torch.equal(one, its[name].to(one)) for name, one in own.items()):
        different = "its weights differ"
    else:
        return
    raise RunError(
        f"trainer.ewc_from: the run in '{past.folder.path}' has not left the backbone '{backbone.info.name}' that this one "
        f"begins with: {different}. Begin with backbone=hf backbone.path='{past.folder.model / 'backbone'}'."
    )


def _drawn_rows(past: LoadedRun, at_most: int, host: Host) -> list[Sequence[Features]]:
    """Return the sequences of a run's training rows that have targets: of all rows, or of as many as are drawn.

    What is drawn is the same whatever the seed.
    """
    data, task, backbone = past.config.tasks[0].data, past.task, past.model.backbone

    def drawn(n_rows: int) -> list[int]:
        return sorted(np.random.default_rng(0).permutation(n_rows)[:at_most].tolist())

    found: list[Sequence[Features]]
    if isinstance(task, CorpusTask):
        windows = read_corpora(task, data, backbone.tokenizer, backbone.info.context, host)[1]["train"].examples
        assert windows is not None
        found = [windows[number] for number in drawn(len(windows))]
    else:
        rows = load_splits(data, task, host).rows["train"]
        past.encode_shared()  # of the tables that came with them
        chosen = [rows[number] for number in drawn(len(rows))]
        features = past.encode(chosen, f"encoding rows of '{past.folder.path}'")
        found = [list(row) for _, row in groupby(features, key=lambda one: one.example)]
    usable = [row for row in found if any(one.n_targets for one in row)]
    if not usable:
        raise RunError(f"trainer.ewc_from: no training row of '{past.folder.path}' has a target.")
    return usable


def _keep(found: Importance, place: Path) -> None:
    about = {"task": found.task, "rows": found.rows, "source": found.source}

    def fill(folder: Path) -> None:
        tensors = {name: one.cpu().contiguous() for name, one in found.fisher.items()}
        save_file(tensors, str(folder / WEIGHTS))
        RunFolder(folder).write_json("about.json", about)

    write_folder(place, fill)


def _read(place: Path) -> Importance:
    if not is_whole(place):
        raise RunError(f"What '{place}' keeps is damaged: its files do not fit their hashes. Start a new run.")
    about = RunFolder(place).read_json("about.json")
    return Importance(load_file(str(place / WEIGHTS)), about["task"], about["rows"], about["source"])
