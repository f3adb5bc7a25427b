"""transformers' own ways to generate, greedily, for requests that each stop at a length of their own.

padded: `generate` on all requests at once, padded on the left, in fp32; a request that has stopped waits for the last one.
sorted: `generate` on batches of eight requests with like stops, so that few wait, and weights in bf16.
continuous: continuous batching in fp32, with a cache of the size that the requests need.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    ContinuousBatchingConfig,
    GenerationConfig,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.utils import logging

from vertebra_speed.clock import Clock, peak_memory
from vertebra_speed.requests import Request, make_requests
from vertebra_speed.workload import Workload

SORTED_BATCH = 8
PAGE = 32
"""Tokens of a page of the continuous cache; a request fills its last page half, on average."""
MOST_TOKENS = 512
"""Tokens of one pass of continuous batching."""
PAD = 0


class GenerationPeer:
    """One way to generate."""

    def __init__(self, folder: str, way: str, threads: int, device: str) -> None:
        logging.set_verbosity_error()
        torch.set_num_threads(threads)
        self.workload, self.device = Workload.read(folder), device
        dtype = torch.bfloat16 if way == "sorted" else torch.float32
        self.model = AutoModelForCausalLM.from_pretrained(self.workload.model, dtype=dtype).to(device).eval()
        self.run = {"padded": self._padded, "sorted": self._sorted, "continuous": self._continuous}[way]

    def generate(self, requests: int, seed: int) -> dict[str, Any]:
        """Answer so many requests."""
        asked = make_requests(self.workload, requests, seed)
        clock = Clock(self.device)
        self.run(asked)
        return clock.turn(sum(one.stop for one in asked), 1)

    def tokens(self, requests: int) -> dict[str, Any]:
        """Return the new tokens of each request."""
        return {"tokens": self.run(make_requests(self.workload, requests, 0))}

    def memory(self) -> dict[str, Any]:
        """Return the most memory held so far."""
        return peak_memory(self.device)

    def _padded(self, requests: list[Request]) -> list[list[int]]:
        longest = max(len(one.prompt) for one in requests)
        ids_NL = torch.tensor(
            [[PAD] * (longest - len(one.prompt)) + one.prompt for one in requests], device=self.device
        )
        places_L = torch.arange(longest, device=self.device)
        lengths_N = torch.tensor([len(one.prompt) for one in requests], device=self.device)
        stops_N = torch.tensor([one.stop for one in requests], device=self.device)
        config = greedy(max_new_tokens=int(stops_N.max()), pad_token_id=PAD)
        out_NL = self.model.generate(
            ids_NL,
            attention_mask=(places_L >= longest - lengths_N[:, None]).long(),
            generation_config=config,
            stopping_criteria=StoppingCriteriaList([OwnStop(longest, stops_N)]),
        )
        return [row[longest : longest + one.stop].tolist() for row, one in zip(out_NL, requests, strict=True)]

    def _sorted(self, requests: list[Request]) -> list[list[int]]:
        order = sorted(range(len(requests)), key=lambda number: requests[number].stop)
        found: dict[int, list[int]] = {}
        for start in range(0, len(order), SORTED_BATCH):
            numbers = order[start : start + SORTED_BATCH]
            found |= zip(numbers, self._padded([requests[number] for number in numbers]), strict=True)
        return [found[number] for number in range(len(requests))]

    def _continuous(self, requests: list[Request]) -> list[list[int]]:
        pages = sum(-(-(len(one.prompt) + one.stop) // PAGE) for one in requests)
        cache = ContinuousBatchingConfig(
            page_size=PAGE, num_blocks=pages, max_batch_tokens=MOST_TOKENS, use_cuda_graph=False
        )
        answers: dict[str, list[int]] = {}
        with (
            torch.no_grad(),
            self.model.continuous_batching_context_manager(
                generation_config=greedy(), continuous_batching_config=cache
            ) as manager,
        ):
            names = [manager.add_request(one.prompt, max_new_tokens=one.stop) for one in requests]
            while len(answers) < len(requests):
                result = manager.get_result(timeout=1)
                if result is None and not manager.is_running():
                    raise RuntimeError("continuous batching ended before all requests were answered")
                if result is not None and result.is_finished():
                    answers[result.request_id] = result.generated_tokens
        return [answers[name] for name in names]


class OwnStop(StoppingCriteria):  # type: ignore[misc]
    """Ends each row after its own number of new tokens."""

    def __init__(self, prompt: int, stops_N: Tensor) -> None:
        self.prompt, self.stops_N = prompt, stops_N

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        """Say which rows have enough."""
        return input_ids.shape[1] - self.prompt >= self.stops_N


def greedy(**settings: Any) -> GenerationConfig:
    """Return a configuration that takes the likeliest token, and has no token that ends a text."""
    config = GenerationConfig(do_sample=False, **settings)
    config.eos_token_id = None
    return config
