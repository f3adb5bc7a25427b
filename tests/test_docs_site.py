"""The documentation is a site: it builds without a warning, without a network, and its search needs none either."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.doc_blocks import NAMES, ROOT

pytest.importorskip("sphinx", reason="the site needs Sphinx: pip install -e '.[docs]'")
PAGES = [name.removesuffix(".md") for name in NAMES if name != "README.md"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = ["-m", "sphinx", "-q", "-W", "-b", "html", "-c", "docs", "-d", str(folder / "trees"), ".", str(folder)]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_there_and_in_the_sidebar(site: Path) -> None:
    start = (site / "docs" / "index.html").read_text(encoding="utf-8")
    for page in PAGES:
        assert (site / f"{page}.html").is_file()
        link = page.removeprefix("docs/") if page.startswith("docs/") else f"../{page}"
        assert page == "docs/index" or f'class="reference internal" href="{link}.html"' in start
    assert "docs/index.html" in (site / "index.html").read_text(encoding="utf-8")


def test_the_search_knows_every_page(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    found = json.loads(index.removeprefix("Search.setIndex(").removesuffix(")"))
    assert set(found["docnames"]) == set(PAGES)
    assert "ddp" in found["terms"]


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loaded = re.compile(
        r"""<(?:script|img|iframe)[^>]*\ssrc="([^"]+)"|<link[^>]*rel="stylesheet"[^>]*href="([^"]+)\""""
    )
    for page in site.rglob("*.html"):
        for found in loaded.findall(page.read_text(encoding="utf-8")):
            assert "//" not in "".join(found), f"{page.name} loads {found}"
