"""The documentation is in step with the code: hooks, settings, examples, links."""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vertebra.config.defaults import GROUPS
from vertebra.host.hooks import hook_names
from vertebra.host.hookspecs import BehaviourHooks, RegisterHooks, RunHooks

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)[ ]?(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
HOOKS = [getattr(kind, name) for kind in (RegisterHooks, RunHooks, BehaviourHooks) for name in hook_names(kind)]
SETTINGS = [f"{group}.{field.name}" for group, owner in GROUPS.items() for field in fields(owner)]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name", [name.removeprefix("docs/") for name in NAMES if re.match(r"docs/(tasks/)?[^/]+$", name)]
)
def test_generated_parts_are_up_to_date(generate: ModuleType, name: str) -> None:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert generate.filled(text) == text, f"docs/{name} is out of date; run: make docs"


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
def test_every_hook_is_documented_with_its_arguments(hook: Any) -> None:
    arguments = [name for name in inspect.signature(hook).parameters if name != "self"]
    plugins = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    assert f"`{hook.__name__}({', '.join(arguments)})`\n\n{hook.__doc__.split()[0]}" in plugins


@pytest.mark.parametrize("setting", [*SETTINGS, "seed"])
def test_every_setting_is_documented(setting: str) -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith((f"| `{setting}` |", f"`{setting}` "))]
    assert len(rows) == 1
    assert rows[0].rstrip(" |") != f"| `{setting}`"


def test_every_setting_is_described(generate: ModuleType) -> None:
    for owner in GROUPS.values():
        assert set(generate.descriptions(owner)) >= {field.name for field in fields(owner)}


def _blocks() -> Iterator[Any]:
    for page, name in zip(PAGES, NAMES, strict=True):
        for number, found in enumerate(FENCE.finditer(page.read_text(encoding="utf-8")), 1):
            if found[1] == "python":
                yield pytest.param(found[3], found[2] == "tested", id=f"{name}-{number}")


@pytest.mark.parametrize(("source", "tested"), list(_blocks()))
def test_python_in_the_documentation_works(source: str, tested: bool) -> None:
    code = compile(source, "documentation", "exec")
    if tested:
        exec(code, {"__name__": "documentation"})


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
    docs = ROOT / "docs"
    for page in (*docs.glob("*.md"), *(docs / "tasks").glob("*.md")):
        assert page.name == "index.md" or f"({page.relative_to(docs).as_posix()})" in index


def test_the_example_plugin_is_short() -> None:
    package = ROOT / "docs" / "examples" / "vertebra-readability" / "vertebra_readability"
    lines = [line for path in package.rglob("*.py") for line in path.read_text(encoding="utf-8").splitlines()]
    assert sum(bool(line.strip()) for line in lines) <= 60


def test_the_readme_opens_with_what_make_does() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"^\s+make (\w+)", readme, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
