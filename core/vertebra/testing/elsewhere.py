"""What another process makes of a trained run: `python -m vertebra.testing.elsewhere RUN` prints it as JSON.

`predictions` are those of the loaded run, by split and id; `features` is a hash of what the loaded task makes of the
training rows, and `features_again` of what a task does that is fitted on them here.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import sys
from collections.abc import Iterable
from typing import Any

from vertebra.engine.evaluate import evaluate
from vertebra.host.manager import create_host
from vertebra.runs.load import load
from vertebra.runs.tasks import load_metrics, load_task
from vertebra.tasks.corpus_task import CorpusTask
from vertebra.tasks.features import Features


def main(folder: str) -> None:
    """Load a run, predict, encode, and print."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        host = create_host()
        run = load(folder, device="cpu", host=host)
        choice = run.config.tasks[0]
        splits, encoded = run.read(choice.data, host)
        metrics = load_metrics(run.task, host)
        predictions: dict[str, Any] = {}
        for split in ("valid", "test"):
            if split in splits.rows:
                rows = splits.rows[split]
                done = evaluate(run.model, run.task, split, rows, encoded(split).features, metrics, run.devices)
                named = zip(rows, done.predictions, strict=True)
                predictions |= {f"{split} {row['id']}": prediction for row, prediction in named}
        own = again = digest(encoded("train").features)
        if not isinstance(run.task, CorpusTask):
            task = load_task(choice, host)
            task.read_tables(splits.tables)
            task.fit(splits.rows["train"])
            run.task.restore(task.state())
            again = digest(run.encode(splits.rows["train"]))
    print(json.dumps({"predictions": predictions, "features": own, "features_again": again}))


def digest(features: Iterable[Features]) -> str:
    """Return a hash of tokens, positions, targets and notes."""
    content = [[one.input_ids.tolist(), one.positions.tolist(), str(one.target), one.note] for one in features]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


if __name__ == "__main__":
    main(sys.argv[1])
