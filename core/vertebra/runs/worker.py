"""One of several processes of a run; `vertebra.runs.launch` starts it: python -m vertebra.runs.worker JOB OUTCOME"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path


def main(job: Path, outcome: Path) -> int:
    """Do this process's part of the run that `job` describes; what goes wrong is written to `outcome`."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        work(job)
    except BaseException as error:
        outcome.write_text(json.dumps(describe(error)), encoding="utf-8")
        return 1
    return 0


def work(job: Path) -> None:
    """Read the job and take part in the run."""
    from vertebra.config.document import from_document
    from vertebra.host.manager import create_host
    from vertebra.runs.execute import take_part

    given = json.loads(job.read_text(encoding="utf-8"))
    host = create_host()
    take_part(from_document(given["config"], host), Path(given["folder"]), host)


def end_with_parent() -> None:
    """End this process when the one that started it has gone, however it went: its end of standard input closes."""
    while os.read(0, 1):
        pass
    os._exit(1)


def describe(error: BaseException) -> dict[str, str | float]:
    """Return what `vertebra.runs.launch.Outcome` holds."""
    from vertebra.errors import StoppedError, VertebraError

    kinds = {StoppedError: "stopped", VertebraError: "error", KeyboardInterrupt: "interrupted"}
    kind = next((name for owner, name in kinds.items() if isinstance(error, owner)), "crash")
    message = str(error) if isinstance(error, VertebraError) else f"{type(error).__name__}: {error}"
    return {"kind": kind, "message": message, "traceback": traceback.format_exc(), "time": time.time()}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
