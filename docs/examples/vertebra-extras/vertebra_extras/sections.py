from itertools import pairwise
from statistics import fmean

from vertebra.report.read import read_lines

PARTS = ("shortest", "short", "long", "longest")


def by_length(run):
    """Return a table of the mean score of test rows, by quarters of the length of what was read; nothing for few rows."""
    rows = [line for line in read_lines(run, "predictions.jsonl") if line["split"] == "test"]
    rows.sort(key=lambda row: len(str(row["input"])))
    if len(rows) < len(PARTS):
        return ""
    cuts = [len(rows) * number // len(PARTS) for number in range(len(PARTS) + 1)]
    quarters = [rows[start:end] for start, end in pairwise(cuts)]
    lines = (
        f"<tr><td>{name}</td><td>{fmean(row['score'] for row in some):.3f}</td></tr>"
        for name, some in zip(PARTS, quarters, strict=True)
    )
    return f"<table><tr><th>quarter of the rows</th><th>mean score</th></tr>{''.join(lines)}</table>"
