"""From composed settings to a `RunConfig`: everything is checked in one pass, before anything is loaded or created."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from vertebra.config.adapters import FROZEN
from vertebra.config.compatibility import combination_of, refusals, refusals_of_metrics, settled_packing
from vertebra.config.corpus_data import corpus_refusals
from vertebra.config.defaults import GROUPS
from vertebra.config.keeping import keeping_refusals
from vertebra.config.paths import check_encoding, check_path, expand, is_file
from vertebra.config.schema import AdapterConfig, BackboneConfig, DataConfig, RunConfig, TaskChoice, TrainerConfig
from vertebra.config.sharding import sharding_refusals
from vertebra.config.validate import read, read_field, unknown_keys
from vertebra.errors import ConfigError, PluginError, VertebraError
from vertebra.host.manager import Host
from vertebra.host.refs import BehaviourRef
from vertebra.report.trackers import check_trackers

REGISTERED = {
    "backbone.name": "backbone",
    "adapter.name": "adapter",
    "trainer.optimizer": "optimizer",
    "trainer.schedule": "schedule",
    "trainer.behaviours": "behaviour",
    "trainer.more_metrics": "metric",
}
"""The settings that name something registered, and its kind."""


def resolve(document: Mapping[str, Any], host: Host, errors: Sequence[str] = ()) -> RunConfig:
    """Return the run that `document` describes: task, data, backbone, adapter, gpu, trainer, seed.

    All that is wrong is said in one `ConfigError`, a line each: unknown keys, types, values, registered names, paths
    that do not exist, and combinations that cannot work. `errors` are lines known already; they come first.
    """
    errors = [*errors, *unknown_keys("", document, ["task", *GROUPS, "seed"])]
    name, settings = read_task(document.get("task"), host, errors)
    parts: dict[str, Any] = {
        group: read(owner, document.get(group, {}), group, errors)
        for group, owner in GROUPS.items()
        if group != "adapter"
    }
    seed = read_field(RunConfig, "seed", document.get("seed", RunConfig.seed), errors)
    errors += _wrong_names(document, host)
    # What follows from an option that was refused is not said again.
    chosen = name in host.names("task") and not any(line.startswith("data=") for line in errors)
    errors += _wrong_data(parts["data"], host, chosen)
    errors += _wrong_backbone(parts["backbone"])
    parts["adapter"] = read_adapter(document.get("adapter", {}), host, errors)
    errors += _wrong_adapter(parts["adapter"], parts["backbone"])
    errors += keeping_refusals(parts["trainer"], parts["adapter"], parts["backbone"])
    if errors:
        raise ConfigError("\n".join(errors))
    data, backbone = _with_home(parts.pop("data")), _with_home(parts.pop("backbone"))
    parts["adapter"], backbone = _agreed(parts["adapter"], backbone)
    adapter = parts["adapter"].name
    errors += corpus_refusals(name, settings, data)
    errors += [one.line for one in refusals(combination_of(name, adapter, backbone, host), host)]
    errors += _wrong_behaviours(parts["trainer"], adapter, host)
    errors += refusals_of_metrics(parts["trainer"].more_metrics, name, host)
    errors += sharding_refusals(name, parts["adapter"], backbone, parts["gpu"], parts["trainer"], host)
    if errors:
        raise ConfigError("\n".join(errors))
    backbone = settled_packing(backbone, adapter, host)
    return RunConfig(tasks=(TaskChoice(name, settings, data),), backbone=backbone, seed=seed, **parts)


def _wrong_behaviours(trainer: TrainerConfig, adapter: str, host: Host) -> Iterator[str]:
    """Yield a line for each behaviour that needs the whole backbone to be trained, where an adapter trains a part."""
    for name in trainer.behaviours if adapter != AdapterConfig.name else ():
        ref = host.get("behaviour", name)
        assert isinstance(ref, BehaviourRef)
        if not ref.adapters:
            yield (
                f"trainer.behaviours={name} does not go with adapter={adapter}, which trains a part of the backbone: it needs "
                f"the whole. Use adapter=none, or leave out {name}."
            )


def two_training_files(data: Any, host: Host) -> list[str]:
    """Return the line against `data.splits.train` of a user's own beside a `data.path` that is a file, or none."""
    path = data.get("path") if isinstance(data, Mapping) else None
    readers = [ref.name for ref in host.refs("reader") if getattr(ref, "splits", None) == "files"]
    if not isinstance(path, str) or data.get("format") not in ("auto", *readers) or not is_file(path):
        return []
    return [
        f"data.path={path} is a file, which is the training split, and data.splits.train names another: set data.path to their "
        "folder, or leave out data.splits.train."
    ]


def read_task(values: Any, host: Host, errors: list[str]) -> tuple[str, Any]:
    """Return a task's name and its settings, as an instance of its own config dataclass (None where it has none)."""
    name = values.get("name") if isinstance(values, Mapping) else None
    if not isinstance(name, str):
        errors.append(f"Choose a task: task=NAME. Known: {', '.join(host.names('task')) or 'none'}.")
        return "", None
    values = {key: value for key, value in values.items() if key != "name"}
    try:
        owner = host.get("task", name).load_config()
    except PluginError as error:
        errors.append(f"task={name}: {error}")
        return name, None
    if owner is None:
        errors += unknown_keys("task", values, [])
        return name, None
    return name, read(owner, values, "task", errors)


def read_adapter(values: Any, host: Host, errors: list[str]) -> AdapterConfig | None:
    """Return an adapter's name and settings, as an instance of its own config dataclass."""
    name = values.get("name", AdapterConfig.name) if isinstance(values, Mapping) else None
    owner: type | None = None
    if isinstance(name, str) and name in host.names("adapter"):
        try:
            owner = host.get("adapter", name).load_config()
        except PluginError as error:
            errors.append(f"adapter={name}: {error}")
            return None
    return read(owner or AdapterConfig, values, "adapter", errors)


def _with_home(part: Any) -> Any:
    return part if part.path is None else replace(part, path=expand(part.path))


def _wrong_names(document: Mapping[str, Any], host: Host) -> Iterator[str]:
    """Yield a line for each name that stands for nothing: registered things, trackers, and paths."""
    checks: dict[str, Callable[[str], object]] = {
        "data.format": lambda name: name == "auto" or host.get("reader", name),
        "data.path": partial(check_path, "data.path"),
        "data.encoding": check_encoding,
        "backbone.path": partial(check_path, "backbone.path"),
        **{place: partial(host.get, kind) for place, kind in REGISTERED.items()},
        "trainer.metric": lambda name: name == "loss" or host.get("metric", name),
        "trainer.trackers": lambda name: check_trackers([name]),
    }
    for place, check in checks.items():
        for name in _texts(place, document):
            try:
                check(name)
            except VertebraError as error:
                yield str(error) if place in str(error) else f"{place}={name}: {error}"


def _texts(place: str, document: Mapping[str, Any]) -> list[str]:
    """Return the text, or the texts of the list, at `place`; what is none was refused by its type."""
    group, key = place.split(".")
    settings = document.get(group)
    value = settings.get(key) if isinstance(settings, Mapping) else None
    return [text for text in (value if isinstance(value, list | tuple) else [value]) if isinstance(text, str)]


def _wrong_data(data: DataConfig | None, host: Host, chosen: bool) -> Iterator[str]:
    if data is None:
        return
    reads_path = {ref.name: getattr(ref, "reads_path", True) for ref in host.refs("reader")} | {"auto": True}
    if chosen and data.path is None and reads_path.get(data.format, False):
        yield f"data.path must be given: format={data.format} reads a local folder or file, or a data set on the Hub."
    if chosen and data.path is not None and not reads_path.get(data.format, True):
        yield f"data.path is set, but format={data.format} makes its rows itself. Choose the data option that reads files."
    if data.valid_fraction + data.test_fraction >= 1:
        yield "data.valid_fraction and data.test_fraction must leave rows to train on: their sum must be below 1."


def _wrong_backbone(backbone: BackboneConfig | None) -> Iterator[str]:
    if backbone is None:
        return
    if backbone.name == "hf" and backbone.path is None:
        yield "backbone.path must be given for backbone.name=hf: a local model folder or a Hub name."
    if backbone.name != "hf" and backbone.path is not None:
        yield f"backbone.path is for backbone=hf; the backbone '{backbone.name}' takes none."


def _wrong_adapter(adapter: AdapterConfig | None, backbone: BackboneConfig | None) -> Iterator[str]:
    if adapter is None or backbone is None:
        return
    if backbone.freeze and adapter.name not in (AdapterConfig.name, FROZEN):
        yield f"adapter={adapter.name} trains parts of the backbone, and backbone.freeze=true none of it: choose one."


def _agreed(adapter: AdapterConfig, backbone: BackboneConfig) -> tuple[AdapterConfig, BackboneConfig]:
    """Return both with what one of them says of a frozen backbone: `adapter=frozen` and `backbone.freeze=true` are one."""
    if backbone.freeze or adapter.name == FROZEN:
        return AdapterConfig(FROZEN), replace(backbone, freeze=True)
    return adapter, backbone
