"""Make what docs/results.md shows: `python docs/results.py [NAME ...] [--seeds 1,2,3] [--data FOLDER]`, then `make docs`.

Each run is a command that anybody can give, in a folder of its own, runs/results/NAME/seed-N: one that is finished there is
left as it is, one that was stopped goes on. What came out is collected in docs/results/NAME.json. It shows one system, task by
task, each with its command; systems are compared by `vertebra benchmark`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vertebra.cli.main import main as vertebra
from vertebra.errors import VertebraError
from vertebra.host.manager import create_host
from vertebra.report.read import read_baselines
from vertebra.runs.folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(__file__).resolve().parent / "results"
DATA = ROOT.parent / "shared" / "data"
OF_BACKBONE = ("name", "version", "parameters", "init", "attention")
KEPT = ("vertebra", "torch", "transformers", "python", "platform", "cpu", "cores", "memory_gib", "gpu", "git_commit")


@dataclass(frozen=True)
class Experiment:
    """One line of settings, run with several seeds. Budgets never stand in one table."""

    title: str
    option: str
    """The data option, TASK/NAME."""
    path: str | None = None
    """Where its data are below the folder of data; None for a data set that needs none."""
    settings: tuple[str, ...] = ()
    """What differs from the defaults."""
    budget: Literal["small", "full", "study"] = "full"
    """small: minutes on two cores; full: whatever it takes; study: a row of a `Study`, with its settings."""
    seeds: tuple[int, ...] = (1, 2, 3)
    study: str = ""
    """The title of the study whose row this is."""
    after: str = ""
    """The experiment whose run of seed 1 left the backbone that all seeds of this one start from; it is made first."""
    again: str = ""
    """The experiment whose runs are evaluated once more with these settings of the task; they are made first."""
    file: str = ""
    """Where the rows are that they are evaluated on then, below the folder of data; none for the run's own."""

    def arguments(self, data: str, runs: str, seed: str = "N") -> list[str]:
        """Return the command line after `vertebra`, without the seed where a run is trained.

        `data` stands for the folder of data, `runs` for that of all experiments' runs.

        One thread: sums are then taken in the same order whatever the machine has, and several runs fit beside each other.
        """
        if self.again:
            changed = [word for setting in self.settings for word in ("--set", setting)]
            other = ["--file", f"{data}/{self.file}"] if self.file else []
            return ["evaluate", f"{runs}/{self.again}/seed-{seed}", *changed, *other]
        place = [f"data.path={data}/{self.path}"] if self.path else []
        task = self.option.partition("/")[0]
        start = ["backbone=hf", f"backbone.path={runs}/{self.after}/seed-1/model/backbone"] if self.after else []
        return ["train", f"task={task}", f"data={self.option}", *place, "gpu.threads=1", *start, *self.settings]


SMALL = ("trainer.max_steps=300",)
"""What a small budget changes: minutes a task on two cores, with the same validation and test rows."""


RANDOM = ("backbone.init=random",)
"""The same backbone without what it learnt before."""


def both(
    title: str,
    option: str,
    path: str,
    settings: tuple[str, ...] = (),
    suffix: str = "",
    full: tuple[str, ...] = (),
    small: tuple[str, ...] = (),
) -> dict[str, Experiment]:
    """Return an experiment in its full and in its small budget, each also from random weights.

    `full` and `small` have settings of one budget alone; those of the full one validation chose.
    """
    name = option.replace("/", "-").replace("_", "-") + suffix
    plain = f"{title}, random weights"
    return {
        name: Experiment(title, option, path, (*settings, *full)),
        f"{name}-random": Experiment(plain, option, path, (*settings, *full, *RANDOM)),
        f"{name}-small": Experiment(title, option, path, (*small, *settings, *SMALL), "small"),
        f"{name}-random-small": Experiment(plain, option, path, (*small, *settings, *RANDOM, *SMALL), "small"),
    }


@dataclass(frozen=True)
class Study:
    """One question: runs that differ by a few settings alone, side by side in one table."""

    title: str
    option: str
    path: str
    rows: dict[str, tuple[str, ...]]
    """What differs, by the names of the rows."""
    settings: tuple[str, ...] = ()
    """What is alike, apart from the defaults."""

    def experiments(self, name: str) -> dict[str, Experiment]:
        """Return an experiment for each row, called NAME-ROW."""
        return {
            f"{name}-{row}": Experiment(row, self.option, self.path, (*self.settings, *own), "study", study=self.title)
            for row, own in self.rows.items()
        }


ADAPTERS: dict[str, tuple[str, ...]] = (
    {"none": ()}
    | {
        name: (f"adapter={name}",)
        for name in (
            "lora",
            "rslora",
            "dora",
            "adalora",
            "ia3",
            "prefix",
            "bottleneck",
            "layer_norm",
            "top_layers",
            "frozen",
        )
    }
    | {
        "lora-attention": ("adapter=lora", "adapter.targets=attention"),
        "lora-rank-64": ("adapter=lora", "adapter.rank=64", "adapter.alpha=128"),
        "all-layers": ("adapter=top_layers", "adapter.layers=6"),  # of nano: all but its embeddings
    }
)
EPOCHS_OF_ML_100K = ("trainer.epochs=7",)
"""What auto comes to with pretrained weights: so few rows are seen more often then, and random ones are to see as many."""
LONG_OF_ML_100K = (
    "adapter=frozen",
    "trainer.batch_size=128",
    "trainer.learning_rate=1e-3",
    "trainer.epochs=100",
    "trainer.evaluate_every=24",
    "task.dropout=0.5",
)
"""The head alone: an epoch costs seconds then, and ids need many."""
BEAMS_OF_AESLC = ("task.beams=4", "task.length_penalty=0")
CAUSAL = ("backbone.attention=causal",)
ATTENTION = {
    "causal": CAUSAL,
    "upper-half": ("backbone.attention=0.5",),
    "bidirectional": ("backbone.attention=bidirectional",),
}
PACKING = {"packed": (), "padded": ("backbone.packing=padded",)}
STUDIES = {
    "adapters-ner": Study(
        "Adapters: named entities, CoNLL-2003",
        "ner/conll2003",
        "ner/conll2003",
        ADAPTERS,
        (*CAUSAL, "trainer.max_steps=1200"),
    ),
    "adapters-sst2": Study(
        "Adapters: sentiment, SST-2", "sentiment/sst2", "sentiment/sst2", ADAPTERS, (*CAUSAL, "trainer.max_steps=600")
    ),
    "attention-ner": Study(
        "Attention: named entities, CoNLL-2003",
        "ner/conll2003",
        "ner/conll2003",
        ATTENTION,
        ("trainer.max_steps=1200",),
    ),
    "packing-ner": Study(
        "Packed against padded: named entities, CoNLL-2003",
        "ner/conll2003",
        "ner/conll2003",
        PACKING,
        (*CAUSAL, "trainer.max_steps=1200"),
    ),
    "attention-qa": Study(
        "Attention: question answering, SQuADShifts", "qa/squadshifts", "qa/squadshifts", ATTENTION, SMALL
    ),
}

EXPERIMENTS: dict[str, Experiment] = {
    "ner-sample": Experiment("Named entities, synthetic sample", "ner/sample", budget="small"),
    **both("Named entities, CoNLL-2003", "ner/conll2003", "ner/conll2003", full=("trainer.epochs=10",)),
    "ner-conll2003-random-adversarial": Experiment(
        "Named entities, CoNLL-2003, random weights, adversarial training",
        "ner/conll2003",
        "ner/conll2003",
        ("trainer.epochs=10", *RANDOM, "trainer.behaviours=[fgm]"),
    ),
    **both("Named entities, Chinese résumés", "ner/resume_zh", "ner/resume_zh"),
    **both("Sentiment, SST-2", "sentiment/sst2", "sentiment/sst2"),
    "sentiment-sst2-adversarial": Experiment(
        "Sentiment, SST-2, adversarial training", "sentiment/sst2", "sentiment/sst2", ("trainer.behaviours=[fgm]",)
    ),
    **both("Sentiment, Financial PhraseBank", "sentiment/financial_phrasebank", "sentiment/financial_phrasebank"),
    **both("Intents, Banking77", "classification/banking77", "classification/banking77", full=("trainer.epochs=10",)),
    "classification-banking77-adversarial": Experiment(
        "Intents, Banking77, adversarial training",
        "classification/banking77",
        "classification/banking77",
        ("trainer.epochs=10", "trainer.behaviours=[fgm]"),
    ),
    **both("Question answering, SQuADShifts", "qa/squadshifts", "qa/squadshifts"),
    "qa-squad-v2": Experiment(
        "Question answering, half of SQuAD 2.0's development set, after SQuADShifts",
        "qa/squadshifts",
        "qa/squadshifts",
        again="qa-squadshifts",
        file="qa/squad_v2/dev_half.json.gz",
    ),
    **both(
        "Answer selection, WikiQA", "answer_selection/wikiqa", "answer_selection/wikiqa", full=("trainer.epochs=3",)
    ),
    "answer-selection-wikiqa-after-qa": Experiment(
        "Answer selection, WikiQA, after question answering, SQuADShifts",
        "answer_selection/wikiqa",
        "answer_selection/wikiqa",
        ("trainer.epochs=3",),
        after="qa-squadshifts",
    ),
    **both("Summarization, AESLC", "summarization/aeslc", "summarization/aeslc", full=("trainer.epochs=3",)),
    "summarization-aeslc-beams": Experiment(
        "Summarization, AESLC, beam search",
        "summarization/aeslc",
        "summarization/aeslc",
        BEAMS_OF_AESLC,
        again="summarization-aeslc",
    ),
    **{
        f"summarization-aeslc{suffix}-first-reference": Experiment(
            f"Summarization, AESLC{title}, against the first reference",
            "summarization/aeslc",
            "summarization/aeslc",
            (*settings, "task.references=first"),
            again="summarization-aeslc",
        )
        for suffix, title, settings in (("", "", ()), ("-beams", ", beam search", BEAMS_OF_AESLC))
    },
    **both(
        "Translation, Multi30k English to German",
        "translation/multi30k_en_de",
        "translation/multi30k_en_de",
    ),
    **both("Translation, Tatoeba English to Chinese", "translation/tatoeba_en_zh", "translation/tatoeba_en_zh"),
    **both(
        "Recommendation, MovieLens 100K",
        "recommendation/ml_100k",
        "recommendation/ml-100k",
        full=(*LONG_OF_ML_100K, "task.item_id_dropout=0"),
        small=EPOCHS_OF_ML_100K,
    ),
    **both(
        "Recommendation, MovieLens 100K, a tenth of the films unseen in training",
        "recommendation/ml_100k",
        "recommendation/ml-100k",
        ("data.options.cold_items=0.1",),
        suffix="-cold",
        full=LONG_OF_ML_100K,
        small=EPOCHS_OF_ML_100K,
    ),
    **{name: row for study, one in STUDIES.items() for name, row in one.experiments(study).items()},
}
"""What can be run, by name; the settings of a budget other than the defaults are given here."""


@dataclass
class Collected:
    """What an experiment's JSON file holds."""

    title: str
    budget: str
    line: str
    study: str = ""
    data: str = ""
    """The fingerprint of the data."""
    metric: str = ""
    """The task's first metric."""
    higher_is_better: bool = True
    baselines: dict[str, Any] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    """For each seed: scores, intervals, seconds, date, notes, backbone, environment."""


def main(argv: Sequence[str]) -> int:
    """Run the named experiments, or all of them; return the exit code of the first run that fails."""
    parser = argparse.ArgumentParser(prog="python docs/results.py", description="Make what docs/results.md shows.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"by default all: {', '.join(EXPERIMENTS)}")
    parser.add_argument("--seeds", type=seeds, help="as 1,2,3; by default each experiment's own")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the data sets (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "results", help="default: %(default)s")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.names if name not in EXPERIMENTS]
    if unknown:
        parser.error(f"there is no experiment {', '.join(unknown)}; there are {', '.join(EXPERIMENTS)}")
    for name in arguments.names or EXPERIMENTS:
        after, again = EXPERIMENTS[name].after, EXPERIMENTS[name].again
        paths = [arguments.data / path for one in filter(None, (after, name)) if (path := EXPERIMENTS[one].path)]
        if missing := [path for path in paths if not path.exists()]:
            print(f"{name}: skipped, for there is no '{missing[0]}'.", file=sys.stderr)
            continue
        of_seeds = arguments.seeds or EXPERIMENTS[name].seeds
        first = [(after, 1)] if after else [(again, seed) for seed in of_seeds if again]
        for one, seed in [*first, *((name, seed) for seed in of_seeds)]:
            if code := run(one, seed, arguments.data, arguments.runs):
                return code
        collect(name, arguments.runs)
    return 0


def seeds(text: str) -> tuple[int, ...]:
    """Read `1,2,3`."""
    return tuple(int(one) for one in text.split(","))


def run(name: str, seed: int, data: Path, runs: Path) -> int:
    """Make one run, or go on with it, or leave it as it is where it is finished; return the exit code."""
    folder = runs / name / f"seed-{seed}"
    again = bool(EXPERIMENTS[name].again)
    arguments = EXPERIMENTS[name].arguments(str(data), str(runs), str(seed))
    arguments += [] if again else [f"seed={seed}"]
    made_by = folder / "command.txt"
    if (folder / ("environment.json" if again else "run.json")).exists():  # what is written last, and first
        before = made_by.read_text(encoding="utf-8") if made_by.exists() else "another program"
        if before != shlex.join(arguments):
            print(f"'{folder}' was made by: {before}. Remove it to run: {shlex.join(arguments)}", file=sys.stderr)
            return 2
        if again or RunFolder(folder).read_state()["status"] == "finished":
            return 0
        return vertebra(["resume", str(folder)])
    folder.mkdir(parents=True, exist_ok=True)
    made_by.write_text(shlex.join(arguments), encoding="utf-8")
    return vertebra([*arguments, f"--output={folder}" if again else f"hydra.run.dir={folder}"])


def collect(name: str, runs: Path) -> None:
    """Write docs/results/NAME.json from the finished runs of an experiment."""
    experiment = EXPERIMENTS[name]
    line = shlex.join(["vertebra", *experiment.arguments("FOLDER", "RUNS")])
    found = Collected(experiment.title, experiment.budget, line, experiment.study)
    host = create_host()
    for seed, one in finished(runs / (experiment.again or name)):
        scored = RunFolder(runs / name / f"seed-{seed}") if experiment.again else one
        if not (scored.path / "environment.json").exists():
            continue
        state, environment = one.read_state(), scored.read_json("environment.json")
        found.data = one.read_json("data.json")["fingerprint"]
        found.metric = next(name for scores in scored.read_json("metrics.json").values() for name in scores)
        found.higher_is_better = bool(host.get("metric", found.metric).load().higher_is_better)
        found.baselines = read_baselines(scored) or found.baselines
        found.runs.append(
            {
                "seed": seed,
                "date": state["created"][:10],
                "seconds": state["seconds"],
                "key": state["key"],
                "backbone": {part: state["backbone"].get(part) for part in OF_BACKBONE},
                "adapter": {part: state["adapter"][part] for part in ("name", "backbone", "trained")},
                "notes": state["notes"],
                "scores": scored.read_json("metrics.json"),
                "intervals": scored.read_json("intervals.json"),
                "environment": {part: environment[part] for part in KEPT if part in environment},
            }
        )
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps(rounded(found.__dict__), indent=1, ensure_ascii=False)
    (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def finished(folder: Path) -> Iterator[tuple[int, RunFolder]]:
    """Yield the finished runs of an experiment with their seeds, in the order of the seeds."""
    for path in sorted(folder.glob("seed-*"), key=lambda path: int(path.name.removeprefix("seed-"))):
        one = RunFolder(path)
        if (path / "run.json").exists() and one.read_state()["status"] == "finished":
            yield int(path.name.removeprefix("seed-")), one


def rounded(value: Any) -> Any:
    """Return plain data with at most five digits behind the point, so that the files are compact."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except VertebraError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
