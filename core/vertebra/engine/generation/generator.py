"""Generate texts: many requests at once, through any causal language model of transformers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vertebra.engine.generation.probe import choose_decoder
from vertebra.engine.generation.request import Completion, Request, Token
from vertebra.engine.generation.scheduler import Limits, Scheduler
from vertebra.errors import ConfigError

UNLIMITED = 1 << 20
"""The context of a model that names none."""


class Generator:
    """A causal language model made ready to generate.

    It works on a copy that shares the model's weights, as they are now: make a new one when they have changed. On CPU the
    copy holds them once more in the layout that is fastest there. Whether cached pages give what the model's own forward
    pass gives is tried here; where they do not, requests run one after the other, and `notes` says so.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        eos_ids: Iterable[int] | None = None,
        slots: int = 32,
        prefill_tokens: int = 4096,
        dtype: torch.dtype | None = None,
    ) -> None:
        """`slots` texts run at once, one of a request or as many as it has beams.

        One step takes in at most `prefill_tokens` tokens of new prompts.

        `eos_ids` end a text, by default those of the model's generation configuration, else the tokenizer's. `dtype` is the
        precision to compute in, by default that of the weights. Raises `BackboneError` for a model without a
        language-model head, `ConfigError` for arguments out of range.
        """
        for name, value in (("slots", slots), ("prefill_tokens", prefill_tokens)):
            if value < 1:
                raise ConfigError(f"{name}={value}: must be at least 1.")
        if dtype not in (None, torch.float32, torch.bfloat16, torch.float16):
            raise ConfigError(f"dtype={dtype}: must be torch.float32, torch.bfloat16 or torch.float16.")
        self.tokenizer = tokenizer
        context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or UNLIMITED
        self._decoder, self.notes = choose_decoder(model, dtype, context)
        self._limits = Limits(
            vocabulary=model.get_input_embeddings().num_embeddings,
            context=context,
            eos_ids=_eos_ids(model, tokenizer) if eos_ids is None else frozenset(eos_ids),
            slots=slots,
            prefill_tokens=prefill_tokens,
        )

    def generate(self, requests: Iterable[Request]) -> list[Completion]:
        """Return the completion of each request, in their order. Raises `DataError` for a prompt that cannot be used."""
        scheduler = self.scheduler(streams=False)
        numbers = [scheduler.add(request) for request in requests]
        ended: dict[int, Completion] = {}
        while scheduler.busy:
            ended |= {token.request: token.completion for token in scheduler.step() if token.completion is not None}
        return [ended[number] for number in numbers]

    def stream(self, requests: Iterable[Request]) -> Iterator[Token]:
        """Yield the tokens of all requests as they come; `Token.request` is the place of the request in their order."""
        scheduler = self.scheduler()
        for request in requests:
            scheduler.add(request)
        while scheduler.busy:
            yield from scheduler.step()

    def scheduler(self, *, streams: bool = True) -> Scheduler:
        """Return a scheduler of its own cache, to which requests can be added while others run."""
        return Scheduler(self._decoder(), self._limits, self.tokenizer, streams=streams)


def _eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> frozenset[int]:
    found = getattr(model.generation_config, "eos_token_id", None)
    if found is None and tokenizer is not None:
        found = tokenizer.eos_token_id
    if found is None:
        return frozenset()
    return frozenset([found] if isinstance(found, int) else found)
