"""Beam search: the likeliest texts so far go on side by side, and the best whole one is the answer.

The steps, and what a text's length is worth, are those of transformers' `generate` with `num_beams`: the log-probability is
divided by a power of the length, a simpler form of the length penalty of Wu et al. 2016 (arXiv:1609.08144).

Letters: N sequences, V vocabulary, K ways to go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from torch import Tensor

from vertebra.engine.generation.cache import Slot
from vertebra.engine.generation.decoder import Decoder
from vertebra.engine.generation.request import Finish, Request
from vertebra.engine.generation.sampling import NOT_FINITE, penalised
from vertebra.errors import BackboneError


@dataclass(frozen=True)
class Way:
    """A text that goes on, and one token to go on with."""

    score: float
    """The log-probability of all that is written then."""
    slot: Slot
    token: int


@dataclass(frozen=True)
class Ended:
    """A whole text."""

    score: float
    """Its log-probability, divided by a power of its length."""
    tokens: list[int]
    finish: Finish


class BeamSearch:
    """The texts of one request: those that go on, the likeliest first, and those that have ended, the best first."""

    def __init__(self, number: int, request: Request, prompt: list[int], eos_ids: frozenset[int], context: int) -> None:
        self.slots = [Slot(prompt)]
        """The texts that go on; at first the prompt alone."""
        self.request = request
        self._number = number
        self._n_prompt = len(prompt)
        self._eos_ids = eos_ids
        self._context = context
        self._chosen = [Way(0.0, self.slots[0], -1)]
        self._unused: list[Slot] = []
        self._ended: list[Ended] = []

    @property
    def scores(self) -> list[float]:
        """The log-probabilities of the texts that go on."""
        return [way.score for way in self._chosen]

    @property
    def width(self) -> int:
        """K: with so many, as many as there are beams do not end."""
        return max(2, 1 + len(self._eos_ids)) * self.request.beams

    def choose(self, ways: Sequence[Way]) -> list[tuple[Slot, Slot]]:
        """Choose among all ways to go on; return which slots are to be copied before `accept`, (from, to)."""
        if not all(isfinite(way.score) or way.score < 0 for way in ways):
            raise BackboneError(f"Request {self._number}: {NOT_FINITE}")
        n_beams, length = self.request.beams, len(self.slots[0].tokens) - self._n_prompt + 1
        going_on = []
        for rank, way in enumerate(sorted(ways, key=lambda way: -way.score)[: self.width]):
            finish = self._finish(way.token, length)
            if finish is None:
                going_on.append(way)
            elif rank < n_beams:
                tokens = [*way.slot.tokens[self._n_prompt :], way.token]
                self._ended.append(Ended(self._worth(way.score, length), tokens, finish))
        self._ended = sorted(self._ended, key=lambda one: -one.score)[:n_beams]
        self._chosen = going_on[:n_beams]
        return self._share_out()

    def accept(self, decoder: Decoder) -> Ended | None:
        """Lengthen the texts that go on; return the best whole one, and end, when no other is expected to be better."""
        for slot in self._unused:
            decoder.release(slot)
        for slot, way in zip(self.slots, self._chosen, strict=True):
            slot.tokens.append(way.token)
        if self.slots:
            length = len(self.slots[0].tokens) - self._n_prompt
            full = len(self._ended) == self.request.beams
            if not full or self._worth(self._chosen[0].score, length) > self._ended[-1].score:
                return None
        return self._ended[0]

    def _worth(self, score: float, length: int) -> float:
        return float(score / length**self.request.length_penalty)

    def _finish(self, token: int, length: int) -> Finish | None:
        if token in self._eos_ids:
            return "eos"
        if length >= self.request.max_new_tokens:
            return "length"
        return "context" if self._n_prompt + length >= self._context else None

    def _share_out(self) -> list[tuple[Slot, Slot]]:
        """Give each text a slot: its own to the first that goes on from there, to another one that nothing goes on from."""
        sources = [way.slot for way in self._chosen]
        self._unused = [slot for slot in self.slots if slot not in sources]
        self.slots, copies = [], []
        for source in sources:
            slot = source
            if source in self.slots:
                slot = self._unused.pop() if self._unused else Slot([])
                copies.append((source, slot))
            self.slots.append(slot)
        return copies


def advance(searches: Sequence[BeamSearch], logits_NV: Tensor, decoder: Decoder) -> list[Ended | None]:
    """Lengthen the texts of all searches by a token; return for each search its answer, or None where it goes on.

    `logits_NV` has a row for each text that goes on, search by search.
    """
    copies: list[tuple[Slot, Slot]] = []
    for search, ways in zip(searches, _ways(searches, logits_NV), strict=True):
        copies += search.choose(ways)
    decoder.copy(copies)
    return [search.accept(decoder) for search in searches]


def _ways(searches: Sequence[BeamSearch], logits_NV: Tensor) -> list[list[Way]]:
    """Return the ways to go on of each search, K for each of its texts."""
    texts = [
        (slot, score, one.request.sampling)
        for one in searches
        for slot, score in zip(one.slots, one.scores, strict=True)
    ]
    most = min(max(one.width for one in searches), logits_NV.shape[1])
    logs_NV = logits_NV.float().log_softmax(dim=-1)
    logs_NV = penalised(logs_NV, [one for *_, one in texts], [slot.tokens for slot, *_ in texts])
    logs_NK, ids_NK = (found.tolist() for found in logs_NV.topk(most, dim=-1))
    rows = [
        [Way(score + log, slot, token) for log, token in zip(logs, ids, strict=True)]
        for (slot, score, _), logs, ids in zip(texts, logs_NK, ids_NK, strict=True)
    ]
    rest = iter(rows)
    return [[way for _ in one.slots for way in next(rest)] for one in searches]
