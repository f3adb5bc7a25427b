"""What docs/results.py can run: experiments by name, each a line of settings, and the studies whose rows some of them are.

The settings of a budget other than the defaults are given here, and were chosen on validation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
