"""Rows that a task cannot use, through the real command line: each is named by file and line, with what to do about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from refusals import CPU, TINY, Captured, check_failed, refused

from vertebra.cli.main import main

GOOD_ANSWER = {"text": "Paris", "answer_start": 16}
SKIP = "data.bad_rows=skip"


def squad(answer: dict[str, Any]) -> str:
    """Two articles; the only question of the second has this answer."""
    first, second = (
        {
            "paragraphs": [
                {"context": "Ada was born in Paris.", "qas": [{"id": id, "question": "Where?", "answers": [one]}]}
            ]
        }
        for id, one in (("a", GOOD_ANSWER), ("b", answer))
    )
    return json.dumps({"data": [first, second]})


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def candidate(question: str, label: int, answer: str = "me") -> dict[str, Any]:
    return {"question_id": question, "question": "who?", "answer": answer, "label": label}


TAKEN = "user,item,time\n" + "".join(f"u{user},{item},{item}\n" for user in range(4) for item in range(5))
ITEMS = "item,text\n" + "".join(f"{item},film {item}\n" for item in range(8))
CASES = {
    "an answer that is not in its context": (
        ("task=qa", "data=qa/squad", "data.path=HERE/all.json"),
        {"all.json": squad({"text": "London", "answer_start": 3})},
        ["train row 2", "(all.json, article 2, paragraph 1)", "'London' does not stand at character 3", SKIP],
    ),
    "an answer without a text": (
        ("task=qa", "data=qa/squad", "data.path=HERE/all.json"),
        {"all.json": squad({"text": "", "answer_start": 3})},
        ["(all.json, article 2, paragraph 1)", "an answer is empty", SKIP],
    ),
    "a label outside the declared ones": (
        ("task=sentiment", "data=sentiment/files", "task.labels=[neg,pos]"),
        {"train.csv": "text,label\ngood,pos\n'bad film',neg\nfine,pso\n"},
        ["train row 3", "(train.csv:4)", "There is no label 'pso'. Did you mean 'pos'?", SKIP],
    ),
    "a label off the scale": (
        ("task=classification", "data=classification/files", "task.kind=ordinal"),
        {
            "train.csv": "text,label\n" + "".join(f"text {n},{n % 3}\n" for n in range(9)),
            "valid.csv": "text,label\nx,1\ny,5\n",
            "test.csv": "text,label\nx,1\n",
        },
        ["label '5' of row 'valid-2' is not on the scale 0, 1, 2: give all labels in task.labels"],
    ),
    "a text that is empty": (
        ("task=sentiment", "data=sentiment/files"),
        {"train.csv": 'text,label\n"good\n\nfilm",pos\n ,neg\n'},
        ["train row 2", "(train.csv:5)", "column 'text' is empty", SKIP],
    ),
    "a candidate that is empty": (
        ("task=answer_selection", "data=answer_selection/wikiqa"),
        {"train.jsonl": lines(candidate("q1", 1), candidate("q2", 1), candidate("q2", 0, " "))},
        ["train row 2", "(train.jsonl:2)", "candidate 2 must be a text that is not empty", SKIP],
    ),
    "a label of a candidate that is none": (
        ("task=answer_selection", "data=answer_selection/wikiqa"),
        {"train.jsonl": lines(candidate("q1", 1), candidate("q2", 2))},
        ["(train.jsonl:2)", "label 1 must be 0 or 1, not 2", SKIP],
    ),
    "a summary that is empty": (
        ("task=summarization", "data=summarization/files"),
        {"train.jsonl": lines({"document": "a b", "summary": "a"}, {"document": "b c", "summary": " "})},
        ["train row 2", "(train.jsonl:2)", "column 'summary' is empty", SKIP],
    ),
    "a translation that is empty": (
        ("task=translation", "data=translation/parallel"),
        {"train.en": "a\nb\nc\n", "train.de": "x\n\nz\n"},
        ["train row 2", "(train.en and train.de, line 2)", "column 'target' is empty", SKIP],
    ),
    "files of unequal length": (
        ("task=translation", "data=translation/parallel"),
        {"train.en": "a\nb\nc\n", "train.de": "x\ny\n"},
        ["train.en' has 3 lines", "train.de' has 2", "A line is missing, or was cut in two"],
    ),
    "a line that is no pair": (
        ("task=translation", "data=translation/pairs", "data.path=HERE/pairs.txt"),
        {"pairs.txt": "a\tx\nno translation\n"},
        ["pairs.txt:2: no sentence, tab and translation", "data.options.skip_bad_lines=true"],
    ),
    "a user with one interaction": (
        ("task=recommendation", "data=recommendation/interactions"),
        {"interactions.csv": TAKEN + "lonely,3,1\n", "items.csv": ITEMS},
        ["1 users have fewer than 3", "lonely, the first at", "interactions.csv:22", "data.options.few=skip"],
    ),
    "an item without a text": (
        ("task=recommendation", "data=recommendation/interactions"),
        {"interactions.csv": TAKEN, "items.csv": ITEMS.replace("film 2\n", "\n")},
        ["1 items have no text (2)", "interactions.csv:4", "data.options.without_text=skip"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_row_that_the_task_cannot_use(case: str, tmp_path: Path, capsys: Captured) -> None:
    given, files, says = CASES[case]
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    words = [word.replace("HERE", str(tmp_path)) for word in given]
    words += [] if any(word.startswith("data.path=") for word in words) else [f"data.path={tmp_path}"]
    out = tmp_path / "out"
    message = refused(["train", *words, *TINY, *CPU, f"hydra.run.dir={out}"], says, capsys)
    check_failed(out, message)


def test_rows_that_are_left_out_are_counted_and_named(tmp_path: Path, capsys: Captured) -> None:
    rows = [f"good {n},pos\nbad {n},neg\n ,neg\n" for n in range(20)]
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(rows), encoding="utf-8")
    words = ["task=sentiment", "data=sentiment/files", f"data.path={tmp_path}", SKIP]
    assert main(["baseline", *words, "--json", str(tmp_path / "scores.json")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "train: 20 rows skipped (data.bad_rows=skip), the first is row 3 (train.csv:4): column 'text' is empty" in said
    )
    assert "Others: 6, 9, 12, 15" in said
