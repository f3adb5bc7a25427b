"""Tables of the report: scores of groups of questions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from vertebra.report.figures import Table
from vertebra_qa.agreement import ScoreBy, by_characters, exact_match, f1, normalised_words, split_units

QUESTION_WORDS = ("what", "which", "who", "whose", "whom", "when", "where", "why", "how many", "how much", "how")
LENGTHS = ((1, "1"), (2, "2"), (5, "3–5"), (10, "6–10"))

_QUESTION_WORD = re.compile(rf"\b({'|'.join(QUESTION_WORDS)})\b", re.IGNORECASE)

Given = Sequence[Any]


def by_kind(predictions: Given, references: Given, score_by: ScoreBy) -> Table:
    """Return the scores of questions with an answer (HasAns) and of those without (NoAns)."""
    kinds = ("all", "with an answer", "without")

    def kind(reference: Any) -> list[str]:
        return ["all", "with an answer" if reference["answers"] else "without"]

    note = (
        "HasAns and NoAns of SQuAD 2.0's script: a question without an answer scores 1 where none is given, else 0. "
        "Answered: the questions to which some answer was given."
    )
    return _table("With and without an answer", kinds, kind, predictions, references, score_by, note)


def by_question_word(predictions: Given, references: Given, score_by: ScoreBy) -> Table:
    """Return the scores by the first question word of the question."""

    def word(reference: Any) -> list[str]:
        found = _QUESTION_WORD.search(reference["question"])
        return [found[1].lower() if found else "other"]

    return _table("By question word", (*QUESTION_WORDS, "other"), word, predictions, references, score_by)


def by_answer_length(predictions: Given, references: Given, score_by: ScoreBy) -> Table:
    """Return the scores by the length of the first right answer, in what is compared: words or characters."""
    lengths = (*(label for _, label in LENGTHS), "over 10", "no answer")

    def length(reference: Any) -> list[str]:
        answers = reference["answers"]
        if not answers:
            return ["no answer"]
        characters = by_characters(answers, score_by)
        units = split_units(answers[0]) if characters else normalised_words(answers[0]).split()
        return [next((label for most, label in LENGTHS if len(units) <= most), "over 10")]

    note = "Words of the first right answer, without articles and punctuation; characters of Chinese and Japanese."
    return _table("By length of the answer", lengths, length, predictions, references, score_by, note)


def _table(
    title: str,
    groups: Sequence[str],
    groups_of: Callable[[Any], list[str]],
    predictions: Given,
    references: Given,
    score_by: ScoreBy,
    note: str = "",
) -> Table:
    """Return one line for each group that has questions."""
    members: dict[str, list[tuple[float, float, bool]]] = {group: [] for group in groups}
    for prediction, reference in zip(predictions, references, strict=True):
        text, answers = prediction["text"], reference["answers"]
        scores = (exact_match(text, answers, score_by), f1(text, answers, score_by), text != "")
        for group in groups_of(reference):
            members[group].append(scores)
    rows: list[tuple[str | int | float, ...]] = []
    for group, scored in members.items():
        if scored:
            exact, overlap, answered = (sum(column) for column in zip(*scored, strict=True))
            rows.append((group, len(scored), int(answered), exact / len(scored), overlap / len(scored)))
    return Table(title, ("questions", "number", "answered", "exact match", "F1"), tuple(rows), note)
