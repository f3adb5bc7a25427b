"""The plugin host: third-party plugins as pip installs them, and each way in which one can be wrong."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vertebra
from plugin_site import PluginSite
from vertebra.errors import PluginError, VertebraError
from vertebra.host import defaults
from vertebra.host.hooks import CONFIG_PACKAGE, hook_names
from vertebra.host.hookspecs import BehaviourHooks, RegisterHooks, RunHooks
from vertebra.host.manager import Host, create_behaviour_manager, create_host
from vertebra.host.records import PluginRecord
from vertebra.host.refs import Ref, SchedulerRef
from vertebra.host.registry import Registry

GOOD = """
from vertebra import MetricRef, hookimpl

@hookimpl
def register_metrics():
    return [MetricRef("good_metric", "good.metric:Good")]
"""


def record(host: Host, name: str) -> PluginRecord:
    [found] = [plugin for plugin in host.plugins if plugin.name == name]
    return found


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


# --- the specifications and the public names


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
