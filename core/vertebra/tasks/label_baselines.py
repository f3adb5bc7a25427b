"""Baselines for labelled texts: the most frequent label, and a linear model over words."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vertebra.tasks.baseline import Baseline
from vertebra.tasks.words import is_cjk

if TYPE_CHECKING:
    from vertebra.tasks.sequence_classification import SequenceClassification
    from vertebra.tasks.task import Row

Logits = NDArray[np.float64]


class LabelBaseline(Baseline):
    """A baseline that gives each row what a model's head would: a number for each label, in the terms of `decode`."""

    def __init__(self, task: SequenceClassification) -> None:
        super().__init__(task)
        self.own = copy(task)
        # The threshold that suits the baseline is not the model's.
        self.own.labelling = copy(task.labelling)

    def predict(self, rows: Sequence[Row]) -> list[Any]:
        """Return one prediction for each row, as the task makes it."""
        return [self.own.combine(row, [logits]) for row, logits in zip(rows, self.logits(rows), strict=True)]

    def calibrate(self, valid: Sequence[Row]) -> None:
        """Choose the threshold on the validation rows, where the task does so."""
        if valid:
            self.own.calibrate(valid, [[logits] for logits in self.logits(valid)])

    @abstractmethod
    def logits(self, rows: Sequence[Row]) -> list[list[float]]:
        """Return for each row its labels' log-probabilities, or log-odds."""


class MajorityBaseline(LabelBaseline):
    """What can be had without reading the text."""

    name: ClassVar[str] = "majority"
    summary: ClassVar[str] = "the labels' frequencies in training, whatever the text says"

    def fit(self, train: Sequence[Row], valid: Sequence[Row]) -> None:
        """Count the labels."""
        self.frequencies = self.own.labelling.frequencies(train)
        self.calibrate(valid)

    def logits(self, rows: Sequence[Row]) -> list[list[float]]:
        """Return the frequencies for each row."""
        return [self.frequencies for _ in rows]


class LinearBaseline(LabelBaseline):
    """Logistic regression over the tf-idf of words and pairs of neighbouring words.

    Texts written without spaces are read by characters. C=10 is what suits short texts; it is not searched for.
    """

    name: ClassVar[str] = "tf-idf"
    summary: ClassVar[str] = "logistic regression (C=10) over the tf-idf of words and word pairs"

    def fit(self, train: Sequence[Row], valid: Sequence[Row]) -> None:
        """Fit the words' weights on the training rows."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        texts = self._texts(train)
        by = {"analyzer": "char"} if mostly_unsegmented(texts) else {"token_pattern": r"(?u)\b\w+\b"}
        self.words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, **by)
        words_EV = self.words.fit_transform(texts)
        labels = [self.own.labelling.of(row) for row in train]
        if self.own.config.kind == "multi":
            self.models = [Regression(words_EV, [label in own for own in labels]) for label in self.own.labels]
        else:
            self.models = [Regression(words_EV, [own[0] for own in labels])]
        self.calibrate(valid)

    def logits(self, rows: Sequence[Row]) -> list[list[float]]:
        """Return what the regressions give each label."""
        words_EV = self.words.transform(self._texts(rows))
        if self.own.config.kind == "multi":
            chances = [model.log_probabilities(words_EV, [False, True]) for model in self.models]
            logits_EL = np.stack([chance_E2[:, 1] - chance_E2[:, 0] for chance_E2 in chances], axis=1)
        else:
            logits_EL = self.models[0].log_probabilities(words_EV, self.own.labels)
        values: list[list[float]] = logits_EL.tolist()
        return values

    def _texts(self, rows: Sequence[Row]) -> list[str]:
        return ["\n".join(row[column] for column in self.own.texts) for row in rows]


class Regression:
    """A logistic regression that also takes targets of one value alone."""

    def __init__(self, inputs_EV: Any, targets: Sequence[Any]) -> None:
        from sklearn.linear_model import LogisticRegression

        self.only = targets[0] if len(set(targets)) == 1 else None
        self.model = None
        if self.only is None:
            self.model = LogisticRegression(C=10, max_iter=1000).fit(inputs_EV, targets)

    def log_probabilities(self, inputs_EV: Any, targets: Sequence[Any]) -> Logits:
        """Return the log-probability of each of these targets; very low for one that was not there in training."""
        found = np.full((inputs_EV.shape[0], len(targets)), np.log(1e-9))
        if self.model is None:
            found[:, targets.index(self.only)] = 0.0
            return found
        places = [targets.index(value) for value in self.model.classes_.tolist()]
        found[:, places] = np.maximum(self.model.predict_log_proba(inputs_EV), np.log(1e-9))
        return found


def mostly_unsegmented(texts: Sequence[str]) -> bool:
    """Whether most letters of the texts are of a script written without spaces, or there are none."""
    letters = [character for text in texts[:1000] for character in text if character.isalpha()]
    return sum(map(is_cjk, letters)) >= len(letters) / 2
