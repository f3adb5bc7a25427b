"""The command line's entry: dispatch, help, errors in one line, exit codes, and `vertebra plugins`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import vertebra
from plugin_site import PluginSite
from vertebra.cli.main import main

HELLO = """
from vertebra import CommandRef, TaskRef, hookimpl

@hookimpl
def register_commands():
    names = ("hello", "quiet", "fail", "wait", "crash", "chatter", "nowhere")
    return [CommandRef(name, f"greeting.commands:{name}", summary=f"command {name}") for name in names]

@hookimpl
def register_tasks():
    return [TaskRef("greeting", "greeting.task:Greeting")]
"""

COMMANDS = """
from vertebra import VertebraError

def hello(argv):
    print("hello", *argv)
    return 3

def quiet(argv):
    return None

def fail(argv):
    raise VertebraError("There is no bread. Known: cake.")

def wait(argv):
    raise KeyboardInterrupt

def crash(argv):
    return 1 / 0

def chatter(argv):
    for number in range(1_000_000):
        print("line", number)
"""

BROKEN = "import a_module_that_nobody_has\n"


@pytest.fixture
def site(site: PluginSite, monkeypatch: pytest.MonkeyPatch) -> PluginSite:
    monkeypatch.delenv("VERTEBRA_TRACEBACK", raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    site.install("greeting", HELLO, modules={"greeting/commands.py": COMMANDS})
    return site


Captured = pytest.CaptureFixture[str]


def test_a_command_gets_its_arguments_and_gives_the_exit_code(site: PluginSite, capsys: Captured) -> None:
    assert main(["hello", "a=1", "--multirun"]) == 3
    assert capsys.readouterr() == ("hello a=1 --multirun\n", "")
    assert main(["quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_lists_every_command_with_its_summary(site: PluginSite, capsys: Captured, arguments: list[str]) -> None:
    site.install("broken", BROKEN)
    assert main(arguments) == 0
    output, errors = capsys.readouterr()
    for name in ("train", "evaluate", "predict", "export", "inspect", "plugins"):
        assert f"\n  {name} " in output
    assert any(line.split(maxsplit=1) == ["hello", "command hello"] for line in output.splitlines())
    assert "greeting" in output.split("tasks:")[1]
    assert "vertebra train task=" in output
    assert errors == ""


def test_help_without_any_task(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    names = ",".join(plugin.name for plugin in vertebra.create_host().plugins if plugin.source != "core")
    monkeypatch.setenv("VERTEBRA_DISABLE", names)
    assert main(["--help"]) == 0
    assert "vertebra train task=TASK" in capsys.readouterr().out


def test_help_stays_when_two_plugins_fight_over_a_command(site: PluginSite, capsys: Captured) -> None:
    site.install("hijack", HELLO.replace("greeting", "hijack").replace('"hello"', '"train"'))
    assert main(["--help"]) == 0
    assert "\n  train " in capsys.readouterr().out
    assert main(["train", "task=x"]) == 2
    assert "plugin 'core'" in (errors := capsys.readouterr().err)
    assert "plugin 'hijack' (hijack 1.0)" in errors


def test_version(capsys: Captured) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"vertebra {vertebra.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["helo"], "vertebra: There is no command 'helo'. Did you mean 'hello'? Known: "),
        (["--hepl"], "vertebra: There is no option '--hepl' before the command."),
        (["task=ner", "seed=2"], "vertebra: 'task=ner' is a setting and follows a command"),
        (["fail"], "vertebra: There is no bread. Known: cake.\n"),
        (["nowhere"], "vertebra: Cannot import command 'nowhere': module 'greeting.commands' has no 'nowhere'."),
    ],
)  # fmt: skip
def test_what_a_user_can_mend_is_one_line_and_exit_code_2(
    site: PluginSite, capsys: Captured, arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(message)
    assert errors.count("\n") == 1


def test_the_traceback_is_there_when_asked_for(
    site: PluginSite, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("VERTEBRA_TRACEBACK", "1")
    assert main(["fail"]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("Traceback")
    assert errors.endswith("vertebra: There is no bread. Known: cake.\n")
    monkeypatch.setenv("VERTEBRA_TRACEBACK", "0")
    assert main(["fail"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_an_interrupt_is_one_line_and_exit_code_130(site: PluginSite, capsys: Captured) -> None:
    assert main(["wait"]) == 130
    assert capsys.readouterr() == ("", "vertebra: interrupted\n")


def test_a_mistake_in_a_program_is_not_hidden(site: PluginSite) -> None:
    with pytest.raises(ZeroDivisionError):
        main(["crash"])


def test_a_failed_plugin_and_a_wrong_name_to_block_are_told_before_a_command_runs(
    site: PluginSite, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    site.install("broken", BROKEN)
    monkeypatch.setenv("VERTEBRA_DISABLE", "broke")
    assert main(["hello"]) == 3
    output, errors = capsys.readouterr()
    assert output == "hello\n"
    assert "vertebra: VERTEBRA_DISABLE: There is no plugin 'broke'. Did you mean 'broken'?" in errors
    assert "vertebra: Not loaded: plugin 'broken' (broken 1.0). `vertebra plugins` says why.\n" in errors


@pytest.mark.parametrize("flag", ["-sc", "--shell-completion"])
def test_completion_goes_to_train_and_nothing_else_is_printed(
    site: PluginSite, monkeypatch: pytest.MonkeyPatch, capsys: Captured, flag: str
) -> None:
    import vertebra.cli.train

    site.install("broken", BROKEN)
    seen = []
    monkeypatch.setattr(vertebra.cli.train, "main", seen.append)
    assert main([flag, "query=bash"]) == 0
    assert seen == [[flag, "query=bash"]]
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_goes_away_makes_no_noise(site: PluginSite) -> None:
    command = [sys.executable, "-m", "vertebra", "chatter"]
    with subprocess.Popen(
        command, env=site.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 141


def test_python_m_vertebra(site: PluginSite) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vertebra", "hello", "数据"], env=site.environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "hello 数据\n", "")


# --- vertebra plugins


def test_the_table_shows_what_works_what_does_not_and_how_to_block_it(site: PluginSite, capsys: Captured) -> None:
    site.install("broken-one", BROKEN, version="0.9")
    site.install("blocked-one", BROKEN)
    site.install("hollow", "[bold]not markup[/bold]\n")
    environment = site.environment(VERTEBRA_DISABLE="blocked-one,greting", PYTHONUTF8="1")
    done = subprocess.run(
        [sys.executable, "-m", "vertebra", "plugins"], env=environment, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 120
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    rows: list[list[str]] = []
    for row in cells:  # a line without a name continues the row above it
        if row[0] or not rows:
            rows.append(row)
        else:
            rows[-1] = [f"{above} {below}".strip() for above, below in zip(rows[-1], row, strict=True)]
    table = {row[0]: row[1:] for row in rows}
    assert table["core"][1] == "active"
    assert "optimizer: adamw, muon, sgd" in table["core"][2]
    assert table["greeting"][0] == "greeting 1.0"
    assert "command: hello, quiet" in table["greeting"][2]
    assert "task: greeting" in table["greeting"][2]
    assert table["broken-one"][:2] == ["broken-one 0.9", "failed"]
    assert "No module named 'a_module_that_nobody_has'" in table["broken-one"][2]
    assert table["broken-one"][2].endswith("To block it: VERTEBRA_DISABLE=broken-one")
    assert table["blocked-one"][1:] == ["blocked", "blocked by VERTEBRA_DISABLE"]
    assert table["hollow"][1] == "failed"
    assert "VERTEBRA_DISABLE: There is no plugin 'greting'. Did you mean 'greeting'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_same_as_json(site: PluginSite, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    site.install("broken", BROKEN)
    monkeypatch.setenv("VERTEBRA_DISABLE", "nobody")
    assert main(["plugins", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    plugins = {plugin.pop("name"): plugin for plugin in document["plugins"]}
    assert plugins["greeting"] == {
        "source": "greeting",
        "version": "1.0",
        "state": "active",
        "error": None,
        "registers": {
            "task": ["greeting"],
            "command": ["hello", "quiet", "fail", "wait", "crash", "chatter", "nowhere"],
        },
    }
    assert plugins["broken"]["state"] == "failed"
    assert plugins["broken"]["error"] == "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"
    assert plugins["core"]["source"] == "core"
    [note] = document["notes"]
    assert "'nobody'" in note


def test_the_traceback_of_a_plugin_names_its_line(
    site: PluginSite, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    site.install("broken", f"\n\n{BROKEN}")
    monkeypatch.setenv("VERTEBRA_TRACEBACK", "1")
    assert main(["plugins"]) == 0
    errors = capsys.readouterr().err
    assert "plugin 'broken' (broken 1.0):" in errors
    assert 'broken/__init__.py", line 3' in errors


def test_plugins_explains_itself(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["plugins", "--help"])
    assert caught.value.code == 0
    assert "VERTEBRA_DISABLE=NAME" in capsys.readouterr().out
