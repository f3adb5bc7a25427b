"""MovieLens 100K as its authors distribute it: `u.data` (user, item, rating, time) and `u.item` (titles, years, genres)."""

from __future__ import annotations

import re
from pathlib import Path

from vertebra.config.schema import DataConfig
from vertebra.data.files import text_lines
from vertebra.data.options import reader_options
from vertebra.data.readers import NotedRows
from vertebra.errors import DataError
from vertebra_recommendation.interactions import Interaction, InteractionOptions, Item, leave_one_out

GENRES = (
    "unknown",
    "action",
    "adventure",
    "animation",
    "children's",
    "comedy",
    "crime",
    "documentary",
    "drama",
    "fantasy",
    "film-noir",
    "horror",
    "musical",
    "mystery",
    "romance",
    "sci-fi",
    "thriller",
    "war",
    "western",
)
"""In the order of the columns of u.item; lower case, for then most are a single token."""
FIRST_GENRE = 5


def read(config: DataConfig) -> NotedRows:
    """Return the rows of each split and the films; every rating counts as an interaction, whatever it is."""
    options = reader_options(InteractionOptions, config)
    if config.path is None:
        raise DataError("data.path is not set. Give the folder with u.data and u.item.")
    folder = Path(config.path).expanduser()
    return leave_one_out(_ratings(folder / "u.data", config), _films(folder / "u.item", config), options)


def _ratings(path: Path, config: DataConfig) -> list[Interaction]:
    found = []
    for number, line in enumerate(text_lines(path, config.encoding), start=1):
        fields = line.split()
        if len(fields) != 4 or not all(field.isdigit() for field in fields):
            raise DataError(
                f"{path}:{number}: four whole numbers are wanted (user, item, rating, time), not {line.strip()!r}."
            )
        user, item, _, time = fields
        found.append(Interaction(user, item, float(time), f"{path}:{number}"))
    return found


def _films(path: Path, config: DataConfig) -> list[Item]:
    found = []
    for number, line in enumerate(text_lines(path, config.encoding), start=1):
        fields = line.rstrip("\r\n").split("|")
        if len(fields) != FIRST_GENRE + len(GENRES):
            wanted = FIRST_GENRE + len(GENRES)
            raise DataError(f"{path}:{number}: {len(fields)} fields where {wanted} are wanted, apart by '|'.")
        genres = [genre for genre, flag in zip(GENRES, fields[FIRST_GENRE:], strict=True) if flag == "1"]
        found.append({"item": fields[0], "title": fields[1], "text": _text(fields[1], genres)})
    return found


def _text(title: str, genres: list[str]) -> str:
    """Return a film as few tokens: `Toy Story 1995 animation children's comedy`."""
    return " ".join([re.sub(r"\((\d{4})\)", r"\1", title).strip(), *genres]) if title.strip() else ""
