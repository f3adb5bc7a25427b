"""SASRec (Kang and McAuley 2018), a peer to compare with: item ids alone, no text.

It stands beside the tests, not in the plugin. It is trained on the rows of the plugin's readers and ranked by its `recommend`,
so that split, candidates, ties and metrics are the same. The network is the paper's: learnt positions, blocks of causal
attention (layer norm on the queries' side) and two pointwise layers with ReLU, the item embeddings also as output weights.
Two losses: the paper's binary cross-entropy with one random negative for each place, and the softmax over all items, which is
known to be the better one (Klenitskiy and Vasilev 2023; Petrov and Macdonald 2023); validation NDCG@10 picks among losses,
widths and rates of dropout, and the epoch.

    python tests/plugins/recommendation/sasrec.py FOLDER_OF_ML_100K [--seed 1] [--cold 0.1] [--only dropout=0.5]

Letters: N users, S places, I items, W width.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from vertebra.config.schema import DataConfig
from vertebra.data.load import load_splits
from vertebra.engine.evaluate import count
from vertebra.host.manager import create_host
from vertebra.tasks.task import Row
from vertebra_recommendation.baselines import Ranker, Scores
from vertebra_recommendation.metrics import ColdHRAt10, ColdNDCGAt10, HRAt10, MRRFull, NDCGAt10
from vertebra_recommendation.ranks import ndcg
from vertebra_recommendation.task import Recommendation


@dataclass(frozen=True)
class Settings:
    """What SASRec is trained with."""

    loss: Literal["bce", "softmax"] = "softmax"
    width: int = 64
    blocks: int = 2
    heads: int = 1
    dropout: float = 0.2
    places: int = 200
    batch_size: int = 128
    learning_rate: float = 1e-3
    epochs: int = 200
    patience: int = 20
    """Epochs without a better validation NDCG@10, after which training ends."""


class Block(nn.Module):
    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width = settings.width
        self.attention_norm, self.linear_norm = nn.LayerNorm(width, eps=1e-8), nn.LayerNorm(width, eps=1e-8)
        self.attention = nn.MultiheadAttention(width, settings.heads, settings.dropout, batch_first=True)
        self.linear = nn.Sequential(
            nn.Linear(width, width),
            nn.Dropout(settings.dropout),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.Dropout(settings.dropout),
        )

    def forward(self, hidden_NSW: Tensor, hidden_from: Tensor) -> Tensor:
        queries_NSW = self.attention_norm(hidden_NSW)
        mixed_NSW, _ = self.attention(queries_NSW, hidden_NSW, hidden_NSW, attn_mask=hidden_from, need_weights=False)
        inner_NSW = self.linear_norm(queries_NSW + mixed_NSW)
        output_NSW: Tensor = inner_NSW + self.linear(inner_NSW)
        return output_NSW


class Network(nn.Module):
    """Items are numbered from 1; 0 is padding, on the left."""

    def __init__(self, n_items: int, settings: Settings) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items + 1, settings.width, padding_idx=0)
        self.places = nn.Embedding(settings.places, settings.width)
        nn.init.xavier_normal_(self.items.weight)
        nn.init.xavier_normal_(self.places.weight)
        self.dropout = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.blocks))
        self.norm = nn.LayerNorm(settings.width, eps=1e-8)

    def forward(self, read_NS: Tensor) -> Tensor:
        """Return the states (N, S, W)."""
        places = read_NS.shape[1]
        hidden_NSW = self.items(read_NS) * self.items.embedding_dim**0.5 + self.places.weight
        there_NS1 = (read_NS != 0)[:, :, None]
        hidden_NSW = self.dropout(hidden_NSW) * there_NS1
        hidden_from = torch.ones(places, places, dtype=torch.bool).triu(1)
        for block in self.blocks:
            hidden_NSW = block(hidden_NSW, hidden_from) * there_NS1
        states_NSW: Tensor = self.norm(hidden_NSW)
        return states_NSW


class SASRec(Ranker):
    """SASRec as a baseline of the task."""

    name = "SASRec"
    summary = "self-attention over item ids; settings and epoch chosen on validation"

    def __init__(self, task: Recommendation, settings: Settings, seed: int) -> None:
        super().__init__(task)
        self.settings, self.seed = settings, seed
        self.best, self.epochs = 0.0, 0

    def fit(self, train: Sequence[Row], valid: Sequence[Row]) -> None:
        torch.manual_seed(self.seed)
        random = np.random.default_rng(self.seed)
        find = self.task.catalogue.find
        histories = [np.asarray(find([*row["history"], *row["next"]])) + 1 for row in train]
        self.network = Network(len(self.task.catalogue), self.settings)
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.settings.learning_rate, betas=(0.9, 0.98))
        weights: dict[str, Tensor] = {}
        for epoch in range(1, self.settings.epochs + 1):
            self.network.train()
            order = random.permutation(len(histories))
            for begin in range(0, len(order), self.settings.batch_size):
                chosen = [histories[number] for number in order[begin : begin + self.settings.batch_size]]
                optimizer.zero_grad()
                self._loss(chosen, random).backward()
                optimizer.step()
            score = float(np.mean([ndcg(one["rank"]) for one in self.predict(valid)]))
            if epoch % 10 == 0:
                print(f"  epoch {epoch}: {score:.4f}", flush=True)
            if score > self.best:
                self.best, self.epochs = score, epoch
                weights = {name: value.clone() for name, value in self.network.state_dict().items()}
            if epoch - self.epochs >= self.settings.patience:
                break
        self.network.load_state_dict(weights)

    def _loss(self, histories: Sequence[np.ndarray], random: np.random.Generator) -> Tensor:
        read_NS = self._padded([history[:-1] for history in histories])
        next_NS = self._padded([history[1:] for history in histories])
        states_NSW = self.network(read_NS)
        there_NS = next_NS != 0
        if self.settings.loss == "softmax":
            scores = states_NSW[there_NS] @ self.network.items.weight[1:].T
            return F.cross_entropy(scores, next_NS[there_NS] - 1)
        wrong = np.zeros(next_NS.shape, dtype=np.int64)
        for row, history in enumerate(histories):
            drawn = random.integers(1, len(self.task.catalogue) + 1, size=wrong.shape[1])
            while (taken := np.isin(drawn, history)).any():
                drawn[taken] = random.integers(1, len(self.task.catalogue) + 1, size=taken.sum())
            wrong[row] = drawn
        right = (states_NSW * self.network.items(next_NS)).sum(-1)[there_NS]
        others = (states_NSW * self.network.items(torch.from_numpy(wrong))).sum(-1)[there_NS]
        return -(F.logsigmoid(right) + F.logsigmoid(-others)).mean()

    def _padded(self, histories: Sequence[np.ndarray]) -> Tensor:
        padded = np.zeros((len(histories), self.settings.places), dtype=np.int64)
        for row, history in enumerate(histories):
            latest = history[-self.settings.places :]
            if len(latest):
                padded[row, -len(latest) :] = latest
        return torch.from_numpy(padded)

    def scores(self, history: Sequence[int]) -> Scores:
        """Return a score for each item of the catalogue after this history."""
        return self._scores([history])[0]

    @torch.no_grad()
    def _scores(self, histories: Sequence[Sequence[int]]) -> Scores:
        self.network.eval()
        read_NS = self._padded([np.asarray(history, dtype=np.int64) + 1 for history in histories])
        scores_NI: Scores = (self.network(read_NS)[:, -1] @ self.network.items.weight[1:].T).double().numpy()
        return scores_NI

    def predict(self, rows: Sequence[Row]) -> list[Any]:
        """Rank the catalogue for each row, some rows at a time."""
        predictions: list[Any] = []
        for begin in range(0, len(rows), 256):
            some = rows[begin : begin + 256]
            scores_NI = self._scores([self.task.catalogue.find(row["history"]) for row in some])
            predictions += [self._predict(row, scores_I) for row, scores_I in zip(some, scores_NI, strict=True)]
        return predictions


def main() -> None:
    """Choose settings on validation, and print the scores of the best ones on validation and test."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", help="the folder of MovieLens 100K")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cold", type=float, default=0.0, help="the share of cold items, as data.options.cold_items")
    parser.add_argument("--only", nargs="*", metavar="NAME=VALUE", help="train one choice of settings alone")
    arguments = parser.parse_args()
    data = DataConfig(
        path=arguments.folder,
        format="movielens_100k",
        encoding="latin-1",
        options={"cold_items": arguments.cold},
    )
    task = Recommendation()
    splits = load_splits(data, task, create_host())
    task.fit(splits.rows["train"])
    tried = [
        replace(Settings(), loss=loss, width=width, dropout=dropout)
        for loss, width, dropout in product(("softmax", "bce"), (64, 128), (0.2, 0.5))
    ]
    if arguments.only is not None:
        tried = [replace(Settings(), **yaml.safe_load("\n".join(arguments.only).replace("=", ": ") or "{}"))]
    found: list[SASRec] = []
    for settings in tried:
        began = time.perf_counter()
        model = SASRec(task, settings, arguments.seed)
        model.fit(splits.rows["train"], splits.rows["valid"])
        found.append(model)
        print(
            f"{asdict(settings)}: {model.best:.4f} in epoch {model.epochs}, {time.perf_counter() - began:.0f} s",
            flush=True,
        )
    best = max(found, key=lambda model: model.best)
    scores: dict[str, dict[str, float]] = {}
    for split in ("valid", "test"):
        rows = splits.rows[split]
        predictions, references = best.predict(rows), [task.reference(row) for row in rows]
        metrics = (NDCGAt10(), HRAt10(), MRRFull(), ColdNDCGAt10(), ColdHRAt10())
        scores[split] = {one.name: one.score(count(one, predictions, references)) for one in metrics}
    print(
        json.dumps(
            {"seed": arguments.seed, "settings": asdict(best.settings), "epochs": best.epochs, **scores}, indent=1
        )
    )


if __name__ == "__main__":
    main()
