"""The requests that both sides answer: prompts of different lengths, each with a stop of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vertebra_speed.workload import Workload

PROMPT = (8, 256)
"""The fewest and the most tokens of a prompt."""
ANSWER = (8, 128)
"""The fewest and the most new tokens."""


@dataclass(frozen=True)
class Request:
    """A prompt, and how many tokens are wanted."""

    prompt: list[int]
    stop: int


def make_requests(workload: Workload, number: int, seed: int) -> list[Request]:
    """Return requests whose prompts are stretches of the training text; lengths are spread evenly on a logarithmic scale."""
    generator = np.random.default_rng(seed)
    text = np.concatenate([one.input_ids for one in workload.features["train"]])
    prompts, answers = (
        np.geomspace(*span, 1000)[generator.integers(0, 1000, number)].round().astype(int) for span in (PROMPT, ANSWER)
    )
    starts = generator.integers(0, max(1, len(text) - PROMPT[1]), number)
    return [
        Request(text[start : start + length].tolist(), int(answer))
        for start, length, answer in zip(starts, prompts, answers, strict=True)
    ]
