"""Languages and directions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vertebra.errors import ConfigError

NAMES = {
    "ar": "Arabic",
    "cs": "Czech",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fi": "Finnish",
    "fr": "French",
    "hi": "Hindi",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ru": "Russian",
    "sv": "Swedish",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "vi": "Vietnamese",
    "zh": "Chinese",
}
"""What a prompt calls them; another language is called by its code."""

WITHOUT_SPACES = ("ja", "zh")
"""Languages whose words are written together."""

_DIRECTION = re.compile(r"[A-Za-z_]+-[A-Za-z_]+")


def languages_of(direction: str) -> tuple[str, str]:
    """Return the codes of source and target; `ConfigError` for what is no direction."""
    if not _DIRECTION.fullmatch(direction):
        raise ConfigError(
            f"task.direction={direction!r}: two codes with a hyphen between them are needed, as in en-de."
        )
    source, target = direction.split("-")
    return source, target


def reverse(direction: str) -> str:
    """Return the direction back."""
    return "-".join(reversed(languages_of(direction)))


def chosen_directions(direction: str, directions: Sequence[str]) -> tuple[str, ...]:
    """Return what is learnt; `ConfigError` for a direction that the columns do not have."""
    there = (direction, reverse(direction))
    wrong = next((one for one in directions if one not in there), None)
    if wrong is not None:
        raise ConfigError(
            f"task.directions: the columns are in the languages of task.direction={direction}, which gives {there[0]} and "
            f"{there[1]}, not {wrong}."
        )
    return tuple(dict.fromkeys(directions)) or (direction,)
