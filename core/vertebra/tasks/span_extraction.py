"""Span extraction: the stretch of a context that answers a question, or that there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vertebra.errors import DataError
from vertebra.tasks.answers import answers_of
from vertebra.tasks.config import SpanExtractionConfig
from vertebra.tasks.features import Features
from vertebra.tasks.heads import BatchHead
from vertebra.tasks.task import Row, Task
from vertebra.tasks.text_pairs import encode_pairs, shortened_head
from vertebra.transfer import send

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from vertebra.engine.packing import PackedBatch


@dataclass(frozen=True)
class Candidates:
    """What all windows of a row say: the best spans, the likeliest first, and how likely it is that there is none.

    Likelihoods are natural logarithms. `no_answer` is that of the window that is least sure that it has no answer, minus
    that of the best span: above 0, no answer is the likelier one.
    """

    spans: list[tuple[float, int, int]]
    """(log-probability of start and end, first character, character behind the last)."""
    none: float
    no_answer: float


class SpanExtraction(Task):
    """The answer to a question as a span of a context; a task of this family says its name and its metrics.

    A row has `question`, `context` and `answers`: a list of {"text", "start"}, where `start` counts characters of the
    context, or SQuAD's {"text": […], "answer_start": […]}. A row without answers cannot be answered from its context.

    The model reads question and context as one sequence, in overlapping windows where they are long, each of them with
    the question. In a window every token of the context, and the last token, which stands for "no answer here", gets
    the probability of being the first one of the answer and that of being its last one. All answers of a row count alike.
    Windows are joined as in BERT's recipe for SQuAD 2.0 (Devlin et al., NAACL 2019): the best span of all windows,
    against the window that is least sure to have none. Where training has rows without answers, the difference from
    which on nothing is answered is chosen on validation.

    Letters in names: P context tokens of a batch with one more for each window, N windows, M positions of the longest
    one, K tokens of the longest answer, A answers of a batch, C context tokens of a window.
    """

    family: ClassVar[str] = "span-extraction"
    columns: ClassVar[dict[str, type]] = {"question": str, "context": str, "answers": object}
    input_columns: ClassVar[tuple[str, ...] | None] = ("question", "context")
    too_long: ClassVar[Literal["window", "truncate", "error"]] = "window"
    attention: ClassVar[Literal["causal", "bidirectional"]] = "bidirectional"

    def __init__(self, config: SpanExtractionConfig | None = None) -> None:
        super().__init__(config or SpanExtractionConfig())
        self.unanswerable = False
        self.threshold = 0.0

    def agreement(self, text: str, answers: Sequence[str]) -> float:
        """Return from 0 to 1 how well a text answers, for choosing the threshold; by default whether it is an answer."""
        return float(text in answers)

    # --- from rows to features

    def check(self, row: Row) -> None:
        """Refuse an empty question or context, and an answer that is empty or does not stand where it is said to."""
        for column in ("question", "context"):
            if not row[column].strip():
                raise DataError(f"the {column} is empty.")
        if "answers" in row:
            answers_of(row)

    def fit(self, rows: Sequence[Row]) -> None:
        """Learn whether there are rows without answers."""
        answered = sum(bool(answers_of(row)) for row in rows)
        if not answered:
            raise DataError("No training row has an answer: there is nothing to learn.")
        self.unanswerable, self.threshold = answered < len(rows), 0.0

    def state(self) -> dict[str, Any]:
        """Return whether rows may have no answer, and the threshold for saying so."""
        return {"unanswerable": self.unanswerable, "threshold": self.threshold}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what was learnt and chosen."""
        self.unanswerable, self.threshold = bool(state["unanswerable"]), float(state["threshold"])

    def encode(self, row: Row, tokenizer: PreTrainedTokenizerBase) -> Features:
        """Turn a row into one sequence; `positions` are the tokens of the context and the last one.

        The target holds the first and last token of each answer, counted from the context's first; the note holds where
        the context's tokens begin and end in its characters.
        """
        self.check(row)
        (pair,) = encode_pairs(row["question"], [row["context"]], tokenizer)
        starts_C, ends_C = pair.offsets_C2.T
        if not len(starts_C):
            raise DataError("the context has no tokens.")
        target = None
        if "answers" in row:
            spans = [_tokens_of(one.start, one.end, starts_C, ends_C) for one in answers_of(row)]
            target = {"spans": spans}
        note = {"head": pair.head, "starts": starts_C.tolist(), "ends": ends_C.tolist()}
        positions = np.arange(pair.head, len(pair.ids), dtype=np.int32)
        return Features(pair.ids, target=target, positions=positions, note=note)

    def windows(self, features: Features, limit: int) -> Iterable[Features]:
        """Cut the context into overlapping windows, each behind the question."""
        return self._windows(features, min(limit, self.config.window))

    def shorten(self, features: Features, limit: int) -> Features:
        """Return the first window."""
        return next(self._windows(features, limit))

    def _windows(self, features: Features, limit: int) -> Iterator[Features]:
        if len(features) <= limit:
            yield features
            return
        ids, note = features.input_ids, features.note
        head, context, end = shortened_head(ids, note["head"], limit), ids[note["head"] : -1], ids[-1:]
        room = max(1, limit - len(head) - 1)
        stride = room - min(self.config.overlap, room // 2)
        last = max(0, len(context) - room)
        for first in (*range(0, last, stride), last):
            part = context[first : first + room]
            yield replace(
                features,
                input_ids=np.concatenate([head, part, end]),
                positions=np.arange(len(head), len(head) + len(part) + 1, dtype=np.int32),
                target=_inside(features.target, first, len(part)),
                note={
                    "head": len(head),
                    "starts": note["starts"][first : first + room],
                    "ends": note["ends"][first : first + room],
                },
            )

    # --- from hidden states to spans

    def build_head(self, width: int) -> nn.Module:
        """Return dropout and a linear layer, (P, width) to (P, 2): log-probabilities within each window."""
        return SpanHead(width, self.config.dropout)

    def collate(self, features: Sequence[Features]) -> Tensor | None:
        """Return (A, 3): the window of each answer, and the places of its first and last token among the P positions.

        A window without an answer has the last of its positions as its only one.
        """
        if any(one.target is None for one in features):
            return None
        answers: list[tuple[int, int, int]] = []
        first = 0
        for number, one in enumerate(features):
            none = len(one.positions) - 1
            for start, end in one.target["spans"] or [(none, none)]:
                answers.append((number, first + start, first + end))
            first += len(one.positions)
        return torch.tensor(answers)

    def loss(self, outputs_P2: Tensor, targets_A3: Tensor) -> Tensor:
        """Return the mean cross-entropy of start and end over the windows; the answers of one window share its weight."""
        window_A, start_A, end_A = targets_A3.unbind(dim=1)
        likelihood_A = (outputs_P2[start_A, 0] + outputs_P2[end_A, 1]) / 2
        one_A = torch.ones_like(likelihood_A)
        weight_A = 1 / torch.zeros_like(one_A).index_add(0, window_A, one_A)[window_A]  # no more windows than answers
        return -(likelihood_A * weight_A).sum() / weight_A.sum()

    def decode(self, outputs_P2: Tensor, batch: PackedBatch) -> list[dict[str, Any]]:
        """Return for each window how likely "no answer" is, and its best spans in characters of the context."""
        counts = batch.position_counts
        rectangle_NM2 = to_rectangle(outputs_P2, counts, fill=-torch.inf)
        none = (torch.arange(len(counts), device=outputs_P2.device), send(counts, outputs_P2.device) - 1)
        none_N = rectangle_NM2[none].sum(dim=1)
        rectangle_NM2[none] = -torch.inf
        scores_NS, starts_NS, ends_NS = best_spans(rectangle_NM2, self.config.longest_answer, self.config.n_best)
        windows: list[dict[str, Any]] = []
        for one, likelihood, *best in zip(
            batch.features, none_N.tolist(), scores_NS.tolist(), starts_NS.tolist(), ends_NS.tolist(), strict=True
        ):
            starts, ends = one.note["starts"], one.note["ends"]
            spans = [[score, starts[s], ends[e]] for score, s, e in zip(*best, strict=True) if score > -torch.inf]
            windows.append({"none": likelihood, "spans": spans})
        return windows

    def calibrate(self, rows: Sequence[Row], parts: Sequence[list[Any]]) -> None:
        """Choose the difference from which on nothing is answered, where training has rows without answers."""
        if not self.unanswerable:
            return
        found = [self.candidates(*pair) for pair in zip(rows, parts, strict=True)]
        gains = []
        for row, one in zip(rows, found, strict=True):
            answers = [answer.text for answer in answers_of(row)]
            text = _text(row, one)
            gains.append(self.agreement(text, answers) if answers else -float(text != ""))
        self.threshold = best_threshold([one.no_answer for one in found], gains)

    def combine(self, row: Row, parts: list[Any]) -> dict[str, Any]:
        """Return the best span of all windows, or the empty text where the question is held to have no answer.

        `score` is the probability of the span in its window, start times end; `n_best` has the next ones.
        """
        found = self.candidates(row, parts)
        best = [_shown(row, *span) for span in found.spans]
        if self.unanswerable:
            nothing = {"text": "", "start": None, "end": None, "score": math.exp(found.none)}
            best.insert(0 if found.no_answer > self.threshold else 1, nothing)
        best = best or [{"text": "", "start": None, "end": None, "score": 0.0}]
        return {**best[0], "n_best": best[: self.config.n_best]}

    def candidates(self, row: Row, parts: Sequence[dict[str, Any]]) -> Candidates:
        """Join what `decode` gave for the windows of a row."""
        scores: dict[tuple[int, int], float] = {}
        for score, start, end in (span for part in parts for span in part["spans"]):
            text = row["context"][start:end]
            place = (end - len(text.lstrip()), start + len(text.rstrip()))
            if text.strip():
                scores[place] = max(score, scores.get(place, score))
        ordered = sorted(((score, *place) for place, score in scores.items()), key=lambda span: (-span[0], span[1:]))
        none = min(part["none"] for part in parts)
        return Candidates(ordered[: self.config.n_best], none, none - ordered[0][0] if ordered else float("inf"))

    def reference(self, row: Row) -> dict[str, Any]:
        """Return the question and its different answers, in their order; none where there is no answer."""
        answers = list(dict.fromkeys(answer.text for answer in answers_of(row)))
        return {"question": row["question"], "answers": answers}

    def right(self, prediction: Any, reference: Any) -> bool:
        """Whether the text is one of the answers, or there is none, as said."""
        return self.agreement(prediction["text"], reference["answers"] or [""]) == 1

    # --- for `vertebra inspect`

    def describe(self, row: Row, features: Features, tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, str]]:
        """Return each token; those of an answer are marked, or the last one where there is none."""
        marks = [""] * len(features.positions)
        if features.target is not None:
            if not features.target["spans"]:
                marks[-1] = "no answer"
            for start, end in features.target["spans"]:
                marks[start : end + 1] = ["answer"] * (end + 1 - start)
        return super().describe(row, replace(features, target=marks), tokenizer)


class SpanHead(BatchHead):
    """Dropout and a linear layer; the outputs (P, 2) are the log-probabilities of start and end within each sequence."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, 2)

    def forward(self, hidden_PD: Tensor, batch: PackedBatch) -> Tensor:
        """Map hidden states to log-probabilities."""
        logits_P2 = self.linear(self.dropout(hidden_PD)).float()
        rectangle_NM2 = to_rectangle(logits_P2, batch.position_counts, fill=-torch.inf)
        outputs_P2: Tensor = rectangle_NM2.log_softmax(dim=1)[places(batch.position_counts, logits_P2.device)]
        return outputs_P2


def places(counts: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the row and the column (P,) of each position in a rectangle with a row for each sequence."""
    counts_N = send(counts, device)
    rows_P = torch.repeat_interleave(torch.arange(len(counts), device=device), counts_N, output_size=sum(counts))
    starts_N = counts_N.cumsum(dim=0) - counts_N
    return rows_P, torch.arange(len(rows_P), device=device) - starts_N[rows_P]


def to_rectangle(values_PC: Tensor, counts: Sequence[int], fill: float) -> Tensor:
    """Return values (P, C) of sequences with so many positions each as (N, M, C), with `fill` behind the shorter ones."""
    rectangle_NMC = values_PC.new_full((len(counts), max(counts), values_PC.shape[1]), fill)
    return rectangle_NMC.index_put(places(counts, values_PC.device), values_PC)


def best_spans(scores_NM2: Tensor, longest: int, n_best: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return (score, first, last), each (N, S), of the best spans of at most `longest` tokens; S is `n_best` or less."""
    n_positions = scores_NM2.shape[1]
    longest = min(longest, n_positions)
    ends_NMK = F.pad(scores_NM2[:, :, 1], (0, longest - 1), value=-torch.inf).unfold(1, longest, 1)
    spans_NMK = scores_NM2[:, :, :1] + ends_NMK
    best_NS, place_NS = spans_NMK.flatten(1).topk(min(n_best, n_positions * longest), dim=1)
    first_NS = place_NS // longest
    return best_NS, first_NS, first_NS + place_NS % longest


def best_threshold(no_answer: Sequence[float], gains: Sequence[float]) -> float:
    """Return the threshold that makes the best score: a question is answered where its `no_answer` is not above it.

    `gains` says what answering adds: the score of the answer, or −1 where there is none to give. As in the official
    script of SQuAD 2.0, of equal scores that with the fewest answers is taken; equal values are never parted.
    """
    order = np.argsort(no_answer, kind="stable")
    values = np.asarray(no_answer, dtype=np.float64)[order]
    totals = np.cumsum(np.asarray(gains, dtype=np.float64)[order])
    usable = np.append(values[1:] > values[:-1], True) & np.isfinite(values)
    totals = np.where(usable, totals, -np.inf)
    best = int(totals.argmax())
    if totals[best] > 0:
        return float(values[best])
    return float(values[0]) - 1 if np.isfinite(values[0]) else 0.0


def _tokens_of(start: int, end: int, starts_C: Any, ends_C: Any) -> list[int]:
    """Return the first and last token that have a character of the answer."""
    touched = np.flatnonzero((starts_C < end) & (ends_C > start))
    if not len(touched):
        raise DataError(f"the tokenizer has no token for the answer at character {start} of the context.")
    return [int(touched[0]), int(touched[-1])]


def _inside(target: Any, first: int, count: int) -> Any:
    """Return the target of a window of `count` context tokens from `first` on: the answers that are whole in it."""
    if target is None:
        return None
    shifted = [[start - first, end - first] for start, end in target["spans"]]
    return {"spans": [span for span in shifted if 0 <= span[0] <= span[1] < count]}


def _text(row: Row, found: Candidates) -> str:
    """Return the text of the best span, the empty one where there is none."""
    return row["context"][found.spans[0][1] : found.spans[0][2]] if found.spans else ""


def _shown(row: Row, score: float, start: int, end: int) -> dict[str, Any]:
    return {"text": row["context"][start:end], "start": start, "end": end, "score": math.exp(score)}
