"""Search by Optuna: the settings of each trial follow from the scores before it; trials without promise are given up.

Each trial is a job of a sweep (`vertebra.runs.sweep`), in a folder named by its content. What was tried stands in Optuna's own
storage, `search.db` beside the folders. A trial's settings are a function of the seed and of the trials before it, so a search
that was killed goes on as it would have.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from vertebra.engine.events import EvaluationEnd
from vertebra.engine.members import LOSS
from vertebra.errors import ConfigError, RunError, VertebraError
from vertebra.host.manager import Host
from vertebra.names import unknown
from vertebra.report.numbers import duration
from vertebra.runs.folder import RunFolder
from vertebra.runs.jobs import Job, JobResult, folders_of, is_finished, read_result
from vertebra.runs.launch import is_needed
from vertebra.runs.shared import Shared
from vertebra.runs.sweep import locked, prepare, work
from vertebra.runs.tasks import load_metrics, load_task

DATABASE = "search.db"
FOLDER = "folder"
"""Where the study keeps the name of a trial's folder."""
Space = Mapping[str, BaseDistribution]
MakeJob = Callable[[Mapping[str, Any]], Job]
"""Makes the job of a trial of its settings; `VertebraError` where they cannot go together."""


@dataclass(frozen=True)
class Plan:
    """How much is tried, and how."""

    trials: int
    """How many there are in all, those of earlier calls included."""
    prune: bool = True
    """Give up a trial whose score is below the median of the others at the same step."""
    seed: int = 0
    """Of what the search draws."""


def search(
    make_job: MakeJob, space: Space, folder: Path, host: Host, plan: Plan, fixed: Sequence[str]
) -> list[JobResult]:
    """Make the trials that are missing, and return all, in their order.

    A trial that failed stays open, and is tried again by the next call, as one that was killed. `fixed` is what all trials
    have in common: a folder is for one search. Raises `RunError` where the folder holds another one.
    """
    aim = Aim.of(make_job({name: first_value(one) for name, one in space.items()}), host)
    with locked(folder):
        study = open_study(folder, space, plan, fixed, aim)
        before = {trial.number: trial for trial in study.get_trials()}
        ended = {number for number, trial in before.items() if trial.state.is_finished()}
        results = {number: look(make_job, before[number], folder, host) for number in ended - refused(study)}
        shared, took = Shared(), list[float]()
        trials = max(plan.trials, len(before))
        for number in range(trials):
            if number in ended:
                continue
            began = time.monotonic()
            trial = Trial(study, before[number]._trial_id) if number in before else study.ask()
            settings = draw(study, trial, space, plan)
            title = f"Trial {number + 1} of {trials}{_left(took, trials - number)}"
            try:
                job = make_job(settings)
            except VertebraError as error:  # they cannot go together, and never will
                print(f"\n{title}: {settings} is refused: {error}", flush=True)
                study.tell(trial, state=TrialState.FAIL)
                continue
            print(f"\n{title}: {job.title}", flush=True)
            if plan.prune and is_needed(job.config):
                print(
                    "It runs in several processes, which are not given up early; with --no-prune no trial is.",
                    flush=True,
                )
            results[number] = Attempt(study, trial, job, aim).make(folder, host, shared)
            took.append(time.monotonic() - began)
        return [results[number] for number in sorted(results)]


def _left(took: Sequence[float], missing: int) -> str:
    return f", about {duration(median(took) * missing)} left" if took else ""


@dataclass(frozen=True)
class Aim:
    """What is searched for: the primary metric of validation."""

    metric: str
    higher_is_better: bool

    @classmethod
    def of(cls, job: Job, host: Host) -> Aim:
        """Return the metric that picks a job's best checkpoint, or the task's first one where the loss does that."""
        task = load_task(job.config.tasks[0], host)
        chosen = job.config.trainer.metric
        name = task.metrics[0] if chosen in (None, LOSS) else str(chosen)
        found = {metric.name: metric.higher_is_better for metric in load_metrics(task, host)}
        if name not in found:
            raise ConfigError(f"trainer.metric: {unknown('metric of this task', name, (*found, LOSS))}")
        return cls(name, found[name])


def first_value(distribution: BaseDistribution) -> Any:
    """Return one value of a distribution, whatever is searched."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return distribution.low


def refused(study: optuna.Study) -> set[int]:
    """Return the trials whose settings could not go together: nothing was run for them."""
    return {trial.number for trial in study.get_trials(states=[TrialState.FAIL])}


def open_study(folder: Path, space: Space, plan: Plan, fixed: Sequence[str], aim: Aim) -> optuna.Study:
    """Make the study in a folder, or take it up."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(
            storage=f"sqlite:///{(folder / DATABASE).absolute()}",
            study_name="search",
            direction="maximize" if aim.higher_is_better else "minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4) if plan.prune else optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
    except Exception as error:  # of SQLAlchemy, or of a database that is none
        reason = str(error).splitlines()[0]
        raise RunError(f"Cannot use '{folder / DATABASE}': {reason}.") from error
    described = {"space": {name: str(one) for name, one in space.items()}, "fixed": sorted(fixed), "seed": plan.seed}
    before = study.user_attrs.get("search")
    if before is None:
        study.set_user_attr("search", described)
    elif before != described:
        what = ", ".join(name for name in described if before.get(name) != described[name])
        raise RunError(f"'{folder}' holds another search: its {what} differs. Choose another place with --folder.")
    return study


def draw(study: optuna.Study, trial: Trial, space: Space, plan: Plan) -> dict[str, Any]:
    """Return the settings of a trial: those that it has already, and those that are drawn.

    Each is drawn by a generator of its own, so that a search that was killed between two of them draws the second as it would
    have.
    """
    settings = {}
    for place, (name, one) in enumerate(sorted(space.items())):
        seed = np.random.SeedSequence((plan.seed, trial.number, place)).generate_state(1)[0]
        study.sampler = optuna.samplers.TPESampler(seed=int(seed))
        settings[name] = suggest(trial, name, one)
    return {name: settings[name] for name in space}


def suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    """Return a setting of a trial: what it has already, or what the sampler draws."""
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)


def look(make_job: MakeJob, trial: FrozenTrial, folder: Path, host: Host) -> JobResult:
    """Return how an earlier trial ended; its folder has the name that it got then, with the plugins of then."""
    job = make_job(trial.params)
    known = trial.user_attrs.get(FOLDER)
    run = RunFolder(folder / known) if known is not None else folders_of([job], folder, host)[0]
    return read_result(job, run)


@dataclass(frozen=True)
class Attempt:
    """One trial on its way."""

    study: optuna.Study
    trial: Trial
    job: Job
    aim: Aim

    def make(self, folder: Path, host: Host, shared: Shared) -> JobResult:
        """Do the job, or go on with it, and tell the study what came of it."""
        (run,) = folders_of([self.job], folder, host)
        self.trial.set_user_attr(FOLDER, run.path.name)
        if not is_finished(run):  # else it was killed when the study was about to be told
            prepare(run.path, self.job)
            print(f"Run folder: {run.path}", flush=True)
            if error := work(run.path, host, shared, self.judge):
                print(f"The trial failed: {error}", flush=True)
                return read_result(self.job, run, error)
        result = read_result(self.job, run)
        score = result.metrics.get("valid", {}).get(self.aim.metric)
        if result.status == "pruned":
            self.study.tell(self.trial, state=TrialState.PRUNED)
        elif score is None:
            raise RunError("A search needs a score of validation, and there is none. Set data.valid_fraction.")
        else:
            self.study.tell(self.trial, score)
        return result

    def judge(self, evaluation: EvaluationEnd) -> str | None:
        """Report a score, and return why the trial is to be given up, if it is."""
        score = evaluation.scores.get(self.aim.metric)
        if score is None:
            return None
        if evaluation.step not in self.study.trials[self.trial.number].intermediate_values:  # of before it was killed
            self.trial.report(score, evaluation.step)
        if not self.trial.should_prune():
            return None
        return f"Pruned at step {evaluation.step}: {self.aim.metric} {score:.4g} is worse than most trials' by then."
