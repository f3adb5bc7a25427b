"""A run from its configuration to its report; it reads top to bottom."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from vertebra.config.document import to_document
from vertebra.config.schema import RunConfig, TaskChoice, TrainerConfig
from vertebra.data.cache import Encoded, FeatureCache
from vertebra.data.encode import encode_split
from vertebra.data.load import Splits, load_splits
from vertebra.engine.backbone import Backbone, load_backbone
from vertebra.engine.checkpoints import Checkpoints
from vertebra.engine.devices import Devices, set_up
from vertebra.engine.evaluate import Evaluation, evaluate
from vertebra.engine.events import EvaluationEnd, RunEnd, RunStart
from vertebra.engine.model import TaskModel
from vertebra.engine.recommend import settle
from vertebra.engine.trainer import Trainer
from vertebra.errors import RunError, VertebraError
from vertebra.host.manager import Host, create_behaviour_manager, create_host
from vertebra.metrics.metric import Metric
from vertebra.report.html import write_report
from vertebra.report.progress import create_progress
from vertebra.report.trackers import create_trackers
from vertebra.runs.environment import describe_environment
from vertebra.runs.folder import RunFolder, now
from vertebra.runs.key import active_plugins, run_key
from vertebra.runs.log import RunLog
from vertebra.runs.results import write_results
from vertebra.runs.saved import save_model_folder
from vertebra.runs.tasks import load_metrics, load_task
from vertebra.tasks.features import Features
from vertebra.tasks.task import Task


@dataclass(frozen=True)
class Prepared:
    """One task, ready to be trained and evaluated."""

    task: Task
    metrics: tuple[Metric, ...]
    splits: Splits
    encoded: dict[str, Encoded]

    def evaluate(self, split: str, model: TaskModel, devices: Devices) -> Evaluation:
        """Evaluate a split."""
        rows, features = self.splits.rows[split], self.encoded[split].features
        return evaluate(model, self.task, split, rows, features, self.metrics, devices)


def train(config: RunConfig, folder: Path | str, host: Host | None = None) -> RunEnd:
    """Train, evaluate, save and report, all into `folder`; return the scores.

    Raises `VertebraError` for what a user can mend; the folder then says that the run failed, and why.
    """
    host = host or create_host()
    if len(config.tasks) != 1:
        raise RunError(f"A run trains one task, and {len(config.tasks)} were given.")
    run = RunFolder.create(Path(folder))
    observers = [
        RunLog(run, config.trainer.log_every),
        create_progress(),
        create_trackers(config.trainer.trackers, run.path, to_document(config)),
    ]
    with _watched(host, observers), _recorded(run, host):
        return _train(config, run, host)


def _train(config: RunConfig, run: RunFolder, host: Host) -> RunEnd:
    began = time.perf_counter()
    choice = config.tasks[0]
    run.write_config(to_document(config))
    run.write_json("environment.json", describe_environment())

    devices = set_up(config.gpu)
    task = load_task(choice, host)
    metrics = load_metrics(task, host)
    splits = load_splits(choice.data, task, host)
    task.fit(splits.rows["train"])
    backbone = load_backbone(config.backbone, host, prefer=task.attention, seed=config.seed)
    prepared = Prepared(task, metrics, splits, encode(task, choice, splits, backbone))
    model = build_model(backbone, task, config, host).to(devices.accelerator.device)
    settled = replace(config, trainer=settle(config.trainer, backbone.info), gpu=devices.config)
    run.write_config(to_document(settled))
    notes = (*backbone.info.notes, *splits.notes, *_too_long_notes(prepared))
    _describe(run, settled, prepared, backbone, notes, host)

    checkpoints = Checkpoints(run.checkpoints, settled.trainer.keep_checkpoints)
    trainer = Trainer(
        model,
        task,
        _by_example(prepared.encoded["train"].features, len(splits.rows["train"])),
        [row["id"] for row in splits.rows["train"]],
        (lambda: prepared.evaluate("valid", model, devices)) if "valid" in splits.rows else None,
        settled.trainer,
        devices,
        checkpoints,
        host,
        create_behaviour_manager(host, settled.trainer.behaviours),
        higher_is_better=_higher_is_better(settled, metrics),
        seed=config.seed,
    )
    host.notify(
        "run_started",
        config=settled,
        run=RunStart(
            folder=run.path,
            key=run.read_state()["key"],
            tasks=(task.name,),
            backbone=backbone.info.name,
            parameters=backbone.info.parameters,
            examples={split: len(rows) for split, rows in splits.rows.items()},
            total_steps=trainer.total_steps,
            first_step=trainer.progress.step,
            notes=notes,
            device=str(devices),
            settings=summary(settled.trainer, trainer),
        ),
    )
    trainer.fit()

    evaluations = [prepared.evaluate(split, model, devices) for split in ("valid", "test") if split in splits.rows]
    for evaluation in evaluations:
        if evaluation.split == "test":
            _announce(evaluation, trainer, host)
    save_model_folder(run, model, {task.name: task})
    write_results(run, prepared.task, metrics, splits.rows, evaluations)
    checkpoints.clear()
    seconds = time.perf_counter() - began
    run.update_state(status="finished", seconds=round(seconds, 1))
    write_report(run, host)
    end = RunEnd(run.path, {one.split: one.scores for one in evaluations}, seconds)
    host.notify("run_ended", run=end)
    return end


# --- the parts of a run


def encode(task: Task, choice: TaskChoice, splits: Splits, backbone: Backbone) -> dict[str, Encoded]:
    """Encode every split for the backbone."""
    return {
        split: encode_split(
            task,
            rows,
            backbone.tokenizer,
            context=backbone.info.context,
            too_long=choice.data.too_long,
            cache=FeatureCache() if choice.data.cache else None,
            title=f"encoding {split}",
        )
        for split, rows in splits.rows.items()
    }


def build_model(backbone: Backbone, task: Task, config: RunConfig, host: Host) -> TaskModel:
    """Put a new head, a function of the seed, on the backbone, and adapt the backbone as configured."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        head = task.build_head(backbone.width)
        adapted = host.get("adapter", config.adapter.name).load()(backbone, config.adapter)
    return TaskModel(adapted, {task.name: head})


def summary(config: TrainerConfig, trainer: Trainer) -> str:
    """Say in one line what the trainer's settings came to."""
    return (
        f"learning rate {config.learning_rate:g}, {trainer.total_steps} steps of {config.batch_size} examples "
        f"({trainer.total_steps / trainer.plan.steps_per_epoch:.3g} epochs), {trainer.warmup_steps} steps of warm-up, "
        f"{config.optimizer}, {config.schedule} schedule"
    )


# --- details


@contextmanager
def _recorded(run: RunFolder, host: Host) -> Iterator[None]:
    """Keep `run.json` true: running, then finished by the run itself, or failed with the reason."""
    run.update_state(status="running", reason=None, created=now(), seconds=None)
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        reason = str(error) if isinstance(error, VertebraError) else f"{type(error).__name__}: {error}"
        run.update_state(status="stopped" if stopped else "failed", reason="interrupted" if stopped else reason)
        host.notify("run_failed", error=error)
        raise


@contextmanager
def _watched(host: Host, observers: Sequence[object]) -> Iterator[None]:
    """Let these objects hear the hooks of a run."""
    for observer in observers:
        host.manager.register(observer)
    try:
        yield
    finally:
        for observer in observers:
            host.manager.unregister(observer)


def _by_example(features: Sequence[Features], n_rows: int) -> list[list[Features]]:
    rows: list[list[Features]] = [[] for _ in range(n_rows)]
    for one in features:
        rows[one.example].append(one)
    return rows


def _higher_is_better(config: RunConfig, metrics: Sequence[Metric]) -> bool:
    wanted = config.trainer.metric or metrics[0].name
    return next((metric.higher_is_better for metric in metrics if metric.name == wanted), True)


def _too_long_notes(prepared: Prepared) -> list[str]:
    return [
        f"{encoded.too_long} rows of {split} are longer than the context"
        for split, encoded in prepared.encoded.items()
        if encoded.too_long
    ]


def _describe(
    run: RunFolder, config: RunConfig, prepared: Prepared, backbone: Backbone, notes: Sequence[str], host: Host
) -> None:
    """Write what the run is made of, before it starts."""
    plugins = active_plugins(host)
    about = asdict(backbone.info)
    about.pop("notes"), about.pop("context")
    run.update_state(
        key=run_key(config, [prepared.splits.fingerprint], backbone.info.fingerprint, plugins),
        tasks=[choice.name for choice in config.tasks],
        backbone=about,
        notes=list(notes),
        plugins=plugins,
    )
    policy = config.tasks[0].data.too_long
    run.write_json(
        "data.json",
        {
            "splits": {
                split: {
                    "rows": len(prepared.splits.rows[split]),
                    "sequences": len(encoded.features),
                    "tokens": sum(map(len, encoded.features)),
                    "too_long": encoded.too_long,
                }
                for split, encoded in prepared.encoded.items()
            },
            "too_long": prepared.task.too_long if policy == "auto" else policy,
            "fingerprint": prepared.splits.fingerprint,
            "notes": list(prepared.splits.notes),
        },
    )


def _announce(evaluation: Evaluation, trainer: Trainer, host: Host) -> None:
    host.notify(
        "evaluation_ended",
        evaluation=EvaluationEnd(
            step=trainer.progress.step,
            epoch=trainer.epoch,
            split=evaluation.split,
            scores=evaluation.scores,
            loss=evaluation.loss,
            seconds=0.0,
            best=False,
        ),
    )
