"""Results in a stable form for other programs: what `vertebra export-results` writes.

`results.schema.json` beside this file is the JSON Schema of it. Versions with the same first number are compatible: fields are
only added. A change that is not raises that number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import vertebra
from vertebra.errors import PluginError, RunError
from vertebra.host.manager import Host
from vertebra.report.read import COSTS, read_baselines, read_cost, read_json
from vertebra.runs.folder import RunFolder, now

VERSION = "1.0"
SCHEMA = "results.schema.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, json_schema_serialization_defaults_required=True)


class Score(_Model):
    """One metric on one split, as a fraction where it is a share."""

    metric: str
    split: Literal["valid", "test"]
    value: float
    low: Annotated[float | None, Field(description="Lower end of the 95 % bootstrap interval over examples.")] = None
    high: float | None = None
    higher_is_better: Annotated[bool | None, Field(description="null where the metric is not installed.")] = None
    primary: Annotated[bool, Field(description="Whether it is the task's first metric.")] = False


class Baseline(_Model):
    """What a predictor without a backbone scores on the same data."""

    name: str
    summary: str
    scores: list[Score]


class Data(_Model):
    """The rows: equal fingerprints mean equal rows in all splits."""

    fingerprint: str
    path: str | None = None
    format: str | None = None
    rows: Annotated[dict[str, int], Field(description="Rows by split.")] = {}


class Backbone(_Model):
    """Which model read the text."""

    name: str
    parameters: int | None = None
    init: str | None = None
    attention: str | None = None


class Cost(_Model):
    """What the run took, in seconds, bytes, joules; what was not measured is null."""

    wall_seconds: float | None = None
    cpu_seconds: float | None = None
    tokens_per_second: float | None = None
    peak_memory_bytes: float | None = None
    energy_joules: float | None = None
    trainable_parameters: int | None = None


class Run(_Model):
    """One finished run."""

    folder: str
    key: Annotated[str, Field(description="Equal keys mean that the same numbers would come out.")]
    created: str
    task: str
    seed: int
    data: Data
    backbone: Backbone
    adapter: str
    settings: Annotated[dict[str, Any], Field(description="The whole configuration, as in config.yaml.")]
    scores: list[Score]
    baselines: list[Baseline]
    cost: Cost
    notes: list[str]
    plugins: dict[str, str]
    environment: dict[str, Any]


class Results(_Model):
    """Finished runs and their results."""

    schema_name: Annotated[Literal["vertebra-results"], Field(alias="schema")] = "vertebra-results"
    version: Annotated[str, Field(pattern=r"^1\.\d+$")] = VERSION
    vertebra: str
    exported: str
    runs: list[Run]


def export(runs: Sequence[RunFolder], host: Host) -> Results:
    """Return the results of finished runs; `RunError` where a folder does not hold what it should."""
    return Results(vertebra=vertebra.__version__, exported=now(), runs=[exported_run(run, host) for run in runs])


def exported_run(run: RunFolder, host: Host) -> Run:
    """Return one run."""
    state, config, data = run.read_state(), run.read_config(), read_json(run, "data.json")
    cost = read_cost(run)
    try:
        (choice, *_) = config["tasks"]
        source = choice.get("data") or {}
        backbone = state["backbone"]
        return Run(
            folder=str(run.path),
            key=state["key"],
            created=state["created"],
            task=choice["name"],
            seed=config["seed"],
            data=Data(
                fingerprint=data["fingerprint"],
                path=source.get("path"),
                format=source.get("format"),
                rows={split: counts["rows"] for split, counts in data.get("splits", {}).items()},
            ),
            backbone=Backbone(**{name: backbone[name] for name in Backbone.model_fields if name in backbone}),
            adapter=config["adapter"]["name"],
            settings=config,
            scores=scores_of(read_json(run, "metrics.json"), read_json(run, "intervals.json"), host),
            baselines=[
                Baseline(name=name, summary=one["summary"], scores=scores_of(one["scores"], one["intervals"], host))
                for name, one in read_baselines(run).items()
            ],
            cost=Cost.model_validate({name: cost[name] for name in COSTS if name in cost}),
            notes=state.get("notes", []),
            plugins=state.get("plugins", {}),
            environment=read_json(run, "environment.json"),
        )
    except (LookupError, TypeError, AttributeError, ValidationError) as error:
        said = str(error).splitlines()[0]
        raise RunError(
            f"The run in '{run.path}' cannot be exported: its files lack what they should hold ({said})."
        ) from error


def scores_of(metrics: dict[str, Any], intervals: dict[str, Any], host: Host) -> list[Score]:
    """Return the scores of all splits."""
    found = []
    for split, scores in metrics.items():
        for number, (name, value) in enumerate(scores.items()):
            low, high = intervals.get(split, {}).get(name, (None, None))
            found.append(
                Score(
                    metric=name,
                    split=split,  # type: ignore[arg-type]  # checked by the model
                    value=value,
                    low=low,
                    high=high,
                    higher_is_better=higher_is_better(name, host),
                    primary=number == 0,
                )
            )
    return found


def higher_is_better(metric: str, host: Host) -> bool | None:
    """Whether a higher score is better; None for a metric that is not installed here."""
    try:
        return bool(host.get("metric", metric).load().higher_is_better)
    except PluginError:
        return None


def read_results(file: Path) -> Results:
    """Return what was exported; `RunError` where a file is none of these, or of a version that this one cannot read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"Cannot read results from '{file}': {error}.") from None
    version = str(content.get("version")) if isinstance(content, dict) else "None"
    if version.partition(".")[0] != VERSION.partition(".")[0]:
        raise RunError(f"'{file}' has version {version} of exported results; this version of vertebra reads {VERSION}.")
    try:
        return Results.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RunError(f"'{file}' does not hold exported results: {place}: {first['msg']}.") from None


def as_json(results: Results) -> str:
    """Return the text of a file."""
    return results.model_dump_json(by_alias=True, indent=1) + "\n"


def schema() -> str:
    """Return the JSON Schema of this version, as `results.schema.json` has it."""
    made = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Results.model_json_schema(by_alias=True, mode="serialization"),
    }
    return json.dumps(made, indent=1) + "\n"


def shipped_schema() -> str:
    """Return the text of `results.schema.json` in the package."""
    return resources.files("vertebra.runs").joinpath(SCHEMA).read_text(encoding="utf-8")
