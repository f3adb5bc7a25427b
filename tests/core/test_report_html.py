"""The report page: whole, safe, and made of whatever files a run left."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from run_files import make_run_folder, write_json, write_lines

from vertebra.errors import PluginError, RunError
from vertebra.host.manager import Host
from vertebra.host.refs import MetricRef, Ref, ReportSectionRef
from vertebra.metrics.metric import Metric
from vertebra.report.html import facts, write_report
from vertebra.runs.folder import RunFolder


class Error(Metric):
    """A metric where less is better."""

    name = "error"
    higher_is_better = False


class Sections(Host):
    """A host that knows these references and nothing else."""

    def __init__(self, *refs: Ref) -> None:
        super().__init__()
        self._refs = {(ref.kind, ref.name): ref for ref in refs}

    def get(self, kind: str, name: str) -> Ref:
        if (kind, name) not in self._refs:
            raise PluginError(f"There is no {kind} '{name}'.")
        return self._refs[kind, name]

    def names(self, kind: str) -> list[str]:
        return [name for known, name in self._refs if known == kind]


def hello(run: RunFolder) -> str:
    return f"<p class='hello'>hello {run.path.name}</p>"


def nothing(run: RunFolder) -> str:
    return ""


def broken(run: RunFolder) -> str:
    raise ValueError("<b>no such thing</b>")


class Page(HTMLParser):
    """What a page holds: its elements, the text of each, what it would load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data

    @property
    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.elements if "id" in attributes]


def report(folder: Path, *refs: Ref) -> tuple[str, Page]:
    html = write_report(folder, Sections(*refs)).read_text(encoding="utf-8")
    return html, Page(html)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run_folder(tmp_path / "run")


def test_every_section_of_a_finished_run_is_there(folder: Path) -> None:
    html, page = report(folder)
    assert (folder / "report.html").exists()
    sections = ["scores", "curves", "figures-test", "figures-valid", "errors", "data", "configuration", "environment"]
    assert [name for name in page.ids if name in sections] == sections
    assert "<title>ner · Vertebra report</title>" in html
    for expected in (
        "finished",
        "nano · 11.2M parameters · random weights · bidirectional · packed",
        "../shared/data/ner/conll2003",
        "12 min 11 s",
        "Note",
        "random weights: the backbone was not pretrained",
        "62.91",
        "61.5–64.3",
        "Entities, strict (seqeval)",
        "Token labels",
        "5 rows were longer than the backbone's context and were cut into overlapping windows.",
        "learning_rate: 0.0003",
        "2.13.0+cpu",
    ):
        assert expected in page.text, expected


def test_baselines_stand_above_the_model(folder: Path) -> None:
    _, page = report(folder)
    scores = page.text[page.text.index("Scores") : page.text.index("Learning curves")]
    table = scores[scores.index("entity_recall") :]
    assert table.index("most frequent tag") < table.index("CRF") < table.index("nano")
    assert "19.94 below the best baseline, CRF" in scores
    assert "CRF: a conditional random field" in scores
    for score in ("59.61", "58.1–61.0", "82.85", "62.91"):
        assert score in scores


def test_several_tasks_have_a_line_each_with_its_first_metric_and_its_best_baseline(folder: Path) -> None:
    for task in ("ner", "pos"):
        make_run_folder(folder / "tasks" / task)
    write_json(folder / "tasks" / "pos" / "metrics.json", {"valid": {"entity_f1": 0.25}})  # it has no test split
    state = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    write_json(folder / "run.json", state | {"tasks": ["ner", "pos", "gone"]})
    write_json(
        folder / "metrics.json", {"test": {"mean_score": 0.6291}, "valid": {"mean_score": 0.5, "ner.entity_f1": 0.6}}
    )
    step = {"step": 5, "split": "valid", "loss": 1.0, "best": True}
    names = ("mean_score", "ner.entity_f1", "ner.entity_recall", "pos.entity_f1")
    write_lines(folder / "evaluations.jsonl", [step | {"scores": dict.fromkeys(names, 0.5)}])
    (folder / "baselines.json").unlink()
    html, page = report(folder)
    scores = " ".join(page.text[page.text.index("Scores") : page.text.index("Learning curves")].split())
    for line in (
        "taskmetrictestvalidbest baseline on test",
        "nerentity_f162.9161.5–64.3",
        "82.85 CRF",
        "posentity_f1–25.00",
        "allmean_score62.91 50.00",
    ):
        assert line in scores, line
    assert "gone" not in scores
    [curve] = re.findall('<svg class="curve" id="curve-score".*?</svg>', html, re.DOTALL)
    assert all(f">{name}<" in curve for name in ("mean_score", "ner.entity_f1", "pos.entity_f1"))
    assert 'href="tasks/ner/report.html"' in html and "entity_recall" not in curve and page.unbalanced == []


@pytest.mark.parametrize(("score", "said"), [(0.9, "7.15 above"), (0.82851, "as")])
def test_the_model_is_told_from_the_best_baseline(folder: Path, score: float, said: str) -> None:
    write_json(folder / "metrics.json", {"test": {"entity_f1": score}})
    assert f"{said} the best baseline, CRF" in report(folder)[1].text


def test_where_less_is_better_the_best_baseline_is_the_lowest(folder: Path) -> None:
    write_json(folder / "metrics.json", {"test": {"error": 0.3}})
    one = {"summary": "", "seconds": 1.0, "intervals": {}}
    baselines = {name: {**one, "scores": {"test": {"error": value}}} for name, value in (("a", 0.5), ("b", 0.4))}
    write_json(folder / "baselines.json", baselines)
    _, page = report(folder, MetricRef("error", f"{__name__}:Error"))
    assert "10.00 below the best baseline, b" in page.text


@pytest.mark.parametrize(
    ("content", "said"), [("{}", "There is no baseline to compare with."), (None, "No baselines were computed")]
)
def test_a_page_without_baselines_says_so(folder: Path, content: str | None, said: str) -> None:
    (folder / "baselines.json").unlink()
    if content is not None:
        (folder / "baselines.json").write_text(content)
    assert said in report(folder)[1].text


def test_the_page_is_well_formed_and_its_ids_are_unique(folder: Path) -> None:
    _, page = report(folder)
    assert page.unbalanced == []
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))


def test_the_page_loads_nothing_and_runs_nothing(folder: Path) -> None:
    html, page = report(folder)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "img", "base"}
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "action", "data"):
                assert str(value).startswith("#"), (tag, name, value)
    assert "http://" not in html
    assert "https://" not in html
    assert "@import" not in html
    assert "default-src 'none'" in html
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))


def test_what_users_wrote_is_escaped_and_chinese_is_as_it_is(folder: Path) -> None:
    state = json.loads((folder / "run.json").read_text())
    attack = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    state |= {"tasks": [attack], "notes": [attack], "key": '"><script>'}
    write_json(folder / "run.json", state)
    write_json(folder / "metrics.json", {"test": {attack: 0.5}})
    baseline = {"summary": attack, "seconds": 1.0, "scores": {"test": {attack: 0.5}}, "intervals": {}}
    write_json(folder / "baselines.json", {attack: baseline})
    table = {"kind": "table", "title": attack, "columns": [attack], "rows": [[attack]], "note": attack}
    matrix = {"kind": "confusion", "title": attack, "labels": [attack, '" onclick="x'], "counts": [[1, 2], [3, 4]]}
    write_json(folder / "figures.json", {"test": [table, matrix]})
    lines = [
        {"input": {attack: attack}, "prediction": attack, "reference": "b"},
        {"input": {"tokens": [attack]}, "prediction": [attack], "reference": ["b"]},
        {"input": {"x": {attack: 1}}, "prediction": {attack: attack}, "reference": {}},
    ]
    write_lines(folder / "predictions.jsonl", [{"id": attack, "split": "test", "score": 0.0, **line} for line in lines])
    (folder / "config.yaml").write_text(f"seed: '{attack}'\n", encoding="utf-8")
    html, page = report(folder)
    assert "<script" not in html
    assert not {tag for tag, _ in page.elements} & {"script", "img"}
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert page.text.count(attack) > 8
    make_run_folder(folder)
    assert "中国" in report(folder)[0]


def test_the_same_files_give_the_same_page(folder: Path) -> None:
    assert report(folder)[0] == report(folder)[0]


def test_a_path_and_a_run_folder_give_the_same_page(folder: Path) -> None:
    assert write_report(RunFolder(folder), Sections()).read_text() == report(folder)[0]


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("run.json", None),
        ("environment.json", None),
        ("metrics.json", None),
        ("intervals.json", None),
        ("baselines.json", None),
        ("log.jsonl", None),
        ("evaluations.jsonl", None),
        ("predictions.jsonl", "errors"),
        ("figures.json", "figures-test"),
        ("data.json", "data"),
        ("config.yaml", "configuration"),
    ],
)
def test_a_missing_file_costs_only_its_own_section(folder: Path, name: str, section: str | None) -> None:
    (folder / name).unlink()
    _, page = report(folder)
    assert section not in page.ids
    assert "scores" in page.ids
    assert page.unbalanced == []


def test_an_empty_folder_has_a_report_that_says_there_are_no_scores(tmp_path: Path) -> None:
    _, page = report(tmp_path)
    assert "This run has no scores." in page.text
    assert tmp_path.name in page.text


def test_a_failed_run_shows_its_reason_and_survives_a_line_cut_off(folder: Path) -> None:
    state = json.loads((folder / "run.json").read_text())
    write_json(folder / "run.json", state | {"status": "failed", "reason": "The loss was not finite at step 120."})
    (folder / "metrics.json").unlink()
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"step": 3520, "lo')
    _, page = report(folder)
    assert "This run failed." in page.text
    assert "The loss was not finite at step 120." in page.text
    assert "curve-loss" in page.ids


def test_a_file_that_is_not_json_is_named(folder: Path) -> None:
    (folder / "metrics.json").write_text("{nonsense")
    with pytest.raises(RunError, match=r"metrics\.json"):
        report(folder)
    make_run_folder(folder)
    (folder / "log.jsonl").write_text("nonsense\n{}\n")
    with pytest.raises(RunError, match=r"line 1 of .*log\.jsonl"):
        report(folder)


def test_a_loss_that_is_not_finite_breaks_no_curve(folder: Path) -> None:
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"step": 3520, "epoch": 8, "loss": NaN}\n')
    assert "curve-loss" in report(folder)[1].ids


def test_the_best_validation_score_is_marked(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]
    best = [line for line in lines if line["best"]][-1]["scores"]["entity_f1"]
    assert f"best {100 * best:.2f}" in report(folder)[1].text


def test_curves_take_their_colours_from_the_page(folder: Path) -> None:
    html, _ = report(folder)
    curves = "".join(re.findall(r"<svg.*?</svg>", html, re.S))
    assert "var(--series-1)" in curves
    assert set(re.findall(r"#[0-9a-f]{6}\b", curves)) <= {"#ffffff", "#000000"}


def test_sections_of_plugins_stand_at_the_end_by_name(folder: Path) -> None:
    here = __name__
    html, page = report(
        folder,
        ReportSectionRef("world", f"{here}:hello", summary="A greeting & more"),
        ReportSectionRef("empty", f"{here}:nothing"),
        ReportSectionRef("absent", "there.is.no.module:x"),
        ReportSectionRef("broken", f"{here}:broken"),
    )
    assert [name for name in page.ids if name.startswith("plugin-")] == [
        "plugin-absent",
        "plugin-broken",
        "plugin-world",
    ]
    assert "<p class='hello'>hello run</p>" in html
    assert "A greeting & more" in page.text
    assert "The section 'broken' could not be made." in page.text
    assert "ValueError: <b>no such thing</b>" in page.text
    assert "there.is.no.module" in page.text


def test_where_less_is_better_the_greatest_score_is_the_worst_error(folder: Path) -> None:
    write_json(folder / "metrics.json", {"test": {"error": 0.3}})
    scores = {"test-small": 0.1, "test-great": 0.9}
    write_lines(
        folder / "predictions.jsonl",
        [
            {"id": name, "split": "test", "input": {}, "prediction": score, "reference": 0.0, "score": score}
            for name, score in scores.items()
        ],
    )
    _, page = report(folder, MetricRef("error", f"{__name__}:Error"))
    assert page.text.index("test-great") < page.text.index("test-small")


def test_a_large_confusion_matrix_is_whole(folder: Path) -> None:
    labels = tuple(f"category_{number}" for number in range(80))
    make_run_folder(folder, labels)
    html, page = report(folder)
    assert "matrix dense" in html
    assert page.text.count("category_79") >= 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_without_complaint(folder: Path, tmp_path: Path, scheme: str) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium here")
    page = write_report(folder, Sections())
    command = [
        browser,
        "--headless",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
        "--disable-gpu",
        "--disable-background-networking",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr",
        f"--blink-settings=preferredColorScheme={int(scheme == 'light')}",
        f"--screenshot={tmp_path / 'page.png'}",
        "--window-size=1200,2400",
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    complaints = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    assert complaints == []
    assert "<title>ner · Vertebra report</title>" in done.stdout
    assert "中国" in done.stdout


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (0.5, "bidirectional in the upper 50% of the layers"),
        (["causal", "causal", "bidirectional"], "causal ×2, bidirectional ×1"),
    ],
)
def test_attention_that_differs_by_layer_is_said_in_words(written: object, shown: str) -> None:
    assert shown in dict(facts({"backbone": {"attention": written}}, {}))["Backbone"]
