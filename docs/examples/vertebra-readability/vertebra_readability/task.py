from statistics import fmean, pstdev

from torch import nn

from vertebra import Features, Task


class Readability(Task):
    """How easily a text reads: one number, learnt by squared error; the higher, the easier."""

    name = "readability"
    columns = {"text": str, "score": float}
    metrics = ("spearman",)

    def fit(self, rows):
        scores = [row["score"] for row in rows]
        self.mean, self.spread = fmean(scores), pstdev(scores) or 1.0

    def state(self):
        return {"mean": self.mean, "spread": self.spread}

    def restore(self, state):
        self.mean, self.spread = state["mean"], state["spread"]

    def encode(self, row, tokenizer):
        target = (row["score"] - self.mean) / self.spread if "score" in row else None
        return Features(tokenizer(row["text"], split_special_tokens=True), target=target)

    def build_head(self, width):
        return nn.Linear(width, 1)

    def loss(self, outputs_N1, targets_N):
        return nn.functional.mse_loss(outputs_N1.squeeze(1), targets_N)

    def decode(self, outputs_N1, batch):
        return (outputs_N1.squeeze(1) * self.spread + self.mean).tolist()
