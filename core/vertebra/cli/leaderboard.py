"""`vertebra leaderboard`: finished runs, wherever they came from, as one report with tests between systems."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.cli.parser import Parser
from vertebra.data.files import require_place

if TYPE_CHECKING:
    from vertebra.host.manager import Host
    from vertebra.runs.collect import Entry


def main(argv: Sequence[str]) -> int:
    """Run `vertebra leaderboard` with these arguments."""
    parser = Parser(
        "vertebra leaderboard",
        description="Compare finished runs: for each task the mean over seeds with its interval, paired tests, ranks across "
        "tasks and costs. Runs that differ in nothing but their seed are one system.",
        epilog="example: vertebra leaderboard runs/sweeps/mine --output board",
    )
    parser.add_argument(
        "folders",
        metavar="FOLDER",
        nargs="*",
        type=Path,
        default=[Path("runs")],
        help="runs, or folders of runs such as a sweep; by default runs/",
    )
    parser.add_argument("--output", metavar="DIR", type=Path, help="by default the first FOLDER")
    parser.add_argument("--title", default="Leaderboard")
    add_predictions(parser)
    arguments = parser.parse_args(list(argv))
    output = arguments.output or arguments.folders[0]
    if arguments.output is not None:
        require_place(arguments.output, folder=True)

    from vertebra.host.manager import create_host
    from vertebra.runs.collect import entries_of, finished_runs, without_repeats

    host = create_host()
    runs, notes = without_repeats(finished_runs(arguments.folders))
    entries = entries_of(runs)
    entries += predictions_of(arguments.predictions, [entry.task for entry in entries])
    publish(arguments.title, entries, output, host, notes)
    return 0


def add_predictions(parser: Parser) -> None:
    """Add the option that enters the predictions of other tools."""
    parser.add_argument(
        "--predictions",
        metavar=("SYSTEM", "TASK", "FILE"),
        nargs=3,
        action="append",
        default=[],
        help='enter another tool\'s predictions: a line {"id": …, "prediction": …} for each row; may be given several times',
    )


def predictions_of(given: Sequence[Sequence[str]], tasks: Sequence[str]) -> list[Entry]:
    """Return the entries of files of predictions; `DataError` for a task that the board does not have."""
    from vertebra.data.files import require_file
    from vertebra.errors import DataError
    from vertebra.names import unknown
    from vertebra.runs.collect import Entry

    entries = []
    for system, task, file in given:
        if task not in tasks:
            raise DataError(f"--predictions {system}: {unknown('task of this leaderboard', task, set(tasks))}")
        require_file(Path(file))
        entries.append(Entry(task, system, None, Path(file)))
    return entries


def publish(title: str, entries: Sequence[Entry], output: Path, host: Host, notes: Sequence[str] = ()) -> None:
    """Make the leaderboard, write it, and print its tables and where it lies."""
    from rich.console import Console

    from vertebra.report.leaderboard import write_leaderboard
    from vertebra.report.leaderboard_screen import show
    from vertebra.report.progress import working
    from vertebra.report.scale import Scale
    from vertebra.runs.leaderboard import make_leaderboard

    scale = Scale.of(host)
    with working("comparing"):
        board = make_leaderboard(title, entries, host, notes=notes)
    output.mkdir(parents=True, exist_ok=True)
    write_leaderboard(output, board, scale)
    show(board, scale, Console(highlight=False))
    print(f"\nLeaderboard: {output / 'leaderboard.html'} (and .md, .csv, .json)", flush=True)
