"""Words, as ROUGE compares them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import regex

from vertebra.tasks.words import is_cjk

_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")
_LETTERS = regex.compile(r"\p{L}")
_ENGLISH = regex.compile(r"[A-Za-z]")


class Words:
    """A tokenizer for rouge-score.

    For English it is rouge-score's own, with Porter's stems. It knows no letters but those of English, so identical texts in
    another script would score 0; for these, words are stretches of letters and digits, and each Chinese or Japanese character
    is one. A text without any is compared by its characters, so that no text differs from itself.
    """

    def __init__(self, language: str = "auto") -> None:
        """`language` is a code such as en or zh; auto looks at each text."""
        from rouge_score.tokenizers import DefaultTokenizer

        self._language = language
        self._english: Any = DefaultTokenizer(use_stemmer=True)
        self.tokenize = lru_cache(maxsize=20_000)(self._tokenize)

    def _tokenize(self, text: str) -> list[str]:
        words: list[str] = self._english.tokenize(text) if self._is_english(text) else _words(text)
        return words or _words(text) or [character for character in text if not character.isspace()]

    def _is_english(self, text: str) -> bool:
        if self._language != "auto":
            return self._language == "en"
        mostly = 2 * len(_ENGLISH.findall(text)) >= len(_LETTERS.findall(text))
        return mostly and not any(map(is_cjk, text))


def _words(text: str) -> list[str]:
    words: list[str] = []
    for stretch in _WORD.findall(text.lower()):
        word = ""
        for character in stretch:
            if is_cjk(character):
                words += [word, character]
                word = ""
            else:
                word += character
        words.append(word)
    return [word for word in words if word]
