"""Sweeps that resume: every job has a folder named by its content, and is done once, however often one begins again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from vertebra.config.defaults import plain
from vertebra.config.document import from_document, to_document
from vertebra.data.files import listed
from vertebra.engine.ranks import world_size
from vertebra.errors import PrunedError, RunError, StoppedError, VertebraError
from vertebra.host.hooks import describe
from vertebra.host.manager import Host, create_host
from vertebra.report.numbers import duration
from vertebra.runs.folder import RunFolder
from vertebra.runs.jobs import Job, JobResult, began, folders_of, is_finished, last_written, read_result
from vertebra.runs.key import anchored

if TYPE_CHECKING:
    from vertebra.runs.pruning import Prune
    from vertebra.runs.shared import Shared

logger = logging.getLogger(__name__)

Errors = Mapping[Path, str]
"""What went wrong, by the folder of the job."""
Launch = Callable[[Mapping[Path, Job], Host], Errors]
"""Does the jobs whose folders are given, each by `work`; what it raises ends the sweep."""


def run_jobs(
    jobs: Sequence[Job], folder: Path | str, host: Host | None = None, *, launch: Launch | None = None
) -> list[JobResult]:
    """Do the jobs that are not done yet, each in a folder of its own below `folder`; return how all of them stand.

    A job's folder is named by what decides its result, so that calls with more jobs find what others did: a finished job is
    left as it is, one that was killed, stopped or failed goes on from its newest checkpoint. A job that fails stops no
    other. By default all are done in this process, and share what they load; each is the run that it would be alone.

    Raises `RunError` where another process works in the folder, or a job's folder cannot be read; `StoppedError` and
    `KeyboardInterrupt` where the user stops the sweep, which the same call continues.
    """
    host, folder = host or create_host(), Path(folder).expanduser()
    with locked(folder):
        runs = folders_of(jobs, folder, host)
        done = {run.path: job for job, run in zip(jobs, runs, strict=True) if is_finished(run)}
        _say_what_is_older_than_its_data(done, folder)
        todo = {run.path: job for job, run in zip(jobs, runs, strict=True) if run.path not in done}
        for path, job in todo.items():
            prepare(path, job)
        errors = (launch or in_process)(together(todo), host) if todo else {}
        results = [read_result(job, run, errors.get(run.path)) for job, run in zip(jobs, runs, strict=True)]
        return [replace(one, reused=one.folder in done) for one in results]


def _say_what_is_older_than_its_data(done: Mapping[Path, Job], folder: Path) -> None:
    """Warn of finished jobs whose data have been written since: their names do not say what was in a file."""
    written: dict[str, float] = {}
    older: dict[str, list[str]] = {}
    for path, job in done.items():
        for place in {task.data.path for task in job.config.tasks if task.data.path}:
            if place not in written:
                written[place] = last_written(Path(place).expanduser().absolute(), folder.absolute())
            if written[place] > began(RunFolder(path)) + 1:
                older.setdefault(place, []).append(path.name)
    for place, names in older.items():
        logger.warning(
            "'%s' has been written since these jobs were finished, which are left as they are; remove their folders in '%s' to "
            "do them again: %s.",
            place,
            folder,
            listed(names),
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder of a sweep, and keep other sweeps out of it."""
    if world_size() > 1:
        raise RunError(
            "A sweep is one process, whose jobs start their own: leave torchrun out, and give gpu=ddp instead."
        )
    if (folder / "run.json").exists():
        raise RunError(f"'{folder}' holds a run; a sweep needs a folder of its own. Choose another.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".sweep.lock")  # it goes with its process, however that ends
        lock.acquire(blocking=False)
    except Timeout:
        raise RunError(f"Another sweep is working in '{folder}'. Wait for it, or choose another folder.") from None
    except OSError as error:
        raise RunError(f"Cannot write in the sweep's folder '{folder}': {error.strerror or error}.") from error
    try:
        yield
    finally:
        lock.release()


def prepare(path: Path, job: Job) -> None:
    """Make a job's folder with its configuration, which is all that whoever does the job needs to know.

    One that failed before its first step takes the configuration of this call, in which settings that change no result may
    have been mended; its folder says why it failed until it begins.
    """
    run = RunFolder(path)
    if run.is_free:
        RunFolder.create(path).write_config(to_document(anchored(job.config)))
    else:
        run.read_config()  # an error now rather than later


def together(todo: Mapping[Path, Job]) -> dict[Path, Job]:
    """Return the jobs so that those which share most stand one behind the other, and else as they came."""
    seen: dict[str, int] = {}

    def place(job: Job) -> tuple[int, int]:
        backbone = str(plain(job.config.backbone))
        return seen.setdefault(backbone, len(seen)), seen.setdefault(str(plain(job.config.tasks)), len(seen))

    return dict(sorted(todo.items(), key=lambda one: place(one[1])))


def in_process(todo: Mapping[Path, Job], host: Host) -> dict[Path, str]:
    """Do the jobs one after the other in this process."""
    from vertebra.runs.shared import Shared

    shared, errors, took = Shared(), dict[Path, str](), list[float]()
    for number, (path, job) in enumerate(todo.items(), start=1):
        about = f", about {duration(median(took) * (len(todo) - len(took)))} left" if took else ""
        print(f"\nJob {number} of {len(todo)}{about}: {job.title}\nRun folder: {path}", flush=True)
        began = time.monotonic()
        if error := work(path, host, shared):
            errors[path] = error
            print(f"Job {number} of {len(todo)} failed: {error}", flush=True)
        took.append(time.monotonic() - began)
    return errors


def work(path: Path, host: Host, shared: Shared | None = None, prune: Prune | None = None) -> str | None:
    """Do the job in a folder that `prepare` made, or go on with it; return what went wrong, if anything did.

    A job that `prune` gives up is none that went wrong; its folder says so.

    Raises `StoppedError` and `KeyboardInterrupt` where the user stops it.
    """
    import torch

    from vertebra.runs.execute import resume, train

    torch.use_deterministic_algorithms(False)  # as in a new process; a job that wants them asks for them
    run = RunFolder(path)
    try:
        if run.is_free:
            run.sweep()
            train(from_document(run.read_config(), host), path, host, shared=shared, prune=prune)
        else:
            resume(path, host, shared=shared, prune=prune)
    except StoppedError:
        raise
    except PrunedError:
        return None
    except VertebraError as error:
        return str(error)
    except Exception as error:  # a plugin's mistake, say: it is this job's alone
        return describe(error)
    return None
