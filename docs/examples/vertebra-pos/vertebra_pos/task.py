from operator import eq

from vertebra import Metric, TokenClassification


class PartOfSpeech(TokenClassification):
    """The part of speech of each word."""

    name = "pos"
    metrics = ("word_accuracy",)


class WordAccuracy(Metric):
    """The share of words with the right part of speech."""

    name = "word_accuracy"

    def count(self, prediction, reference):
        return sum(map(eq, prediction, reference)), len(reference)

    def score(self, counts_EK):
        right, words = counts_EK.sum(axis=0)
        return float(right / words) if words else 0.0
