"""Translation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from vertebra.errors import DataError
from vertebra.report.figures import Figure, Table
from vertebra.tasks.baseline import Baseline
from vertebra.tasks.features import Features
from vertebra.tasks.generation import Generation
from vertebra.tasks.task import Row
from vertebra.tasks.words import is_cjk
from vertebra_translation.baselines import Copy, Dictionary
from vertebra_translation.config import TranslationConfig
from vertebra_translation.languages import NAMES, WITHOUT_SPACES, chosen_directions, languages_of
from vertebra_translation.metrics import Bleu, ChrF, TranslationLengthRatio, translations

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Translation(Generation):
    """A text in another language.

    With one direction, predictions and references are texts. With several, a row with both columns is an example for each:
    predictions and references are mappings of directions to texts. A row to be predicted has its text in `source`, and may
    name its `direction`, by default the first one.
    """

    name: ClassVar[str] = "translation"
    columns: ClassVar[dict[str, type]] = {"source": str, "target": str}
    optional_inputs: ClassVar[Mapping[str, type]] = {"direction": str}
    metrics: ClassVar[tuple[str, ...]] = ("bleu", "chrf", "translation_length_ratio")
    source: ClassVar[str] = "source"
    target: ClassVar[str] = "target"

    config: TranslationConfig

    def __init__(self, config: TranslationConfig | None = None) -> None:
        super().__init__(config or TranslationConfig())
        self.directions = chosen_directions(self.config.direction, self.config.directions)

    def sides(self, row: Row, direction: str) -> tuple[str, str | None]:
        """Return a row's text in the source language of a direction, and its translation where the row has one."""
        if "target" in row and direction != self.config.direction:
            return row["target"], row["source"]
        return row["source"], row.get("target")

    def check(self, row: Row) -> None:
        """Refuse, besides what the family refuses, a direction that is not learnt."""
        super().check(row)
        self._directions_of(row)

    def fit(self, rows: Sequence[Row]) -> None:
        """Refuse targets that are plainly not in the language that `task.direction` says."""
        text = "".join(row["target"] for row in rows[:1000])
        share = sum(map(is_cjk, text)) / max(1, len(text))
        language = languages_of(self.config.direction)[1]
        if (share > 0.5) != (language in WITHOUT_SPACES) and (share > 0.5 or share < 0.05):
            script = "mostly Chinese or Japanese" if share > 0.5 else "hardly any Chinese or Japanese"
            raise DataError(
                f"task.direction={self.config.direction} says that the targets are in '{language}', but they have {script} "
                "characters. Set task.direction to the languages of the columns source and target, as in en-zh."
            )

    def encode(self, row: Row, tokenizer: PreTrainedTokenizerBase) -> list[Features]:
        """Turn a row into one sequence for each direction that it is an example for."""
        encoded = []
        for direction in self._directions_of(row):
            source, target = self.sides(row, direction)
            names = [NAMES.get(code, code) for code in languages_of(direction)]
            fields = {"source": source, "source_language": names[0], "target_language": names[1]}
            encoded.append(self.encode_pair(fields, target, tokenizer))
        return encoded

    def combine(self, row: Row, parts: list[Any]) -> Any:
        """Return the translation, or one for each direction."""
        directions = self._directions_of(row)
        return parts[0] if len(directions) == 1 else dict(zip(directions, parts, strict=True))

    def reference(self, row: Row) -> Any:
        """Return the right translation, or one for each direction."""
        right = {direction: self.sides(row, direction)[1] for direction in self.directions}
        return right if len(right) > 1 else right[self.directions[0]]

    def _directions_of(self, row: Row) -> tuple[str, ...]:
        if "target" in row:
            return self.directions
        direction = row.get("direction", self.directions[0])
        if direction not in self.directions:
            raise DataError(f"there is no direction '{direction}': this model has learnt {', '.join(self.directions)}.")
        return (direction,)

    def row_from_text(self, text: str) -> Row:
        """Take a text as the source; of several directions it may name one, as in `de-en: Guten Tag`."""
        direction, colon, rest = text.partition(":")
        if colon and len(self.directions) > 1 and direction in self.directions:
            return {"source": rest.strip(), "direction": direction}
        return {"source": text}

    def baselines(self) -> Sequence[Baseline]:
        """Return the source itself, and a translation word by word."""
        return [Copy(self), Dictionary(self)]

    def figures(self, predictions: Sequence[Any], references: Sequence[Any]) -> list[Figure]:
        """Return the scores of each direction with sacrebleu's signature."""
        if not predictions:
            return []
        rows: list[tuple[str | int | float, ...]] = []
        texts = [[translations(one, self.directions) for one in side] for side in (predictions, references)]
        for number, direction in enumerate(self.directions):
            pairs = [(predicted[number], right[number]) for predicted, right in zip(*texts, strict=True)]
            bleu = Bleu((direction,))
            metrics = (bleu, ChrF((direction,)), TranslationLengthRatio((direction,)))
            rows.append((direction, *(metric.score_texts(pairs) for metric in metrics), bleu.signature))
        note = (
            "sacrebleu; the signature says how BLEU was computed. Several directions count alike in the scores above."
        )
        return [Table("By direction", ("direction", "BLEU", "chrF", "length ratio", "signature"), tuple(rows), note)]
