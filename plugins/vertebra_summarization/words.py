"""Words, as ROUGE compares them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import regex

from vertebra.tasks.words import is_cjk

_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")
_LETTERS = regex.compile(r"\p{L}")
_ENGLISH = regex.compile(r"[A-Za-z]")


class Tokenizer:
    """One way to cut texts into words, as rouge-score takes it; a text without words is its characters."""

    def __init__(self, words: Callable[[str], list[str]]) -> None:
        self.words = lru_cache(maxsize=20_000)(words)

    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text, or its signs: these are no words of another text, but no text differs from itself."""
        return self.words(text) or [character for character in text if not character.isspace()]


class Words:
    """Chooses the tokenizer for texts that are compared with each other, so that all of them are cut alike.

    For English it is rouge-score's own, with Porter's stems. It knows no letters but those of English, so identical texts in
    another script would score 0; for these, words are stretches of letters and digits, and each Chinese or Japanese character
    is one.
    """

    def __init__(self, language: str = "auto") -> None:
        """`language` is a code such as en or zh; auto looks at the texts."""
        from rouge_score.tokenizers import DefaultTokenizer

        self._language = language
        self._english = Tokenizer(DefaultTokenizer(use_stemmer=True).tokenize)
        self._any = Tokenizer(_words)
        self.tokenizers = (self._english, self._any)
        self._letters = lru_cache(maxsize=20_000)(_letters)

    def tokenizer_for(self, *texts: str) -> Tokenizer:
        """Return what all of these texts are cut with: that for English where it finds words in each text that has some."""
        found = all(self._english.words(text) or not self._any.words(text) for text in texts)
        return self._english if found and self._are_english(texts) else self._any

    def tokenize(self, *texts: str) -> list[list[str]]:
        """Return the words of each text, cut alike."""
        return [*map(self.tokenizer_for(*texts).tokenize, texts)]

    def _are_english(self, texts: Sequence[str]) -> bool:
        if self._language != "auto":
            return self._language == "en"
        english, letters, cjk = map(sum, zip(*map(self._letters, texts), strict=True))
        return 2 * english >= letters and not cjk


def _letters(text: str) -> tuple[int, int, int]:
    """Return how many letters of English, letters, and Chinese and Japanese characters a text has."""
    return len(_ENGLISH.findall(text)), len(_LETTERS.findall(text)), sum(map(is_cjk, text))


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
