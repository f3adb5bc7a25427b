"""Tasks that learn from running text: their examples are windows of a corpus, not rows.

Letters: P positions that predict a token, D hidden width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from torch import Tensor, nn

from vertebra.engine.cross_entropy import token_losses
from vertebra.errors import PluginError
from vertebra.tasks.config import CorpusConfig
from vertebra.tasks.features import Features, Ids, MakePiece
from vertebra.tasks.heads import LanguageModelHead
from vertebra.tasks.task import Row, Task
from vertebra.tasks.token_bytes import TokenBytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from vertebra.engine.backbone import Backbone
    from vertebra.engine.packing import PackedBatch


class CorpusTask(Task):
    """What is learnt of texts as they are; a task of this family says what it makes of a document's part of a window.

    Documents stand one behind the other and are cut into windows of `task.window` tokens, each of which is an example. A
    token attends within its own document and window. A prediction is `{"nats", "tokens", "right"}`: the sum of the
    cross-entropies, how many tokens were predicted, and how many of these are the likeliest ones. A reference is
    `{"bytes"}`, the length of the text in UTF-8.
    """

    family: ClassVar[str] = "corpus"
    columns: ClassVar[dict[str, type]] = {"text": str}
    input_columns: ClassVar[tuple[str, ...] | None] = ("text",)
    too_long: ClassVar[Literal["window", "truncate", "error"]] = "window"
    needs_language_model: ClassVar[bool] = True

    def __init__(self, config: CorpusConfig | None = None) -> None:
        super().__init__(config or CorpusConfig())

    @abstractmethod
    def piece(self, ids: Ids, following: Ids, number: int) -> Features:
        """Return the features of a document's tokens in a window; `following` are the tokens behind each of them.

        `number` is that of the piece in its split. A document begins with the token that ends texts.
        """

    def training_pieces(self) -> Sequence[MakePiece]:
        """Return what makes pieces in training: for each entry, an epoch has every window once. By default `piece` alone."""
        return [self.piece]

    def read_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Take the backbone's tokenizer, before anything is cut."""
        self.tokenizer = tokenizer
        self.bytes = TokenBytes(tokenizer)

    def row(self, tokens: Ids, name: str, *, with_text: bool = True) -> Row:
        """Return the row that a window stands for, by its first token and those that it predicts."""
        following = tokens[1:]
        text = {"text": self.tokenizer.decode(following.tolist())} if with_text else {}
        return {"id": name, **text, "tokens": following, "bytes": self.bytes.count(tokens)}

    def encode(self, row: Row, tokenizer: PreTrainedTokenizerBase) -> Features:
        """Turn a text of its own into features, as one document."""
        self.read_tokenizer(tokenizer)
        ids = tokenizer(row["text"], add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        end = tokenizer.eos_token_id
        whole = np.asarray([end, *ids, end], dtype=np.int32)
        return self.piece(whole[:-1], whole[1:], 0)

    def reference(self, row: Row) -> dict[str, int]:
        """Return how many bytes of UTF-8 a row's text has."""
        return {"bytes": row["bytes"] if "bytes" in row else len(row["text"].encode())}

    # --- from hidden states to losses

    def build_head(self, width: int) -> nn.Module:
        """Raise `PluginError`: the head of this family is the backbone's own."""
        raise PluginError(f"Task '{self.name}' has no head without its backbone: heads cannot be trained side by side.")

    def build_head_on(self, backbone: Backbone) -> nn.Module:
        """Return the backbone's language-model head."""
        assert backbone.language_model is not None
        return TokenLossHead(backbone.language_model.get_output_embeddings())

    def loss(self, outputs: Tensor, targets_P: Tensor) -> Tensor:
        """Return the mean cross-entropy, which the head has computed: (1,), or with the other numbers (P, 2)."""
        return outputs[:, 0].mean() if outputs.ndim == 2 else outputs.squeeze(0)

    def decode(self, outputs_P2: Tensor, batch: PackedBatch) -> list[dict[str, Any]]:
        """Return for each sequence the sum of its losses, and how many tokens it predicted, and how many right."""
        rows = iter(outputs_P2.double().tolist())
        return [_sums(list(islice(rows, count))) for count in batch.position_counts]

    def combine(self, row: Row, parts: list[Any]) -> dict[str, Any]:
        """Add up a window's pieces, or the windows of a text that is longer than the context."""
        return {name: sum(part[name] for part in parts) for name in ("nats", "tokens", "right")}

    def right(self, prediction: Any, reference: Any) -> bool:
        """Return false: no text is predicted without a loss, and the report shows where it is greatest."""
        return False


class TokenLossHead(LanguageModelHead):
    """The language model's matrix; in evaluation it says the loss of each token."""

    def forward(self, hidden_PD: Tensor, batch: PackedBatch) -> Tensor:
        """Return the mean loss (1,) in training; in evaluation (P, 2), each loss and whether the token is the likeliest."""
        if self.training or batch.targets is None:
            return super().forward(hidden_PD, batch)
        weight, bias = self.output.get_parameter("weight"), getattr(self.output, "bias", None)
        return token_losses(hidden_PD, weight, bias, batch.targets)


def _sums(rows: list[list[float]]) -> dict[str, Any]:
    return {"nats": sum(one for one, _ in rows), "tokens": len(rows), "right": int(sum(right for _, right in rows))}
