"""Generation: a text that follows a prompt, such as a summary or a translation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from string import Formatter
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor, nn

from vertebra.errors import ConfigError, DataError, PluginError
from vertebra.names import unknown
from vertebra.tasks.config import GenerationConfig
from vertebra.tasks.features import Features
from vertebra.tasks.heads import LanguageModelHead
from vertebra.tasks.task import Row, Task
from vertebra.tasks.words import is_cjk

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from vertebra.engine.backbone import Backbone
    from vertebra.engine.generation.request import Request
    from vertebra.engine.packing import PackedBatch


class Generation(Task):
    """A text for a text; a task of this family says which columns they are, and its metrics.

    The model reads a prompt, made of a row by the template `task.prompt`, and learns to go on with the target and the token
    that ends a text; the loss is over these alone. Predictions are what it writes after the prompt of a row, and nothing
    of the row's target reaches it. A prompt that leaves too little room is shortened in the `source`, at its end, so that
    the rest of the template stays whole.

    A target may be a list of texts that are all right: the model learns the first one.

    Letters in names: P target tokens of a batch, N sequences.
    """

    family: ClassVar[str] = "generation"
    source: ClassVar[str]
    """The column that is read, and cut where it is too long."""
    target: ClassVar[str]
    """The column that is written."""
    needs_language_model: ClassVar[bool] = True

    def __init__(self, config: GenerationConfig) -> None:
        super().__init__(config)
        self.prompt_fields = template_fields(config.prompt, self.source)

    # --- what a plugin may change

    def fields(self, row: Row) -> dict[str, str]:
        """Return what the names in the template stand for; by default the source alone."""
        return {self.source: row[self.source]}

    def references(self, row: Row) -> list[str]:
        """Return the texts that are right for a row."""
        target = row[self.target]
        return [target] if isinstance(target, str) else list(target)

    # --- from rows to features

    def needed_for_prediction(self) -> tuple[str, ...]:
        """Return the source's column."""
        return self.input_columns or (self.source,)

    def check(self, row: Row) -> None:
        """Refuse an empty source, and a target without a text."""
        if not row[self.source].strip():
            raise DataError(f"column '{self.source}' is empty: there is nothing to read.")
        if self.target not in row:
            return
        target = row[self.target]
        texts = [target] if isinstance(target, str) else target
        if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
            raise DataError(f"column '{self.target}' must be a text or a list of texts, not {target!r:.80}.")
        if not texts or not all(one.strip() for one in texts):
            raise DataError(f"column '{self.target}' is empty, or one of its texts is: there is nothing to write.")

    def encode(self, row: Row, tokenizer: PreTrainedTokenizerBase) -> Features | Sequence[Features]:
        """Turn a row into its prompt and, where it has a target, that target; see `encode_pair`."""
        target = self.references(row)[0] if self.target in row else None
        return self.encode_pair(self.fields(row), target, tokenizer)

    def encode_pair(
        self, fields: Mapping[str, str], target: str | None, tokenizer: PreTrainedTokenizerBase
    ) -> Features:
        """Return the tokens of a prompt and of a target, at most `task.max_new_tokens`.

        `positions` are the tokens before each target token, `target` the numbers of these. The note says how many tokens
        are the prompt (`prompt`), which of them are the source's (`source`) and how many target tokens were cut (`cut`).
        """
        text, start, end = fill(self.config.prompt, fields, self.source)
        encoded = tokenizer(
            text,
            split_special_tokens=True,  # what a user wrote as <|endoftext|> is text
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )
        ids, offsets = list(encoded["input_ids"]), list(encoded["offset_mapping"])
        while len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:  # some tokenizers end what they are given
            ids.pop(), offsets.pop()
        inside = [place for place, (first, last) in enumerate(offsets) if start <= first < last <= end]
        note = {"prompt": len(ids), "source": [inside[0], inside[-1] + 1] if inside else [0, 0], "cut": 0}
        if target is None:
            return Features(np.asarray(ids), note=note)
        wanted = self._target_ids(text, target, tokenizer)
        cut = max(0, len(wanted) - self.config.max_new_tokens)
        if cut and self.config.long_target == "error":
            raise DataError(
                f"'{self.target}' has {len(wanted)} tokens, and task.max_new_tokens={self.config.max_new_tokens}: raise that, "
                "shorten the text, or use task.long_target=cut."
            )
        wanted = wanted[: len(wanted) - cut]
        positions = np.arange(len(ids) - 1, len(ids) - 1 + len(wanted), dtype=np.int32)
        return Features(np.asarray(ids + wanted[:-1]), target=wanted, positions=positions, note={**note, "cut": cut})

    def _target_ids(self, prompt: str, target: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the tokens of a target and the one that ends it; a space parts words from the prompt's."""
        end = tokenizer.eos_token_id
        if end is None:
            raise DataError(
                "The backbone's tokenizer has no token that ends a text (eos_token), which a task that writes needs."
            )
        target = target.strip()
        glued = prompt[-1:].isspace() or is_cjk(target[:1])
        ids = tokenizer(
            target if glued else f" {target}", add_special_tokens=False, split_special_tokens=True, verbose=False
        )["input_ids"]
        return [*ids, int(end)]

    def shorten(self, features: Features, limit: int) -> Features:
        """Cut the end of the source so that the prompt leaves room for `task.max_new_tokens`.

        A row's prompt is the same with and without its target.
        """
        length, (start, end) = features.note["prompt"], features.note["source"]
        over = length + self.config.max_new_tokens - limit
        if over <= 0:
            return features
        if over >= end - start:
            raise DataError(
                f"The context of {limit} tokens has no room for the prompt around '{self.source}' "
                f"({length - end + start} tokens) and task.max_new_tokens={self.config.max_new_tokens}: lower that."
            )
        return replace(
            features,
            input_ids=np.delete(features.input_ids, np.arange(end - over, end)),
            positions=features.positions - over,
            note={**features.note, "prompt": length - over, "source": [start, end - over]},
        )

    # --- from hidden states to a loss

    def build_head(self, width: int) -> nn.Module:
        """Raise `PluginError`: the head of this family is the backbone's own."""
        raise PluginError(f"Task '{self.name}' has no head without its backbone: heads cannot be trained side by side.")

    def build_head_on(self, backbone: Backbone) -> nn.Module:
        """Return the backbone's language-model head."""
        assert backbone.language_model is not None
        return LanguageModelHead(backbone.language_model.get_output_embeddings(), self.config.label_smoothing)

    def loss(self, outputs_1: Tensor, targets_P: Tensor) -> Tensor:
        """Return the mean cross-entropy of the target tokens, which the head has computed."""
        return outputs_1.squeeze(0)

    # --- from a prompt to a text

    def request(self, features: Features) -> Request:
        """Return what the generator is asked for: to go on with a row's prompt."""
        from vertebra.engine.generation.request import Request, Sampling

        config = self.config
        sampling = Sampling(
            repetition_penalty=config.repetition_penalty,
            temperature=config.temperature,
            top_k=config.top_k,
            top_p=config.top_p,
            min_p=config.min_p,
            seed=config.sampling_seed + features.example,
        )
        prompt = features.input_ids[: features.note["prompt"]].tolist()
        return Request(
            prompt,
            max_new_tokens=config.max_new_tokens,
            sampling=sampling,
            beams=config.beams,
            length_penalty=config.length_penalty,
        )

    def decode(self, outputs_1: Tensor, batch: PackedBatch) -> list[Any]:
        """Return nothing for each sequence: texts are written by the generator."""
        return [None] * len(batch)

    def reference(self, row: Row) -> Any:
        """Return the right text, or a list where there are several."""
        references = self.references(row)
        return references[0] if len(references) == 1 else references

    def predicted_while_training(self, n_rows: int) -> Sequence[int]:
        """Return at most `task.texts_while_training` rows, spread evenly."""
        count = min(n_rows, self.config.texts_while_training)
        return [number * n_rows // count for number in range(count)]

    def row_from_text(self, text: str) -> Row:
        """Take a text as the source."""
        return {self.source: text}

    # --- for the report and `vertebra inspect`

    def notes(self, features: Mapping[str, Sequence[Features]]) -> list[str]:
        """Say how many targets were cut, and which rows choose the best checkpoint."""
        cut = {split: sum(one.note["cut"] > 0 for one in some) for split, some in features.items()}
        notes = [
            f"{count} targets of {split} have more than task.max_new_tokens={self.config.max_new_tokens} tokens; "
            + ("what is over is not learnt" if split == "train" else "their loss leaves out what is over")
            for split, count in cut.items()
            if count
        ]
        rows = max((one.example + 1 for one in features.get("valid", ())), default=0)
        if rows > self.config.texts_while_training:
            notes.append(
                f"while training, {self.config.texts_while_training} of {rows} rows of valid, spread evenly, are predicted "
                "(task.texts_while_training); the final scores are of all rows"
            )
        return notes

    def describe(self, row: Row, features: Features, tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, str]]:
        """Return each token with the one that it learns to be followed by."""
        if features.target is None:
            return super().describe(row, features, tokenizer)
        shown = [tokenizer.decode([token]) for token in features.target]
        return super().describe(row, replace(features, target=shown), tokenizer)


def template_fields(template: str, source: str) -> list[str]:
    """Return the names in a template; `ConfigError` where it is malformed, or does not name the source just once."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"task.prompt={template!r}: {error}. Braces that are text are written twice.") from None
    names = [name for _, name, _, _ in parts if name is not None]
    if names.count(source) != 1:
        raise ConfigError(
            f"task.prompt={template!r}: it must have {{{source}}} once, where the text that is read stands."
        )
    if any(form or conversion for _, _, form, conversion in parts):
        raise ConfigError(f"task.prompt={template!r}: only plain names stand in braces, as in {{{source}}}.")
    return names


def fill(template: str, fields: Mapping[str, str], source: str) -> tuple[str, int, int]:
    """Return a template with its names replaced, and where in it the source starts and ends.

    Raises `ConfigError` for a name that stands for nothing.
    """
    text, start, end = "", 0, 0
    for literal, name, _, _ in Formatter().parse(template):
        text += literal
        if name is None:
            continue
        if name not in fields:
            raise ConfigError(f"task.prompt: {unknown('name', name, fields)}")
        value = fields[name].strip()
        if name == source:
            start, end = len(text), len(text) + len(value)
        text += value
    return text, start, end
