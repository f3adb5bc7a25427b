"""Other launchers than this process: Hydra's own, of joblib, SLURM (submitit), Ray, or any other that is installed.

A launcher gets one override for each job, the job's folder, which says all that the job is. So jobs are neither composed again
nor pickled, and a job that a cluster starts once more goes on where it was.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from vertebra.cli.arguments import in_quotes
from vertebra.config.compose import one_line
from vertebra.config.session import PRIMARY
from vertebra.errors import ConfigError, StoppedError
from vertebra.host.hooks import describe
from vertebra.host.manager import Host, create_host
from vertebra.names import unknown
from vertebra.runs.jobs import Job
from vertebra.runs.sweep import Launch, work

if TYPE_CHECKING:
    from vertebra.runs.shared import Shared

EXTRAS = ("joblib", "submitit_local", "submitit_slurm", "ray", "ray_aws")
"""Launchers that an optional extra of this package installs, by the start of their names."""
BASIC = "basic"
FOLDER = "run_folder"


def compose(hydra: Any, own: Sequence[str]) -> DictConfig:
    """Return Hydra's configuration of a sweep, of the overrides of its own settings: the jobs' have no part in it.

    `ConfigError` where they are wrong, or their launcher is not installed.
    """
    chosen = launcher_in(own)
    installed = hydra.config_loader.get_group_options("hydra/launcher")
    if chosen not in installed and chosen in EXTRAS:
        extra = chosen.partition("_")[0]
        raise ConfigError(f"hydra/launcher={chosen} is not installed: pip install 'vertebra[{extra}]'.")
    if chosen not in installed:
        raise ConfigError(f"hydra/launcher={chosen}: {unknown('launcher', chosen, {*installed, *EXTRAS})}")
    overrides = [*own, "hydra.mode=MULTIRUN"]
    try:
        composed: DictConfig = hydra.compose_config(PRIMARY, overrides, RunMode.MULTIRUN, with_log_configuration=False)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(one_line(error)) from error
    return composed


def launcher_in(own: Sequence[str]) -> str:
    """Return the name of the launcher that the overrides of Hydra's own settings choose."""
    return next((one.partition("=")[2] for one in reversed(own) if one.startswith("hydra/launcher=")), BASIC)


def chosen_launcher(hydra: Any, own: Sequence[str], composed: DictConfig) -> Launch | None:
    """Return what does the jobs by the chosen launcher; None for this process itself."""
    chosen = launcher_in(own)
    if chosen == BASIC:
        return None

    def launch(todo: Mapping[Path, Job], host: Host) -> dict[Path, str]:
        print(f"{len(todo)} jobs for the launcher '{chosen}'.", flush=True)
        launcher = Plugins.instance().instantiate_launcher(
            HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(composed)), do_job, composed
        )
        # Hydra makes a folder for each job, and the jobs have theirs: the sweep's own is there already.
        overrides = [["hydra.sweep.subdir=.", f"+{FOLDER}={in_quotes(str(path.absolute()))}"] for path in todo]
        try:
            ended = launcher.launch(overrides, initial_job_idx=0)
        except KeyboardInterrupt:
            raise
        except Exception as error:  # of the launcher's library, or a process that was killed
            return {path: f"The launcher '{chosen}' failed: {describe(error)}." for path in todo}
        errors = {path: outcome(one) for path, one in zip(todo, ended, strict=True)}
        return {path: error for path, error in errors.items() if error}

    return launch


def outcome(ended: Any) -> str | None:
    """Return what went wrong in a job that a launcher did."""
    try:
        error: str | None = ended.return_value
    except Exception as raised:  # the launcher keeps what the job raised, and raises it here
        return describe(raised)
    return error


_shared: list[Shared] = []
"""What the jobs of a process that a launcher started share; such a process does nothing else."""


def do_job(composed: DictConfig) -> str | None:
    """Do the job that a launcher passes to its process; return what went wrong, if anything did."""
    from vertebra.runs.shared import Shared

    if not _shared:
        _shared.append(Shared())
    try:
        return work(Path(str(composed[FOLDER])), create_host(), _shared[0])
    except StoppedError as error:
        print(f"vertebra: {error}", file=sys.stderr, flush=True)
        return str(error)
