"""`vertebra export-results`: a stable form with a schema, and what is not of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_runs import classify, make_trained

from vertebra.cli.main import main
from vertebra.errors import RunError
from vertebra.host.manager import create_host
from vertebra.runs.exported import as_json, export, read_results, schema, shipped_schema
from vertebra.runs.folder import RunFolder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed in (1, 2):
        make_trained(folder / f"run-{seed}", classify(0.8), seed=seed, rows=30)
    RunFolder.create(folder / "failed").update_state(status="failed")
    return folder


def exported(folder: Path, file: Path) -> dict[str, Any]:
    assert main(["export-results", str(folder), "--output", str(file)]) == 0
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def test_what_is_exported_is_what_the_runs_say(folder: Path, tmp_path: Path) -> None:
    found = exported(folder, tmp_path / "results.json")
    assert found["schema"] == "vertebra-results" and found["version"] == "1.0"
    assert [run["seed"] for run in found["runs"]] == [1, 2]
    for run in found["runs"]:
        place = Path(run["folder"])
        metrics, intervals = (
            json.loads((place / name).read_text(encoding="utf-8")) for name in ("metrics.json", "intervals.json")
        )
        scores = {(one["split"], one["metric"]): one for one in run["scores"]}
        for split, expected in metrics.items():
            for name, value in expected.items():
                one = scores[split, name]
                assert [one["value"], one["low"], one["high"]] == [value, *intervals[split][name]]
        assert [one["metric"] for one in run["scores"] if one["primary"]] == ["accuracy", "accuracy"]
        assert scores["test", "calibration_error"]["higher_is_better"] is False
        assert run["cost"]["wall_seconds"] == 12.0 and run["cost"]["energy_joules"] is None
        assert run["settings"]["seed"] == run["seed"] and run["baselines"][0]["name"] == "majority"


def test_what_was_exported_is_read_again_unchanged(folder: Path, tmp_path: Path) -> None:
    exported(folder, tmp_path / "results.json")
    text = (tmp_path / "results.json").read_text(encoding="utf-8")
    assert as_json(read_results(tmp_path / "results.json")) == text


def test_the_schema_in_the_package_is_that_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Another schema is another version: see `vertebra.runs.exported` before you write it anew."""
    assert json.loads(shipped_schema()) == json.loads(schema())
    assert main(["export-results", "--schema"]) == 0
    assert capsys.readouterr().out == shipped_schema()


def test_the_schema_describes_what_is_exported(folder: Path, tmp_path: Path) -> None:
    """By hand, for the means that the schema uses; a validator is no dependency."""
    found = json.loads(shipped_schema())
    check(exported(folder, tmp_path / "results.json"), found, found["$defs"])


def check(value: Any, expected: dict[str, Any], defined: dict[str, Any]) -> None:
    if "$ref" in expected:
        return check(value, defined[expected["$ref"].rpartition("/")[2]], defined)
    if "anyOf" in expected:
        kinds = [one.get("type") for one in expected["anyOf"]]
        return check(value, expected["anyOf"][0 if value is not None else kinds.index("null")], defined)
    kinds = {"object": dict, "array": list, "string": str, "number": int | float, "integer": int, "boolean": bool}
    if "const" in expected:
        assert value == expected["const"]
    if "enum" in expected:
        assert value in expected["enum"]
    assert value is None if expected.get("type") == "null" else isinstance(value, kinds[expected.get("type", "string")])
    if isinstance(value, dict) and "properties" in expected:
        assert set(expected["required"]) <= set(value) <= set(expected["properties"])
        for name, one in value.items():
            check(one, expected["properties"][name], defined)
    if isinstance(value, list):
        for one in value:
            check(one, expected["items"], defined)
    return None


def test_another_version_and_other_files_are_refused(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    content = exported(folder, file)
    file.write_text(json.dumps({**content, "version": "2.0"}), encoding="utf-8")
    with pytest.raises(RunError, match=r"has version 2\.0 of exported results; this version of vertebra reads 1\.0"):
        read_results(file)
    file.write_text(json.dumps({**content, "runs": [{**content["runs"][0], "seed": "one"}]}), encoding="utf-8")
    with pytest.raises(RunError, match=r"does not hold exported results: runs\.0\.seed"):
        read_results(file)
    file.write_text("nothing", encoding="utf-8")
    with pytest.raises(RunError, match="Cannot read results"):
        read_results(file)


def test_a_run_that_lacks_files_is_named(tmp_path: Path) -> None:
    run = make_trained(tmp_path / "one", classify(0.8), rows=20)
    (run / "data.json").unlink()
    with pytest.raises(RunError, match=r"The run in '.*one' cannot be exported: .*fingerprint"):
        export([RunFolder(run)], create_host())


def test_nothing_to_export_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export-results"]) == 2
    assert main(["export-results", str(tmp_path)]) == 2
    RunFolder.create(tmp_path / "failed").update_state(status="failed")
    assert main(["export-results", str(tmp_path)]) == 2
    assert "or below it; 1 have not finished" in capsys.readouterr().err
