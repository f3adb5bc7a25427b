"""Recommendation: which item of a catalogue comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vertebra.errors import ConfigError, DataError
from vertebra.tasks.baseline import Baseline
from vertebra.tasks.features import Features, Ids
from vertebra.tasks.task import Row, Task
from vertebra.transfer import send
from vertebra_recommendation.catalogue import Catalogue
from vertebra_recommendation.config import RecommendationConfig
from vertebra_recommendation.histories import Window, windows
from vertebra_recommendation.ranks import recommend

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from vertebra.engine.packing import PackedBatch


class Recommendation(Task):
    """The next item of a user's history, of a catalogue of items that have texts.

    A row has the items that are known in `history`, the oldest first, and those that follow in `next`; each of these is
    predicted from all before it. The backbone reads the texts of items, so an item that nobody has taken yet can be ranked
    like any other. Training is a softmax over the items of a pass and random others; predictions rank the whole catalogue.

    Letters: Q places whose next item is wanted, C items that are compared, I items of the catalogue.
    """

    name: ClassVar[str] = "recommendation"
    family: ClassVar[str] = "ranking-of-a-catalogue"
    columns: ClassVar[dict[str, type]] = {"history": list, "next": list}
    tables: ClassVar[Mapping[str, dict[str, type]]] = {"items": {"item": str, "title": str, "text": str}}
    input_columns: ClassVar[tuple[str, ...] | None] = ("history",)
    metrics: tuple[str, ...] = (  # type: ignore[misc]  # the settings may add the sampled ones
        "ndcg_at_10",
        "hr_at_10",
        "mrr_full",
        "cold_ndcg_at_10",
        "cold_hr_at_10",
        "coverage_at_10",
        "popularity_bias",
    )
    too_long: ClassVar[Literal["window", "truncate", "error"]] = "window"  # of whole items

    def __init__(self, config: RecommendationConfig | None = None) -> None:
        super().__init__(config or RecommendationConfig())
        self.catalogue = Catalogue()
        if self.config.sampled:
            self.metrics = (*self.metrics, "ndcg_at_10_sampled_100", "hr_at_10_sampled_100")
        if self.config.width % self.config.heads:
            raise ConfigError(f"task.width={self.config.width} must be a multiple of task.heads={self.config.heads}.")

    # --- rows and items

    def read_tables(self, tables: Mapping[str, Sequence[Row]]) -> None:
        """Take the items; those that were there in training keep their numbers."""
        self.catalogue = self.catalogue.with_table(tables["items"])

    def check(self, row: Row) -> None:
        """Refuse items that are not in the catalogue, and a row without a next item."""
        for column in ("history", "next"):
            try:
                self.catalogue.find(row.get(column, ()))
            except DataError as error:
                raise DataError(f"column '{column}': {error}") from None
        if "next" in row and not row["next"]:
            raise DataError("column 'next' is empty: there is no item to predict.")

    def fit(self, rows: Sequence[Row]) -> None:
        """Learn how often each item was taken."""
        self.catalogue = self.catalogue.counted([*row["history"], *row["next"]] for row in rows)

    def state(self) -> dict[str, Any]:
        """Return the catalogue."""
        one = self.catalogue
        return {"items": one.items, "titles": one.titles, "texts": one.texts, "taken": one.taken}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back the catalogue."""
        self.catalogue = Catalogue(state["items"], state["titles"], state["texts"], state["taken"])

    def row_from_text(self, text: str) -> Row:
        """Read a history as items apart by commas, the latest last."""
        return {"history": [item.strip() for item in text.split(",") if item.strip()]}

    def reference(self, row: Row) -> dict[str, Any]:
        """Return the item that came next: a row that is evaluated has one."""
        if len(row["next"]) != 1:
            raise DataError(f"Row '{row['id']}' has {len(row['next'])} items in 'next'; a row to evaluate has one.")
        (number,) = self.catalogue.find(row["next"])
        taken = self.catalogue.taken[number]
        return {"item": row["next"][0], "title": self.catalogue.titles[number], "taken": taken, "cold": taken == 0}

    def right(self, prediction: Any, reference: Any) -> bool:
        """Whether the item that came next stands first."""
        return [one["item"] for one in prediction["items"][:1]] == [reference["item"]]

    # --- sequences

    def encode_shared(self, tokenizer: PreTrainedTokenizerBase) -> list[Features]:
        """Return the text of each item; the head reads its last token."""
        return [
            Features(_ids(ids), note={"item": number, "log_chance": 0.0})
            for number, ids in enumerate(self._texts(tokenizer, self.catalogue.texts))
        ]

    def encode(self, row: Row, tokenizer: PreTrainedTokenizerBase) -> list[Features]:
        """Cut a row into windows; each of its next items is the target of one place in one window.

        A place is the state after so many items of the window, from none. With `history=items` a window is one token, where
        the head's own layers begin, read once for each target; with `history=text` it is that token and the texts.
        """
        history = self.catalogue.find(row["history"])
        following = self.catalogue.find(row.get("next", ()))
        start = [tokenizer.eos_token_id or 0]
        if self.config.history == "items":
            return [
                self._features(one, start, [0] * one.wanted, history, following)
                for one in windows([*history, *following], len(following), self.config.max_items)
            ]
        numbers = [*history, *following]
        texts = self._texts(tokenizer, [f" {self.catalogue.texts[number]}\n" for number in numbers])
        made = []
        for one in windows(
            numbers, len(following), self.config.max_items, [*map(len, texts)], self.config.max_tokens - 1
        ):
            parts = [start, *texts[one.first : one.first + len(one.items)]]
            ends = (np.cumsum([*map(len, parts)]) - 1).tolist()
            features = self._features(one, list(chain.from_iterable(parts)), ends[-one.wanted :], history, following)
            made.append(replace(features, note={**features.note, "ends": ends}))
        return made

    def windows(self, features: Features, limit: int) -> list[Features]:
        """Cut a history that is read as text into windows of whole items, as `encode` does; no target is lost."""
        if len(features) <= limit:
            return [features]
        targets = features.target or []
        sequence = [*features.note["items"], *targets[-1:]]
        lengths = [*np.diff(features.note["ends"]).tolist(), 0]  # the last target is not read
        cut = windows(sequence, len(targets), self.config.max_items, lengths, limit - 1)
        return [_part(features, one, limit) for one in cut]

    def shorten(self, features: Features, limit: int) -> Features:
        """Keep the latest items that fit, and of the places whose next item is wanted those that have items before them."""
        if len(features) <= limit:
            return features
        items, ends = features.note["items"], features.note["ends"]
        first = next((n for n in range(len(items)) if ends[-1] - ends[n] < limit), len(items) - 1)
        return _part(features, Window(first, items[first:], (features.target or [])[first - len(items) :]), limit)

    def complete(self, features: Sequence[Features], seed: int) -> list[Features]:
        """Add the items that histories and targets name, and random others: what this pass is a softmax over.

        Each has the logarithm of its chance to be among them, which the head takes off its score in training: the
        correction for sampling (Bengio and Senécal 2008; Yi et al. 2019), else popular items would be ranked too low.
        """
        taken = [number for one in features for number in (*one.note["items"], *(one.target or ()))]
        warm = self.catalogue.warm
        if self.config.negatives is None or self.config.negatives >= len(warm):
            return [*features, *(self.shared[number] for number in sorted({*taken, *warm.tolist()}))]
        random = np.random.default_rng(seed)
        drawn = random.choice(warm, size=self.config.negatives, replace=False)
        share_I = self.catalogue.counts / self.catalogue.counts.sum()
        missed_I = (1 - share_I) ** len(taken) * (1 - self.config.negatives / len(warm))
        log_chance_I = np.log1p(-missed_I)
        chosen = sorted({*taken, *drawn.tolist()})
        return [
            *features,
            *(
                replace(self.shared[number], note={"item": number, "log_chance": float(log_chance_I[number])})
                for number in chosen
            ),
        ]

    def collate(self, features: Sequence[Features]) -> Tensor | None:
        """Return for each target (Q,) its column among the items of the batch or, without any there, its number."""
        items = [one.note["item"] for one in features if "item" in one.note]
        columns = {number: column for column, number in enumerate(items)}
        histories = [one for one in features if "items" in one.note]
        if not histories or any(one.target is None for one in histories):
            return None
        return torch.tensor([columns.get(number, number) for one in histories for number in one.target])

    # --- from hidden states to items

    def build_head(self, width: int) -> nn.Module:
        """Return the head that compares histories with items."""
        from vertebra_recommendation.head import RankingHead

        return RankingHead(width, self.catalogue.taken, self.config)

    def loss(self, outputs: Tensor, targets_Q: Tensor) -> Tensor:
        """Return the mean cross-entropy of the next items: the head has computed it, (1,), or gives scores (Q, C)."""
        return outputs.squeeze(0) if outputs.ndim == 1 else F.cross_entropy(outputs, targets_Q)

    def take_shared(self, head: nn.Module, outputs: Sequence[Tensor]) -> None:
        """Give the head the vectors of all items."""
        head.catalogue_IW = torch.cat(list(outputs))  # not a part of the module: never saved

    def decode(self, outputs_QI: Tensor, batch: PackedBatch) -> list[dict[str, Any]]:
        """Return the best items after each history with their probabilities, and the rank of the one that came next."""
        ends = np.cumsum(batch.position_counts) - 1
        scores_NI = outputs_QI[send(ends, outputs_QI.device)].double().softmax(dim=1).cpu().numpy()
        return [
            recommend(
                self.catalogue,
                scores_I,
                one.note["seen"] if self.config.exclude_seen else [],
                one.target[-1] if one.target else None,
                sampled=self.config.sampled,
            )
            for one, scores_I in zip(batch.features, scores_NI, strict=True)
        ]

    def baselines(self) -> list[Baseline]:
        """Return what is ranked without any text: by popularity, and by which items are taken together."""
        from vertebra_recommendation.baselines import ItemNeighbours, Popularity

        return [Popularity(self), ItemNeighbours(self)]

    def describe(self, row: Row, features: Features, tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, str]]:
        """Return each item of a history, as a token, with the item that follows it."""
        titles = ["(start)", *(self.catalogue.titles[number] for number in features.note["items"])]
        following = [self.catalogue.titles[number] for number in features.target or ()]
        return list(zip(titles, [""] * (len(titles) - len(following)) + following, strict=True))

    # --- details

    def _texts(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of texts, cut to the longest that an item may have."""
        if not texts:
            return []
        encoded = tokenizer(
            list(texts), add_special_tokens=False, split_special_tokens=True, return_attention_mask=False
        )
        return [ids[: self.config.item_tokens] for ids in encoded["input_ids"]]

    def _features(
        self, one: Window, ids: list[int], positions: list[int], history: list[int], following: list[int]
    ) -> Features:
        return Features(
            _ids(ids),
            target=one.targets if following else None,
            positions=_ids(positions),
            note={"items": one.items, "seen": history},
        )


def _part(features: Features, one: Window, limit: int) -> Features:
    """Return a window of a history that is read as text; an item that is longer than the limit alone is cut at its end."""
    ends = features.note["ends"][one.first : one.first + len(one.items) + 1]
    ids = [features.input_ids[:1], features.input_ids[ends[0] + 1 : ends[-1] + 1]]
    ends = [min(end - ends[0], limit - 1) for end in ends]
    return replace(
        features,
        input_ids=np.concatenate(ids)[:limit],
        target=None if features.target is None else one.targets,
        positions=_ids(ends[-one.wanted :]),
        note={**features.note, "items": one.items, "ends": ends},
    )


def _ids(numbers: Sequence[int]) -> Ids:
    return np.asarray(numbers, dtype=np.int32)
