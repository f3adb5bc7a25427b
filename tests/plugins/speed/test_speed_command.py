"""The command line of `vertebra speed`: options, errors, and what it imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vertebra_speed
from vertebra.cli import main as cli
from vertebra.host.manager import Host, create_host
from vertebra.host.records import PluginRecord
from vertebra_speed.command import parser, read_options, without_json
from vertebra_speed.options import Data, Options, Shape, find_data


def host_with_speed() -> Host:
    """Return a host that has the plugin, also where the package was installed before it had it."""
    host = create_host()
    if "speed" not in host.names("command"):
        host.add(PluginRecord("speed", "vertebra", "0"), lambda: vertebra_speed)
    return host


def options(*argv: str) -> Options:
    return read_options(parser().parse_args(argv))


def test_the_plugin_brings_the_command() -> None:
    ref = host_with_speed().get("command", "speed")
    assert callable(ref.load())
    assert "Hugging Face" in ref.summary


@pytest.mark.parametrize("statement", ["--help", "train --help", "startup --help"])
def test_help_imports_nothing_heavy(statement: str) -> None:
    program = (
        "import sys\nfrom vertebra_speed.command import main\n"
        f"try:\n    main({statement.split()!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'transformers', 'datasets', 'rich', 'numpy'} & set(sys.modules), sys.modules.keys()"
    )
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: vertebra speed" in done.stdout


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tain", "invalid choice: 'tain'"),
        ("train --shape 6by384", "'6by384' is no shape: write gpt2 (12x768) or LAYERSxWIDTH"),
        ("train --shape 0x64", "'0x64' is no shape"),
        ("train --shape 2x100", "must be a multiple of 64"),
        ("train --steps 0", "'0' is no whole number of at least 1"),
        ("train --peer worst", "invalid choice: 'worst'"),
        ("train --family bert", "invalid choice: 'bert'"),
        ("train --data nowhere", "there is no 'nowhere'. --data takes conll, sst2, synthetic[:TOKENS], or the path"),
        ("train --data synthetic:x", "write synthetic or synthetic:TOKENS"),
        ("train --data synthetic --json no/such/folder/x.json", "there is no folder 'no/such/folder'"),
        ("probe --heads 1,,4", "'' is no whole number"),
        ("generate --stepz 3", "there is no option '--stepz'"),
    ],
)
def test_a_bad_option_is_one_line_and_exit_code_2(
    line: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "create_host", host_with_speed)
    assert cli.main(["speed", *line.split()]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("vertebra: speed")
    assert said in error
    assert "\n" not in error


def test_options_are_read_and_have_defaults(tmp_path: Path) -> None:
    assert options("train", "--data", "synthetic") == Options()
    read = options(
        "train", "--shape", "2x64", "--data", str(tmp_path), "--peer", "none", "--precision", "bf16", "--threads", "2"
    )
    assert read.shape == Shape(2, 64)
    assert read.data == Data("words", str(tmp_path))
    assert (read.peers, read.precisions, read.threads) == ((), ("bf16",), 2)
    assert options("probe", "--data", "synthetic", "--heads", "2,3").heads == (2, 3)
    assert options("startup", "--repeats", "7").repeats == 7


@pytest.mark.parametrize(("width", "heads"), [(32, 1), (64, 1), (384, 6), (768, 12)])
def test_heads_are_as_wide_as_in_gpt2(width: int, heads: int) -> None:
    assert Shape(2, width).heads == heads


def test_a_data_set_that_is_not_here_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vertebra_speed.options.shared", lambda path: None)
    with pytest.raises(cli.VertebraError, match=r"'conll' is not here.*ner/conll2003.*--data FOLDER"):
        find_data("conll")
    assert find_data(None) == Data("synthetic")
    assert find_data("synthetic:64").mean_length == 64


def test_where_the_report_goes_is_no_part_of_the_command_that_is_shown() -> None:
    line = ["train", "--json", "a.json", "--steps", "3"]
    assert without_json(line) == without_json(["train", "--json=a.json", "--steps", "3"]) == ["train", "--steps", "3"]
