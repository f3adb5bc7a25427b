"""The plugin host: third-party plugins as pip installs them, each way in which one can be wrong, and blocking."""

from __future__ import annotations

import re
import sys

import pytest

from plugin_site import GOOD, PluginSite, record
from vertebra.errors import PluginError
from vertebra.host.hooks import CONFIG_PACKAGE, hook_names
from vertebra.host.hookspecs import BehaviourHooks, RegisterHooks
from vertebra.host.manager import create_host
from vertebra.host.refs import Ref


def failure(site: PluginSite, source: str, **options: object) -> str:
    """Install a broken plugin beside a good one; return its error after checking that only the broken one failed."""
    site.install("broken", source, version="2.3", **options)  # type: ignore[arg-type]
    site.install("good", GOOD)
    host = create_host()
    broken = record(host, "broken")
    assert (broken.state, broken.source, broken.version) == ("failed", "broken", "2.3")
    assert broken.registers == {}
    assert broken.cause is not None
    assert record(host, "core").state == record(host, "good").state == "active"
    assert host.get("metric", "good_metric").name == "good_metric"
    assert host.manager.get_plugin("broken") is None
    host.manager.check_pending()
    assert broken.error is not None
    assert "\n" not in broken.error
    return broken.error


# --- what a good plugin gives


EVERYTHING = """
from vertebra import AdapterRef, BackboneRef, BehaviourRef, CommandRef, MetricRef, OptimizerRef, ReaderRef
from vertebra import ReportSectionRef, SchedulerRef, TaskRef, hookimpl

@hookimpl
def register_tasks():
    return [TaskRef("reading", "full.task:Reading", config="full.config:ReadingConfig")]

@hookimpl
def register_metrics():
    return [MetricRef("spearman", "full.metric:Spearman"), MetricRef("kendall", "full.metric:Kendall")]

@hookimpl
def register_backbones():
    return [BackboneRef("tiny", "full.backbone:tiny")]

@hookimpl
def register_adapters():
    return [AdapterRef("half", "full.adapter:half")]

@hookimpl
def register_optimizers():
    return [OptimizerRef("lion", "full.optimizer:lion")]

@hookimpl
def register_schedulers():
    return [SchedulerRef("steps", "full.schedule:steps")]

@hookimpl
def register_readers():
    return [ReaderRef("xml", "full.reader:xml")]

@hookimpl
def register_commands():
    return [CommandRef("hello", "full.command:hello", summary="say hello")]

@hookimpl
def register_report_sections():
    return [ReportSectionRef("words", "full.report:words")]

@hookimpl
def register_behaviours():
    return [BehaviourRef("freeze", "full.behaviour:Freeze")]

@hookimpl
def register_config_packages():
    return ["full.conf"]
"""


def test_everything_a_plugin_registers_is_found_and_nothing_behind_it_is_imported(site: PluginSite) -> None:
    schedule = "def steps(step, warmup_steps, total_steps):\n    return 0.5\n"
    site.install("full", EVERYTHING, version="4.5", modules={"full/conf/__init__.py": "", "full/schedule.py": schedule})
    host = create_host()
    full = record(host, "full")
    assert (full.state, full.source, full.version, full.error) == ("active", "full", "4.5", None)
    assert full.registers == {
        "task": ("reading",),
        "metric": ("spearman", "kendall"),
        "backbone": ("tiny",),
        "adapter": ("half",),
        "optimizer": ("lion",),
        "schedule": ("steps",),
        "reader": ("xml",),
        "command": ("hello",),
        "report section": ("words",),
        "behaviour": ("freeze",),
        CONFIG_PACKAGE: ("full.conf",),
    }
    assert host.get("task", "reading").config == "full.config:ReadingConfig"
    assert host.names("optimizer") == ["adamw", "lion", "muon", "sgd"]
    assert host.config_packages[0] == "vertebra_conf"
    assert "full.conf" in host.config_packages
    assert "full.schedule" not in sys.modules
    assert host.get("schedule", "steps").load()(1, 2, 3) == 0.5
    with pytest.raises(PluginError, match=r"Cannot import metric 'kendall' from 'full.metric:Kendall'"):
        host.get("metric", "kendall").load()


def test_every_register_hook_is_collected(site: PluginSite) -> None:
    implemented = set(re.findall(r"def (register_\w+)", EVERYTHING))
    assert implemented == set(hook_names(RegisterHooks))
    kinds = {one.kind for one in Ref.__subclasses__()}
    site.install("full", EVERYTHING, modules={"full/conf/__init__.py": ""})
    assert set(record(create_host(), "full").registers) == kinds | {CONFIG_PACKAGE}


def test_a_host_is_fresh_each_time(site: PluginSite) -> None:
    without = create_host()
    site.install("good", GOOD)
    assert "good_metric" in create_host().names("metric")
    assert "good_metric" not in without.names("metric")


def test_none_brings_nothing_and_one_distribution_may_bring_several_plugins(site: PluginSite) -> None:
    nothing = "from vertebra import hookimpl\n\n@hookimpl\ndef register_tasks():\n    return None\n"
    watcher = "from vertebra import hookimpl\n\n@hookimpl\ndef run_ended(run):\n    pass\n"
    site.install(
        "pair", "", plugins={"left": "pair.left", "right": "pair.right"},
        modules={"pair/left.py": nothing, "pair/right.py": watcher},
    )  # fmt: skip
    host = create_host()
    assert [record(host, name).state for name in ("left", "right")] == ["active", "active"]
    assert record(host, "left").registers == record(host, "right").registers == {}


def test_a_plugin_may_be_an_object_of_its_module(site: PluginSite) -> None:
    source = """
        from vertebra import MetricRef, hookimpl

        class Plugin:
            @hookimpl
            def register_metrics(self):
                return [MetricRef("rouge_x", "thing.metric:Rouge")]

        plugin = Plugin()
    """
    site.install("thing", source, plugins={"thing": "thing:plugin"})
    assert record(create_host(), "thing").registers == {"metric": ("rouge_x",)}


def test_an_installation_without_metadata_still_counts(site: PluginSite) -> None:
    site.install("good", GOOD)
    (site.folder / "good-1.0.dist-info" / "METADATA").unlink()
    good = record(create_host(), "good")
    assert (good.state, good.source, good.version) == ("active", "unknown", "unknown")


# --- what is wrong with a plugin stays its own


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import a_module_that_nobody_has", "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"),
        ("def broken(:\n", "SyntaxError"),
        ("raise RuntimeError('first line\\nsecond line')", "RuntimeError: first line second line"),
        ("import sys\nsys.exit('no licence')", "SystemExit: no licence"),
    ],
)
def test_a_plugin_that_cannot_be_imported(site: PluginSite, source: str, reason: str) -> None:
    assert reason in failure(site, source)


def test_an_entry_point_to_nothing(site: PluginSite) -> None:
    assert "AttributeError" in failure(site, "", plugins={"broken": "broken:plugin"})


def test_an_interrupt_while_plugins_load_is_no_failure_of_a_plugin(site: PluginSite) -> None:
    site.install("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        create_host()


def test_a_plugin_without_any_hook(site: PluginSite) -> None:
    assert "implements no hook" in failure(site, "x = 1\n")


def test_a_hook_without_hookimpl(site: PluginSite) -> None:
    error = failure(site, "def register_tasks():\n    return []\n")
    assert "'register_tasks'" in error
    assert "@hookimpl" in error


def test_one_hook_without_hookimpl_beside_a_marked_one(site: PluginSite) -> None:
    error = failure(site, GOOD.replace("good_metric", "other") + "\ndef step_ended(step):\n    pass\n")
    assert "'step_ended'" in error
    assert "@hookimpl" in error
    assert "register_metrics" not in error


@pytest.mark.parametrize(
    ("hook", "nearest"),
    [("register_taks", "register_tasks"), ("step_endd", "step_ended"), ("register_comands", "register_commands")],
)
def test_a_misspelt_hook(site: PluginSite, hook: str, nearest: str) -> None:
    error = failure(site, f"from vertebra import hookimpl\n\n@hookimpl\ndef {hook}():\n    pass\n")
    assert f"There is no hook '{hook}'. Did you mean '{nearest}'?" in error


def test_a_hook_that_a_later_version_may_know_can_be_marked_optional(site: PluginSite) -> None:
    source = """
        from vertebra import hookimpl

        @hookimpl(optionalhook=True)
        def register_oracles():
            return []
    """
    site.install("modern", source)
    assert record(create_host(), "modern").state == "active"


@pytest.mark.parametrize("hook", hook_names(BehaviourHooks))
def test_a_behaviour_hook_in_the_plugin_itself(site: PluginSite, hook: str) -> None:
    error = failure(site, f"from vertebra import hookimpl\n\n@hookimpl\ndef {hook}(model):\n    pass\n")
    assert f"'{hook}' changes a training step" in error
    assert "register_behaviours" in error


def test_a_hook_that_wants_an_argument_it_is_not_given(site: PluginSite) -> None:
    error = failure(site, "from vertebra import hookimpl\n\n@hookimpl\ndef step_ended(step, mood):\n    pass\n")
    assert "'mood'" in error
    assert "step_ended" in error


def test_a_wrapper(site: PluginSite) -> None:
    source = """
        from vertebra import hookimpl

        @hookimpl(wrapper=True)
        def register_tasks():
            return (yield)
    """
    assert "wrapper" in failure(site, source)


def test_an_exception_inside_a_register_hook(site: PluginSite) -> None:
    source = "from vertebra import hookimpl\n\n@hookimpl\ndef register_tasks():\n    return {}['x']\n"
    assert "register_tasks raised KeyError: 'x'" in failure(site, source)


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ("[MetricRef('x', 'a:B')]", "list of TaskRef or None, but MetricRef(name='x'"),
        ("['x']", "list of TaskRef or None, but 'x' is in it"),
        ("{'x': TaskRef('x', 'a:B')}", "list of TaskRef or None, not dict"),
        ("TaskRef('x', 'a:B')", "list of TaskRef or None, not TaskRef"),
        ("(yield)", "list of TaskRef or None, not generator"),
        ("[TaskRef('', 'a:B')]", "without a name"),
        ("[TaskRef(None, 'a:B')]", "without a name"),
        ("[TaskRef('x', 'a.B')]", "is at 'a.B'; write 'package.module:attribute'"),
        ("[TaskRef('x', None)]", "is at None; write"),
        ("[TaskRef('x', 'a:B', config='a')]", "is at 'a'; write"),
        ("[TaskRef('x', 'a:B'), TaskRef('x', 'a:C')]", "registers the task 'x' twice"),
        ("[TaskRef('x')]", "register_tasks raised TypeError"),
    ],
)
def test_a_register_hook_that_returns_something_else(site: PluginSite, returned: str, reason: str) -> None:
    source = "from vertebra import MetricRef, TaskRef, hookimpl\n\n@hookimpl\ndef register_tasks():\n    return "
    assert reason in failure(site, source + returned + "\n")


@pytest.mark.parametrize(
    ("package", "modules"),
    [
        ("broken.conf", {}),
        ("broken.conf", {"broken/conf/data.yaml": ""}),  # a folder without an __init__.py: Hydra would find nothing
        ("no_such_package.conf", {}),
        ("broken.failing.conf", {"broken/failing/__init__.py": "1 / 0"}),
    ],
)
def test_a_config_package_that_is_not_there(site: PluginSite, package: str, modules: dict[str, str]) -> None:
    source = f"from vertebra import hookimpl\n\n@hookimpl\ndef register_config_packages():\n    return ['{package}']\n"
    assert f"Config package '{package}' cannot be found" in failure(site, source, modules=modules)


# --- blocking


def test_a_blocked_plugin_is_not_even_imported(site: PluginSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("good", GOOD)
    site.install("other", GOOD.replace("good", "other"))
    monkeypatch.setenv("VERTEBRA_DISABLE", " good, ")
    host = create_host()
    assert record(host, "good").state == "blocked"
    assert record(host, "other").state == "active"
    assert host.names("metric").count("good_metric") == 0
    assert "good" not in sys.modules
    assert host.notes == ()
    with pytest.raises(PluginError, match=r"no metric 'good_metric'.*plugin 'good' \(good 1.0\) is blocked by"):
        host.get("metric", "good_metric")


@pytest.mark.parametrize("name", ["god", "core"])
def test_blocking_what_does_not_exist_is_a_note(site: PluginSite, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    site.install("good", GOOD)
    monkeypatch.setenv("VERTEBRA_DISABLE", name)
    host = create_host()
    [note] = host.notes
    assert f"VERTEBRA_DISABLE: There is no plugin '{name}'." in note
    assert record(host, "good").state == record(host, "core").state == "active"
