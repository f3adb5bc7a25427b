"""A healthy plugin, and ways to break it: each one is a change of its text that breaks one promise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from plugin_site import PluginSite

INIT = """
from vertebra import MetricRef, ReaderRef, TaskRef, hookimpl


@hookimpl
def register_tasks():
    return [TaskRef("tagger", "tagger.task:Tagger", config="tagger.config:TaggerConfig")]


@hookimpl
def register_metrics():
    return [MetricRef("tag_recall", "tagger.metrics:TagRecall"), MetricRef("tag_error", "tagger.metrics:TagError")]


@hookimpl
def register_readers():
    return [ReaderRef("tagger_sample", "tagger.sample:read", reads_path=False)]


@hookimpl
def register_config_packages():
    return ["tagger.conf"]
"""

CONFIG = """
from dataclasses import dataclass
from typing import Literal

from vertebra.config.schema import Fraction, Strict


@dataclass(frozen=True)
class TaggerConfig(Strict):
    dropout: Fraction = 0.1
    case: Literal["keep", "lower"] = "keep"
"""

TASK = """
from torch import nn

from vertebra import Baseline, Features, Task
from vertebra.errors import DataError


class Tagger(Task):
    name = "tagger"
    columns = {"tokens": list, "tags": list}
    input_columns = ("tokens",)
    metrics = ("tag_recall", "tag_error")
    attention = "bidirectional"

    def check(self, row):
        if not row["tokens"] or not all(isinstance(token, str) and token for token in row["tokens"]):
            raise DataError("column 'tokens' must be a list of words.")
        if "tags" in row and len(row["tags"]) != len(row["tokens"]):
            raise DataError("each token needs a tag.")
        if not all(isinstance(tag, str) for tag in row.get("tags", ())):
            raise DataError("column 'tags' must be a list of texts.")

    def fit(self, rows):
        self.labels = sorted({tag for row in rows for tag in row["tags"]})

    def state(self):
        return {"labels": self.labels}

    def restore(self, state):
        self.labels = state["labels"]

    def encode(self, row, tokenizer):
        ids, positions = [], []
        for token in row["tokens"]:
            text = token.lower() if self.config.case == "lower" else token
            ids += tokenizer(f" {text}", add_special_tokens=False)["input_ids"]
            positions.append(len(ids) - 1)
        target = [self.labels.index(tag) for tag in row["tags"]] if "tags" in row else None
        return Features(ids, target=target, positions=positions)

    def build_head(self, width):
        return nn.Sequential(nn.Dropout(self.config.dropout), nn.Linear(width, len(self.labels)))

    def loss(self, outputs_PL, targets_P):
        return nn.functional.cross_entropy(outputs_PL, targets_P)

    def decode(self, outputs_PL, batch):
        best = iter(outputs_PL.argmax(dim=1).tolist())
        return [[self.labels[next(best)] for _ in range(count)] for count in batch.position_counts]

    def baselines(self):
        return [Always(self)]


class Always(Baseline):
    name = "always"
    summary = "every word gets the first label"

    def fit(self, train, valid):
        self.label = self.task.labels[0]

    def predict(self, rows):
        return [[self.label] * len(row["tokens"]) for row in rows]
"""

METRICS = '''
from vertebra import Metric


class TagRecall(Metric):
    """The share of words that are not `O` whose tag was found."""

    name = "tag_recall"

    def count(self, prediction, reference):
        pairs = [(one, true) for one, true in zip(prediction, reference, strict=True) if true != "O"]
        return sum(one == true for one, true in pairs), len(pairs)

    def score(self, counts_EK):
        found, there = counts_EK.sum(axis=0)
        return float(found / there) if there else 0.0


class TagError(Metric):
    """The share of words with a wrong tag."""

    name = "tag_error"
    higher_is_better = False

    def count(self, prediction, reference):
        return sum(one != true for one, true in zip(prediction, reference, strict=True)), len(reference)

    def score(self, counts_EK):
        wrong, words = counts_EK.sum(axis=0)
        return float(wrong / words) if words else 0.0
'''

SAMPLE = """
from random import Random

WORDS = {"ANIMAL": "bird dog horse cat", "VERB": "sings runs sleeps eats", "PLACE": "here there near far"}


def read(data):
    random = Random(1)
    return {split: [row(random) for _ in range(number)] for split, number in {"train": 60, "valid": 20, "test": 20}.items()}


def row(random):
    tags = [random.choice([*WORDS, "O"]) for _ in range(random.randint(2, 6))]
    tokens = [random.choice(WORDS[tag].split()) if tag != "O" else random.choice("and or but".split()) for tag in tags]
    return {"tokens": tokens, "tags": tags}
"""

FILES = {
    "tagger/__init__.py": INIT,
    "tagger/config.py": CONFIG,
    "tagger/task.py": TASK,
    "tagger/metrics.py": METRICS,
    "tagger/sample.py": SAMPLE,
    "tagger/conf/__init__.py": "",
    "tagger/conf/data/tagger/sample.yaml": "format: tagger_sample\n",
}


@dataclass(frozen=True)
class Mutant:
    """A plugin that breaks one promise."""

    name: str
    promise: str
    """Which one."""
    where: str
    """A part of the place that the message must name."""
    says: str
    """A regular expression for what it must say."""
    edits: tuple[tuple[str, str, str], ...]
    """The file, the text in it, and what stands there instead."""

    def files(self) -> dict[str, str]:
        """Return the plugin's files."""
        files = dict(FILES)
        for file, old, new in self.edits:
            path = f"tagger/{file}"
            assert old in files.setdefault(path, ""), f"{self.name}: {old!r} is not in {path}"
            files[path] = files[path].replace(old, new) if old else files[path] + new
        return files


def _mutant(name: str, promise: str, where: str, says: str, *edits: tuple[str, str, str]) -> Mutant:
    return Mutant(name, promise, where, says, edits)


CENTRED = """

class Centred(nn.Module):
    def forward(self, hidden_PD):
        return hidden_PD - hidden_PD.mean(dim=0)
"""
UNSAVED = """

class Unsaved(nn.Module):
    def __init__(self, width, labels):
        super().__init__()
        self.layers = [nn.Linear(width, labels)]

    def forward(self, hidden_PD):
        return self.layers[0](hidden_PD)
"""
PINNED = """

class Pinned(nn.Linear):
    def forward(self, hidden_PD):
        if self.training:
            hidden_PD.register_hook(lambda gradient: gradient)
        return super().forward(hidden_PD)
"""
HEAD = "nn.Sequential(nn.Dropout(self.config.dropout), nn.Linear(width, len(self.labels)))"
LOSS = "return nn.functional.cross_entropy(outputs_PL, targets_P)"
DECODE = "        return [[self.labels[next(best)] for _ in range(count)] for count in batch.position_counts]"
CHECK_LENGTHS = (
    '        if "tags" in row and len(row["tags"]) != len(row["tokens"]):\n'
    '            raise DataError("each token needs a tag.")\n'
)
CHECK_WORDS = (
    '        if not row["tokens"] or not all(isinstance(token, str) and token for token in row["tokens"]):\n'
    "            raise DataError(\"column 'tokens' must be a list of words.\")\n"
)
CHECK_TAGS = (
    '        if not all(isinstance(tag, str) for tag in row.get("tags", ())):\n'
    "            raise DataError(\"column 'tags' must be a list of texts.\")\n"
)
TARGET = '[self.labels.index(tag) for tag in row["tags"]] if "tags" in row else None'
FIT = 'self.labels = sorted({tag for row in rows for tag in row["tags"]})'

MUTANTS = (
    _mutant(
        "a metric that nobody registers",
        "registered",
        "tagger.task:Tagger",
        "There is no metric 'tag_precision'",
        ("task.py", '("tag_recall", "tag_error")', '("tag_precision", "tag_error")'),
    ),
    _mutant(
        "a class of another name",
        "registered",
        "tagger.task:Tagger",
        "not a vertebra.Task of the name 'tagger'",
        ("task.py", 'name = "tagger"', 'name = "taggers"'),
    ),
    _mutant(
        "torch at discovery",
        "imports",
        "tagger/__init__.py:2",
        "would import torch",
        ("__init__.py", "from vertebra import", "import torch\nfrom vertebra import"),
    ),
    _mutant(
        "numpy in the config",
        "imports",
        "tagger/config.py:2",
        "would import numpy",
        ("config.py", "from dataclasses", "import numpy\nfrom dataclasses"),
    ),
    _mutant(
        "a yaml that does not compose",
        "options",
        "data/tagger/files.yaml",
        "there is no such setting.* Did you mean 'format'",
        ("conf/data/tagger/files.yaml", "", "fromat: json\n"),
    ),
    _mutant(
        "a yaml that is none",
        "options",
        "data/tagger/files.yaml",
        "",
        ("conf/data/tagger/files.yaml", "", "format: [json\n"),
    ),
    _mutant(
        "a yaml that maps a column that is none",
        "options",
        "data/tagger/files.yaml",
        "no column of the task 'tokns'.* Did you mean 'tokens'",
        ("conf/data/tagger/files.yaml", "", "columns: {tokns: words}\n"),
    ),
    _mutant(
        "a setting whose value the code does not know",
        "options",
        "Tagger",
        "task.case=upper stops it with KeyError",
        ("config.py", '"lower"]', '"lower", "upper"]'),
        (
            "task.py",
            "    def check(",
            "    def __init__(self, config):\n        super().__init__(config)\n"
            '        self.change = {"keep": str, "lower": str.lower}[config.case]\n\n    def check(',
        ),
    ),
    _mutant(
        "a setting that is not declared",
        "settings",
        "Tagger (tagger/task.py:",
        "reads the setting 'droput'.* Did you mean 'dropout'",
        ("task.py", "self.config.dropout", "self.config.droput"),
    ),
    _mutant(
        "a setting that nobody reads",
        "settings",
        "tagger.config:TaggerConfig",
        "the setting 'smoothing' is declared, and no code of tagger reads it",
        ("config.py", "    dropout", "    smoothing: Fraction = 0.0\n    dropout"),
    ),
    _mutant(
        "a wrong column",
        "columns",
        "Tagger.encode (tagger/task.py:",
        "it reads 'token', and declared are tokens, tags. Did you mean 'tokens'",
        ("task.py", 'for token in row["tokens"]:', 'for token in row["token"]:'),
    ),
    _mutant(
        "a check of what rows to predict on do not have",
        "encode",
        "Tagger.check (tagger/task.py:",
        "a row for prediction, which has .* stops it with KeyError: 'tags'",
        ("task.py", 'if "tags" in row and len', "if len"),
    ),
    _mutant(
        "an optional input that nobody reads",
        "columns",
        "tagger.task:Tagger, optional_inputs",
        "'language' is declared, and nothing reads it",
        ("task.py", "    metrics = (", '    optional_inputs = {"language": str}\n    metrics = ('),
    ),
    _mutant(
        "a column that nobody reads",
        "columns",
        "tagger.task:Tagger",
        "the column 'source' is declared",
        ("task.py", '"tags": list}', '"tags": list, "source": str}'),
        ("task.py", '("tokens",)', '("tokens", "source")'),
        ("sample.py", '"tags": tags}', '"tags": tags, "source": "made up"}'),
    ),
    _mutant(
        "a bad row that is swallowed",
        "bad_rows",
        "Tagger.check (tagger/task.py:",
        "a row with more in 'tokens' than in 'tags' is taken without a word",
        ("task.py", CHECK_LENGTHS, ""),
        (
            "task.py",
            TARGET,
            '([self.labels.index(t) for t in row["tags"]] + [0] * 9)[: len(positions)] if "tags" in row else None',
        ),
    ),
    _mutant(
        "a bad row that crashes",
        "bad_rows",
        "tagger/task.py:",
        "holds None stops it with .* no word of the row's number",
        ("task.py", CHECK_WORDS, ""),
        ("task.py", 'f" {text}"', '" " + text'),
    ),
    _mutant(
        "a column whose type lets everything through",
        "bad_rows",
        "Tagger.check",
        "a row whose 'tags' is .* is taken without a word",
        ("task.py", '"tags": list}', '"tags": object}'),
        ("task.py", CHECK_LENGTHS + CHECK_TAGS, ""),
        ("task.py", TARGET, "self.targets(row, len(positions))"),
        (
            "task.py",
            "    def build_head",
            "    def targets(self, row, count):\n        try:\n"
            '            return [self.labels.index(tag) for tag in row["tags"]][:count] + [0] * (count - len(row["tags"]))\n'
            "        except (KeyError, ValueError):\n            return None\n\n    def build_head",
        ),
    ),
    _mutant(
        "an encode that draws",
        "encode",
        "Tagger.encode (tagger/task.py:",
        "encoded again has other tokens",
        (
            "task.py",
            'for token in row["tokens"]:',
            'import random\n        ids += [random.randrange(9) for _ in range(9)]\n        for token in row["tokens"]:',
        ),
    ),
    _mutant(
        "an encode that changes its row",
        "encode",
        "Tagger.encode (tagger/task.py:",
        "has another 'tokens' after it was encoded",
        (
            "task.py",
            "ids, positions = [], []",
            'ids, positions = [], []\n        row["tokens"][0] = row["tokens"][0].title()',
        ),
    ),
    _mutant(
        "an encode that needs the reference",
        "encode",
        "Tagger.encode (tagger/task.py:",
        "a row for prediction.* stops it with KeyError: 'tags'",
        ("task.py", ' if "tags" in row else None', ""),
    ),
    _mutant(
        "a target where there is none",
        "encode",
        "Tagger.encode (tagger/task.py:",
        "a row for prediction, without its reference, gets a target",
        ("task.py", ' if "tags" in row else None', ' if "tags" in row else [0] * len(positions)'),
    ),
    _mutant(
        "a decode that loses the rows' order",
        "round_trip",
        "Tagger.decode (tagger/task.py:",
        "rows do not come back",
        ("task.py", DECODE, f"{DECODE}[::-1]"),
    ),
    _mutant(
        "a loss that compares with another row",
        "round_trip",
        "Tagger.encode (tagger/task.py:",
        "rows do not come back",
        ("task.py", LOSS, LOSS.replace("targets_P)", "targets_P.roll(1))")),
    ),
    _mutant(
        "a decode that leaves sequences out",
        "round_trip",
        "",
        "decode gave 23 predictions for a batch of 24 sequences",
        ("task.py", DECODE, f"{DECODE}[1:]"),
    ),
    _mutant(
        "swapped arguments",
        "metrics",
        "TagRecall.count (tagger/metrics.py:",
        r"takes \(reference, prediction\), and is called with \(prediction, reference\)",
        (
            "metrics.py",
            "def count(self, prediction, reference):\n        pairs",
            "def count(self, reference, prediction):\n        pairs",
        ),
    ),
    _mutant(
        "an error that is taken for a score",
        "metrics",
        "TagError.score (tagger/metrics.py:",
        "declares that higher is better",
        ("metrics.py", "    higher_is_better = False\n", ""),
    ),
    _mutant(
        "a score that is NaN",
        "metrics",
        "TagRecall.score (tagger/metrics.py:",
        "tag_recall of no row gives nan",
        ("metrics.py", "float(found / there) if there else 0.0", 'float(found / there) if there else float("nan")'),
    ),
    _mutant(
        "a metric that sees no difference",
        "metrics",
        "TagRecall.score (tagger/metrics.py:",
        "the same 1",
        ("metrics.py", "sum(one == true for one, true in pairs)", "sum(len(one) > 0 for one, true in pairs)"),
    ),
    _mutant(
        "a baseline that skips a row",
        "baselines",
        "Tagger.baselines (tagger/task.py:",
        "baseline 'always' failed: it gave 19 predictions for the 20 rows of valid",
        ("task.py", "for row in rows]\n", "for row in rows[1:]]\n"),
    ),
    _mutant(
        "a loss that is a sum",
        "loss",
        "Tagger.loss (tagger/task.py:",
        "8 sequences have a loss of",
        ("task.py", LOSS, LOSS.replace("targets_P)", 'targets_P, reduction="sum")')),
    ),
    _mutant(
        "a loss without a gradient",
        "loss",
        "Tagger.loss (tagger/task.py:",
        "no parameter gets a gradient",
        ("task.py", LOSS, LOSS.replace("outputs_PL,", "outputs_PL.detach(),")),
    ),
    _mutant(
        "a leaking batch",
        "batches",
        "Tagger.build_head (tagger/task.py:",
        "a sequence's outputs change with its batch",
        ("task.py", HEAD, "nn.Sequential(Centred(), nn.Linear(width, len(self.labels)))"),
        ("task.py", "\n\nclass Always", f"{CENTRED}\n\nclass Always"),
    ),
    _mutant(
        "a decode that looks at other rows",
        "batches",
        "Tagger.decode (tagger/task.py:",
        "a sequence's prediction changes with its batch",
        ("task.py", "outputs_PL.argmax(dim=1)", "(outputs_PL - outputs_PL.mean(dim=0)).argmax(dim=1)"),
    ),
    _mutant(
        "batch normalization",
        "batches",
        "Tagger.build_head (tagger/task.py:",
        "the head has a BatchNorm1d",
        ("task.py", HEAD, "nn.Sequential(nn.BatchNorm1d(width), nn.Linear(width, len(self.labels)))"),
    ),
    _mutant(
        "a loss that does not fall",
        "learns",
        "Tagger.loss (tagger/task.py:",
        "the loss of these rows is",
        ("task.py", LOSS, LOSS.replace("outputs_PL,", "2 * outputs_PL.detach() - outputs_PL,")),
    ),
    _mutant(
        "an encode that leaves out the text",
        "learns",
        "Tagger.encode (tagger/task.py:",
        "it does not look at its own text",
        ("task.py", 'f" {text}"', '" the"'),
    ),
    _mutant(
        "a head that is not saved",
        "saved",
        "Tagger.build_head (tagger/task.py:",
        "once the run is loaded",
        ("task.py", HEAD, "Unsaved(width, len(self.labels))"),
        ("task.py", "\n\nclass Always", f"{UNSAVED}\n\nclass Always"),
    ),
    _mutant(
        "a state that forgets the labels",
        "saved",
        "Tagger.restore (tagger/task.py:",
        "cannot be used in a new process",
        ("task.py", 'return {"labels": self.labels}', "return {}"),
    ),
    _mutant(
        "a hash that another process does not know",
        "saved",
        "Tagger.encode (tagger/task.py:",
        "a new process encodes the training rows otherwise",
        ("task.py", "positions=positions)", 'positions=positions, note={"key": hash("tagger")})'),
    ),
    _mutant(
        "a loss that draws without a seed",
        "resume",
        "Tagger.loss (tagger/task.py:",
        "has other bits in the head",
        ("task.py", LOSS, f"import random\n        {LOSS} * (1 + random.random())"),
    ),
    _mutant(
        "a head that a frozen backbone cannot have",
        "modes",
        "Tagger.build_head (tagger/task.py:",
        "freeze=true a run stops with RuntimeError",
        ("task.py", HEAD, "Pinned(width, len(self.labels))"),
        ("task.py", "\n\nclass Always", f"{PINNED}\n\nclass Always"),
    ),
    _mutant(
        "labels that all runs share",
        "multirun",
        "Tagger.fit (tagger/task.py:",
        "other weights than the same run by itself",
        ("task.py", '    attention = "bidirectional"', '    attention = "bidirectional"\n    labels = []'),
        ("task.py", FIT, 'self.labels += sorted({tag for row in rows for tag in row["tags"]})'),
    ),
)


@contextmanager
def installed(files: Mapping[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginSite]:
    """Install the plugin of these files for as long as the block lasts."""
    site = PluginSite(folder / "site", monkeypatch)
    site.install("tagger", files["tagger/__init__.py"], modules=files)
    try:
        yield site
    finally:
        site.forget()
