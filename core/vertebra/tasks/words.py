"""Words: how raw text is cut into them, and how they are written as text again."""

from __future__ import annotations

from collections.abc import Sequence

import regex

Span = tuple[int, int]

# Scripts written without spaces, with their punctuation; Hangul is written with spaces, like Latin.
_CJK = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\u3001-\u303f\u3040-\u30ff\uff01-\uff9f]"
_FIRST_CJK = "\u2e80"
_CJK_CHARACTER = regex.compile(_CJK, regex.VERSION1)

_PARTS = {
    "cjk": _CJK,
    "letter": rf"[\p{{L}}--{_CJK}]",
    "part": rf"[[\p{{L}}\p{{M}}\p{{N}}_]--{_CJK}]",
    "address": rf"[[^\s<>\"']--{_CJK}]",
    "address_end": rf"[[\p{{L}}\p{{N}}/#=&_~-]--{_CJK}]",
    "titles": "Mrs?|Ms|Dr|Prof|St|Jr|Sr|Gen|Sen|Rep|Gov|Col|Lt|Sgt|Capt|Rev|Inc|Ltd|Corp|Co|vs|No|etc",
    "clitic": r"['’](?i:s|re|ve|ll|d|m)",
}

_WORD = regex.compile(
    r"""
      (?: (?:https?|ftp):// | www\. ) {address}* {address_end}              # https://example.org/a
    | [A-Za-z0-9._%+-]++ @ [A-Za-z0-9-]+ (?: \. [A-Za-z0-9-]+ )+           # name@example.org
    | {letter} (?: \. {letter} (?!{part}) )+ \.?                           # U.S., a.m.
    | (?: {titles} ) \.                                                    # Mr., Ltd.
    | \p{{Lu}} \. (?= \s+ \p{{Lu}} )                                       # the F. of John F. Kennedy
    | {part}+ (?= (?i: n['’]t ) (?!{part}) )                            # the did of didn't
    | (?i: n['’]t ) (?!{part})                                             # and its n't
    | {clitic} (?!{part})                                                  # 's, 're
    | {part}+ (?:
          (?: [-&] | (?!{clitic}(?!{part})) ['’] | (?<=\p{{N}}) [.,:/] (?=\p{{N}}) ) {part}+
      )*                                                                   # O'Neil, AT&T, 1996-08-22, 3.5
    | {cjk} \p{{M}}*                                                       # one character, one word
    | \.{{2,}} | -{{2,}}
    | \S \p{{M}}*
    """.format(**_PARTS),
    regex.VERBOSE | regex.VERSION1,
)


def split_words(text: str) -> list[Span]:
    """Return where the words of a text are, as (start, end) in characters.

    Close to the tokens of CoNLL: punctuation stands alone; `U.S.`, `1996-08-22`, `O'Neil`, `3.5`, addresses and links
    stay whole; `'s` and `n't` are cut off. A Chinese character or a kana is a word of its own, for those scripts do not
    show where words end; Hangul is cut at its spaces. The words are in order, do not overlap and cover all but space.
    """
    return [match.span() for match in _WORD.finditer(text)]


def is_cjk(character: str) -> bool:
    """Return whether a character is of a script written without spaces (its punctuation included)."""
    return character >= _FIRST_CJK and _CJK_CHARACTER.match(character) is not None


def spaced(words: Sequence[str]) -> list[str]:
    """Return each word with what stands before it in a text: a space, or nothing from one CJK character to the next.

    The first word has its space too, so that a tokenizer sees it as it would see it anywhere else.
    """
    pieces = []
    after_cjk = True
    for word in words:
        pieces.append(word if after_cjk and is_cjk(word[:1]) else f" {word}")
        after_cjk = is_cjk(word[-1:])
    return pieces


def join_words(words: Sequence[str]) -> tuple[str, list[Span]]:
    """Return words as one text, spaced as `spaced` does but for the first, and where each word is in it."""
    pieces = [*words[:1], *spaced(words)[1:]]
    spans = []
    end = 0
    for piece, word in zip(pieces, words, strict=True):
        end += len(piece)
        spans.append((end - len(word), end))
    return "".join(pieces), spans
