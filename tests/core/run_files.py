"""Makes a small run folder with realistic files, for tests of what reads one."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

WORDS = (
    "Japan began the defence of their Asian Cup title with a lucky 2-1 win against Syria in a Group C match on Friday",
    "EU rejects German call to boycott British lamb",
    "中国 男足 在 北京 以 二 比 一 战胜 韩国",
    "The <script>alert('escaped')</script> club Real Madrid signed Davor Suker & others from Sevilla for $ 11 million",
    "Leicestershire 22 points , Somerset 4 , Durham 111 and 59 , Essex 7 at Chester-le-Street",
)
LABELS = ("O", "LOC", "PER", "ORG", "MISC")
CAPITALS = {
    "Japan",
    "Syria",
    "Asian",
    "Cup",
    "EU",
    "German",
    "British",
    "中国",
    "北京",
    "韩国",
    "Real",
    "Madrid",
    "Davor",
}


def make_run_folder(folder: Path, labels: tuple[str, ...] = LABELS) -> Path:
    """Write every file of a finished run."""
    generator = random.Random(7)
    folder.mkdir(parents=True, exist_ok=True)
    log, evaluations = make_curves(generator)
    write_json(
        folder / "run.json",
        {
            "format": 1,
            "key": "9f2c41d07be3aa518c02",
            "status": "finished",
            "reason": "",
            "created": "2026-03-14T15:09:26+00:00",
            "seconds": 731.4,
            "tasks": ["ner"],
            "backbone": {
                "name": "nano",
                "parameters": 11_214_336,
                "fingerprint": "sha256:5b1f0c",
                "init": "random",
                "attention": "bidirectional",
                "packing": "packed",
            },
            "notes": [
                "random weights: the backbone was not pretrained, so the scores are those of training from scratch"
            ],
            "plugins": {"core": "0.1.0", "ner": "0.1.0"},
        },
    )
    write_json(folder / "environment.json", ENVIRONMENT)
    write_json(
        folder / "metrics.json", {split: dict(zip(METRICS, scores, strict=True)) for split, scores in SCORES.items()}
    )
    write_json(
        folder / "intervals.json",
        {
            split: {name: [score - 0.014, score + 0.0135] for name, score in zip(METRICS, scores, strict=True)}
            for split, scores in SCORES.items()
        },
    )
    write_json(folder / "baselines.json", {name: make_baseline(*about) for name, about in BASELINES.items()})
    write_json(folder / "figures.json", {split: make_figures(labels, generator) for split in ("valid", "test")})
    write_json(folder / "data.json", DATA)
    write_lines(folder / "log.jsonl", log)
    write_lines(folder / "evaluations.jsonl", evaluations)
    write_lines(folder / "predictions.jsonl", make_predictions(generator))
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    return folder


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2), encoding="utf-8")


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def make_baseline(summary: str, seconds: float, *scores: float) -> dict[str, Any]:
    splits = {split: dict(zip(METRICS, scores, strict=True)) for split in ("valid", "test")}
    intervals = {
        split: {name: [score - 0.015, min(1, score + 0.014)] for name, score in some.items()}
        for split, some in splits.items()
    }
    return {"summary": summary, "seconds": seconds, "scores": splits, "intervals": intervals}


def make_curves(generator: random.Random) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    log = [
        {
            "step": step,
            "epoch": step / 439,
            "loss": 0.08 + 2.1 * math.exp(-step / 420) * generator.uniform(0.75, 1.25) + generator.uniform(0, 0.06),
            "learning_rate": 3e-4 * min(1, step / 200) * (1 - step / 3600),
            "gradient_norm": generator.uniform(0.5, 2.5),
        }
        for step in range(10, 3513, 10)
    ]
    evaluations = []
    for epoch in range(1, 9):
        f1 = 0.645 * (1 - math.exp(-epoch / 1.6)) - max(0, epoch - 6) * 0.006
        scores = dict(zip(METRICS, (f1, f1 + 0.021, f1 - 0.02, 0.8 + f1 / 5), strict=True))
        loss = 0.25 + 0.5 * math.exp(-epoch / 1.5) + 0.012 * epoch
        line = {"step": 439 * epoch, "epoch": float(epoch), "split": "valid", "scores": scores, "loss": loss}
        evaluations.append({**line, "best": epoch <= 6})
    return log, evaluations


def make_figures(labels: tuple[str, ...], generator: random.Random) -> list[dict[str, Any]]:
    classes = [
        [label, *(round(generator.uniform(0.4, 0.9), 6) for _ in range(3)), generator.randrange(200, 2000)]
        for label in labels[1:]
    ]
    counts = [
        [
            generator.randrange(900, 30_000) if row == column else max(0, generator.randrange(-160, 160))
            for column in range(len(labels))
        ]
        for row in range(len(labels))
    ]
    return [
        {
            "kind": "table",
            "title": "Entities, strict (seqeval)",
            "columns": ["type", "precision", "recall", "f1", "support"],
            "rows": classes,
            "note": "An entity counts only where both its ends and its type are right.",
        },
        {"kind": "confusion", "title": "Token labels", "labels": list(labels), "counts": counts, "note": ""},
    ]


def make_predictions(generator: random.Random) -> list[dict[str, Any]]:
    lines = []
    for number in range(40):
        tokens = WORDS[number % len(WORDS)].split()
        reference = [f"B-{generator.choice(LABELS[1:])}" if token in CAPITALS else "O" for token in tokens]
        wrong = 0.25 if number % 4 else 0.0
        prediction = [
            generator.choice(("O", "B-PER", "B-ORG")) if generator.random() < wrong else label for label in reference
        ]
        right = sum(one == other for one, other in zip(prediction, reference, strict=True)) / len(tokens)
        for split in ("valid", "test"):
            line = {"id": f"{split}-{number}", "split": split, "input": {"tokens": tokens}}
            lines.append({**line, "prediction": prediction, "reference": reference, "score": right})
    return lines


METRICS = ("entity_f1", "entity_precision", "entity_recall", "token_macro_f1")
SCORES = {"valid": (0.6413, 0.6622, 0.6217, 0.9281), "test": (0.6291, 0.6508, 0.6088, 0.9203)}
BASELINES = {
    "most frequent tag": ("each word gets its most frequent label", 0.4, 0.5437, 0.5856, 0.5074, 0.9106),
    "known entities": ("the longest phrases that are entities in training", 0.4, 0.5961, 0.7191, 0.5090, 0.8960),
    "CRF": ("a conditional random field over words and shapes", 19.5, 0.8285, 0.8360, 0.8212, 0.9630),
}
ENVIRONMENT = {
    "python": "3.11.2",
    "torch": "2.13.0+cpu",
    "transformers": "5.23.0",
    "vertebra": "0.1.0",
    "cpu": "x86_64",
    "cores": 2,
    "memory": "7.8 GB",
    "git commit": "4be1c2a",
}
DATA = {
    "splits": {
        "train": {"rows": 14041, "sequences": 14046, "tokens": 291_207, "too_long": 5},
        "valid": {"rows": 3250, "sequences": 3250, "tokens": 73_114, "too_long": 0},
        "test": {"rows": 3453, "sequences": 3453, "tokens": 68_926, "too_long": 0},
    },
    "too_long": "window",
    "fingerprint": "c1f6e0",
    "notes": ["1,350 rows of train occur more than once."],
}
CONFIG = """\
tasks:
- name: ner
  data:
    path: ../shared/data/ner/conll2003
    format: columns
backbone:
  name: nano
  attention: auto
trainer:
  learning_rate: 0.0003
  epochs: 8
seed: 1
"""
