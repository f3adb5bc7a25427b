"""The tables of docs/results.md, of the JSON files that docs/results.py writes."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from vertebra.host.manager import create_host
from vertebra.report.numbers import duration, magnitude
from vertebra.report.scale import Scale

SCALE = Scale.of(create_host())
VERSIONS = ("vertebra", "torch", "transformers", "python")


def results(folder: Path, budget: str) -> str:
    """Return the experiments of one budget: an overview, then a section for each."""
    files = (json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json")))
    found = [one for one in files if one["budget"] == budget and one["runs"]]
    if not found:
        return "No experiment of this budget has been run yet."
    return "\n\n".join([overview(found), *map(section, found)])


def studies(folder: Path) -> str:
    """Return a table for each study, a line for each of its experiments."""
    files = (json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json")))
    found = [one for one in files if one["budget"] == "study" and one["runs"]]
    titles = sorted({one["study"] for one in found})
    if not titles:
        return "No study has been made yet."
    return "\n\n".join(study(title, [one for one in found if one["study"] == title]) for title in titles)


def study(title: str, experiments: Sequence[Mapping[str, Any]]) -> str:
    """Return what its experiments trained and how they scored, the best first, and the command that all share."""
    metric, split, higher = experiments[0]["metric"], split_of(experiments[0]), experiments[0]["higher_is_better"]

    def average_of(one: Mapping[str, Any]) -> float:
        return mean(run["scores"][split][metric] for run in one["runs"])

    ordered = sorted(experiments, key=average_of, reverse=higher)
    lines = [shlex.split(one["line"]) for one in experiments]
    common = [word for word in lines[0] if all(word in line for line in lines)]
    rows = [
        [
            one["title"],
            magnitude(one["runs"][0]["adapter"]["trained"]),
            f"{100 * one['runs'][0]['adapter']['trained'] / one['runs'][0]['adapter']['backbone']:.3g} %",
            spread(metric, (run["scores"]["valid"][metric] for run in one["runs"])),
            f"**{spread(metric, (run['scores'][split][metric] for run in one['runs']))}**",
            SCALE.span(metric, one["runs"][0]["intervals"][split][metric]),
            str(len(one["runs"])),
            duration(mean(run["seconds"] for run in one["runs"])),
            f"`{own}`" if (own := shlex.join(word for word in shlex.split(one["line"]) if word not in common)) else "",
        ]
        for one in ordered
    ]
    columns = [
        "",
        "trained",
        "share",
        f"valid {metric}",
        f"{split} {metric}",
        "95 % interval, seed 1",
        "seeds",
        "time of a run",
        "settings",
    ]
    return "\n\n".join(
        [
            f"### {title}",
            f"```bash needs the data\n{shlex.join(common)} seed=1\n```",
            table(columns, rows),
            made_with([run for one in ordered for run in one["runs"]]),
        ]
    )


def overview(experiments: Iterable[Mapping[str, Any]]) -> str:
    """Return one line for each experiment: its first metric, the best baseline's score and the model's."""
    rows = []
    for one in experiments:
        split = split_of(one)
        scored = {
            name: b["scores"][split][one["metric"]] for name, b in one["baselines"].items() if split in b["scores"]
        }
        best = (max if one["higher_is_better"] else min)(scored, key=lambda name: scored[name], default="")
        beside = f"{cell(one['metric'], scored[best])} ({best})" if best else "–"
        mine = f"**{spread(one['metric'], (run['scores'][split][one['metric']] for run in one['runs']))}**"
        rows.append([one["title"], f"{one['metric']} ({split})", beside, mine, str(len(one["runs"]))])
    return table(["data", "metric", "best baseline", "model", "seeds"], rows)


def section(one: Mapping[str, Any]) -> str:
    """Return an experiment: its command, its table, and what it was made with."""
    split = split_of(one)
    others = [name for name in one["runs"][0]["scores"][split] if name != one["metric"]]
    columns = [
        "",
        *([f"valid {one['metric']}"] if split == "test" else []),
        f"{split} {one['metric']}",
        "95 % interval",
    ]
    rows = [
        line(name, baseline, one["metric"], others, split, f"{baseline['seconds']:.1f} s")
        for name, baseline in one["baselines"].items()
    ]
    rows += [
        line(f"seed {run['seed']}", run, one["metric"], others, split, duration(run["seconds"])) for run in one["runs"]
    ]
    if len(one["runs"]) > 1:
        rows.append(average(one["runs"], one["metric"], others, split))
    return "\n\n".join(
        [
            f"### {one['title']}",
            f"```bash needs the data\n{command(one)}\n```",
            table([*columns, *others, "time"], rows),
            made_with(one["runs"]),
        ]
    )


def command(one: Mapping[str, Any]) -> str:
    """Return the command line that makes an experiment's runs, or that evaluates each of another one's."""
    if shlex.split(one["line"])[1] == "evaluate":
        return str(one["line"])
    seeds = ",".join(str(run["seed"]) for run in one["runs"])
    return f"{one['line']} seed={seeds}" + (" --multirun" if len(one["runs"]) > 1 else "")


def line(
    name: str, scored: Mapping[str, Any], metric: str, others: Sequence[str], split: str, seconds: str
) -> list[str]:
    """Return the row of one baseline or one seed."""
    scores, interval = scored["scores"], scored["intervals"][split][metric]
    valid = [cell(metric, scores.get("valid", {}).get(metric))] if split == "test" else []
    return [
        name,
        *valid,
        cell(metric, scores[split][metric]),
        SCALE.span(metric, interval),
        *(cell(o, scores[split][o]) for o in others),
        seconds,
    ]


def average(runs: Sequence[Mapping[str, Any]], metric: str, others: Sequence[str], split: str) -> list[str]:
    """Return the row of means and standard deviations over the seeds."""

    def over(where: str, name: str) -> str:
        known = [run["scores"][where][name] for run in runs if where in run["scores"]]
        return spread(name, known) if known else "–"

    valid = [over("valid", metric)] if split == "test" else []
    return ["**mean**", *valid, f"**{over(split, metric)}**", "", *(over(split, name) for name in others), ""]


def made_with(runs: Sequence[Mapping[str, Any]]) -> str:
    """Say when, with what and on which machine the runs were made, and what their notes say."""
    backbones = {
        f"{' '.join(filter(None, (b['name'], b.get('version'))))}, {magnitude(b['parameters'])} parameters, "
        f"{b['init']} weights, {b['attention']} attention"
        for b in (run["backbone"] for run in runs)
    }
    commits: dict[str, dict[str, None]] = {}
    for run in runs:
        where = f"{run['date']} on {machine(run['environment'])}"
        commits.setdefault(where, {})[run["environment"].get("git_commit", "unknown")[:12]] = None
    made = (f"{where}, commit{'s' * (len(of) > 1)} {', '.join(of)}" for where, of in commits.items())
    notes = dict.fromkeys(note for run in runs for note in run["notes"])
    return f"Model: {'; '.join(sorted(backbones))}. Made {'; and '.join(made)}. Notes: {'; '.join(notes) or 'none'}."


def machine(environment: Mapping[str, Any]) -> str:
    """Say in words what a run ran on, and with."""
    gpu = "" if environment.get("gpu", "none") == "none" else f" and {environment['gpu']}"
    versions = ", ".join(f"{name} {environment[name]}" for name in VERSIONS if name in environment)
    return f"{environment['cpu']} with {environment['cores']} cores{gpu} ({versions})"


def split_of(one: Mapping[str, Any]) -> str:
    """Return the split that counts: test, or validation where there is no test."""
    return "test" if all("test" in run["scores"] for run in one["runs"]) else "valid"


def spread(metric: str, scores: Iterable[float]) -> str:
    """Write a metric's scores with several seeds: their mean, and their standard deviation where there are several."""
    values = list(scores)
    middle = cell(metric, mean(values))
    return f"{middle} ± {cell(metric, stdev(values))}" if len(values) > 1 else middle


def cell(metric: str, score: float | None) -> str:
    """Write a metric's score: in percent, or as it is."""
    return "–" if score is None else SCALE.score(metric, score)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose numbers stand on the right."""
    rules = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (columns, rules, *rows))
