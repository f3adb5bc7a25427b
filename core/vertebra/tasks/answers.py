"""Answers as data sets give them: texts with the place where they stand in their context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vertebra.errors import DataError


@dataclass(frozen=True)
class Answer:
    """A text, and its first character's place in the context."""

    text: str
    start: int

    @property
    def end(self) -> int:
        """The place behind the last character."""
        return self.start + len(self.text)


def answers_of(row: Mapping[str, Any]) -> list[Answer]:
    """Return a row's answers, in their order; none where its question cannot be answered from its context.

    `answers` is a list of {"text", "start"} (or "answer_start"), or SQuAD's {"text": […], "answer_start": […]}. Raises
    `DataError` for another form, an empty answer, and one that does not stand at its place.
    """
    return [_answer(given, row["context"]) for given in _listed(row["answers"])]


def _listed(given: Any) -> list[Any]:
    if isinstance(given, Mapping):
        texts, starts = given.get("text"), given.get("answer_start", given.get("start"))
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            raise DataError(f"answers must have as many texts as starts, got {given!r:.80}.")
        return [{"text": text, "start": start} for text, start in zip(texts, starts, strict=True)]
    if not isinstance(given, list):
        raise DataError(f'answers must be a list of {{"text": …, "start": …}}, got {given!r:.80}.')
    return given


def _answer(given: Any, context: str) -> Answer:
    text = given.get("text") if isinstance(given, Mapping) else None
    start = given.get("start", given.get("answer_start")) if isinstance(given, Mapping) else None
    if not isinstance(text, str) or not isinstance(start, int) or isinstance(start, bool):
        raise DataError(f"an answer needs a text, and the place of its first character as a number, got {given!r:.80}.")
    if not text.strip():
        raise DataError("an answer is empty. A question that has none takes an empty list of answers.")
    answer = Answer(text, start)
    if start < 0 or context[start : answer.end] != text:
        place = context.find(text)
        there = f"it stands at {place}" if place >= 0 else "and it stands nowhere else in it"
        raise DataError(
            f"the answer {_short(text)} does not stand at character {start} of the context, which has "
            f"{_short(context[max(0, start) :][: len(text)])} there; {there}."
        )
    return answer


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:59]}…")
