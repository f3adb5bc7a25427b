"""Measure nano's bits for each byte of texts, and what they stand beside: `python docs/bits_per_byte.py`, then `make docs`.

Counted models learn from the same training texts, in the tokens of nano and in windows of the same length; compressors see
each validation text alone. What comes out is docs/pretraining/bits-per-byte.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import lzma
import time
from datetime import date
from pathlib import Path

from vertebra.config.schema import BackboneConfig, DataConfig, GPUConfig
from vertebra.engine.devices import set_up
from vertebra.engine.evaluate import evaluate
from vertebra.engine.loading import load_backbone, load_tokenizer
from vertebra.engine.model import TaskModel
from vertebra.host.manager import create_host
from vertebra.runs.corpora import read_corpora
from vertebra_lm.metrics import BitsPerByte
from vertebra_lm.task import LanguageModelling

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "shared" / "data" / "lm"
TRAIN = ("wiki.train.jsonl.xz", "books.train.jsonl.xz")
TEXTS = {"articles": "wiki.valid.jsonl.xz", "books": "books.valid.jsonl.xz"}
CONTEXT = 512


def main() -> None:
    """Measure, print, and write the file."""
    parser = argparse.ArgumentParser(prog="python docs/bits_per_byte.py")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the texts (default: %(default)s)")
    folder = parser.parse_args().data
    found = {
        name: learnt(folder, file) | counted(folder, file) | compressed(folder / file) for name, file in TEXTS.items()
    }
    document = {"date": date.today().isoformat(), "train": list(TRAIN), "texts": TEXTS, "bits_per_byte": found}
    (HERE / "pretraining" / "bits-per-byte.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for name, scores in found.items():
        print(name, {one: round(score, 3) for one, score in scores.items()})


def learnt(folder: Path, file: str) -> dict[str, float]:
    """Return the bits of nano's shipped weights, computed in fp32."""
    host, task, metric = create_host(), LanguageModelling(), BitsPerByte()
    backbone = load_backbone(BackboneConfig(init="pretrained"), host, language_model=True)
    data = DataConfig(path=str(folder), splits={"train": TRAIN, "test": file})
    splits, encoded = read_corpora(task, data, backbone.tokenizer, CONTEXT, host, for_training=False)
    model = TaskModel(backbone, {task.name: task.build_head_on(backbone)}).eval()
    devices = set_up(GPUConfig(device="cpu"))
    found = evaluate(model, task, "test", splits.rows["test"], encoded["test"].features, [metric], devices)
    return {"nano": found.scores[metric.name]}


def counted(folder: Path, file: str) -> dict[str, float]:
    """Return the bits of the task's own baselines, each window of a validation text read by itself."""
    host, task = create_host(), LanguageModelling()
    data = DataConfig(path=str(folder), splits={"train": TRAIN, "valid": file})
    tokenizer = load_tokenizer(BackboneConfig(), host)
    splits, _ = read_corpora(task, data, tokenizer, CONTEXT, host)
    rows, metric = splits.rows["valid"], BitsPerByte()
    scores = {}
    for baseline in task.baselines():
        began = time.perf_counter()
        baseline.fit(splits.rows["train"], rows)
        counts = [metric.count(*pair) for pair in zip(baseline.predict(rows), map(task.reference, rows), strict=True)]
        scores[baseline.name] = sum(bits for bits, _ in counts) / sum(size for _, size in counts)
        print(f"{file}: {baseline.name} in {time.perf_counter() - began:.0f} s")
    return scores


def compressed(file: Path) -> dict[str, float]:
    """Return the bits of general compressors at their strongest, on the documents joined by empty lines."""
    with lzma.open(file, "rt", encoding="utf-8") as lines:
        text = "\n\n".join(json.loads(line)["text"] for line in lines).encode()
    xz = lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)
    return {"gzip -9": 8 * len(gzip.compress(text, 9)) / len(text), "xz -9e": 8 * len(xz) / len(text)}


if __name__ == "__main__":
    main()
