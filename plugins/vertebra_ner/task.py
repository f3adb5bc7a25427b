"""Named entity recognition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from vertebra.data.tags import Scheme, detect_scheme, to_iob2
from vertebra.errors import DataError
from vertebra.report.figures import Figure, Table
from vertebra.report.labels import report_table
from vertebra.tasks.baseline import Baseline
from vertebra.tasks.task import Row
from vertebra.tasks.token_classification import TokenClassification
from vertebra_ner.entities import annotate


class NER(TokenClassification):
    """The named entities of a text, with their types.

    The tags of the data may be of any common scheme; the training rows show which. The model learns IOB2, and both
    predictions and references are `{"tags": [...], "entities": [{"type", "text", "start", "end", "first", "last"}]}`.
    """

    name: ClassVar[str] = "ner"
    metrics: ClassVar[tuple[str, ...]] = ("entity_f1", "entity_precision", "entity_recall", "token_accuracy")

    scheme = Scheme.IOB2

    def check(self, row: Row) -> None:
        """Refuse, besides what the family refuses, a tag that marks no span in any scheme."""
        super().check(row)
        for tag in sorted(set(row.get("tags", ()))):
            if detect_scheme([[tag]]) is Scheme.PLAIN:
                raise DataError(f"Tag {tag!r} marks no entity: tags are O, or a letter and a type such as B-PER.")

    def fit(self, rows: Sequence[Row]) -> None:
        """Learn the scheme, then the tags as IOB2 has them."""
        self.scheme = detect_scheme(row["tags"] for row in rows)
        super().fit(rows)

    def state(self) -> dict[str, Any]:
        """Return the family's state and the scheme."""
        return {**super().state(), "scheme": str(self.scheme)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back the family's state and the scheme."""
        super().restore(state)
        self.scheme = Scheme(state["scheme"])

    def tags(self, row: Row) -> list[str]:
        """Return the tags of a row in IOB2."""
        return to_iob2(super().tags(row), self.scheme)

    def combine(self, row: Row, parts: list[Any]) -> dict[str, Any]:
        """Join the tags of the windows; an I- that continues nothing begins an entity, as in the CoNLL scorer."""
        return annotate(row, to_iob2(super().combine(row, parts), Scheme.IOB2))

    def reference(self, row: Row) -> dict[str, Any]:
        """Return the tags and entities of a row."""
        return annotate(row, self.tags(row))

    def baselines(self) -> Sequence[Baseline]:
        """Return the family's baseline, the lookup of known entities, and a conditional random field."""
        from vertebra_ner.baselines import CRF, KnownEntities

        return [*super().baselines(), KnownEntities(self), CRF(self)]

    def figures(self, predictions: Sequence[Any], references: Sequence[Any]) -> list[Figure]:
        """Return the strict scores of each type of entity, and the family's figures over single tags."""
        predicted = [one["tags"] for one in predictions]
        true = [one["tags"] for one in references]
        some = any(one["entities"] for one in (*predictions, *references))
        return [*([report_of_entities(predicted, true)] if some else []), *super().figures(predicted, true)]


def report_of_entities(predicted: list[list[str]], true: list[list[str]]) -> Table:
    """Return seqeval's strict report: each type of entity, and the averages."""
    from seqeval.metrics import classification_report
    from seqeval.scheme import IOB2

    report = classification_report(true, predicted, mode="strict", scheme=IOB2, output_dict=True, zero_division=0)
    note = (
        "seqeval, strict: an entity is right where its type and both its ends are. This is how the CoNLL shared tasks "
        "count; many published figures are of the other kind, over single words, and higher."
    )
    return report_table("By entity", report, note)
