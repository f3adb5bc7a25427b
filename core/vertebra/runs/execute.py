"""A run from its configuration to its report; it reads top to bottom."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from vertebra.config.document import from_document, to_document
from vertebra.config.schema import RunConfig, TrainerConfig
from vertebra.data.load import unseen_labels
from vertebra.engine.attention_varlen import why_not
from vertebra.engine.backbone import Backbone
from vertebra.engine.budget_measurement import measured_budget
from vertebra.engine.checkpoints import Checkpoints
from vertebra.engine.counting import ParameterCounts, count_parameters
from vertebra.engine.devices import Devices, set_up
from vertebra.engine.evaluate import Evaluation
from vertebra.engine.events import EvaluationEnd, RunEnd, RunStart
from vertebra.engine.frozen import refuse_behaviours
from vertebra.engine.model import TaskModel
from vertebra.engine.ranks import rank
from vertebra.engine.recommend import rate_factor, settle
from vertebra.engine.seeds import seed_everything
from vertebra.engine.trainer import LOSS, Trainer
from vertebra.errors import PrunedError, RunError, StoppedError, VertebraError
from vertebra.host.manager import Host, create_behaviour_manager, create_host
from vertebra.metrics.metric import Metric
from vertebra.report.html import write_report
from vertebra.report.progress import create_progress
from vertebra.report.scale import Scale
from vertebra.report.trackers import create_trackers
from vertebra.runs.baselines import compute
from vertebra.runs.cost import CostMeter
from vertebra.runs.environment import describe_environment
from vertebra.runs.folder import RunFolder, now
from vertebra.runs.key import active_plugins, anchored, run_key
from vertebra.runs.launch import is_needed, launch
from vertebra.runs.log import RunLog
from vertebra.runs.prepare import Prepared, prepare
from vertebra.runs.pruning import Prune, Pruning
from vertebra.runs.results import write_results
from vertebra.runs.saved import save_model_folder
from vertebra.runs.shared import Shared
from vertebra.runs.signals import stop_on_signal
from vertebra.tasks.task import Task


def train(
    config: RunConfig,
    folder: Path | str,
    host: Host | None = None,
    *,
    shared: Shared | None = None,
    prune: Prune | None = None,
) -> RunEnd:
    """Train, evaluate, save and report, all into `folder`; return the scores.

    What is loaded may be `shared` with other runs of this process, which changes no result. `prune` is asked after each
    evaluation of validation, and gives the run up by a reason. Raises `VertebraError` for what a user can mend; the folder
    then says that the run failed, and why.
    """
    host = host or create_host()
    if len(config.tasks) != 1:
        raise RunError(f"A run trains one task, and {len(config.tasks)} were given.")
    if rank() > 0:
        return _assist(config, host)
    run = RunFolder.create(Path(folder))
    with run.locked():
        run.refuse_if_taken()  # by a process that was faster
        run.write_config(to_document(anchored(config)))
        run.write_json("environment.json", describe_environment())
        # From here on the run can be resumed, so everything that needs comes first.
        run.update_state(status="running", reason=None, created=now(), seconds=None)
        return _run(anchored(config), run, host, shared, prune)


def resume(
    folder: Path | str,
    host: Host | None = None,
    *,
    processes: int | None = None,
    shared: Shared | None = None,
    prune: Prune | None = None,
) -> RunEnd:
    """Go on with a run from its newest checkpoint, by its own saved configuration; return the scores.

    On the same machine and versions, the finished run is the one that an uninterrupted run would have been, bit by bit. A run
    with shared weights goes on in any number of `processes`; then it is so up to rounding and to what is drawn in a pass.
    Raises `RunError` for a folder without a run, a finished run, or one whose data or plugins have changed.
    """
    host = host or create_host()
    run = RunFolder(Path(folder).expanduser())
    if not run.path.is_dir():
        raise RunError(f"There is no run folder '{run.path}'.")
    if rank() > 0:
        return _assist(from_document(run.read_config(), host), host)
    with run.locked():
        state = run.read_state()
        if state.get("status") == "finished":
            raise RunError(f"The run in '{run.path}' is finished; there is nothing to resume.")
        config = from_document(run.read_config(), host)
        if processes is not None:
            config = _in_processes(processes, config, run)
        run.sweep()
        run.update_state(status="running", reason=None)
        return _run(config, run, host, shared, prune)


def take_part(config: RunConfig, folder: Path, host: Host) -> RunEnd:
    """Be one of the processes of a run, in a folder that the process which launched them has made and locked."""
    return _assist(config, host) if rank() > 0 else _run(config, RunFolder(folder), host, None, None)


def _run(config: RunConfig, run: RunFolder, host: Host, shared: Shared | None, prune: Prune | None) -> RunEnd:
    if is_needed(config):
        with _recorded(run, Host()):  # the plugins hear of the run from its main process
            return launch(config, run)
    log = RunLog(run, config.trainer.log_every)
    trackers = create_trackers(config.trainer.trackers, run.path, to_document(config))
    pruning = Pruning(prune)
    observers = [log, CostMeter(run), create_progress(scale=Scale.of(host)), trackers, pruning]
    with _watched(host, observers), _recorded(run, host):
        return _train(config, run, host, log, shared or Shared(keep=0), pruning)


def _assist(config: RunConfig, host: Host) -> RunEnd:
    """Do this process's part of a run that the main one owns: nothing of it is heard, or stays on disk."""
    host.silence()
    with TemporaryDirectory(prefix="vertebra-") as scratch:
        run = RunFolder(Path(scratch))
        run.update_state(status="running")
        return _train(config, run, host, RunLog(run, config.trainer.log_every), Shared(keep=0), Pruning())


def _train(config: RunConfig, run: RunFolder, host: Host, log: RunLog, shared: Shared, pruning: Pruning) -> RunEnd:
    began = time.perf_counter()
    seed_everything(config.seed)  # the run before this one in the process leaves nothing behind
    devices = set_up(config.gpu)
    behaviours = create_behaviour_manager(host, config.trainer.behaviours)
    if config.backbone.freeze:
        refuse_behaviours(behaviours)
    prepared, model = prepare(config, devices, host, shared)
    task, metrics, splits, backbone = prepared.task, prepared.metrics, prepared.splits, model.backbone
    if config.gpu.token_budget == "auto" and devices.accelerator.device.type == "cuda":
        devices = devices.with_budget(measured_budget(model, task, prepared.encoded["train"].features, devices))
    factor = rate_factor(config.adapter.name, host)
    settled = replace(
        config,
        trainer=settle(config.trainer, backbone.info, frozen=config.backbone.freeze, factor=factor),
        gpu=devices.config,
    )
    key = run_key(settled, [splits.fingerprint], backbone.info.fingerprint, active_plugins(host))
    _refuse_changes(run, key)
    run.write_config(to_document(settled))
    failed_baselines = _write_baselines(run, settled, prepared) if devices.accelerator.is_main_process else []
    frozen = ["the backbone is frozen: only the head is trained"] if config.backbone.freeze else []
    notes = (
        *backbone.info.notes,
        *frozen,
        *splits.notes,
        *unseen_labels(task, splits.rows),
        *_too_long_notes(prepared),
        *task.notes({split: encoded.features for split, encoded in prepared.encoded.items()}),
        *_attention_notes(backbone, devices),
        *failed_baselines,
    )
    counts = count_parameters(model)
    _describe(run, key, settled, prepared, backbone, counts, notes, host)

    checkpoints = _checkpoints(run, settled.trainer.keep_checkpoints, devices)
    with stop_on_signal() as stop:
        trainer = Trainer(
            model,
            task,
            prepared.by_example("train"),
            [row["id"] for row in splits.rows["train"]],
            (lambda: prepared.evaluate("valid", model, devices, while_training=True))
            if "valid" in splits.rows
            else None,
            settled.trainer,
            devices,
            checkpoints,
            host,
            behaviours,
            higher_is_better=_higher_is_better(settled, metrics),
            seed=config.seed,
            stop=lambda: devices.agree(stop() or pruning.reason is not None),
        )
        trainer.resume()
        log.rewind(trainer.progress.step)
        host.notify(
            "run_started",
            config=settled,
            run=RunStart(
                folder=run.path,
                key=key,
                tasks=(task.name,),
                backbone=backbone.info.name,
                parameters=counts.backbone,
                examples={split: len(rows) for split, rows in splits.rows.items()},
                total_steps=trainer.total_steps,
                first_step=trainer.progress.step,
                notes=notes,
                device=str(devices),
                settings=summary(settled.trainer, trainer),
                adapter=config.adapter.name,
                trained=counts.trained,
                head=counts.head,
            ),
        )
        with pruning.told_apart():
            trainer.fit()

    evaluations = [prepared.evaluate(split, model, devices) for split in ("valid", "test") if split in splits.rows]
    scores = {one.split: one.scores for one in evaluations}
    for evaluation in evaluations:
        if evaluation.split == "test":
            _announce(evaluation, trainer, host)
    _save_model(run, model, task, devices)
    if not devices.accelerator.is_main_process:
        return RunEnd(run.path, scores, time.perf_counter() - began)
    write_results(run, prepared.task, metrics, splits.rows, evaluations)
    seconds = time.perf_counter() - began
    weights = checkpoints.hashes(trainer.progress.best_step)
    ending = {"status": "finished", "seconds": round(seconds, 1), "weights": weights}
    # Until the status says so the run can be resumed, so everything else comes first.
    write_report(run, host, ending)
    run.update_state(**ending)
    checkpoints.clear()
    end = RunEnd(run.path, scores, seconds)
    host.notify("run_ended", run=end)
    return end


# --- the parts of a run


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
    """Keep `run.json` true where a run does not end by itself: stopped or failed, with the reason."""
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | StoppedError)
        reason = str(error) if isinstance(error, VertebraError) else f"{type(error).__name__}: {error}"
        status = "pruned" if isinstance(error, PrunedError) else "stopped" if stopped else "failed"
        with suppress(RunError):  # the disk may be what failed
            run.update_state(status=status, reason=reason)
        host.notify("run_failed", error=error)
        if isinstance(error, StoppedError):
            raise StoppedError(f"{error} Go on with: vertebra resume '{run.path}'") from None
        raise


def _checkpoints(run: RunFolder, keep: int, devices: Devices) -> Checkpoints:
    """Return the checkpoints of a run, whose folder is the main process's."""
    folder = Path(devices.from_main(str(run.checkpoints.absolute())))
    if not devices.config.shard:
        return Checkpoints(folder, keep)
    from vertebra.engine.sharded_checkpoints import ShardedCheckpoints

    return ShardedCheckpoints(folder, keep, devices)


def _save_model(run: RunFolder, model: TaskModel, task: Task, devices: Devices) -> None:
    """Write the model's folder, which is the same however many processes trained it; every process must come here."""
    main = devices.accelerator.is_main_process
    gathered: AbstractContextManager[None] = nullcontext()
    if devices.sharded:
        from vertebra.engine.sharding import whole

        gathered = whole(model, here=main)
    with gathered:
        if main:
            save_model_folder(run, model, {task.name: task})


def _in_processes(number: int, config: RunConfig, run: RunFolder) -> RunConfig:
    """Return the configuration for another number of processes, and let the run's key say so; nothing else may differ."""
    if not config.gpu.shard:
        raise RunError(
            f"The run in '{run.path}' goes on in {config.gpu.processes} process(es), as it began: only checkpoints of shared "
            "weights (gpu=fsdp) can be read by another number of them."
        )
    changed = replace(config, gpu=replace(config.gpu, processes=number))
    state = run.read_state()
    if "key" in state:
        data, backbone = run.read_json("data.json")["fingerprint"], state["backbone"]["fingerprint"]
        if state["key"] != run_key(config, [data], backbone, state["plugins"]):
            raise RunError(f"The run in '{run.path}' cannot go on: its files do not fit each other. Start a new run.")
        run.update_state(key=run_key(changed, [data], backbone, state["plugins"]))
    run.write_config(to_document(changed))
    return changed


def _refuse_changes(run: RunFolder, key: str) -> None:
    """Refuse to go on with a run that would become another one half way."""
    before = run.read_state().get("key", key)
    if before != key:
        raise RunError(
            f"The run in '{run.path}' cannot go on: its data, its backbone, or the active plugins are not what they were "
            f"(key {before[:12]}, now {key[:12]}). Start a new run."
        )


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


def _higher_is_better(config: RunConfig, metrics: Sequence[Metric]) -> bool:
    wanted = config.trainer.metric or metrics[0].name
    if wanted == LOSS:
        return False
    return next((metric.higher_is_better for metric in metrics if metric.name == wanted), True)


def _too_long_notes(prepared: Prepared) -> list[str]:
    return [
        f"{encoded.too_long} rows of {split} are longer than the context"
        for split, encoded in prepared.encoded.items()
        if encoded.too_long
    ]


def _attention_notes(backbone: Backbone, devices: Devices) -> tuple[str, ...]:
    if backbone.info.packing == "padded" or devices.accelerator.device.type != "cuda":
        return ()
    dtype = torch.bfloat16 if devices.config.precision == "bf16" else backbone.model.dtype
    reason = why_not(backbone.model.config, dtype)
    return (reason,) if reason else ()


def _describe(
    run: RunFolder,
    key: str,
    config: RunConfig,
    prepared: Prepared,
    backbone: Backbone,
    counts: ParameterCounts,
    notes: Sequence[str],
    host: Host,
) -> None:
    """Write what the run is made of, before it starts."""
    about = asdict(backbone.info)
    about.pop("notes"), about.pop("context")
    run.update_state(
        key=key,
        tasks=[choice.name for choice in config.tasks],
        backbone=about,
        adapter={
            "name": config.adapter.name,
            **asdict(counts),
            "share": counts.share,
            "base": backbone.adapter.base_fingerprint if backbone.adapter else None,
        },
        notes=list(notes),
        plugins=active_plugins(host),
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


def _write_baselines(run: RunFolder, config: RunConfig, prepared: Prepared) -> list[str]:
    """Write what the task's baselines score, and return a note for each one that failed."""
    if not config.trainer.baselines:
        return []
    baselines = compute(prepared.task, prepared.metrics, prepared.splits, cache=config.tasks[0].data.cache)
    run.write_json("baselines.json", baselines.document())
    return baselines.notes


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
