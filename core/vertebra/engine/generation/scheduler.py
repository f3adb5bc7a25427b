"""Requests that come and go: who runs, what each one's next token is, and when it has ended."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vertebra.engine.generation.beams import BeamSearch, Ended, advance
from vertebra.engine.generation.cache import Slot
from vertebra.engine.generation.decoder import Decoder
from vertebra.engine.generation.request import Completion, Finish, Request, Token
from vertebra.engine.generation.sampling import NOT_FINITE, next_tokens
from vertebra.engine.generation.text import TextStream
from vertebra.errors import BackboneError, DataError, VertebraError


@dataclass(frozen=True)
class Limits:
    """What holds for all requests of a scheduler."""

    vocabulary: int
    context: int
    eos_ids: frozenset[int]
    slots: int
    """How many texts run at once: one of a request, or as many as it has beams."""
    prefill_tokens: int
    """How many tokens of prompts a step takes in, unless a single prompt has more."""


@dataclass(eq=False)
class _Running:
    number: int
    request: Request
    slot: Slot
    n_prompt: int
    eos_ids: frozenset[int]
    random: Random
    text: TextStream | None
    search: BeamSearch | None
    """Where a request has beams; its slot holds the prompt alone until the search has ended."""

    @property
    def slots(self) -> list[Slot]:
        return [self.slot] if self.search is None else self.search.slots

    def accept(self, token: int, context: int) -> Finish | None:
        """Take one more token and say whether it was the last."""
        tokens = self.slot.tokens
        tokens.append(token)
        if token in self.eos_ids:
            return "eos"
        if self.text is not None:
            self.text.push([token])
            if self.text.stopped:
                return "stop"
        if len(tokens) - self.n_prompt >= self.request.max_new_tokens:
            return "length"
        return "context" if len(tokens) >= context else None

    def completion(self, finish: Finish) -> Completion:
        text = None if self.text is None else self.text.text
        return Completion(tuple(self.slot.tokens[self.n_prompt :]), text, finish)


class Scheduler:
    """Runs requests together, one token of each a step; requests may be added and cancelled between steps.

    A request that ends leaves its slot to the next one that waits. `streams` says whether tokens come with their text. A
    request with beams gives its last token alone, with all of its text, when it has ended.
    """

    def __init__(
        self, decoder: Decoder, limits: Limits, tokenizer: PreTrainedTokenizerBase | None, *, streams: bool = True
    ) -> None:
        self._decoder = decoder
        self._limits = limits
        self._tokenizer = tokenizer
        self._streams = streams
        self._waiting: deque[_Running] = deque()
        self._running: list[_Running] = []
        self._added = 0

    @property
    def busy(self) -> bool:
        """Whether a request waits or runs."""
        return bool(self._waiting or self._running)

    def add(self, request: Request) -> int:
        """Let a request wait for a slot and return its number.

        Raises `DataError` for a prompt that cannot be gone on with.
        """
        number = self._added
        try:
            one = self._prepared(number, request)
        except VertebraError as error:
            raise type(error)(f"Request {number}: {error}") from error
        self._waiting.append(one)
        self._added += 1
        return number

    def cancel(self, number: int) -> None:
        """End a request without more tokens and without a completion; one that has ended, or is unknown, is left alone."""
        for queue in (self._waiting, self._running):
            for one in [one for one in queue if one.number == number]:
                queue.remove(one)
                for slot in one.slots:
                    self._decoder.release(slot)

    @torch.inference_mode()
    def step(self) -> list[Token]:
        """Run one step; return the next token of every running request, in the order in which they began."""
        self._admit()
        if not self._running:
            return []
        slots = [(one, slot) for one in self._running for slot in one.slots]
        logits_NV = self._decoder.logits([slot for _, slot in slots])
        if any(one.search is not None for one in self._running):
            single = torch.tensor([one.search is None for one, _ in slots], device=logits_NV.device)
            found = self._search_on(logits_NV[~single]) | self._go_on(logits_NV[single])
        else:
            found = self._go_on(logits_NV)
        tokens = [found[one.number] for one in self._running if one.number in found]
        self._running = [one for one in self._running if one.number not in found or found[one.number].finish is None]
        return tokens

    def _go_on(self, logits_NV: Tensor) -> dict[int, Token]:
        """Return the next token of each request without beams, by the requests' numbers; N of them."""
        some = [one for one in self._running if one.search is None]
        ids = next_tokens(
            logits_NV,
            [one.request.sampling for one in some],
            [one.slot.tokens for one in some],
            [one.random.random() for one in some],
        )
        return {one.number: self._accept(one, token) for one, token in zip(some, ids, strict=True)}

    def _search_on(self, logits_NV: Tensor) -> dict[int, Token]:
        """Return the last token of each request with beams that ends, by the requests' numbers; N texts of them all."""
        some = {one.number: one.search for one in self._running if one.search is not None}
        answers = dict(zip(some, advance(list(some.values()), logits_NV, self._decoder), strict=True))
        return {
            one.number: self._answer(one, answer)
            for one in self._running
            if (answer := answers.get(one.number)) is not None
        }

    def _prepared(self, number: int, request: Request) -> _Running:
        prompt = self._prompt(request)
        if request.stop and self._tokenizer is None:
            raise DataError("stop strings need a tokenizer: give the generator one.")
        streams = self._tokenizer is not None and (self._streams or request.stop) and request.beams == 1
        eos_ids = self._limits.eos_ids if request.eos_ids is None else request.eos_ids
        search = None
        if request.beams > 1:
            search = BeamSearch(number, request, prompt.copy(), eos_ids, self._limits.context)
        return _Running(
            number=number,
            request=request,
            slot=Slot(prompt),
            n_prompt=len(prompt),
            eos_ids=eos_ids,
            random=Random(request.sampling.seed),
            text=TextStream(self._tokenizer, prompt, request.stop) if streams else None,
            search=search,
        )

    def _prompt(self, request: Request) -> list[int]:
        if isinstance(request.prompt, str):
            if self._tokenizer is None:
                raise DataError("the prompt is a text, which needs a tokenizer: give the generator one, or token ids.")
            ids = list(self._tokenizer(request.prompt)["input_ids"])
        else:
            ids = [int(token) for token in request.prompt]
        if not ids:
            raise DataError("the prompt has no tokens: give at least one, such as the one that begins a text.")
        if not 0 <= min(ids) <= max(ids) < self._limits.vocabulary:
            wrong = next(token for token in ids if not 0 <= token < self._limits.vocabulary)
            raise DataError(
                f"the prompt has the token {wrong}; the model's go from 0 to {self._limits.vocabulary - 1}."
            )
        if len(ids) >= self._limits.context:
            raise DataError(
                f"the prompt has {len(ids)} tokens and the model's context {self._limits.context}: "
                "leave room for at least one."
            )
        return ids

    def _admit(self) -> None:
        """Let requests begin while there are slots, and few enough tokens of prompts for one step."""
        tokens = 0
        taken = sum(one.request.beams for one in self._running)
        while self._waiting and (not taken or taken + self._waiting[0].request.beams <= self._limits.slots):
            taken += self._waiting[0].request.beams
            tokens += self._waiting[0].n_prompt
            if tokens > self._limits.prefill_tokens and tokens > self._waiting[0].n_prompt:
                break
            self._running.append(self._waiting.popleft())

    def _accept(self, one: _Running, token: int) -> Token:
        if token < 0:
            raise BackboneError(f"Request {one.number}: {NOT_FINITE}")
        finish = one.accept(token, self._limits.context)
        return self._token(one, token, finish)

    def _answer(self, one: _Running, answer: Ended) -> Token:
        for slot in one.slots:
            self._decoder.release(slot)
        one.slot.tokens += answer.tokens
        return self._token(one, answer.tokens[-1], answer.finish)

    def _token(self, one: _Running, token: int, finish: Finish | None) -> Token:
        completion = None
        if finish is not None:
            self._decoder.release(one.slot)
            if one.text is None and self._tokenizer is not None:
                one.text = self._whole_text(one, finish)
            if one.text is not None:
                one.text.end()
            completion = one.completion(finish)
        text = one.text.take(last=finish is not None) if one.text is not None else ""
        return Token(one.number, token, text, completion)

    def _whole_text(self, one: _Running, finish: Finish) -> TextStream:
        assert self._tokenizer is not None
        text = TextStream(self._tokenizer, one.slot.tokens[: one.n_prompt])
        # An end token is no text, be it special or, like a line's end, a word that was named to end the text.
        text.push(one.slot.tokens[one.n_prompt : -1 if finish == "eos" else None])
        return text
