"""What can be ranked without reading any text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vertebra.tasks.baseline import Baseline
from vertebra.tasks.task import Row
from vertebra_recommendation.ranks import ndcg, recommend

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from vertebra_recommendation.task import Recommendation

Scores = NDArray[np.float64]


class Ranker(Baseline):
    """A baseline that gives each item a score; predictions have the form of the task's own."""

    task: Recommendation

    @abstractmethod
    def scores(self, history: Sequence[int]) -> Scores:
        """Return a score for each item of the catalogue after this history."""

    def predict(self, rows: Sequence[Row]) -> list[Any]:
        """Rank the catalogue for each row."""
        find = self.task.catalogue.find
        return [self._predict(row, self.scores(find(row["history"]))) for row in rows]

    def _predict(self, row: Row, scores: Scores) -> dict[str, Any]:
        catalogue, config = self.task.catalogue, self.task.config
        history = catalogue.find(row["history"])
        target = catalogue.find(row["next"])[-1] if "next" in row else None
        seen = history if config.exclude_seen else []
        return recommend(catalogue, scores, seen, target, sampled=config.sampled)


class Popularity(Ranker):
    """The same items for everybody."""

    name: ClassVar[str] = "popularity"
    summary: ClassVar[str] = "items by how often they stand in the training histories"

    def fit(self, train: Sequence[Row], valid: Sequence[Row]) -> None:
        """Nothing is left to learn: the task has counted."""

    def scores(self, history: Sequence[int]) -> Scores:
        """Return the counts."""
        return self.task.catalogue.counts.astype(np.float64)


class ItemNeighbours(Ranker):
    """Items that are taken by those who took the items of the history (item-kNN; Sarwar et al. 2001)."""

    name: ClassVar[str] = "item-kNN"
    summary: ClassVar[str] = "cosine of items over users; neighbours and length of the history chosen on validation"

    NEIGHBOURS = (20, 50, 100, 200)
    RECENT = (1, 5, 20, 1000)

    def fit(self, train: Sequence[Row], valid: Sequence[Row]) -> None:
        """Count which items are taken together, and choose by NDCG@10 on validation, where there is one."""
        together = self._cosines(train)
        best = -1.0
        for neighbours, recent in product(self.NEIGHBOURS, self.RECENT):
            previous = getattr(self, "similar", None), getattr(self, "recent", 0)
            self.similar, self.recent = _nearest(together, neighbours), recent
            ranks = [one["rank"] for one in self.predict(valid)]
            score = float(np.mean([ndcg(rank) for rank in ranks])) if ranks else 0.0
            if score > best:
                best = score
            else:
                self.similar, self.recent = previous

    def scores(self, history: Sequence[int]) -> Scores:
        """Return for each item the sum of its cosines with the latest items of the history."""
        latest = list(history[-self.recent :])
        scores: Scores = np.asarray(self.similar[latest].sum(axis=0)).ravel()
        return scores if latest else np.zeros(len(self.task.catalogue))

    def _cosines(self, train: Sequence[Row]) -> csr_array:
        """Return the cosine (I, I) of each two items over the users of the training rows; 0 for an item with itself."""
        from scipy.sparse import csr_array, diags_array

        histories = [sorted(set(self.task.catalogue.find([*row["history"], *row["next"]]))) for row in train]
        columns = np.concatenate([np.asarray(history, dtype=np.int64) for history in histories])
        ends = np.cumsum([0, *map(len, histories)])
        taken_UI = csr_array((np.ones(len(columns)), columns, ends), shape=(len(histories), len(self.task.catalogue)))
        norms = np.sqrt(np.maximum(1, taken_UI.sum(axis=0)))
        unit_UI = taken_UI @ diags_array(1 / norms)
        cosines = csr_array(unit_UI.T @ unit_UI)
        cosines.setdiag(0)
        cosines.eliminate_zeros()
        return cosines


def _nearest(cosines: csr_array, neighbours: int) -> csr_array:
    """Return the cosines with only the largest of each row; of equal ones, those that stand first."""
    from scipy.sparse import csr_array

    kept = []
    for row in range(cosines.shape[0]):
        begin, end = cosines.indptr[row], cosines.indptr[row + 1]
        order = np.argsort(-cosines.data[begin:end], kind="stable")[:neighbours]
        kept.append(np.sort(order) + begin)
    chosen = np.concatenate(kept)
    ends = np.cumsum([0, *map(len, kept)])
    return csr_array((cosines.data[chosen], cosines.indices[chosen], ends), shape=cosines.shape)
