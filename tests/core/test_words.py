"""Words: raw text is cut into words that lose nothing, and words become text that can be cut again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vertebra.tasks.words import is_cjk, join_words, spaced, split_words


def words_of(text: str) -> list[str]:
    return [text[start:end] for start, end in split_words(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("EU rejects German call.", ["EU", "rejects", "German", "call", "."]),
        ("in the U.S. at 5 a.m. today", ["in", "the", "U.S.", "at", "5", "a.m.", "today"]),
        ("Mr. O'Neil and Dr. Smith Ltd.", ["Mr.", "O'Neil", "and", "Dr.", "Smith", "Ltd."]),
        ("John F. Kennedy's plan B.", ["John", "F.", "Kennedy", "'s", "plan", "B", "."]),
        ("They didn't, can’t, I'm", ["They", "did", "n't", ",", "ca", "n’t", ",", "I", "'m"]),
        ("on 1996-08-22 at 10:30", ["on", "1996-08-22", "at", "10:30"]),
        ("$3.5 or 1,000.50 (50%)", ["$", "3.5", "or", "1,000.50", "(", "50", "%", ")"]),
        ("won 6-4, 7-6; the 1990s", ["won", "6-4", ",", "7-6", ";", "the", "1990s"]),
        ("Anglo-Irish AT&T -- yes...", ["Anglo-Irish", "AT&T", "--", "yes", "..."]),
        ("mail a.b+c@x.org, please", ["mail", "a.b+c@x.org", ",", "please"]),
        ("see https://x.org/a?b=1, (www.y.de).", ["see", "https://x.org/a?b=1", ",", "(", "www.y.de", ")", "."]),
        ("高勇：男，1966年生", ["高", "勇", "：", "男", "，", "1966", "年", "生"]),
        ("见http://a.com/x。", ["见", "http://a.com/x", "。"]),
        ("東京のIBM", ["東", "京", "の", "IBM"]),
        ("서울에 있다.", ["서울에", "있다", "."]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("cafe\u0301 nai\u0308ve", ["cafe\u0301", "nai\u0308ve"]),
        ("", []),
        (" \t\n\u3000\u00a0", []),
    ],
)
def test_words_are_those_that_a_reader_of_the_language_expects(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@given(st.text())
def test_words_are_in_order_do_not_overlap_and_cover_all_but_space(text: str) -> None:
    covered: list[int] = []
    for start, end in split_words(text):
        assert start < end
        covered += range(start, end)
    assert covered == sorted(set(covered))
    assert all(text[place].isspace() for place in set(range(len(text))) - set(covered))
    assert not any(text[place] in " \t\n\u3000" for place in covered)


@pytest.mark.parametrize("part", ["a.", "a-", "'", "www.", "1,", "n't", "a@"])
def test_long_text_without_a_space_is_cut_in_time(part: str) -> None:
    text = part * 20_000
    assert "".join(words_of(text)) == text


@given(st.lists(st.text()))
def test_joined_words_stand_where_their_spans_say(words: list[str]) -> None:
    text, spans = join_words(words)
    assert [text[start:end] for start, end in spans] == words


def test_words_are_joined_by_spaces_but_not_between_cjk_characters() -> None:
    assert join_words(["EU", "rejects", "."])[0] == "EU rejects ."
    assert join_words(["高", "勇", "，", "x", "年"])[0] == "高勇， x 年"
    assert join_words(["서울", "은"])[0] == "서울 은"
    assert join_words([]) == ("", [])


def test_the_first_word_is_spaced_like_every_other() -> None:
    assert spaced(["EU", "rejects"]) == [" EU", " rejects"]
    assert spaced(["高", "勇"]) == ["高", "勇"]
    assert spaced(["", "x"]) == [" ", " x"]


def test_cjk_is_what_is_written_without_spaces() -> None:
    assert all(is_cjk(character) for character in "高ぁヴー。，𠀀")
    assert not any(is_cjk(character) for character in ["a", "é", "한", "\u3000", " ", ""])
