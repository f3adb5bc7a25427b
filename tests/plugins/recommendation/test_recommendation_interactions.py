"""Leave-one-out by time: what is held out, what training sees, and what bad interactions are told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vertebra.config.schema import DataConfig
from vertebra.data.load import load_splits
from vertebra.data.readers import NotedRows
from vertebra.errors import DataError
from vertebra.host.manager import create_host
from vertebra_recommendation.baselines import Popularity
from vertebra_recommendation.interactions import Interaction, InteractionOptions, leave_one_out
from vertebra_recommendation.ranks import hit_rate, ndcg
from vertebra_recommendation.sample import read as read_sample
from vertebra_recommendation.task import Recommendation

ML_100K = Path(__file__).resolve().parents[4] / "shared/data/recommendation/ml-100k"


def items(count: int) -> list[dict[str, Any]]:
    return [{"item": f"{n}", "title": f"Title {n}", "text": f"text {n}"} for n in range(1, count + 1)]


def taken(*triples: tuple[str, str, float]) -> list[Interaction]:
    return [Interaction(user, item, time, f"file:{line}") for line, (user, item, time) in enumerate(triples, 1)]


def split(*triples: tuple[str, str, float], of: int = 9, **options: Any) -> NotedRows:
    return leave_one_out(taken(*triples), items(of), InteractionOptions(**options))


def test_the_last_item_is_for_test_and_the_one_before_it_for_validation() -> None:
    rows = split(("a", "3", 5.0), ("a", "1", 1.0), ("b", "2", 9.0), ("a", "4", 3.0), ("b", "1", 7.0), ("b", "3", 8.0))
    assert rows["train"] == [
        {"id": "a", "user": "a", "history": [], "next": ["1"]},
        {"id": "b", "user": "b", "history": [], "next": ["1"]},
    ]
    assert [(row["history"], row["next"]) for row in rows["valid"]] == [(["1"], ["4"]), (["1"], ["3"])]
    assert [(row["history"], row["next"]) for row in rows["test"]] == [(["1", "4"], ["3"]), (["1", "3"], ["2"])]
    assert rows.notes == ()


def test_items_of_one_moment_are_in_the_order_of_their_names_and_numbers_in_that_of_their_values() -> None:
    triples = [("a", "10", 1.0), ("a", "9", 1.0), ("a", "1", 1.0), ("a", "2", 1.0)]
    rows = leave_one_out(taken(*triples), items(10), InteractionOptions())
    assert rows["test"][0]["history"] + rows["test"][0]["next"] == ["1", "2", "9", "10"]
    assert leave_one_out(taken(*triples[::-1]), items(10), InteractionOptions()) == rows


HISTORIES = st.lists(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 5)), min_size=3, max_size=12, unique_by=lambda pair: pair[0]),
    min_size=1,
    max_size=8,
)


@given(HISTORIES, st.sampled_from([0.0, 0.2, 0.5]), st.randoms())
def test_training_never_sees_what_is_held_out(histories: list[list[tuple[int, int]]], cold: float, random: Any) -> None:
    triples = [(f"u{user}", f"{item}", float(time)) for user, some in enumerate(histories) for item, time in some]
    random.shuffle(triples)
    rows = leave_one_out(taken(*triples), items(30), InteractionOptions(cold_items=cold))
    learnt = {(row["user"], item) for row in rows["train"] for item in row["next"]}
    held_out = {(row["user"], row["next"][0]) for name in ("valid", "test") for row in rows[name]}
    assert len(held_out) == 2 * len(histories)  # each is another interaction
    assert not learnt & held_out
    assert learnt | held_out <= {(user, item) for user, item, _ in triples}
    if not cold:
        assert len(learnt) + len(held_out) == len(triples)
    for valid, test in zip(rows["valid"], rows["test"], strict=True):
        assert test["history"] == [*valid["history"], *valid["next"]]
        assert valid["history"] == next((row["next"] for row in rows["train"] if row["user"] == valid["user"]), [])
        times = {item: time for user, item, time in triples if user == test["user"]}
        assert [times[item] for item in test["history"]] == sorted(times[item] for item in test["history"])
        assert all(times[item] <= times[test["next"][0]] for item in test["history"])


def test_cold_items_stand_in_no_training_history_and_the_notes_count_them() -> None:
    data = read_sample(DataConfig(options={"cold_items": 0.25, "users": 80}))
    learnt = {item for row in data["train"] for item in row["next"]}
    cold = {row["next"][0] for name in ("valid", "test") for row in data[name]} - learnt
    of_test = sum(row["next"][0] in cold for row in data["test"])
    found = re.search(
        r"60 of 240 items .* in no training history; they are the next item of (\d+) of 80", data.notes[0]
    )
    assert found and 5 < int(found[1]) <= of_test  # a few others happen to stand in none


# --- bad input


FEW = [("a", "1", 1.0), ("a", "2", 2.0), ("a", "3", 3.0), ("b", "1", 1.0)]


def test_users_with_too_few_interactions_are_named_or_skipped_and_counted() -> None:
    with pytest.raises(
        DataError, match=r"1 users have fewer than 3 interactions \(b, the first at .*data\.options\.few=skip"
    ):
        split(*FEW)
    rows = split(*FEW, few="skip")
    assert [row["user"] for row in rows["test"]] == ["a"]
    assert rows.notes == ("1 users have fewer than 3 interactions (b, the first at file:4): skipped",)


def test_items_without_a_text_are_named_or_skipped_and_counted() -> None:
    triples = [("a", f"{n}", float(n)) for n in (1, 2, 3, 4, 99)]
    table = [*items(4), {"item": "5", "title": "", "text": "  "}]
    with pytest.raises(DataError, match=r"2 items have no text \(5, 99\), with 1 interactions, first at file:5"):
        leave_one_out(taken(*triples), table, InteractionOptions())
    rows = leave_one_out(taken(*triples), table, InteractionOptions(without_text="skip"))
    assert [row["item"] for row in rows["items"]] == ["1", "2", "3", "4"]
    assert rows["test"][0]["next"] == ["4"]
    assert rows.notes == ("2 items have no text (5, 99), with 1 interactions, first at file:5: skipped",)


def test_an_item_taken_twice_is_refused_or_kept_once_or_always() -> None:
    triples = [("a", "1", 1.0), ("a", "2", 2.0), ("a", "1", 3.0), ("a", "3", 4.0)]
    with pytest.raises(DataError, match=r"file:3: user 'a' took item '1' before"):
        split(*triples)
    once = split(*triples, repeats="first")
    assert once["test"][0]["history"] == ["1", "2"] and "1 repeated interactions left out" in once.notes[0]
    assert split(*triples, repeats="keep")["test"][0]["history"] == ["1", "2", "1"]


def test_a_wrong_option_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.options\.cold_item: .* Did you mean 'cold_items'\?"):
        read_sample(DataConfig(options={"cold_item": 0.1}))
    with pytest.raises(DataError, match=r"data\.options\.cold_items=1\.5"):
        read_sample(DataConfig(options={"cold_items": 1.5}))


# --- the sample


def test_the_seed_makes_the_sample() -> None:
    assert read_sample(DataConfig(options={"seed": 5})) == read_sample(DataConfig(options={"seed": 5}))
    assert read_sample(DataConfig(options={"seed": 5})) != read_sample(DataConfig(options={"seed": 6}))


@given(st.integers(0, 2**32), st.integers(1, 20), st.integers(1, 8), st.integers(2, 5))
def test_the_sample_can_have_any_size(seed: int, users: int, series: int, parts: int) -> None:
    options = {
        "seed": seed,
        "users": users,
        "series": series,
        "parts": parts,
        "few": "skip",
        "shortest": 1,
        "cold_items": 0,
    }
    data = read_sample(DataConfig(options=options))
    assert len(data["items"]) == series * parts
    assert len({row["text"] for row in data["items"]}) == series * parts
    for row in data["test"]:
        history = [*row["history"], *row["next"]]
        assert len(set(history)) == len(history) >= 3


def test_what_follows_in_the_sample_can_be_read_off_the_texts() -> None:
    data = read_sample(DataConfig())
    texts = {row["item"]: row["text"] for row in data["items"]}
    names = [
        (texts[row["history"][-1]].split(",")[0].split()[-1], texts[row["next"][0]].split(",")[0].split()[-1])
        for row in data["test"]
    ]
    assert sum(last == following for last, following in names) > 0.35 * len(names)


# --- MovieLens


def test_popularity_on_movielens_has_its_known_scores() -> None:
    if not ML_100K.is_dir():
        pytest.skip(f"needs MovieLens 100K in {ML_100K}")
    task = Recommendation()
    data = DataConfig(path=str(ML_100K), format="movielens_100k", encoding="latin-1")
    splits = load_splits(data, task, create_host())
    assert {name: len(rows) for name, rows in splits.rows.items()} == {"train": 943, "valid": 943, "test": 943}
    assert sum(len(row["next"]) for row in splits.rows["train"]) == 100_000 - 2 * 943
    assert len(splits.tables["items"]) == 1682
    assert splits.tables["items"][0]["text"] == "Toy Story 1995 animation children's comedy"
    task.fit(splits.rows["train"])
    predictions = Popularity(task).predict(splits.rows["test"])
    assert np.mean([ndcg(one["rank"]) for one in predictions]) == pytest.approx(0.025, abs=5e-4)
    assert np.mean([hit_rate(one["rank"]) for one in predictions]) == pytest.approx(0.050, abs=5e-4)
