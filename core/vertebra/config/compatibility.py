"""What goes together, as it is declared: tasks, adapters, attention, packing, and families of models.

A run is checked against these declarations when it is composed, before anything is loaded; `vertebra matrix` shows them.
Tasks and adapters declare what they need at their class and their reference. What a family of models can do stands here;
one that does not stand here is tried when it is loaded, as all are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vertebra.config.schema import BackboneConfig
from vertebra.errors import VertebraError
from vertebra.host.manager import Host
from vertebra.host.refs import AdapterRef, MetricRef

if TYPE_CHECKING:
    from vertebra.tasks.task import Task


@dataclass(frozen=True)
class ModelFamily:
    """What the models of a family can do here; a test holds it to what the probes at loading find."""

    bidirectional: bool = True
    """Whether its tokens can see those behind them."""
    packed: bool = True
    """Whether sequences laid one behind the other give the numbers of each alone."""
    writes: bool = True
    """Whether its language-model head is one matrix, which is what training to write needs."""


MODEL_FAMILIES = {
    "gpt2": ModelFamily(),
    "llama": ModelFamily(),
    "mistral": ModelFamily(),
    "qwen2": ModelFamily(),
    "qwen3": ModelFamily(),
    "gpt_neox": ModelFamily(),
    "gemma2": ModelFamily(packed=False, writes=False),
    "gpt_neo": ModelFamily(bidirectional=False, packed=False),
    "bloom": ModelFamily(bidirectional=False, packed=False),
}


@dataclass(frozen=True)
class Combination:
    """What a run puts together; `auto` as it stands in the configuration."""

    task: str
    adapter: str
    attention: Literal["auto", "causal", "bidirectional", "by layer"]
    packing: Literal["auto", "packed", "padded"]
    model: str | None
    """The family of the model; None where it is not known before loading."""
    random: bool = False
    """Whether the weights are random, which lets `attention=auto` follow the task."""


@dataclass(frozen=True)
class Refusal:
    """Why something does not go together."""

    rule: str
    """What holds for every such combination."""
    line: str
    """What the user of this one is told."""


def refusals(combination: Combination, host: Host) -> Iterator[Refusal]:
    """Yield what stands against a combination of registered names; the task's module is imported where it matters."""
    chosen = _Chosen(combination, host)
    yield from _attention(chosen)
    yield from _packing(chosen)
    yield from _head(chosen)
    yield from _adapter(chosen)


def refusals_together(tasks: Sequence[str], combination: Combination, host: Host) -> Iterator[Refusal]:
    """Yield what stands against several tasks on one backbone, each of which goes with it alone."""
    listed = ",".join(tasks)
    classes = {name: _Chosen(replace(combination, task=name), host).task for name in tasks}
    for name, task in classes.items():
        if task.family == "corpus":
            yield Refusal(
                "a task that learns from running text is trained alone",
                f"tasks=[{listed}]: task={name} learns from running text and not from rows, and is trained alone: pretrain "
                "with it, and give the other tasks its backbone.",
            )
    reads = {name: task.attention for name, task in classes.items() if task.family != "corpus"}
    if combination.attention == "auto" and combination.random and len(set(reads.values())) > 1:
        writes = any(task.needs_language_model for task in classes.values())
        yield Refusal(
            "random weights are read in one direction by all tasks of a run",
            f"tasks=[{listed}]: {', '.join(f'{name} prefers {way}' for name, way in reads.items())} attention, and a backbone "
            f"with random weights has one. Set backbone.attention=causal{'' if writes else ' or bidirectional'}.",
        )


def refusals_each(adapter: str, host: Host) -> Iterator[Refusal]:
    """Yield what stands against an adapter for each of several tasks."""
    able = [ref.name for ref in host.refs("adapter") if isinstance(ref, AdapterRef) and ref.each]
    if adapter not in able:
        yield Refusal(
            "several tasks can have an adapter each where that is a sum added to what the layers compute",
            f"trainer.adapters=each does not go with adapter={adapter}: tasks with an adapter each share a pass of the "
            f"backbone, to which each adds its own. Use {' or '.join(able)}, or trainer.adapters=shared.",
        )


def refusals_of_metrics(names: Sequence[str], task: str, host: Host) -> Iterator[str]:
    """Yield a line for each metric that a run asks for besides the task's, and that scores predictions of another form.

    A task of its own kind may have any form, so nothing stands against it here.
    """
    for name in names:
        ref = host.get("metric", name)
        assert isinstance(ref, MetricRef)
        if ref.tasks is None:
            continue
        owner: type[Task] = host.get("task", task).load()
        if owner.family not in (*ref.tasks, "custom") and name not in owner.metrics:
            yield (
                f"trainer.more_metrics: {name} does not go with task={task}, a task of the family '{owner.family}'. It scores: "
                f"{', '.join(ref.tasks)}."
            )


def settled_packing(backbone: BackboneConfig, adapter: str, host: Host) -> BackboneConfig:
    """Return the backbone with padded batches where nothing else is asked for and the adapter needs them."""
    ref = host.get("adapter", adapter)
    assert isinstance(ref, AdapterRef)
    return replace(backbone, packing="padded") if backbone.packing == "auto" and not ref.packed else backbone


def combination_of(task: str, adapter: str, backbone: BackboneConfig, host: Host) -> Combination:
    """Return what a run puts together, as far as it can be known without a network and without loading a model."""
    try:
        source = host.get("backbone", backbone.name).load()(backbone)
    except VertebraError:  # the loading says it better
        return Combination(task, adapter, _attention_of(backbone), backbone.packing, None)
    random = backbone.init == "random" or not source.has_weights
    model = _model_family(source.location, source.revision)
    return Combination(task, adapter, _attention_of(backbone), backbone.packing, model, random)


def _attention_of(backbone: BackboneConfig) -> Literal["auto", "causal", "bidirectional", "by layer"]:
    """Return what a configuration asks of the layers: the same of all, or both directions in one model."""
    found = backbone.attention
    if isinstance(found, str):
        return found
    if isinstance(found, tuple):
        return next(iter(set(found))) if len(set(found)) == 1 else "by layer"
    return "causal" if found == 0 else "bidirectional" if found == 1 else "by layer"


class _Chosen:
    """A combination with the declarations behind its names."""

    def __init__(self, combination: Combination, host: Host) -> None:
        self.names, self._host = combination, host
        self.family = MODEL_FAMILIES.get(combination.model or "", ModelFamily())
        adapter = host.get("adapter", combination.adapter)
        assert isinstance(adapter, AdapterRef)
        self.adapter = adapter

    @property
    def task(self) -> type[Task]:
        """The class of the task, which imports torch."""
        loaded: type[Task] = self._host.get("task", self.names.task).load()
        return loaded


def _attention(chosen: _Chosen) -> Iterator[Refusal]:
    names = chosen.names
    if names.attention == "causal" or (names.attention == "auto" and chosen.family.bidirectional):
        return
    reads_causally = chosen.task.needs_language_model and chosen.task.attention == "causal"
    looks_ahead = names.attention in ("bidirectional", "by layer")
    if looks_ahead and reads_causally:
        yield Refusal(
            "a task that writes reads causally: its next token would have seen itself",
            f"backbone.attention={names.attention} does not go with task={names.task}, which writes texts: its next token "
            "would have seen itself. Use causal or auto.",
        )
    asked = looks_ahead or (names.random and chosen.task.attention == "bidirectional")
    if asked and not chosen.family.bidirectional:
        wanted = (
            f"backbone.attention={names.attention}"
            if names.attention != "auto"
            else f"task={names.task}, which reads both ways,"
        )
        yield Refusal(
            "models of this family see only what stands before a token",
            f"{wanted} does not go with models of the family '{names.model}', which cannot attend in both directions. Use "
            "backbone.attention=causal.",
        )


def _packing(chosen: _Chosen) -> Iterator[Refusal]:
    names = chosen.names
    padded = names.packing == "padded" or not (chosen.family.packed and chosen.adapter.packed)
    if names.attention == "by layer" and padded:
        yield Refusal(
            "padded batches have one direction for all layers",
            "backbone.attention asks for different directions in different layers, which padded batches do not have. "
            "Use causal or bidirectional.",
        )
    if names.packing != "packed":
        return
    if not chosen.family.packed:
        yield Refusal(
            "models of this family are not right on packed batches",
            f"backbone.packing=packed does not go with models of the family '{names.model}', whose outputs change when "
            "sequences are packed. Use padded or auto.",
        )
    if not chosen.adapter.packed:
        yield Refusal(
            f"the adapter '{names.adapter}' needs padded batches",
            f"backbone.packing=packed does not go with adapter={names.adapter}, which needs padded batches. Use padded or "
            "auto.",
        )


def _head(chosen: _Chosen) -> Iterator[Refusal]:
    names = chosen.names
    if not chosen.family.writes and chosen.task.needs_language_model:
        yield Refusal(
            "the language-model head of this family is more than one matrix, and cannot be trained to write here",
            f"task={names.task} needs a language-model head that is one matrix, and that of the family '{names.model}' is "
            "more. Choose another family, such as gpt2, llama or qwen3.",
        )


def _adapter(chosen: _Chosen) -> Iterator[Refusal]:
    names, adapter = chosen.names, chosen.adapter
    if adapter.models is not None and names.model is not None and names.model not in adapter.models:
        yield Refusal(
            f"the adapter '{names.adapter}' is for models of other families",
            f"adapter={names.adapter} does not go with models of the family '{names.model}'. It takes: "
            f"{', '.join(adapter.models)}.",
        )
    if adapter.tasks is not None and chosen.task.family not in adapter.tasks:
        yield Refusal(
            f"the adapter '{names.adapter}' is for tasks of other families",
            f"adapter={names.adapter} does not go with task={names.task}, a task of the family '{chosen.task.family}'. It "
            f"takes: {', '.join(adapter.tasks)}.",
        )


def _model_family(location: str, revision: str | None) -> str | None:
    """Return the family that a model's configuration names: in a folder, or in the local cache of the Hub."""
    file = Path(location) / "config.json"
    if not file.is_file():
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            cached = try_to_load_from_cache(location, "config.json", revision=revision)
        except HFValidationError:  # no name of the Hub's
            return None
        if not isinstance(cached, str):
            return None
        file = Path(cached)
    try:
        document: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    family = document.get("model_type") if isinstance(document, dict) else None
    return family if isinstance(family, str) else None
