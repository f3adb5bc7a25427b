"""A run from its configuration to its report; it reads top to bottom."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from vertebra.config.document import from_document, to_document
from vertebra.config.schema import RunConfig, TrainerConfig
from vertebra.engine.budget_measurement import measured_budget
from vertebra.engine.checkpoints import Checkpoints
from vertebra.engine.counting import count_parameters
from vertebra.engine.devices import Devices, set_up
from vertebra.engine.events import RunEnd, RunStart
from vertebra.engine.frozen import refuse_behaviours
from vertebra.engine.model import TaskModel
from vertebra.engine.ranks import rank
from vertebra.engine.recommend import rate_factor, settle, settled_rates
from vertebra.engine.seeds import seed_everything
from vertebra.engine.trainer import Trainer
from vertebra.errors import PrunedError, RunError, StoppedError, VertebraError
from vertebra.host.manager import Host, create_behaviour_manager, create_host
from vertebra.report.html import write_report
from vertebra.report.progress import create_progress
from vertebra.report.scale import Scale
from vertebra.report.trackers import create_trackers
from vertebra.runs.baselines import compute
from vertebra.runs.consolidation import find_importance
from vertebra.runs.cost import CostMeter
from vertebra.runs.describe import (
    adapters_of,
    attention_notes,
    describe,
    joined_notes,
    rows_by_split,
    rows_of_epoch,
    rows_of_step,
)
from vertebra.runs.environment import describe_environment
from vertebra.runs.folder import RunFolder, now
from vertebra.runs.key import active_plugins, anchored, run_key
from vertebra.runs.launch import is_needed, launch
from vertebra.runs.log import RunLog
from vertebra.runs.members import last_evaluations, member_of
from vertebra.runs.metric_trial import try_metrics
from vertebra.runs.prepare import Prepared, prepare_tasks
from vertebra.runs.pruning import Prune, Pruning
from vertebra.runs.results import write_results
from vertebra.runs.saved import save_model_folder
from vertebra.runs.shared import Shared
from vertebra.runs.signals import stop_on_signal
from vertebra.runs.task_folders import finish, make_places, write_together
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
    then says that the run failed, and why. Where it failed before its first step, the next run may have the folder.
    """
    host = host or create_host()
    if not config.tasks:
        raise RunError("A run trains a task, and none was given.")
    if rank() > 0:
        return _assist(config, host)
    run = RunFolder.create(Path(folder))
    with run.locked():
        run.refuse_if_taken()  # by a process that was faster
        run.vacate()
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
    parts, model = prepare_tasks(config, devices, host, shared)
    for part in parts:
        try_metrics(part, model, devices)
    backbone = model.backbone
    if config.gpu.token_budget == "auto" and devices.accelerator.device.type == "cuda":
        measured = [measured_budget(model, part.task, part.encoded["train"].features, devices) for part in parts]
        devices = devices.with_budget(min(measured))
    factor = rate_factor(config.adapter, host, config.trainer.batch_size)
    trainer_config = settle(
        config.trainer, backbone.info, rows_of_epoch(parts), frozen=config.backbone.freeze, factor=factor
    )
    choices = settled_rates(config, rows_of_step(parts, config.trainer), host)
    settled = replace(config, tasks=choices, trainer=trainer_config, gpu=devices.config)
    importance = find_importance(settled.trainer, run, backbone, devices, host)
    taken = [part.head for part in parts if part.head] + ([importance.source] if importance else [])
    fingerprints = [*(part.splits.fingerprint for part in parts), *taken]
    key = run_key(settled, fingerprints, backbone.info.fingerprint, active_plugins(host))
    _refuse_changes(run, key)
    run.write_config(to_document(settled))
    places = make_places(run, parts)
    failed_baselines = {
        part.task.name: _write_baselines(places[part.task.name], settled, part)
        if devices.accelerator.is_main_process
        else []
        for part in parts
    }
    frozen = ["the backbone is frozen: only the head is trained"] if config.backbone.freeze else []
    pulled = [importance.note] if importance else []
    of_backbone, of_devices = [*backbone.info.notes, *frozen, *pulled], attention_notes(backbone, devices)
    of_tasks = {part.task.name: part.notes for part in parts}
    notes_by_task = {name: [*of_backbone, *own, *of_devices, *failed_baselines[name]] for name, own in of_tasks.items()}
    notes = joined_notes(of_backbone, of_tasks, of_devices, failed_baselines)
    counts = count_parameters(model)
    describe(run, places, key, settled, parts, backbone, counts, notes, host)

    checkpoints = _checkpoints(run, settled.trainer.keep_checkpoints, devices)
    with stop_on_signal() as stop:
        trainer = Trainer(
            model,
            [member_of(part, model, devices, settled) for part in parts],
            settled.trainer,
            devices,
            checkpoints,
            host,
            behaviours,
            seed=config.seed,
            stop=lambda: devices.agree(stop() or pruning.reason is not None),
            fisher=importance.fisher if importance else None,
        )
        trainer.resume()
        log.rewind(trainer.progress.step)
        host.notify(
            "run_started",
            config=settled,
            run=RunStart(
                folder=run.path,
                key=key,
                tasks=tuple(places),
                backbone=backbone.info.name,
                parameters=counts.backbone,
                examples=rows_by_split(parts),
                total_steps=trainer.total_steps,
                first_step=trainer.progress.step,
                notes=notes,
                device=str(devices),
                settings=summary(settled.trainer, trainer),
                adapter=config.adapter.name,
                trained=counts.trained,
                head=counts.head,
                adapters=adapters_of(settled),
            ),
        )
        with pruning.told_apart():
            trainer.fit()

    evaluations = {
        part.task.name: [
            part.evaluate(split, model, devices) for split in ("valid", "test") if split in part.splits.rows
        ]
        for part in parts
    }
    ends = last_evaluations(trainer, evaluations)
    scores = {split: end.scores for split, end in ends.items()}
    if "test" in ends:
        host.notify("evaluation_ended", evaluation=ends["test"])
    _save_model(run, model, [part.task for part in parts], devices)
    if not devices.accelerator.is_main_process:
        return RunEnd(run.path, scores, time.perf_counter() - began)
    for part in parts:
        name = part.task.name
        write_results(places[name], part.task, part.metrics, part.splits.rows, evaluations[name])
    if len(parts) > 1:
        write_together(run, places, scores)
        # Whether it came with its language-model head is how an adapter names its tensors, whichever task is loaded.
        run.update_state(language_model=backbone.language_model is not None)
    if model.weighting is not None:
        run.update_state(loss_weights=dict(zip(places, model.weighting.factors(), strict=True)))
    seconds = time.perf_counter() - began
    weights = checkpoints.hashes(trainer.progress.best_step)
    ending = {"status": "finished", "seconds": round(seconds, 1), "weights": weights}
    # Until the status says so the run can be resumed, so everything else comes first.
    if len(parts) > 1:
        counts_by_task = {name: count_parameters(model, name) for name in places}
        finish(run, places, settled, notes_by_task, counts_by_task, host, ending)
    write_report(run, host, ending)
    run.update_state(**ending)
    checkpoints.clear()
    end = RunEnd(run.path, scores, seconds)
    host.notify("run_ended", run=end)
    return end


# --- the parts of a run


def summary(config: TrainerConfig, trainer: Trainer) -> str:
    """Say in one line what the trainer's settings came to."""
    many = len(trainer.members)
    of_tasks = f" of {many} tasks, sampled {config.sampling}," if many > 1 else ""
    rates = [f"{one.task.name} {one.rate:.2g}" for one in trainer.members if one.rate != 1.0]
    of_each = f" ({', '.join(rates)} of it)" if rates else ""
    return (
        f"learning rate {config.learning_rate:g}{of_each}, "
        f"{trainer.total_steps} steps of {config.batch_size} examples{of_tasks} "
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


def _save_model(run: RunFolder, model: TaskModel, tasks: Sequence[Task], devices: Devices) -> None:
    """Write the model's folder, which is the same however many processes trained it; every process must come here."""
    main = devices.accelerator.is_main_process
    gathered: AbstractContextManager[None] = nullcontext()
    if devices.sharded:
        from vertebra.engine.sharding import whole

        gathered = whole(model, here=main)
    with gathered:
        if main:
            save_model_folder(run, model, {task.name: task for task in tasks})


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
        places = [run.of_task(choice.name) for choice in config.tasks] if len(config.tasks) > 1 else [run]
        data = [place.read_json("data.json")["fingerprint"] for place in places]
        backbone = state["backbone"]["fingerprint"]
        if state["key"] != run_key(config, data, backbone, state["plugins"]):
            raise RunError(f"The run in '{run.path}' cannot go on: its files do not fit each other. Start a new run.")
        run.update_state(key=run_key(changed, data, backbone, state["plugins"]))
    run.write_config(to_document(changed))
    return changed


def _refuse_changes(run: RunFolder, key: str) -> None:
    """Refuse to go on with a run that would become another one half way; what has learnt nothing may begin otherwise."""
    before = run.read_state().get("key", key)
    if before != key and run.has_learnt:
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


def _write_baselines(run: RunFolder, config: RunConfig, prepared: Prepared) -> list[str]:
    """Write what the task's baselines score, and return a note for each one that failed."""
    if not config.trainer.baselines:
        return []
    baselines = compute(prepared.task, prepared.metrics, prepared.splits, cache=prepared.choice.data.cache)
    run.write_json("baselines.json", baselines.document())
    return baselines.notes
