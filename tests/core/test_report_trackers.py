"""Trackers get what a run measured; what is not installed is refused before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pluggy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vertebra.config.schema import RunConfig, TaskChoice, TrainerConfig
from vertebra.engine.events import EvaluationEnd, RunEnd, RunStart, StepEnd
from vertebra.errors import ConfigError
from vertebra.host.hookspecs import RunHooks
from vertebra.report import trackers
from vertebra.report.trackers import check_trackers, create_trackers, flatten

DOCUMENT = {
    "tasks": [{"name": "ner", "config": None}],
    "trainer": {"learning_rate": 3e-4, "behaviours": []},
    "seed": 1,
    "flag": True,
}


def play(observer: object, folder: Path) -> None:
    manager = pluggy.PluginManager("vertebra")
    manager.add_hookspecs(RunHooks)
    manager.register(observer)
    hook: Any = manager.hook
    config = RunConfig(tasks=(TaskChoice("ner"),), trainer=TrainerConfig(log_every=2))
    hook.run_started(config=config, run=RunStart(folder, "k", ("ner",), "nano", 1, {}, 4, 0, ()))
    for step in range(1, 5):
        hook.step_ended(step=StepEnd(step, step / 2, 1.0 / step, 1e-3, 0.5, tokens=100, seconds=0.1))
    hook.evaluation_ended(evaluation=EvaluationEnd(4, 2.0, "valid", {"entity_f1": 0.5}, 0.3, 1.0, True))
    hook.evaluation_ended(evaluation=EvaluationEnd(2, 1.0, "test", {"entity_f1": 0.4}, 0.4, 1.0, False))
    hook.run_ended(run=RunEnd(folder, {}, 1.0))


def test_tensorboard_holds_losses_scores_and_configuration(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    play(create_trackers(["tensorboard", "tensorboard"], tmp_path, DOCUMENT), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    scalars = {
        tag: [(event.step, round(event.value, 4)) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }
    assert scalars["train/loss"] == [(2, 0.5), (4, 0.25)]
    assert scalars["train/tokens_per_second"] == [(2, 1000.0), (4, 1000.0)]
    assert scalars["valid/entity_f1"] == [(4, 0.5)]
    assert scalars["test/entity_f1"] == [(4, 0.4)]  # no step goes back, also for the test of an earlier checkpoint
    assert {"train/learning_rate", "train/gradient_norm", "valid/loss", "test/loss"} < set(scalars)
    stored = "".join(path.read_text() for path in (tmp_path / "tensorboard").rglob("hparams.yml"))
    assert "tasks.0.name: ner" in stored
    assert "trainer.learning_rate: 0.0003" in stored


def test_nothing_is_written_before_the_run_starts(tmp_path: Path) -> None:
    create_trackers(["tensorboard"], tmp_path, DOCUMENT)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_before_its_start_leaves_nothing_to_close(tmp_path: Path) -> None:
    create_trackers(["tensorboard"], tmp_path, DOCUMENT).run_failed()


def test_no_tracker_is_a_fine_choice(tmp_path: Path) -> None:
    play(create_trackers([], tmp_path, DOCUMENT), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_one_that_is_not_installed_is_refused_with_what_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=rf"'{name}', which is not installed.*pip install 'vertebra\[{name}\]'"):
        create_trackers([name], tmp_path, DOCUMENT)


def test_an_unknown_one_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"no tracker 'tensorbord'.*Did you mean 'tensorboard'.*mlflow"):
        check_trackers(["tensorbord"])


def test_nested_settings_get_dotted_names_and_values_that_trackers_hold() -> None:
    assert dict(flatten(DOCUMENT)) == {
        "tasks.0.name": "ner",
        "tasks.0.config": "None",
        "trainer.learning_rate": 3e-4,
        "seed": 1,
        "flag": True,
    }


@given(st.recursive(st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_flat_values_are_never_nested(value: Any) -> None:
    assert all(isinstance(leaf, (bool, int, float, str)) for _, leaf in flatten(value))
