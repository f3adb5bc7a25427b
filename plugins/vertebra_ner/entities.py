"""Entities: from IOB2 tags to typed stretches of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vertebra.tasks.words import join_words

Entity = tuple[str, int, int]
"""(type, first word, last word), the last one included."""


def find_entities(tags: Sequence[str]) -> list[Entity]:
    """Return the entities of IOB2 tags as the strict reading has them: B-X and the I-X that follow it at once."""
    entities: list[Entity] = []
    continued = ""  # the tag that would go on with the latest entity
    for number, tag in enumerate(tags):
        if tag.startswith("B-"):
            entities.append((tag[2:], number, number))
            continued = f"I-{tag[2:]}"
        elif tag == continued:
            kind, first, _ = entities[-1]
            entities[-1] = (kind, first, number)
        else:
            continued = ""
    return entities


def annotate(row: dict[str, Any], tags: list[str]) -> dict[str, Any]:
    """Return what a row's tags say: `tags`, and `entities` with type, text and place.

    An entity's `start` and `end` count the characters of the row's text; a row that has words alone is read as these
    with one space between them (none between CJK characters). `first` and `last` are the numbers of its words.
    """
    if "offsets" in row:
        text, offsets = row["text"], row["offsets"]
    else:
        text, offsets = join_words(row["tokens"])
    entities = []
    for kind, first, last in find_entities(tags):
        start, end = offsets[first][0], offsets[last][1]
        entities.append(
            {"type": kind, "text": text[start:end], "start": start, "end": end, "first": first, "last": last}
        )
    return {"tags": tags, "entities": entities}
