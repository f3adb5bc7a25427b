"""The documentation is in step with the code: hooks, settings, public names, commands, examples, links."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.doc_blocks import NAMES, PAGES, ROOT

from vertebra.config.defaults import GROUPS
from vertebra.host.hooks import hook_names
from vertebra.host.hookspecs import BehaviourHooks, RegisterHooks, RunHooks
from vertebra.host.manager import create_host

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
OWN = [name for name in NAMES if name.startswith("docs/") and not name.startswith("docs/examples/")]
HOOKS = [getattr(kind, name) for kind in (RegisterHooks, RunHooks, BehaviourHooks) for name in hook_names(kind)]
NAMED = re.compile(rf"[`\s]({'|'.join(GROUPS)}|task)\.(?!json\b)([a-z_]+)(?=[`=\s])")
SETTINGS = [f"{group}.{field.name}" for group, owner in GROUPS.items() for field in fields(owner)]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def public_names(generate: ModuleType) -> ModuleType:
    return sys.modules["public_names"]  # which is beside the one that imports it


@pytest.mark.parametrize("name", OWN)
def test_generated_parts_are_up_to_date(generate: ModuleType, name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert generate.filled(text) == text, f"{name} is out of date; run: make docs"


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
def test_every_hook_is_documented_with_its_arguments(hook: Any) -> None:
    arguments = [name for name in inspect.signature(hook).parameters if name != "self"]
    page = (ROOT / "docs" / "reference" / "hooks.md").read_text(encoding="utf-8")
    assert f"`{hook.__name__}({', '.join(arguments)})`\n\n{hook.__doc__.split()[0]}" in page


@pytest.mark.parametrize("setting", [*SETTINGS, "seed"])
def test_every_setting_is_documented(setting: str) -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith((f"| `{setting}` |", f"`{setting}` "))]
    assert len(rows) == 1
    assert rows[0].rstrip(" |") != f"| `{setting}`"


def test_every_setting_is_described(generate: ModuleType) -> None:
    for owner in GROUPS.values():
        assert set(generate.descriptions(owner)) >= {field.name for field in fields(owner)}


@pytest.mark.parametrize("name", OWN)
def test_every_setting_that_is_named_exists(name: str) -> None:
    pages = (ROOT / "docs" / page for page in ("configuration.md", "adapters.md"))
    configuration = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    text = (ROOT / name).read_text(encoding="utf-8")
    named = {f"{group}.{setting}" for group, setting in NAMED.findall(text)}
    assert not [setting for setting in sorted(named) if f"| `{setting}` |" not in configuration]


def test_the_options_of_the_trainer_exist_with_these_defaults() -> None:
    """Of `TrainingArguments`, as the page for those who come from there has them: `--name` (default)."""
    from transformers import TrainingArguments

    page = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
    there = page.partition("## Options of `TrainingArguments`")[2].partition("\n## ")[0]
    left = "\n".join(line.split("|")[1] for line in there.splitlines() if line.startswith("| `--"))
    defaults = {field.name: field.default for field in fields(TrainingArguments)}
    assert not [name for name in re.findall(r"--(\w+)", left) if name not in defaults]
    numbers = re.findall(r"^ `--(\w+)` \(([\d.e-]+)\)", left, re.MULTILINE)
    assert len(numbers) >= 6
    assert [(name, float(number)) for name, number in numbers] == [(name, defaults[name]) for name, _ in numbers]


def test_every_public_name_is_in_the_reference(public_names: ModuleType) -> None:
    for one in public_names.public_names():
        page = (ROOT / "docs" / "reference" / f"{public_names.page_of(one)}.md").read_text(encoding="utf-8")
        assert len(re.findall(rf"^##+ {one.name}$", page, re.MULTILINE)) == 1, one.public


def test_every_public_name_says_what_it_is(public_names: ModuleType, generate: ModuleType) -> None:
    """A name, each of its methods and properties, and each of its fields: below the field, or in the class's text."""
    silent = []
    for one in public_names.public_names():
        text = public_names.text_for(one)
        silent += [] if text else [one.public]
        if inspect.isclass(one.thing):
            members = {name: member for name, member in vars(one.thing).items() if public_names.is_member(member)}
            silent += [
                f"{one.public}.{name}"
                for name, member in members.items()
                if not name.startswith("_") and not public_names.text_of_member(member)
            ]
            described = generate.descriptions(one.thing)
            declared = [name for name in vars(one.thing).get("__annotations__", {}) if not name.startswith("_")]
            silent += [f"{one.public}.{name}" for name in declared if name not in described and f"`{name}`" not in text]
    assert not silent


def test_every_command_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    own = [plugin for plugin in create_host().plugins if plugin.source in ("core", "vertebra")]
    commands = [name for plugin in own for name in plugin.registers.get("command", ())]
    assert "train" in commands
    assert not [name for name in commands if f"\n## vertebra {name}\n" not in page]


@pytest.mark.parametrize(("page", "name"), list(zip(PAGES, NAMES, strict=True)), ids=NAMES)
def test_links_inside_the_project_resolve(page: Path, name: str) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{name} links to {target}"
        if anchor:
            assert anchor in _anchors(there), f"{name} links to {target}"


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_reached_from_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    places = re.findall(r"^- \[[^\]]+\]\(([^)]+)\)", index, re.MULTILINE)  # of these lists the site's tree is made
    pages = [name.removeprefix("docs/") for name in NAMES if name.startswith("docs/") and name != "docs/index.md"]
    assert sorted(place for place in places if not place.startswith("..")) == sorted(pages)


def test_the_example_plugin_is_short() -> None:
    package = ROOT / "docs" / "examples" / "vertebra-readability" / "vertebra_readability"
    lines = [line for path in package.rglob("*.py") for line in path.read_text(encoding="utf-8").splitlines()]
    assert sum(bool(line.strip()) for line in lines) <= 60


def test_the_readme_opens_with_what_make_does() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\w+)", readme, re.MULTILINE)
    assert targets[:2] == ["demo", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
