"""The code in the documentation is run as it stands; what cannot be run here says why, and is at least understood."""

from __future__ import annotations

import json
import re
from contextlib import chdir
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.doc_blocks import BLOCKS, LANGUAGES, NAMES, PAGES, ROOT, Block, blocks_of, commands
from tests.doc_reader import Reader

from vertebra.cli.arguments import parse
from vertebra.config.members import compose_run
from vertebra.host.manager import Host, create_host
from vertebra.runs.folder import RunFolder

FAST = [name for name in NAMES if any(block.is_run and not block.slow for block in blocks_of(name))]
SLOW = [name for name in NAMES if any(block.slow for block in blocks_of(name))]
SHELL = [block for block in BLOCKS if block.language == "bash"]
TAKE_SETTINGS = ("train", "inspect", "baseline")
REASONS = {
    "a GPU",
    "a clone of the repository",
    "an hour",
    "files of yours",
    "runs of yours",
    "gradio",
    "the data",
    "the Hub",
    "two GPUs",
}
"""What a block may need that the tests do not have."""


@pytest.mark.parametrize("page", FAST)
def test_what_is_quick_works(page: str, tmp_path: Path) -> None:
    reader = Reader(tmp_path, page)
    for block in blocks_of(page):
        if block.file is not None or (block.is_run and not block.slow):
            reader.run(block)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", SLOW)
def test_all_of_the_page_works(page: str, tmp_path: Path) -> None:
    reader, left_out = Reader(tmp_path, page), []
    for block in blocks_of(page):
        if block.extra is not None and find_spec(block.extra) is None:
            left_out.append(f"{block.place} needs {block.extra}")
        elif block.file is not None or block.is_run:
            reader.run(block)
    if left_out:
        pytest.skip(f"all else of the page works; {', '.join(left_out)}")


@pytest.fixture(scope="module")
def host() -> Host:
    return create_host()


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.place)
def test_every_command_is_understood(block: Block, host: Host, tmp_path: Path) -> None:
    """Its name and its options are known, and its settings compose: also where a block needs what is not here."""
    help_texts = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    for words in commands(block):
        if words[0] != "vertebra" or len(words) == 1:
            continue
        name, arguments = words[1], words[2:]
        assert name.startswith("-") or f"\n## vertebra {name}\n" in help_texts, words
        options = {word.partition("=")[0] for word in words[1:] if re.match(r"--\w", word)}
        assert not [option for option in options if not re.search(rf"{option}\b", help_texts)], words
        tasks = {word.removeprefix("task=") for word in arguments if word.startswith("task=")}
        # What another plugin brings is not installed here; pages that make or bring one are run.
        brought = block.page.startswith("docs/examples/") or not tasks <= set(host.names("task"))
        if name in TAKE_SETTINGS and not brought:
            with chdir(tmp_path):
                _put_there(arguments)
                _compose(name, arguments, host)


def _put_there(arguments: list[str]) -> None:
    """Make the files that the settings name: whether they are there is looked at when a run is composed."""
    of_splits = any(word.startswith("data.splits.train=") for word in arguments)  # files in that folder, then
    for path in (Path(word.partition("=")[2]) for word in arguments if re.match(r"(\w+\.)?data\.path=", word)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(exist_ok=True) if of_splits else path.touch()
    for path in (Path(word.partition("=")[2]) for word in arguments if re.match(r"backbone\.path=.*/", word)):
        path.mkdir(parents=True, exist_ok=True)
    for task, place in (
        one.groups() for word in arguments if (one := re.match(r"(\w+)\.(?:ewc|head)_from=(.*)", word))
    ):
        run = RunFolder(Path(place))
        (run.model / "backbone").mkdir(parents=True)
        run.update_state(status="finished", tasks=[task])
        run.write_config({"tasks": [{"name": task}], "adapter": {"name": "none"}})


def _compose(command: str, arguments: list[str], host: Host) -> None:
    settings = arguments if command == "train" else [one for one in arguments if re.match(r"[\w.+~]+=", one)]
    parsed = parse(settings, host)
    if parsed.multirun:
        from vertebra.cli.sweep import check, mergeable
        from vertebra.config.session import hydra_session

        with hydra_session(host) as hydra:
            assert check(hydra, [mergeable(one) for one in parsed.overrides], host)
    elif not parsed.help:
        compose_run(parsed.overrides, host)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "python"], ids=lambda block: block.place)
def test_all_python_compiles(block: Block) -> None:
    compile(block.source, block.place, "exec")


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in ("json", "toml")], ids=lambda block: block.place)
def test_what_is_shown_can_be_read(block: Block) -> None:
    if block.language == "json":
        json.loads(block.source)
    else:
        import tomllib

        tomllib.loads(block.source)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_every_mark_is_known(block: Block) -> None:
    if block.needs is not None:
        assert block.needs in REASONS, f"{block.place}: a reason of its own; known: {', '.join(sorted(REASONS))}"
    else:
        assert not block.mark or block.file or (block.slow and block.language in LANGUAGES), (
            f"{block.place}: {block.mark}"
        )


def test_few_blocks_are_not_run() -> None:
    code = [block for block in BLOCKS if block.language in LANGUAGES and block.file is None and not _recorded(block)]
    left_out = [block.place for block in code if not block.is_run]
    assert len(left_out) <= len(code) / 4, left_out


def _recorded(block: Block) -> bool:
    """Whether it is the command line of a measurement, which stands there as a record."""
    return block.page in ("docs/results.md", "docs/performance.md")


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_stand_in_fences(page: Path) -> None:
    """A block that is only indented, or fenced within a list, would not be run."""
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r"^ +```.*$", text, re.MULTILINE)
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert not re.findall(r"^(?:    |\t)(?:vertebra|python|pip|make|git) .*$", outside, re.MULTILINE)
