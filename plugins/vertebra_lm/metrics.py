"""Scores of predicted tokens, for the predictions and references of `CorpusTask`."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from vertebra.metrics.metric import Counts, Metric


class BitsPerByte(Metric):
    """The cross-entropy in bits for each byte of text: what a perfect coder would need, whatever the tokenizer is."""

    name: ClassVar[str] = "bits_per_byte"
    higher_is_better: ClassVar[bool] = False

    def count(self, prediction: Any, reference: Any) -> tuple[float, ...]:
        """Return (bits, bytes)."""
        return prediction["nats"] / math.log(2), reference["bytes"]

    def score(self, counts_EK: Counts) -> float:
        """Return bits ÷ bytes."""
        return _ratio(counts_EK)


class BitsPerToken(Metric):
    """The cross-entropy in bits for each predicted token; perplexity is 2 to its power."""

    name: ClassVar[str] = "bits_per_token"
    higher_is_better: ClassVar[bool] = False

    def count(self, prediction: Any, reference: Any) -> tuple[float, ...]:
        """Return (bits, tokens)."""
        return prediction["nats"] / math.log(2), prediction["tokens"]

    def score(self, counts_EK: Counts) -> float:
        """Return bits ÷ tokens."""
        return _ratio(counts_EK)


class TokenHits(Metric):
    """The share of tokens that were thought the likeliest."""

    name: ClassVar[str] = "token_hits"

    def count(self, prediction: Any, reference: Any) -> tuple[float, ...]:
        """Return (right, tokens)."""
        return prediction["right"], prediction["tokens"]

    def score(self, counts_EK: Counts) -> float:
        """Return right ÷ tokens."""
        return _ratio(counts_EK)


def _ratio(counts_EK: Counts) -> float:
    above, below = counts_EK.sum(axis=0)
    return float(above / below) if below else 0.0
