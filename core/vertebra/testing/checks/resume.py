"""Whether a run that was stopped half way and resumed is the uninterrupted one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vertebra.errors import StoppedError
from vertebra.host.hookspecs import hookimpl
from vertebra.runs.execute import resume
from vertebra.testing.breaches import Breach
from vertebra.testing.case import STEPS, Case

FILES = {
    "model/tasks.json": "what the task learnt",
    "model/heads.safetensors": "the head",
    "model/backbone/model.safetensors": "the backbone",
    "predictions.jsonl": "the predictions",
    "metrics.json": "the scores",
}
HALF = STEPS // 2


class StopHalfWay:
    """Ends a run when its first checkpoint is on disk."""

    @hookimpl
    def checkpoint_saved(self, step: int) -> None:
        """Stop."""
        raise StoppedError(f"Stopped after step {step}.")


def check(case: Case) -> Iterator[Breach]:
    """Stop a run, resume it, and compare the files that it leaves with those of a run of the same settings."""
    whole = case.short_run
    stop = StopHalfWay()
    case.host.manager.register(stop)
    try:
        with suppress(StoppedError):
            case.train("resumed", case.config())
    finally:
        case.host.manager.unregister(stop)
    resume(case.folder / "resumed", case.host)
    different = [said for name, said in FILES.items() if differ(whole / name, case.folder / "resumed" / name)]
    if different:
        yield Breach(
            f"{case.place('encode')}, {case.place('loss')}, {case.place('build_head')}",
            f"a run that was stopped after step {HALF} of {STEPS} and resumed has other bits in {', '.join(different)}",
            "something is drawn from `random` or numpy without a seed, or counts the calls or steps on the task or the head: "
            "only torch's generator, the parameters and buffers, and what is a function of the row come back",
        )


def differ(one: Path, other: Path) -> bool:
    """Whether two files differ, or only one of them is there."""
    return one.exists() != other.exists() or (one.exists() and one.read_bytes() != other.read_bytes())
