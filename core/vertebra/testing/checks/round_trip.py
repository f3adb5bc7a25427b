"""Whether encoding, loss and decoding speak of the same thing."""

from __future__ import annotations

from collections.abc import Iterator

from vertebra.tasks.corpus_task import CorpusTask
from vertebra.tasks.generation import Generation
from vertebra.testing.breaches import Breach, DoesNotApplyError
from vertebra.testing.case import Case
from vertebra.testing.likeness import brief, says


def check(case: Case) -> Iterator[Breach]:
    """Compare what the best outputs are decoded to with the references, row by row."""
    task = case.prepared[0].task
    if isinstance(task, CorpusTask):
        raise DoesNotApplyError("the predictions of a corpus task are losses")
    if isinstance(task, Generation):
        yield from check_texts(case, task)
        return
    without = [one for one in case.features if one.target is None]
    if without:
        yield Breach(
            case.place("encode"),
            f"{len(without)} of {len(case.features)} sequences of labelled rows have no target",
            "`encode` gives target=None where the row has its reference",
        )
        return
    wrong = [
        (row, prediction, reference)
        for row, prediction, reference in zip(case.rows, case.gold, case.references, strict=True)
        if not (says(prediction, reference) or task.right(prediction, reference))
    ]
    if wrong:
        row, prediction, reference = wrong[0]
        yield Breach(
            f"{case.place('decode')}, {case.place('encode')}",
            f"{len(wrong)} of {len(case.rows)} rows do not come back; the first is '{row['id']}': targets that are met "
            f"exactly are decoded to {brief(prediction)}, and the reference is {brief(reference)}",
            "`decode` returns sequences in another order than the batch has them, undoes the scaling or numbering of targets "
            "otherwise than `encode` did it, or `loss` compares with something else",
        )


def check_texts(case: Case, task: Generation) -> Iterator[Breach]:
    """Compare the target tokens of each row, as text, with its reference; what was cut says nothing."""
    tokenizer = case.prepared[1].backbone.tokenizer
    for row, one in zip(case.rows, case.features, strict=True):
        wanted = task.references(row)[0].strip()
        text = tokenizer.decode(list(one.target or ()), skip_special_tokens=True).strip()
        if text != wanted and not one.note.get("cut"):
            yield Breach(
                case.place("encode"),
                f"row '{row['id']}' learns to write {brief(text)}, and its reference is {brief(wanted)}",
                "what `encode` gives as the target is not what `references` gives",
            )
            return
