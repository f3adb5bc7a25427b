import numpy as np
import pytest
from vertebra_readability.metrics import Spearman
from vertebra_readability.sample import read
from vertebra_readability.task import Readability

from vertebra import DataConfig
from vertebra.testing import check_task


def test_the_sample_is_the_same_each_time_and_has_unseen_words_in_its_test_part():
    rows = read(DataConfig())
    assert rows == read(DataConfig())
    seen, unseen = ({word for row in rows[split] for word in row["text"].split()} for split in ("train", "test"))
    assert len(unseen - seen) > 200


@pytest.mark.parametrize(
    ("predictions", "score"),
    [([1, 2, 3], 1), ([10, 200, 3000], 1), ([3, 2, 1], -1), ([2, 2, 2], 0), ([], 0)],
)
def test_spearman_looks_at_the_order_alone(predictions, score):
    metric = Spearman()
    counts = [metric.count(*pair) for pair in zip(predictions, [0.1, 0.2, 0.3], strict=False)]
    assert metric.score(np.array(counts).reshape(-1, 2)) == pytest.approx(score)


def test_the_task_keeps_every_promise():
    check_task("readability", known_scores=[("spearman", [1, 2, 3], [30, 20, 10], -1.0)])


def test_what_was_learnt_comes_back():
    task, restored = Readability(), Readability()
    task.fit(read(DataConfig())["train"])
    restored.restore(task.state())
    row, tokenizer = {"text": "ba di", "score": 3.0}, lambda text, **_: [1, 2]
    assert restored.encode(row, tokenizer).target == task.encode(row, tokenizer).target
    assert task.encode({"text": "ba di"}, tokenizer).target is None
