"""Several trained tasks over one backbone: one copy of its weights in memory, and a small part for each task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from vertebra.config.schema import BackboneConfig
from vertebra.engine.adapters.adapter import adapter_name, base_fingerprint
from vertebra.engine.adapters.mixed import MIXABLE, LoRA, MixedBackbone
from vertebra.engine.adapters.views import view
from vertebra.engine.backbone import Backbone, Packing, turn_for_inference
from vertebra.engine.devices import Devices, set_up
from vertebra.engine.evaluate import Part, by_row, predict_parts
from vertebra.engine.loading import context_length, load_backbone
from vertebra.engine.mixed_batch import MixedBatch, mix
from vertebra.engine.packing import pack
from vertebra.errors import RunError
from vertebra.host.manager import Host
from vertebra.names import unknown
from vertebra.runs.load import CHUNK, LoadedRun, Saved, gpu_config, put_together
from vertebra.runs.saved import expected_base
from vertebra.tasks.features import Features
from vertebra.tasks.heads import run_head
from vertebra.tasks.task import Row

Given = tuple[str, str | Row]
"""The name of a task, and a text or a row for it."""


@dataclass(frozen=True)
class LoadedTasks:
    """Trained tasks by their names, over one backbone; `vertebra.load` makes it of several runs or bundles.

    Tasks with lora, rslora or a frozen backbone share passes: their sequences lie in one stream, each with its own
    adapter. The others, and those that write texts, run one by one. Predictions are those of each task alone.
    """

    runs: Mapping[str, LoadedRun]
    """Each task as if it were loaded alone, over the same weights."""
    backbone: Backbone
    """The backbone without any adapter."""
    mixed: MixedBackbone
    """The backbone with the adapters of the tasks that share passes."""
    devices: Devices
    """What is computed on."""

    def predict(self, task: str, inputs: Sequence[str | Row]) -> list[Any]:
        """Return one prediction for each text, or row with the columns that the task needs, in the task's own terms."""
        return self.predict_mixed([(task, one) for one in inputs])

    def predict_mixed(self, inputs: Iterable[Given]) -> list[Any]:
        """Return one prediction for each pair of a task's name and a text or a row, in their order."""
        return [prediction for _, _, prediction in self.stream(inputs)]

    def stream(self, inputs: Iterable[Given]) -> Iterator[tuple[str, Row, Any]]:
        """Yield each task with its row and its prediction, some at a time: memory does not grow with their number."""
        rows = (self._row(name, given, number) for number, (name, given) in enumerate(inputs, start=1))
        first = dict.fromkeys(self.runs, 0)  # of each task, the number of its next row among its own
        while chunk := list(islice(rows, CHUNK)):
            yield from self._predict(chunk, first)
            for name, _ in chunk:
                first[name] += 1

    def _row(self, name: str, given: str | Row, number: int) -> tuple[str, Row]:
        if name not in self.runs:
            raise RunError(f"Row {number}: {unknown('task', name, self.runs)}")
        return name, self.runs[name].make_row(given, number)

    def _predict(self, chunk: Sequence[tuple[str, Row]], first: Mapping[str, int]) -> Iterator[tuple[str, Row, Any]]:
        rows: dict[str, list[Row]] = {}
        for name, row in chunk:
            rows.setdefault(name, []).append(row)
        features = {name: self.runs[name].encode(own, first=first[name]) for name, own in rows.items()}
        parts = self._mixed_parts({name: own for name, own in features.items() if name in self.mixed.adapters})
        for name, own in features.items():
            if name not in self.mixed.adapters:
                run = self.runs[name]
                parts[name] = list(predict_parts(run.model, run.task, own, run.devices, writer=run.writer))
        predictions = {
            name: iter(
                [
                    self.runs[name].task.combine(row, values)
                    for row, values in zip(own, by_row(own, parts[name], first[name]), strict=True)
                ]
            )
            for name, own in rows.items()
        }
        for name, row in chunk:
            yield name, row, next(predictions[name])

    @torch.no_grad()
    def _mixed_parts(self, features: Mapping[str, Sequence[Features]]) -> dict[str, list[Part]]:
        """Return for each task the prediction of each of its sequences, made in passes that the tasks share."""
        parts: dict[str, list[Part]] = {name: [] for name in features}
        owner = {id(one): name for name, own in features.items() for one in own}
        if not owner:
            return parts
        attentions = {name: run.model.backbone.info.attention for name, run in self.runs.items()}
        alike = all(attentions[name] == self.backbone.info.attention for name in features)
        causal = None if alike else {name: attention == "causal" for name, attention in attentions.items()}

        def compute(piece: Sequence[Features]) -> tuple[MixedBatch, dict[str, Tensor]]:
            own: dict[str, list[Features]] = {}
            for one in piece:
                own.setdefault(owner[id(one)], []).append(one)
            packed = {name: pack(some, self.runs[name].task.collate) for name, some in own.items()}
            batch = mix(packed, causal).to(self.devices.accelerator.device)
            with self.devices.autocast_for_evaluation():
                hidden = batch.split(self.mixed(batch))
                outputs = {one.name: self._head(one.name, hidden[one.name], one.batch) for one in batch.segments}
            return batch, outputs

        every = [one for own in features.values() for one in own]
        padded = self.backbone.info.packing == "padded"
        # One backbone in memory is what this is for, so its weights are not prepacked, which would be another.
        for batch, outputs in self.devices.budget.in_pieces(
            every, compute, lambda piece: f"a row of '{owner[id(piece[0])]}'", padded=padded
        ):
            for one in batch.segments:
                values = self.runs[one.name].task.decode(outputs[one.name], one.batch)
                parts[one.name] += [
                    Part(feature.example, feature.window, value, 0.0, 0)
                    for feature, value in zip(one.batch.features, values, strict=True)
                ]
        return parts

    def _head(self, name: str, hidden: Tensor, batch: Any) -> Tensor:
        run = self.runs[name]
        return run_head(run.model.heads[run.task.name], hidden, batch).float()


def load_tasks(saved: Sequence[Saved] | Mapping[str, Saved], device: str, host: Host) -> LoadedTasks:
    """Load trained tasks onto one backbone.

    They are called by the names of a mapping, else by their tasks', the second of a task `TASK-2`. `RunError` where they
    have no backbone in common.
    """
    every = dict(saved) if isinstance(saved, Mapping) else _named(saved)
    if not every:
        raise RunError("There is nothing to load: name at least one run or bundle.")
    _refuse_different(every)
    first = next(iter(every.values()))
    devices = set_up(gpu_config(first, device))
    # A task that needs padded batches has a view of its own for them.
    packed = next((one.base for one in every.values() if one.base.packing != "padded"), first.base)
    base_config = replace(first.base, gradient_checkpointing=False, context=None, packing=packed.packing)
    language_model = any(one.language_model for one in every.values())
    # Whether a task may see what it is to write was settled when it was trained.
    base = load_backbone(base_config, host, prefer="bidirectional", language_model=language_model)
    fingerprint = base_fingerprint(base)
    for name, one in every.items():
        if expected_base(one.folder) != fingerprint:
            raise RunError(
                f"'{name}' in '{one.folder.path}' was trained on another backbone than '{base.info.name}' is now: its weights "
                "or its vocabulary have changed. Give it the one that it was trained on."
            )
    (base.language_model or base.model).to(devices.accelerator.device)
    base.eval()
    turn_for_inference(base)
    runs = {name: _on(base, one, devices, host, fingerprint) for name, one in every.items()}
    adapters = {
        name: None if adapter_name(run.config) == "frozen" else LoRA.of(run.model.backbone)
        for name, run in runs.items()
        if _shares_passes(run, base)
    }
    return LoadedTasks(runs, base, MixedBackbone(base, adapters), devices)


def _on(base: Backbone, saved: Saved, devices: Devices, host: Host, fingerprint: str) -> LoadedRun:
    """Load one of the tasks onto a view of the backbone."""
    packing: Packing | None = "padded" if saved.base.packing == "padded" else None
    own = view(
        base,
        language_model=saved.language_model,
        attention=saved.base.attention,  # type: ignore[arg-type]  # never auto: it was read from the run
        packing=packing,
    )
    own.info = replace(own.info, context=context_length(saved.base, own.model.config))
    return put_together(saved, own, devices, host, fingerprint, base=base)


def _shares_passes(run: LoadedRun, base: Backbone) -> bool:
    own = run.model.backbone.info
    sides = {"causal", "bidirectional"}
    alike = own.attention == base.info.attention
    by_sequence = base.info.packing == "packed" and {own.attention, base.info.attention} <= sides
    return adapter_name(run.config) in MIXABLE and not run.task.needs_language_model and (alike or by_sequence)


def _named(saved: Sequence[Saved]) -> dict[str, Saved]:
    names: dict[str, Saved] = {}
    for one in saved:
        name, number = one.task.name, 2
        while name in names:
            name, number = f"{one.task.name}-{number}", number + 1
        names[name] = one
    return names


def _refuse_different(every: Mapping[str, Saved]) -> None:
    """Raise `RunError` for tasks that cannot be on one backbone, naming two of them, before any is loaded."""
    (first_name, first), *others = every.items()
    for one in every.values():
        if expected_base(one.folder) is None:
            raise RunError(
                f"The run in '{one.folder.path}' trained its whole backbone, which no other task can share: load it alone, or "
                "train it with an adapter (adapter=lora) over the others' backbone."
            )
    for name, one in others:
        if expected_base(one.folder) != expected_base(first.folder):
            raise RunError(
                f"'{name}' in '{one.folder.path}' was trained on another backbone than '{first_name}' in "
                f"'{first.folder.path}': they cannot share one. Train them over one folder: backbone=hf backbone.path=FOLDER."
            )
        both_own = one.own_backbone and first.own_backbone
        for setting in ("dtype", "config"):
            own, others_own = (
                _built(saved.config.backbone if both_own else saved.base, setting) for saved in (one, first)
            )
            if own != others_own:
                raise RunError(
                    f"'{name}' was trained with backbone.{setting}={own}, '{first_name}' with {others_own}: they cannot share "
                    "one backbone."
                )


def _built(config: BackboneConfig, setting: str) -> Any:
    """Return a setting of how the backbone is built; what is dropped in training plays no part."""
    found = getattr(config, setting)
    return {key: value for key, value in found.items() if "drop" not in key} if isinstance(found, dict) else found
