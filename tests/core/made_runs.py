"""Finished runs without training: folders as `vertebra train` leaves them, with predictions of a chosen quality."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import vertebra
from vertebra.config.document import to_document
from vertebra.data.keys import hashed
from vertebra.data.load import load_splits
from vertebra.engine.evaluate import Evaluation
from vertebra.host.manager import create_host
from vertebra.metrics.metric import count
from vertebra.runs.folder import RunFolder
from vertebra.runs.results import prediction_lines
from vertebra.runs.tasks import load_metrics, load_task

Change = Callable[[Any, random.Random, list[str]], Any]
"""From a reference to a prediction: (reference, random numbers, labels of the task)."""


def classify(quality: float) -> Change:
    """Predict the right label with this chance."""

    def change(reference: Any, generator: random.Random, labels: list[str]) -> Any:
        right = generator.random() < quality
        label = reference["label"] if right else generator.choice([one for one in labels if one != reference["label"]])
        return {"label": label, "probability": round(generator.uniform(0.5, 1), 3)}

    return change


def make_trained(
    folder: Path,
    change: Change,
    *,
    task: str = "sentiment",
    seed: int = 1,
    rows: int = 80,
    seconds: float = 12.0,
    data: dict[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """Write the folder of a finished run on a task's sample."""
    host = create_host()
    config = vertebra.configure(host, task=task, seed=seed, data={"limit": rows, **(data or {})}, **settings)
    loaded = load_task(config.tasks[0], host)
    splits = load_splits(config.tasks[0].data, loaded, host)
    loaded.fit(splits.rows["train"])
    generator = random.Random(f"{task} {seed} {folder.name}")
    metrics = load_metrics(loaded, host)
    evaluations = []
    for split in ("valid", "test"):
        references = [loaded.reference(row) for row in splits.rows[split]]
        predictions = [change(one, generator, getattr(loaded, "labels", [])) for one in references]
        counts = {one.name: count(one, predictions, references, splits.rows[split]) for one in metrics}
        scores = {one.name: one.score(counts[one.name]) for one in metrics}
        evaluations.append(Evaluation(split, 0.5, scores, counts, predictions, references))
    run = RunFolder.create(folder)
    run.write_config(to_document(config))
    (folder / "model").mkdir()
    RunFolder(folder / "model").write_json("tasks.json", {task: loaded.state()})
    run.write_json("metrics.json", {one.split: one.scores for one in evaluations})
    around = {
        one.split: {name: [score - 0.05, score + 0.05] for name, score in one.scores.items()} for one in evaluations
    }
    run.write_json("intervals.json", around)
    lines = (line for one in evaluations for line in prediction_lines(loaded, metrics[0], splits.rows[one.split], one))
    run.write_lines("predictions.jsonl", lines)
    run.write_json("data.json", {"fingerprint": splits.fingerprint, "splits": {}, "notes": [], "too_long": "window"})
    run.write_json("environment.json", {"vertebra": vertebra.__version__, "python": "3.11"})
    first = metrics[0].name
    run.write_json(
        "baselines.json",
        {
            "majority": {
                "summary": "the most frequent label",
                "seconds": 0.1,
                "scores": {split: {first: 0.4} for split in ("valid", "test")},
                "intervals": {split: {first: [0.3, 0.5]} for split in ("valid", "test")},
            }
        },
    )
    run.write_json(
        "cost.json",
        {
            "trainable_parameters": 9_200_000,
            "wall_seconds": seconds,
            "cpu_seconds": seconds,
            "tokens_per_second": 2000.0,
            "peak_memory_bytes": 900_000_000,
        },
    )
    score = evaluations[0].scores[first]
    run.write_lines(
        "evaluations.jsonl",
        [
            {"step": step, "epoch": step / 50, "split": "valid", "loss": 1 / step, "best": True}
            | {"scores": {first: score * (1 - 0.4 / step)}}
            for step in (1, 2, 4)
        ],
    )
    run.update_state(
        status="finished",
        reason=None,
        created="2026-11-22T10:00:00+00:00",
        seconds=seconds,
        key=hashed([str(folder), task, seed]),
        tasks=[task],
        backbone={
            "name": "nano",
            "parameters": 9_200_000,
            "init": "random",
            "attention": "causal",
            "packing": "packed",
        },
        notes=["random weights"],
        plugins={"core": vertebra.__version__},
    )
    return folder
