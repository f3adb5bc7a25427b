"""The names that `import vertebra` gives."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import vertebra


@pytest.mark.parametrize("name", vertebra.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(vertebra, name) is not None


def test_type_checkers_see_the_public_names() -> None:
    tree = ast.parse(Path(vertebra.__file__).read_text(encoding="utf-8"))
    [guarded] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.asname: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == vertebra._HOME
    assert {*vertebra._HOME, "__version__"} == set(vertebra.__all__) <= set(dir(vertebra))


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Taks'"):
        _ = vertebra.Taks
