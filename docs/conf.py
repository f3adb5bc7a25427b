"""The documentation as a site: `make site` builds it into build/site. The pages are Markdown that any renderer shows.

The tree of the site is the lists of links in docs/index.md: a page that is linked there has its place.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

import vertebra

project = "Vertebra"
release = vertebra.__version__

extensions = ["myst_parser"]
root_doc = "docs/index"  # sources are seen from the repository's root, so that links to CONTRIBUTING.md hold everywhere
include_patterns = ["docs/**", "CHANGELOG.md", "CONTRIBUTING.md"]
exclude_patterns = [".*", "**/.*", "build", "core", "plugins", "conf", "tests", "runs", "docs/examples/*/tests"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4
highlight_language = "text"
pygments_style = "tango"  # legible on white; the furo theme brings its dark counterpart
pygments_dark_style = "github-dark"

html_theme = "furo"
html_title = "Vertebra"
html_copy_source = False
html_show_copyright = False
html_use_index = False  # the reference's pages have their own
html_additional_pages = {"index": "redirect.html"}
templates_path = ["_templates"]

HEADING = re.compile(r"^## (.+)$")
LINK = re.compile(r"^- \[([^\]]+)\]\(([^)#\s]+)\.md\)")


def add_tree(app: Any, name: str, source: list[str]) -> None:
    """Give the first page the site's tree: a part for each of its sections, a place for each link in a list."""
    if name == root_doc:
        source[0] += "".join(trees(source[0]))


def trees(index: str) -> list[str]:
    """Return a hidden toctree for each section of the first page."""
    sections: dict[str, list[str]] = {}
    for line in index.splitlines():
        if heading := HEADING.match(line):
            entries = sections.setdefault(heading[1], [])
        elif sections:
            entries += [f"{title} <{place(target)}>" for title, target in LINK.findall(line)]
    return [
        "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *entries, "```", ""])
        for caption, entries in sections.items()
    ]


def place(target: str) -> str:
    """Return the name of the page that a link on the first page means."""
    return "/" + posixpath.normpath(posixpath.join(posixpath.dirname(root_doc), target))


def setup(app: Any) -> dict[str, bool]:
    """Register what this file adds to Sphinx."""
    app.connect("source-read", add_tree)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
