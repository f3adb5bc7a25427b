"""Names in the plugin host: those that two plugins claim, and those that nobody has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin_site import GOOD, PluginSite, record
from vertebra.errors import PluginError
from vertebra.host import defaults
from vertebra.host.hooks import hook_names
from vertebra.host.hookspecs import RegisterHooks
from vertebra.host.manager import create_host
from vertebra.host.records import PluginRecord
from vertebra.host.refs import Ref, SchedulerRef
from vertebra.host.registry import Registry

# --- the same name twice


def test_a_name_that_two_plugins_register_belongs_to_the_first_and_cannot_be_selected(
    site: PluginSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("alpha", GOOD)
    second = "\n@hookimpl\ndef run_ended(run):\n    raise AssertionError\n"
    site.install("beta", GOOD.replace("[", '[MetricRef("beta_only", "good.metric:Good"), ') + second)
    host = create_host()
    assert record(host, "alpha").state == "active"
    assert record(host, "beta").state == "failed"
    assert record(host, "beta").error == (
        "It registers what is already there: the metric 'good_metric' of plugin 'alpha' (alpha 1.0)"
    )
    with pytest.raises(PluginError, match=r"by two: plugin 'alpha' \(alpha 1.0\) and plugin 'beta' \(beta 1.0\)"):
        host.get("metric", "good_metric")
    with pytest.raises(PluginError, match=r"no metric 'beta_only'.*Not loaded: plugin 'beta'"):
        host.get("metric", "beta_only")
    host.notify("run_ended", run=None)

    monkeypatch.setenv("VERTEBRA_DISABLE", "beta")
    assert create_host().get("metric", "good_metric").name == "good_metric"
    monkeypatch.setenv("VERTEBRA_DISABLE", "alpha")
    assert create_host().get("metric", "beta_only").name == "beta_only"


def test_the_core_wins_over_a_plugin_with_its_name(site: PluginSite) -> None:
    source = """
        from vertebra import OptimizerRef, hookimpl

        @hookimpl
        def register_optimizers():
            return [OptimizerRef("adamw", "aaa.optimizer:adamw")]
    """
    site.install("aaa", source)
    host = create_host()
    assert record(host, "core").state == "active"
    assert "the optimizer 'adamw' of plugin 'core'" in (record(host, "aaa").error or "")
    with pytest.raises(PluginError, match=r"plugin 'core'.*plugin 'aaa'.*VERTEBRA_DISABLE=aaa"):
        host.get("optimizer", "adamw")
    assert host.get("optimizer", "sgd").name == "sgd"


def test_the_same_name_of_another_kind_is_free(site: PluginSite) -> None:
    site.install("good", GOOD.replace("good_metric", "adamw"))
    host = create_host()
    assert host.get("metric", "adamw").kind == "metric"
    assert host.get("optimizer", "adamw").kind == "optimizer"


def test_two_plugins_of_one_name(site: PluginSite) -> None:
    site.install("alpha", GOOD, plugins={"same": "alpha"})
    site.install("beta", GOOD.replace("good_metric", "beta_metric"), plugins={"same": "beta"}, version="0.2")
    host = create_host()
    first, second = (plugin for plugin in host.plugins if plugin.name == "same")
    assert (first.source, first.state) == ("alpha", "active")
    assert (second.source, second.version, second.state) == ("beta", "0.2", "failed")
    assert "that of plugin 'same' (alpha 1.0)" in (second.error or "")
    assert host.names("metric").count("beta_metric") == 0


def test_a_plugin_cannot_call_itself_core(site: PluginSite) -> None:
    site.install("alpha", GOOD, plugins={"core": "alpha"})
    core, impostor = (plugin for plugin in create_host().plugins if plugin.name == "core")
    assert (core.state, impostor.state, impostor.source) == ("active", "failed", "alpha")


def test_one_module_under_two_names(site: PluginSite) -> None:
    site.install("alpha", GOOD, plugins={"one": "alpha", "two": "alpha"})
    host = create_host()
    assert (record(host, "one").state, record(host, "two").state) == ("active", "failed")
    assert "the same module as plugin 'one'" in (record(host, "two").error or "")
    assert host.get("metric", "good_metric").name == "good_metric"


@given(st.lists(st.lists(st.sampled_from("abcde"), max_size=4), max_size=5))
def test_a_name_is_selectable_exactly_when_it_was_claimed_by_one(claims: list[list[str]]) -> None:
    """Plugins come one after the other; whoever claims a taken name brings nothing at all."""
    registry = Registry()
    owned: dict[str, int] = {}
    contested: set[str] = set()
    for number, names in enumerate(claims):
        owner = PluginRecord(f"plugin{number}", f"dist{number}", "1.0")
        repeated = len(set(names)) < len(names)
        taken = set(names) & set(owned)
        try:
            registry.add(owner, [SchedulerRef(name, f"module{number}:f") for name in names])
        except PluginError:
            assert repeated or taken
            contested |= set() if repeated else taken
        else:
            assert not (repeated or taken)
            owned |= dict.fromkeys(names, number)
    assert registry.names("schedule") == sorted(owned)
    for name in "abcde":
        if name in owned and name not in contested:
            assert registry.get("schedule", name).target == f"module{owned[name]}:f"
        else:
            with pytest.raises(PluginError, match=f"'{name}'"):
                registry.get("schedule", name)


# --- looking up


def test_an_unknown_name_gets_the_nearest_one_and_the_plugins_that_are_missing(
    site: PluginSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = create_host()
    with pytest.raises(PluginError, match=r"^There is no schedule 'liner'. Did you mean 'linear'\? Known: constant,"):
        host.get("schedule", "liner")
    site.install("poetry-task", "import a_module_that_nobody_has")
    site.install("prose-task", GOOD)
    monkeypatch.setenv("VERTEBRA_DISABLE", "prose-task")
    with pytest.raises(PluginError) as caught:
        create_host().get("task", "poetry")
    message = str(caught.value)
    assert message.startswith("There is no task 'poetry'.")
    assert "plugin 'poetry-task' (poetry-task 1.0) failed: ModuleNotFoundError" in message
    assert "plugin 'prose-task' (prose-task 1.0) is blocked by VERTEBRA_DISABLE" in message


def core_references() -> list[Ref]:
    registered = [getattr(defaults, hook)() for hook in hook_names(RegisterHooks) if hasattr(defaults, hook)]
    return [one for listed in registered for one in listed if isinstance(one, Ref)]


@pytest.mark.parametrize("ref", core_references(), ids=lambda ref: f"{ref.kind}-{ref.name}")
def test_what_the_core_registers_is_there(ref: Ref) -> None:
    assert callable(ref.load())


def test_the_core_describes_its_commands() -> None:
    assert all(command.summary for command in defaults.register_commands())
