"""The head: from what the backbone made of items and histories to one score for each item.

Letters: P positions that are read, Q places whose next item is wanted, C items that are compared, I items of the
catalogue, N histories, S places of the longest one, W width of the vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from vertebra.engine.cross_entropy import linear_cross_entropy
from vertebra.engine.packing import PackedBatch
from vertebra.tasks.features import Features
from vertebra.tasks.heads import BatchHead, Dropout
from vertebra.transfer import send
from vertebra_recommendation.config import RecommendationConfig
from vertebra_recommendation.sequence import SequenceLayers

TOGETHER = 32
"""Histories of like length that the head's layers read at once: filled up to the longest of all they cost a third more."""


class RankingHead(BatchHead):
    """Scores each item by the product of its vector with the state of a history.

    A batch of items alone gives their vectors (C, W). One of histories gives scores: (Q, C) over the items that stand beside
    them in the batch, less what makes some of them likelier to be there, and in training their mean cross-entropy with the
    targets, (1,), since they are larger than all else in a step; else (Q, I) over the whole catalogue, whose vectors
    `catalogue_IW` must hold.
    """

    def __init__(self, hidden: int, counts: Sequence[int], config: RecommendationConfig) -> None:
        """Take the backbone's width and how often each item was taken in training."""
        super().__init__()
        self.catalogue_IW: Tensor | None = None
        self.warm_I: Tensor
        self.of_items = config.history == "items"
        self.text = TextProjection(hidden, config.width)
        self.start = nn.Linear(hidden, config.width)
        self.id_dropout = config.item_id_dropout
        self.ids = nn.Embedding(max(1, len(counts)), config.width) if config.item_ids else None
        if self.ids is not None:
            nn.init.normal_(self.ids.weight, std=0.02)
        self.register_buffer("warm_I", torch.tensor([count > 0 for count in counts] or [False]), persistent=False)
        if self.of_items:
            self.sequence = SequenceLayers(
                config.width, config.layers, config.heads, config.max_items + 1, config.dropout
            )
        else:
            self.state = nn.Sequential(
                Dropout(config.dropout), nn.Linear(hidden, config.width), nn.LayerNorm(config.width)
            )

    def forward(self, hidden_PD: Tensor, batch: PackedBatch) -> Tensor:
        """Return vectors of items or scores, as the class says.

        They are computed in fp32 whatever the backbone computes in; what reads a history, and the products of the loss, in what
        the backbone does.
        """
        hidden_PD = hidden_PD.float()
        exact = torch.autocast(hidden_PD.device.type, enabled=False)
        places = np.split(np.arange(len(hidden_PD)), np.cumsum(batch.position_counts)[:-1])
        items = [(one, place) for one, place in zip(batch.features, places, strict=True) if "item" in one.note]
        histories = [(one, place) for one, place in zip(batch.features, places, strict=True) if "items" in one.note]
        vectors_CW = None
        if items:
            rows = _tensor(np.concatenate([place for _, place in items]), hidden_PD)
            with exact:
                vectors_CW = self._vectors(hidden_PD[rows], [one.note["item"] for one, _ in items])
        if not histories:
            assert vectors_CW is not None
            return vectors_CW
        columns = {one.note["item"]: column for column, (one, _) in enumerate(items)}
        if vectors_CW is None:
            assert self.catalogue_IW is not None, "the catalogue's vectors are computed before an evaluation"
            vectors_CW = self.catalogue_IW
        states_QW = self._states(hidden_PD, histories, columns, vectors_CW)
        likelier_C = send([one.note["log_chance"] for one, _ in items], hidden_PD.device) if items else None
        if self.training and likelier_C is not None and batch.targets is not None:
            return linear_cross_entropy(states_QW, vectors_CW, -likelier_C, batch.targets).reshape(1)
        with exact:
            scores_QC: Tensor = states_QW.float() @ vectors_CW.T
            return scores_QC if likelier_C is None else scores_QC - likelier_C

    def _vectors(self, hidden_CD: Tensor, numbers: Sequence[int]) -> Tensor:
        """Return what an item's text says, and the vector learnt for it where there is one."""
        vectors_CW: Tensor = self.text(hidden_CD)
        if self.ids is None:
            return vectors_CW
        own = send(numbers, hidden_CD.device)
        known = own < len(self.warm_I)
        own = own.where(known, 0)
        known &= self.warm_I[own]
        if self.training:
            known &= torch.rand(len(numbers), device=hidden_CD.device) >= self.id_dropout
        own_CW: Tensor = self.ids(own) * known[:, None]
        return vectors_CW + own_CW

    def _states(
        self,
        hidden_PD: Tensor,
        histories: Sequence[tuple[Features, np.ndarray]],
        columns: dict[int, int],
        vectors_CW: Tensor,
    ) -> Tensor:
        """Return the states (Q, W) of the places whose next item is wanted: the last ones of each history."""
        if not self.of_items:
            wanted = np.concatenate([place for _, place in histories])
            state_QW: Tensor = self.state(hidden_PD[_tensor(wanted, hidden_PD)])
            return state_QW
        by_length = sorted(histories, key=lambda one: len(one[0].note["items"]))
        groups = [by_length[begin : begin + TOGETHER] for begin in range(0, len(by_length), TOGETHER)]
        states_QW = torch.cat([self._states_of(group, hidden_PD, columns, vectors_CW) for group in groups])
        # The places of a stream rise, so that they say where each state belongs.
        order = np.argsort(np.concatenate([place for _, place in by_length]))
        return states_QW[_tensor(order, hidden_PD)]

    def _states_of(
        self,
        histories: Sequence[tuple[Features, np.ndarray]],
        hidden_PD: Tensor,
        columns: dict[int, int],
        vectors_CW: Tensor,
    ) -> Tensor:
        """Return the states of some histories' places, from sequences that are filled up to the longest of them."""
        lengths = [len(one.note["items"]) for one, _ in histories]
        read = np.zeros((len(histories), max(lengths)), dtype=np.int64)
        for row, (one, _) in enumerate(histories):
            read[row, : lengths[row]] = [columns.get(number, number) for number in one.note["items"]]
        first = np.asarray([place[0] for _, place in histories])
        start_N1W = self.start(hidden_PD[_tensor(first, hidden_PD)])[:, None]
        vectors_NSW = torch.cat([start_N1W, vectors_CW[_tensor(read, hidden_PD)]], dim=1)
        states_NSW = self.sequence(vectors_NSW)
        rows = np.repeat(np.arange(len(histories)), [len(place) for _, place in histories])
        ends = [
            length + 1 - np.arange(len(place), 0, -1) for length, (_, place) in zip(lengths, histories, strict=True)
        ]
        found: Tensor = states_NSW[_tensor(rows, hidden_PD), _tensor(np.concatenate(ends), hidden_PD)]
        return found


class TextProjection(nn.Linear):
    """Maps what the backbone made of an item's text to a vector: small at first, so that no item is likelier than another.

    Its input is divided by the square root of its width D. A step of Adam moves every weight by the learning rate, and so an
    output of D of them up to D times as far as a learnt vector, and all items together: what one of them is came too late.
    """

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__(hidden, width)
        nn.init.normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Return the vectors (C, W) of hidden states (C, D)."""
        return super().forward(input * self.in_features**-0.5)


def _tensor(numbers: np.ndarray, like: Tensor) -> Tensor:
    return send(np.ascontiguousarray(numbers), like.device)
