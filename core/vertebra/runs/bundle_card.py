"""The model card of a bundle: what a stranger must know of a trained task, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vertebra.config.schema import RunConfig
from vertebra.report.numbers import magnitude

MOST_LABELS = 40
"""More are not listed."""


def write_card(
    about: Mapping[str, Any], metrics: Mapping[str, Any], learnt: Mapping[str, Any], config: RunConfig
) -> str:
    """Return the card of a bundle by its `bundle.json`, its scores, what its task learnt, and its settings."""
    backbone, adapter, data = about["backbone"], about["adapter"], config.tasks[0].data
    shape = ", ".join(f"{name} {value}" for name, value in backbone["shape"].items())
    lines = [
        f"# {about['task']}: a task bundle",
        "",
        "What one task learnt beside a backbone that it shares with others; made by Vertebra "
        f"{about['vertebra']} of a run of {about.get('created', 'unknown date')}.",
        "",
        "## What it needs",
        "",
        f"- Backbone `{_name(config.backbone.path) or backbone['name']}` ({shape}), attention {_words(backbone['attention'])}",
        f"- Weights and vocabulary with the SHA-256 `{adapter['base']}`; another backbone is refused",
        "",
        "## What it holds",
        "",
        f"- Adapter {adapter['name']}: {magnitude(adapter.get('trained', 0))} parameters",
        f"- Head: {magnitude(adapter.get('head', 0))} parameters",
        *_labels(learnt),
        "",
        "## Scores",
        "",
        *_scores(metrics),
        "",
        f"Trained on `{_name(data.path) or data.format}`, seed {config.seed}, key `{about.get('key')}`.",
        *(["", "## Notes", "", *(f"- {note}" for note in about["notes"])] if about.get("notes") else []),
        "",
        "## How to use it",
        "",
        "    import vertebra",
        '    loaded = vertebra.load("THIS FOLDER", backbone="FOLDER OF THE BACKBONE")',
        "",
    ]
    return "\n".join(lines)


def label_set(learnt: Mapping[str, Any]) -> list[str]:
    """Return the labels among what a task learnt; none for a task that has no labels."""
    found = learnt.get("labels")
    return [str(one) for one in found] if isinstance(found, list | tuple) else []


def _labels(learnt: Mapping[str, Any]) -> list[str]:
    labels = label_set(learnt)
    more = f" and {len(labels) - MOST_LABELS} more" if len(labels) > MOST_LABELS else ""
    return [f"- {len(labels)} labels: {', '.join(f'`{one}`' for one in labels[:MOST_LABELS])}{more}"] if labels else []


def _scores(metrics: Mapping[str, Any]) -> list[str]:
    names = list(dict.fromkeys(name for scores in metrics.values() for name in scores))
    if not names:
        return ["None were measured."]
    head = ["| | " + " | ".join(metrics) + " |", "|---|" + "---:|" * len(metrics)]
    rows = [
        f"| {name} | "
        + " | ".join(f"{scores[name]:.4f}" if name in scores else "-" for scores in metrics.values())
        + " |"
        for name in names
    ]
    return [*head, *rows]


def _name(path: str | None) -> str | None:
    """Return what a folder is called, not where it is on this machine; a Hub name stays whole."""
    return path if path is None or not Path(path).is_absolute() else Path(path).name


def _words(attention: Any) -> str:
    return ", ".join(attention) if isinstance(attention, list) else str(attention)
