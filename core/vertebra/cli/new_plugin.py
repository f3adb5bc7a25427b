"""`vertebra new-plugin`: an installable package with a task that learns at once, to be changed into one's own."""

from __future__ import annotations

from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from vertebra.cli.parser import Parser
from vertebra.host.manager import create_host
from vertebra.scaffold.families import FAMILIES
from vertebra.scaffold.write import package_of, write_plugin

NEXT = """\
Wrote {count} files to '{folder}'. Install the plugin, test it, train its task on the made-up sample:

  pip install -e '{folder}[dev]'
  python -m pytest '{folder}'
  vertebra train task={name}

Then make it yours: {package}/task.py, {package}/sample.py; README.md says what each file is for."""


def main(argv: Sequence[str]) -> int:
    """Run `vertebra new-plugin` with these arguments."""
    arguments = parser().parse_args(list(argv))
    folder = arguments.into / arguments.name
    files = write_plugin(arguments.name, arguments.family, folder, create_host())
    print(NEXT.format(count=len(files), folder=folder, name=arguments.name, package=package_of(arguments.name)))
    return 0


def parser() -> Parser:
    """Return the parser of the command line."""
    width = max(map(len, FAMILIES))
    families = "\n".join(f"  {name:{width}}  {family.summary}" for name, family in FAMILIES.items())
    parser = Parser(
        "vertebra new-plugin",
        formatter_class=RawDescriptionHelpFormatter,
        description="Write an installable plugin with one task, a made-up sample that it learns in seconds, and tests.",
        epilog=f"families:\n{families}\n\nexample:\n  vertebra new-plugin urgency --family sequence-classification",
    )
    parser.add_argument("name", metavar="NAME", help="the task's name, as in task=NAME; the package is vertebra_NAME")
    parser.add_argument("--family", required=True, metavar="FAMILY", help="what kind of task it is, see below")
    parser.add_argument(
        "--into", type=Path, default=Path(), metavar="FOLDER", help="where the folder NAME goes (default: here)"
    )
    return parser
