from scipy.stats import spearmanr

from vertebra import Metric


class Spearman(Metric):
    """Spearman's rank correlation, -1 to 1; 0 where all predictions or all references are equal."""

    name = "spearman"

    def count(self, prediction, reference):
        return (prediction, reference)

    def score(self, counts_EK):
        constant = (counts_EK == counts_EK[:1]).all(axis=0).any()
        return 0.0 if constant else float(spearmanr(counts_EK).statistic)
