"""Which runs are one system of a leaderboard, and what systems are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

from vertebra.runs.collect import entries_of
from vertebra.runs.folder import RunFolder
from vertebra.runs.leaderboard import labels_of


def test_what_two_sweeps_made_is_named_alike(tmp_path: Path) -> None:
    """The table of a sweep is of its last call, and each sweep has its own axes: equal settings are one system all the same."""

    def run(folder: str, seed: int, rate: float, log_every: int = 10) -> RunFolder:
        made = RunFolder.create(tmp_path / folder)
        trainer = {"learning_rate": rate, "log_every": log_every}
        made.write_config({"tasks": [{"name": "ner"}], "seed": seed, "trainer": trainer, "backbone": {"name": "nano"}})
        return made

    runs = [
        run("one/a", 1, 0.1),
        run("one/b", 2, 0.1),
        run("two/c", 3, 0.1, 50),
        run("two/d", 3, 0.2),
        run("e", 4, 0.2),
    ]
    axes = {"one": [("a", {"seed": 1}), ("b", {"seed": 2})]}
    axes["two"] = [("c", {"trainer.learning_rate": 0.1}), ("d", {"trainer.learning_rate": 0.2})]
    for place, jobs in axes.items():
        RunFolder(tmp_path / place).write_json("sweep.json", {"jobs": [{"folder": a, "axes": b} for a, b in jobs]})
    assert [one.system for one in entries_of(runs)] == [*["learning_rate=0.1"] * 3, *["learning_rate=0.2"] * 2]
    assert [one.system for one in entries_of(runs[:2])] == ["nano"] * 2
    assert [one.system for one in entries_of(runs[2:4])] == ["learning_rate=0.1", "learning_rate=0.2"]


def test_sweeps_with_the_same_axes_are_systems_of_their_own(tmp_path: Path) -> None:
    """Two sweeps over seeds alone, of which the second one trained for longer."""
    runs = []
    for sweep, epochs in (("short", 1), ("long", 10)):
        jobs = []
        for seed in (1, 2):
            run = RunFolder.create(tmp_path / sweep / str(seed))
            config = {"tasks": [{"name": "ner"}], "seed": seed, "trainer": {"epochs": epochs}}
            run.write_config({**config, "backbone": {"name": "nano"}})
            jobs.append({"folder": str(seed), "axes": {"seed": seed}})
            runs.append(run)
        RunFolder(tmp_path / sweep).write_json("sweep.json", {"jobs": jobs})
    with mock.patch.object(RunFolder, "read_json", autospec=True, side_effect=RunFolder.read_json) as reading:
        assert [one.system for one in entries_of(runs)] == ["epochs=1"] * 2 + ["epochs=10"] * 2
    assert [call.args[1] for call in reading.mock_calls].count("sweep.json") == 2, "each is read once"
    assert [one.system for one in entries_of(runs[:2])] == ["nano"] * 2


def test_seeds_of_different_machines_are_one_system(tmp_path: Path) -> None:
    machines = (
        {"threads": 2, "token_budget": 4096, "processes": 1},
        {"threads": 8, "token_budget": 512, "processes": 2},
    )
    runs = []
    for seed, gpu in enumerate(machines):
        run = RunFolder.create(tmp_path / str(seed))
        run.write_config({"tasks": [{"name": "ner"}], "seed": seed, "gpu": gpu, "backbone": {"name": "nano"}})
        runs.append(run)
    assert [one.system for one in entries_of(runs)] == ["nano"] * 2
    jobs = [{"folder": str(seed), "axes": {"gpu.threads": gpu["threads"]}} for seed, gpu in enumerate(machines)]
    RunFolder(tmp_path).write_json("sweep.json", {"jobs": jobs})
    assert [one.system for one in entries_of(runs)] == ["threads=2", "threads=8"]


def joint_run(folder: Path, seed: int = 1, **changes: dict[str, Any]) -> RunFolder:
    """Write what a run of two tasks says of itself, and return the folder of the first one; `changes` are of tasks."""
    names = ["ner", "sentiment"]
    choices = [
        {"name": name, "data": {"format": "made", "cache": True}, "weight": 1.0, **changes.get(name, {})}
        for name in names
    ]
    run = RunFolder.create(folder)
    config = {"seed": seed, "backbone": {"name": "nano"}}
    run.write_config({**config, "tasks": choices})
    place = RunFolder.create(run.of_task("ner").path)
    place.write_config({**config, "tasks": choices[:1]})
    place.update_state(together=names)
    return place


def test_what_a_task_is_given_makes_a_system(tmp_path: Path) -> None:
    """Its data's settings, its weight and its head are part of it, and of a run of several those of the others."""
    short = {"format": "made", "limit": 9}
    runs = [
        joint_run(tmp_path / "plain"),
        joint_run(tmp_path / "seed", seed=2),
        joint_run(tmp_path / "cache", seed=3, ner={"data": {"format": "made", "cache": False}}),
        joint_run(tmp_path / "long", ner={"data": {"format": "made", "too_long": "truncate"}}),
        joint_run(tmp_path / "heavy", ner={"weight": 2.0}),
        joint_run(tmp_path / "head", ner={"head_from": "runs/a"}),
        joint_run(tmp_path / "beside", sentiment={"weight": 2.0}),
        joint_run(tmp_path / "less", sentiment={"data": short}),
    ]
    systems = [one.system for one in entries_of(runs)]
    assert len(set(systems[:3])) == 1 and len(set(systems)) == 6
    assert systems[3].startswith("too_long=truncate ") and systems[5].startswith("weight=1.0 head_from=runs/a ")
    assert systems[6].endswith(" sentiment.weight=2.0") and " sentiment.data.limit=9 " in systems[7]

    # From a run of the task alone it differs by what it was trained beside, and not by every setting of that.
    alone = RunFolder.create(tmp_path / "alone")
    alone.write_config(
        {"seed": 1, "backbone": {"name": "nano"}, "tasks": [{"name": "ner", "data": {"format": "made"}}]}
    )
    assert [one.system for one in entries_of([*runs[:2], alone])] == ["together=ner+sentiment"] * 2 + ["nano"]

    # On other data, how those are read makes no other system.
    two = [
        joint_run(tmp_path / name, ner={"data": {"format": "csv", "path": name, "limit": limit}})
        for name, limit in (("a.csv", 1), ("b.csv", 2))
    ]
    assert [(one.task, one.system) for one in entries_of(two)] == [("ner (a.csv)", "nano"), ("ner (b.csv)", "nano")]


def test_scores_of_one_seed_do_not_replace_each_other(tmp_path: Path) -> None:
    entries = entries_of([joint_run(tmp_path / name) for name in ("one", "two")])
    assert [one.system for one in entries] == ["nano", "nano"]
    assert labels_of(entries) == [f"1 ({tmp_path / name / 'tasks' / 'ner'})" for name in ("one", "two")]
    assert labels_of(entries[:1]) == ["1"]
