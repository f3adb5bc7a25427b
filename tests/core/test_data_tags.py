"""Tag schemes: spans survive every one of them, and the scheme of a data set is found."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.data_tasks import shared

from vertebra.config.schema import DataConfig
from vertebra.data.readers import read_columns
from vertebra.data.tags import Scheme, detect_scheme, to_iob2
from vertebra.errors import DataError

Span = tuple[str, int]
"""A type ("" for outside) and a length; a sentence is a list of them."""

sentences = st.lists(st.tuples(st.sampled_from(["", "PER", "ORG", "geo-loc", "人"]), st.integers(1, 4)), max_size=12)


def inside(begin: str, middle: str, end: str, single: str) -> Callable[[list[Span]], list[str]]:
    """Return a writer of one scheme's tags."""

    def write(spans: list[Span]) -> list[str]:
        tags = []
        for kind, length in spans:
            if not kind:
                tags += ["O"] * length
            elif length == 1:
                tags.append(f"{single}-{kind}")
            else:
                tags += [f"{begin}-{kind}", *[f"{middle}-{kind}"] * (length - 2), f"{end}-{kind}"]
        return tags

    return write


def iob1(spans: list[Span]) -> list[str]:
    tags: list[str] = []
    before = ""
    for kind, length in spans:
        if not kind:
            tags += ["O"] * length
        else:
            tags += [f"{'B' if kind == before else 'I'}-{kind}", *[f"I-{kind}"] * (length - 1)]
        before = kind
    return tags


iob2 = inside("B", "I", "I", "B")
WRITERS = {
    "iob1": (Scheme.IOB1, iob1),
    "iob2": (Scheme.IOB2, iob2),
    "bioes": (Scheme.BIOES, inside("B", "I", "E", "S")),
    "bilou": (Scheme.BIOES, inside("B", "I", "L", "U")),
    "bmes": (Scheme.BMES, inside("B", "M", "E", "S")),
    "bmew": (Scheme.BMES, inside("B", "M", "E", "W")),
}


@pytest.mark.parametrize("name", WRITERS)
@given(spans=sentences)
def test_spans_survive_every_scheme(name: str, spans: list[Span]) -> None:
    scheme, write = WRITERS[name]
    assert to_iob2(write(spans), scheme) == iob2(spans)


@pytest.mark.parametrize("name", WRITERS)
@given(data=st.lists(sentences, max_size=5))
def test_the_scheme_of_a_data_set_is_found(name: str, data: list[list[Span]]) -> None:
    every_case = [("PER", 3), ("PER", 1), ("", 2), ("ORG", 1), ("", 1), ("PER", 4), ("LOC", 3)]
    scheme, write = WRITERS[name]
    sequences = [write(spans) for spans in [every_case, *data]]
    assert detect_scheme(sequences) is scheme


@given(spans=sentences)
def test_iob2_stays_as_it_is(spans: list[Span]) -> None:
    assert to_iob2(iob2(spans), Scheme.IOB2) == iob2(spans)


@given(tags=st.lists(st.sampled_from(["NN", "VB", "-LRB-", "$", "B", "I-", "-", "DT-x"]), min_size=1))
def test_other_tags_are_plain_and_stay(tags: list[str]) -> None:
    assert detect_scheme([tags]) is Scheme.PLAIN
    assert to_iob2(tags, Scheme.PLAIN) == tags


def test_without_spans_the_scheme_is_iob2() -> None:
    assert detect_scheme([]) is Scheme.IOB2
    assert detect_scheme([["O", "O"], []]) is Scheme.IOB2


def test_a_span_without_its_first_letter_begins_where_its_type_begins() -> None:
    assert to_iob2(["O", "I-PER", "I-ORG", "I-ORG"], Scheme.IOB2) == ["O", "B-PER", "B-ORG", "I-ORG"]
    assert to_iob2(["E-PER", "E-PER", "M-PER"], Scheme.BMES) == ["B-PER", "B-PER", "B-PER"]


@pytest.mark.parametrize("tag", ["PER", "X-PER", "B-", "", "b-PER", "S-PER", "-PER", "B_PER"])
def test_a_stray_tag_is_named_with_its_place(tag: str) -> None:
    with pytest.raises(DataError, match=r"token 2 is not of the scheme iob2.*B-TYPE, I-TYPE") as error:
        to_iob2(["B-PER", tag], Scheme.IOB2)
    assert repr(tag) in str(error.value)


def test_a_stray_tag_does_not_change_the_scheme() -> None:
    sequences = [["I-PER", "I-PER", "O"]] * 20
    assert detect_scheme([*sequences, ["PER", "unknown"]]) is Scheme.IOB1
    assert detect_scheme([*[["B-PER", "I-PER"]] * 20, ["I-PER", "O"]]) is Scheme.IOB2


def test_conll2003_is_iob1_with_its_known_number_of_entities() -> None:
    rows = read_columns(DataConfig(path=shared("ner/conll2003")))
    entities = {}
    for split, sentences in rows.items():
        tags = [row["3"] for row in sentences]
        assert detect_scheme(tags) is Scheme.IOB1
        converted = [to_iob2(sequence, Scheme.IOB1) for sequence in tags]
        assert detect_scheme(converted) is Scheme.IOB2
        entities[split] = sum(tag.startswith("B-") for sequence in converted for tag in sequence)
    assert entities == {"train": 23499, "valid": 5942, "test": 5648}  # as in the shared task's paper


def test_resume_zh_is_bmes() -> None:
    rows = read_columns(DataConfig(path=shared("ner/resume_zh")))
    tags = [row["1"] for row in rows["train"]]
    assert detect_scheme(tags) is Scheme.BMES
    assert {tag[:2] for sequence in tags for tag in to_iob2(sequence, Scheme.BMES)} == {"B-", "I-", "O"}
