"""Hooks that the core fires: observers of a run, behaviours, and what their specifications say."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import pytest

import vertebra
from plugin_site import PluginSite, record
from vertebra.errors import PluginError, VertebraError
from vertebra.host.hooks import hook_names
from vertebra.host.hookspecs import BehaviourHooks, RegisterHooks, RunHooks
from vertebra.host.manager import create_behaviour_manager, create_host

# --- watching a run


WATCHER = """
from vertebra import hookimpl
from vertebra.errors import DataError

seen = []

@hookimpl
def run_started(run):
    seen.append(("run_started", run))

@hookimpl
def epoch_started(epoch):
    seen.append(("epoch_started", epoch))
    raise [None, ValueError("no such epoch"), DataError("bad data"), KeyboardInterrupt()][epoch]
"""


def test_observers_take_the_arguments_they_want(site: PluginSite) -> None:
    site.install("watcher", WATCHER)
    site.install("broken", "from vertebra import hookimpl\n\n@hookimpl\ndef run_starte(run):\n    1 / 0\n")
    create_host().notify("run_started", config=None, run="the run")
    assert sys.modules["watcher"].seen == [("run_started", "the run")]


def test_an_observer_that_raises_is_named(site: PluginSite) -> None:
    site.install("watcher", WATCHER)
    host = create_host()
    with pytest.raises(
        PluginError, match=r"Plugin 'watcher' failed in epoch_started: ValueError: no such epoch"
    ) as caught:
        host.notify("epoch_started", epoch=1)
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(VertebraError, match=r"^bad data$"):
        host.notify("epoch_started", epoch=2)
    with pytest.raises(KeyboardInterrupt):
        host.notify("epoch_started", epoch=3)


def test_pluggy_itself_calls_the_same_observers(site: PluginSite) -> None:
    site.install("watcher", WATCHER)
    create_host().manager.hook.run_started(config=None, run="again")
    assert sys.modules["watcher"].seen == [("run_started", "again")]


# --- behaviours


BEHAVIOURS = """
from vertebra import BehaviourRef, hookimpl

calls = []

@hookimpl
def register_behaviours():
    names = ("First", "Second", "Misspelt", "Watcher", "Silent", "Needy")
    return [BehaviourRef(name.lower(), f"behaving:{name}") for name in names]

class First:
    @hookimpl
    def step_ending(self, model):
        calls.append((type(self).__name__, model))

class Second(First):
    pass

class Misspelt:
    @hookimpl
    def step_endin(self, model):
        pass

class Watcher:
    @hookimpl
    def run_ended(self, run):
        pass

class Silent:
    def step_ending(self, model):
        pass

class Needy:
    def __init__(self, strength):
        pass
"""


def test_behaviours_act_only_when_named_and_in_the_order_named(site: PluginSite) -> None:
    site.install("behaving", BEHAVIOURS)
    host = create_host()
    assert record(host, "behaving").state == "active"
    create_behaviour_manager(host, []).hook.step_ending(model=0, optimizer=None)
    calls = sys.modules["behaving"].calls
    assert calls == []
    create_behaviour_manager(host, ["first", "second"]).hook.step_ending(model=1, optimizer=None)
    create_behaviour_manager(host, ["second", "first"]).hook.step_ending(model=2, optimizer=None)
    assert calls == [("First", 1), ("Second", 1), ("Second", 2), ("First", 2)]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["frist"], "There is no behaviour 'frist'. Did you mean 'first'?"),
        (["misspelt"], "There is no hook 'step_endin'. Did you mean 'step_ending'?"),
        (["watcher"], "The behaviour 'watcher' cannot be used: There is no hook 'run_ended'."),
        (["silent"], "'step_ending' does nothing without @hookimpl"),
        (["needy"], "The behaviour 'needy' cannot be used: TypeError"),
        (["first", "first"], "The behaviour 'first' is named twice"),
    ],
)  # fmt: skip
def test_a_behaviour_that_cannot_be_used(site: PluginSite, names: list[str], reason: str) -> None:
    site.install("behaving", BEHAVIOURS)
    with pytest.raises(PluginError, match=re.escape(reason)):
        create_behaviour_manager(create_host(), names)


# --- the specifications


@pytest.mark.parametrize("hooks", [RegisterHooks, RunHooks, BehaviourHooks])
def test_every_hook_says_what_it_is_for(hooks: type) -> None:
    assert inspect.getdoc(hooks)
    for name in hook_names(hooks):
        assert inspect.getdoc(getattr(hooks, name)), name


@pytest.mark.parametrize("hook", [*hook_names(RunHooks), *hook_names(BehaviourHooks)])
def test_every_hook_of_a_run_is_fired_by_the_core(hook: str) -> None:
    core = Path(vertebra.__file__).parent
    fired = re.compile(rf"""notify\(\s*["']{hook}["']|\.behaviours\.{hook}\(""")
    assert any(fired.search(file.read_text(encoding="utf-8")) for file in core.rglob("*.py"))
