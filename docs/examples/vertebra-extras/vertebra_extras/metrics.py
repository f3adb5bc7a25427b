from vertebra import Mean


class Brier(Mean):
    """Brier's score of a label's probabilities (Monthly Weather Review, 1950): 0 is perfect, 2 sure and wrong."""

    name = "brier"
    higher_is_better = False

    def value(self, prediction, reference):
        probabilities = {reference["label"]: 0.0} | prediction.get("probabilities", {prediction["label"]: 1.0})
        return sum((p - (label == reference["label"])) ** 2 for label, p in probabilities.items())
