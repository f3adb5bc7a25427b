"""What is asked of a generator, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Integral, Real
from typing import Any, Literal

from vertebra.errors import ConfigError

Finish = Literal["eos", "stop", "length", "context"]
"""Why a request ended: an end token, a stop string, its `max_new_tokens`, or the end of the model's context."""


def _check(name: str, value: Any, kind: type, holds: Callable[[Any], bool], rule: str) -> None:
    if isinstance(value, bool) or not isinstance(value, kind) or not isfinite(value) or not holds(value):  # type: ignore[arg-type]
        raise ConfigError(f"{name}={value!r}: must be {rule}.")


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. The filters apply in the order of the fields, as in transformers.

    The tokens that a request draws depend on its own `seed` and on nothing else that runs beside it.
    """

    repetition_penalty: float = 1.0
    """Above 1 makes tokens of the prompt and of the text so far less likely (Keskar et al. 2019, arXiv:1909.05858)."""
    temperature: float = 0.0
    """0 takes the most likely token."""
    top_k: int | None = None
    """Keep the k most likely tokens (Fan et al. 2018, arXiv:1805.04833)."""
    top_p: float = 1.0
    """Keep the most likely tokens that together reach this probability (Holtzman et al. 2019, arXiv:1904.09751)."""
    min_p: float = 0.0
    """Keep tokens at least this times as likely as the most likely one (Nguyen et al. 2024, arXiv:2407.01082)."""
    seed: int = 0

    def __post_init__(self) -> None:
        _check("repetition_penalty", self.repetition_penalty, Real, lambda x: x > 0, "above 0")
        _check("temperature", self.temperature, Real, lambda x: x >= 0, "0 (the most likely token) or above")
        if self.top_k is not None:
            _check("top_k", self.top_k, Integral, lambda x: x >= 1, "a whole number from 1, or None for all tokens")
        _check("top_p", self.top_p, Real, lambda x: 0 < x <= 1, "above 0 and at most 1 (1 keeps all tokens)")
        _check("min_p", self.min_p, Real, lambda x: 0 <= x <= 1, "from 0 (keeps all tokens) to 1")
        _check("seed", self.seed, Integral, lambda x: x >= 0, "a whole number from 0")

    @property
    def filters(self) -> bool:
        """Whether some tokens cannot be drawn."""
        return self.top_k is not None or self.top_p < 1 or self.min_p > 0


@dataclass(frozen=True)
class Request:
    """One text to go on with."""

    prompt: str | Sequence[int]
    """A text, or token ids."""
    max_new_tokens: int = 256
    """At most this many tokens are written, the one that ends the text included."""
    sampling: Sampling = Sampling()
    """How each token is chosen; by default the likeliest one."""
    stop: tuple[str, ...] = ()
    """Strings that end the text; they are not part of it."""
    eos_ids: frozenset[int] | None = None
    """Tokens that end the text. None: those of the generator. Empty: none."""
    beams: int = 1
    """Above 1, so many texts go on side by side, each step the likeliest, and the best whole one is the answer."""
    length_penalty: float = 1.0
    """Of whole texts the one is best whose log-probability, divided by its length to this power, is highest."""

    def __post_init__(self) -> None:
        _check("max_new_tokens", self.max_new_tokens, Integral, lambda x: x >= 1, "a whole number from 1")
        stop: Any = self.stop
        if not isinstance(stop, tuple) or not all(isinstance(one, str) and one for one in stop):
            raise ConfigError(f"stop={stop!r}: must be a tuple of strings that are not empty.")
        _check("beams", self.beams, Integral, lambda x: x >= 1, "a whole number from 1")
        _check("length_penalty", self.length_penalty, Real, lambda x: True, "a number")
        if self.beams > 1 and self.sampling.temperature > 0:
            raise ConfigError(f"beams={self.beams}: the likeliest texts are not drawn; leave the temperature at 0.")
        if self.beams > 1 and stop:
            raise ConfigError(f"beams={self.beams}: ends with the tokens in eos_ids alone; leave out the stop strings.")


@dataclass(frozen=True)
class Completion:
    """The answer to a request."""

    ids: tuple[int, ...]
    """The new tokens, with the end token where one came."""
    text: str | None
    """The new text, up to the stop string or the end token where one came; None where the generator has no tokenizer."""
    finish: Finish
    """Why it ended: `eos` (an end token), `stop` (a stop string), `length` (`max_new_tokens`) or `context` (no room)."""


@dataclass(frozen=True, slots=True)
class Token:
    """One more token of a request."""

    request: int
    """The number of the request: its place in the list, or what `Scheduler.add` returned."""
    id: int
    """The token's number in the vocabulary."""
    text: str
    """What the text grew by: whole characters, so it may be empty, or more than this token's own."""
    completion: Completion | None
    """The whole answer, with the last token of a request."""

    @property
    def finish(self) -> Finish | None:
        """Why the request ended with this token; None where it goes on."""
        return None if self.completion is None else self.completion.finish
