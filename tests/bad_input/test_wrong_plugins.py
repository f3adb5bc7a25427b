"""Wrong plugins, through the real command line."""

from __future__ import annotations

import pytest
from refusals import CPU, Captured, Places, check_failed, refused

from plugin_site import PluginSite

GREETING = """
from vertebra import TaskRef, hookimpl

@hookimpl
def register_tasks():
    return [TaskRef("greeting", "nobody_has_this:Greeting")]
"""


def test_a_broken_plugin(site: PluginSite, places: Places, capsys: Captured) -> None:
    site.install("greeting", "raise RuntimeError('the licence ran out')")
    given = ["train", "task=greeting", f"hydra.run.dir={places.out}"]
    says = ["There is no task 'greeting'", "plugin 'greeting' (greeting 1.0) failed", "the licence ran out"]
    refused(given, says, capsys, lines=2)
    assert not places.out.exists()


def test_a_plugin_whose_task_cannot_be_imported(site: PluginSite, places: Places, capsys: Captured) -> None:
    site.install("greeting", GREETING)
    given = ["train", "task=greeting", "data=ner/sample", *CPU, f"hydra.run.dir={places.out}"]
    refused(given, ["not for task=greeting"], capsys)
    data = places.filled("data.path=DATA/good.conll")
    given = ["train", "task=greeting", data, *CPU, f"hydra.run.dir={places.out}"]
    says = ["Cannot import task 'greeting' from 'nobody_has_this:Greeting'"]
    check_failed(places.out, refused(given, says, capsys))


def test_a_blocked_plugin(site: PluginSite, places: Places, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("greeting", GREETING)
    monkeypatch.setenv("VERTEBRA_DISABLE", "greeting")
    given = ["train", "task=greeting", f"hydra.run.dir={places.out}"]
    refused(given, ["There is no task 'greeting'", "is blocked by VERTEBRA_DISABLE"], capsys)
    assert not places.out.exists()


def test_two_plugins_with_one_name(site: PluginSite, places: Places, capsys: Captured) -> None:
    site.install("first", GREETING, plugins={"hello": "first"})
    site.install("second", GREETING.replace('"greeting"', '"farewell"'), plugins={"hello": "second"})
    given = ["train", "task=farewell", f"hydra.run.dir={places.out}"]
    refused(given, ["There is no task 'farewell'", "(second 1.0)", "(first 1.0)", "uninstall one"], capsys, lines=2)
    assert not places.out.exists()


def test_two_plugins_with_one_task(site: PluginSite, places: Places, capsys: Captured) -> None:
    site.install("first", GREETING)
    site.install("second", GREETING)
    data = places.filled("data.path=DATA/good.conll")
    given = ["train", "task=greeting", data, f"hydra.run.dir={places.out}"]
    says = ["The task 'greeting' is registered by two", "(first 1.0)", "(second 1.0)", "VERTEBRA_DISABLE=second"]
    refused(given, says, capsys, lines=2)
    assert not places.out.exists()
