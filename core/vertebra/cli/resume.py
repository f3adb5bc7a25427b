"""`vertebra resume`: go on with a run that was stopped, killed, or failed."""

from __future__ import annotations

from collections.abc import Sequence

from vertebra.cli.parser import Parser
from vertebra.errors import RunError


def main(argv: Sequence[str]) -> int:
    """Run `vertebra resume` with these arguments."""
    parser = Parser(
        "vertebra resume",
        description="Go on with a run from its newest checkpoint, by its own saved configuration, in its own folder.",
    )
    parser.add_argument("run", metavar="RUN_DIR", help="the folder of the run")
    parser.add_argument(
        "--processes", type=int, metavar="N", help="go on in another number of processes, where these share the weights"
    )
    arguments, others = parser.parse_known_args(list(argv))
    if others:
        raise RunError(
            f"'{others[0]}': a run is resumed with the settings that it began with. "
            "For others, start a new run: vertebra train …"
        )

    if arguments.processes is not None and arguments.processes < 1:
        raise RunError(f"--processes {arguments.processes}: a run has at least one process.")

    from vertebra.cli.train import print_run
    from vertebra.host.manager import create_host
    from vertebra.runs.execute import resume

    host = create_host()
    print_run(resume(arguments.run, host, processes=arguments.processes).folder, host)
    return 0
