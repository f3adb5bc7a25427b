"""The settings of the task families; a plugin's config dataclass derives from its family's.

`after_training` names those that may be changed when a trained run is loaded, because nothing that was learnt depends on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt

from vertebra.config.schema import Auto, Fraction, Positive, Strict


@dataclass(frozen=True)
class TokenClassificationConfig(Strict):
    """How words are labelled."""

    label_on: Literal["last", "first"] = "last"
    """Which sub-token of a word carries its label. Under causal attention only the last has read the whole word."""
    dropout: Fraction = 0.1
    """The share of hidden values that the head drops in training."""


@dataclass(frozen=True)
class SpanExtractionConfig(Strict):
    """How a span of a context is found."""

    after_training: ClassVar[frozenset[str]] = frozenset({"n_best"})

    window: Annotated[int, Ge(16)] = 384
    """The most tokens that are read at once; a longer question and context are read in windows, each with the question."""
    overlap: Annotated[int, Ge(0)] = 128
    """The context tokens that two neighbouring windows share, at most half of a window's."""
    longest_answer: Positive = 30
    """The most tokens of an answer that is predicted."""
    n_best: Positive = 5
    """How many spans a prediction lists."""
    dropout: Fraction = 0.1
    """The share of hidden values that the head drops in training."""


@dataclass(frozen=True)
class RankingConfig(Strict):
    """How candidates are scored."""

    dropout: Fraction = 0.1
    """The share of hidden values that the head drops in training."""


@dataclass(frozen=True)
class SequenceClassificationConfig(Strict):
    """How texts, or pairs of texts, are labelled."""

    kind: Literal["single", "multi", "ordinal"] = "single"
    """One label for a text, any number of labels, or one label of an ordered scale."""
    labels: tuple[str | int, ...] | None = None
    """All labels there may be, others are refused; by default those of the training rows. kind=ordinal takes their order
    from here; without it the labels must be numbers."""
    label_separator: str | None = None
    """For kind=multi: what stands between the labels where a row has them as one text, as in a table."""
    pair: bool = False
    """Whether a row has a second text, in the column `text_b`."""
    separator: str = "auto"
    """What stands between the two texts of a pair; auto: the tokenizer's own separator or end of text, else a new line."""
    pooling: Literal["mean", "last", "attention"] = "mean"
    """How a text's hidden states become one: their mean, that of the last token, or a mean with learned weights."""
    dropout: Fraction = 0.1
    """The share of hidden values that the head drops in training."""
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Gt(0)]] = "none"
    """What a label's examples weigh in the loss. balanced: all labels the same in sum. A mapping: as it says, others 1."""
    label_smoothing: Fraction = 0.0
    """The share of each target that is spread evenly over all labels."""
    threshold: Annotated[float, Gt(0), Lt(1)] | Auto = 0.5
    """From which probability on the second of two labels, or with kind=multi any label, is predicted. auto: chosen on
    validation for the best macro F1, or with kind=multi the best micro F1."""


@dataclass(frozen=True)
class GenerationConfig(Strict):
    """How texts are asked for and written."""

    after_training: ClassVar[frozenset[str]] = frozenset(
        {
            "max_new_tokens",
            "temperature",
            "top_k",
            "top_p",
            "min_p",
            "repetition_penalty",
            "beams",
            "length_penalty",
            "sampling_seed",
        }
    )

    prompt: str = "{text}\n"
    """What the model reads before it writes; a name in braces stands for that column of the row."""
    max_new_tokens: Positive = 128
    """At most this many tokens are written, the one that ends a text included. The prompt leaves room for them."""
    long_target: Literal["cut", "error"] = "cut"
    """What happens to a text of the training data that has more; how many were cut stands in the report."""
    label_smoothing: Fraction = 0.0
    """The share of each target token's weight that training spreads over the vocabulary."""
    temperature: Annotated[float, Ge(0)] = 0.0
    """0 writes the likeliest token each time; above it, tokens are drawn."""
    top_k: Positive | None = None
    """Draw from the k likeliest tokens."""
    top_p: Annotated[float, Gt(0), Le(1)] = 1.0
    """Draw from the likeliest tokens that together reach this probability."""
    min_p: Annotated[float, Ge(0), Le(1)] = 0.0
    """Draw from tokens at least this times as likely as the likeliest one."""
    repetition_penalty: Annotated[float, Gt(0)] = 1.0
    """Above 1 makes tokens of the prompt and of the text so far less likely."""
    beams: Positive = 1
    """Above 1, so many texts go on side by side, each step the likeliest ones, and the best whole one is taken."""
    length_penalty: float = 1.0
    """With beams, the best text has the highest log-probability, divided by its length to this power."""
    sampling_seed: Annotated[int, Ge(0)] = 0
    """The seed of what is drawn."""
    texts_while_training: Annotated[int, Ge(0)] = 200
    """At each evaluation in training, at most this many rows of validation get a text; 0 leaves the loss alone."""

    def __post_init__(self) -> None:
        """Refuse beams of texts that are drawn."""
        if self.beams > 1 and self.temperature > 0:
            raise ValueError(
                f"beams={self.beams} looks for the likeliest text, and temperature={self.temperature} draws one: leave out "
                "one of the two"
            )


@dataclass(frozen=True)
class CorpusConfig(Strict):
    """How texts are cut into examples."""

    window: Positive = 512
    """The tokens of an example: a stretch of the corpus, in which each document attends to itself alone."""
    column: str = "text"
    """Where rows of files with columns hold their text; each row is a document."""
    documents: Literal["file", "paragraph", "line"] = "file"
    """What a document is in files of plain text: the file, what stands between blank lines, or a line."""
