"""Corpora: what is tokenized, what is left out and named, and how windows are cut."""

from __future__ import annotations

import gzip
import json
import lzma
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import SentencePieceBPETokenizer, Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from vertebra.config.schema import BackboneConfig, DataConfig
from vertebra.data.corpus import Corpus, CorpusReader, Texts
from vertebra.data.windows import Pieces, Windows
from vertebra.engine.sources import nano
from vertebra.errors import DataError
from vertebra.runs.corpora import miscounted
from vertebra.tasks.features import Features
from vertebra.tasks.token_bytes import TokenBytes

TOKENIZER = AutoTokenizer.from_pretrained(nano(BackboneConfig()).location)
END = TOKENIZER.eos_token_id
TEXTS = ["The first text.", "The second one, Übergröße 漢字 🙂", "<|endoftext|> spelled out"]


def read(tmp_path: Path, *files: Path, data: DataConfig | None = None, **settings: Any) -> Corpus:
    return CorpusReader(TOKENIZER, data or DataConfig(), root=tmp_path / "cache", **settings).read(Texts(files))


def lines(folder: Path, texts: list[str], name: str = "a.jsonl") -> Path:
    file = folder / name
    content = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    file.write_bytes({".gz": gzip.compress, ".xz": lzma.compress}.get(file.suffix, bytes)(content))
    return file


def documents(corpus: Corpus) -> list[str]:
    """Return the texts of a corpus, by its tokens."""
    ends = np.flatnonzero(corpus.tokens == END)
    return [TOKENIZER.decode(corpus.tokens[a + 1 : b].tolist()) for a, b in pairwise(ends)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.xz"])
def test_every_byte_of_every_document_is_there(tmp_path: Path, name: str) -> None:
    corpus = read(tmp_path, lines(tmp_path, TEXTS, name))
    assert documents(corpus) == TEXTS  # one that spells out the end of text ends nothing
    assert (corpus.n_documents, corpus.n_bytes) == (3, sum(len(text.encode()) for text in TEXTS))
    assert corpus.tokens[0] == corpus.tokens[-1] == END and len(corpus) == len(corpus.tokens) - 1


def sentencepiece(*, fallback: bool, prefix: bool) -> PreTrainedTokenizerFast:
    """Return a tokenizer as Llama's and Mistral's are: spaces are a letter of their own, and what is unknown is bytes."""
    text = ["the cat sat on the mat and the dog ran over the hill", "Übergröße, naïve", "a  b"]
    made = SentencePieceBPETokenizer(add_prefix_space=prefix)
    pieces = [f"<0x{byte:02X}>" for byte in range(256)] if fallback else []
    made.train_from_iterator(text * 9, vocab_size=420, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    document = json.loads(made.to_str()) | {"normalizer": None}
    model = document["model"]
    model["vocab"] |= {piece: len(model["vocab"]) + number for number, piece in enumerate(pieces)}
    model |= {"byte_fallback": fallback, "unk_token": "<unk>"}
    if fallback:
        strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
        replace = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
        steps = [replace, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]
        document["decoder"] = {"type": "Sequence", "decoders": steps}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(document)), unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


TOKENIZERS = {
    "of nano": TOKENIZER,
    "with a space before texts": sentencepiece(fallback=True, prefix=True),
    "without": sentencepiece(fallback=True, prefix=False),
    "without bytes": sentencepiece(fallback=False, prefix=True),
}
LETTERS = st.characters(codec="utf-8", exclude_characters="\0▁")
KNOWN = st.sampled_from(["the", "cat", "sat", "on", "mat", "and", "dog", "ran", "over", "hill"])


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_bytes_of_tokens_add_up_to_those_of_the_texts(name: str, data: st.DataObject) -> None:
    words = st.lists(KNOWN, min_size=1, max_size=9).map(" ".join)
    # With a prefix a space before a text is the prefix, and without bytes what is unknown is lost.
    text_of = {
        "without bytes": words,
        "with a space before texts": st.tuples(words, st.text(LETTERS)).map("".join),
    }.get(name, st.text(LETTERS))
    texts, tokenizer = data.draw(st.lists(text_of, min_size=1, max_size=6)), TOKENIZERS[name]
    end, counted = tokenizer.eos_token_id, TokenBytes(tokenizer)
    ids = [tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] for text in texts]
    whole = np.asarray([end, *(one for some in ids for one in [*some, end])])
    assert counted.count(whole) == sum(len(text.encode()) for text in texts)
    # However they are cut.
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert counted.count(whole[: cut + 1]) + counted.count(whole[cut:]) == counted.count(whole)
    assert counted.inside_V[end] == counted.first_V[end] == 0


@pytest.mark.parametrize(("name", "said"), [("with a space before texts", 0), ("without bytes", 1)])
def test_a_tokenizer_that_loses_bytes_is_told(name: str, said: int, tmp_path: Path) -> None:
    tokenizer, texts = TOKENIZERS[name], ["the cat sat on 漢字", "the dog"]
    reader = CorpusReader(tokenizer, DataConfig(), root=tmp_path / "cache")
    corpus = reader.read(Texts((lines(tmp_path, texts),)))
    notes = miscounted(TokenBytes(tokenizer), corpus)
    assert len(notes) == said
    assert all(f"its texts have {sum(len(text.encode()) for text in texts)} bytes" in note for note in notes)


@pytest.mark.parametrize(
    ("documents_are", "expected"),
    [
        ("file", ["one\ntwo\n\nthree\n"]),
        ("paragraph", ["one\ntwo\n\n", "three\n"]),
        ("line", ["one\n", "two\n", "three\n"]),
    ],
)
def test_plain_text_has_the_documents_that_were_asked_for(
    tmp_path: Path, documents_are: Any, expected: list[str]
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one\ntwo\n\nthree\n")
    assert documents(read(tmp_path, file, documents=documents_are)) == expected


def test_long_text_files_are_one_document_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vertebra.data.corpus._PART", 40)
    file = tmp_path / "a.txt"
    file.write_text("A line of some words, and then a few more.\n" * 20)
    corpus = read(tmp_path, file)
    assert documents(corpus) == [file.read_text()] and corpus.n_documents == 1


def test_a_second_reading_takes_what_is_on_disk_unless_anything_has_changed(tmp_path: Path) -> None:
    file = lines(tmp_path, TEXTS)
    first = read(tmp_path, file)
    (entry,) = (tmp_path / "cache" / "corpora").iterdir()
    written = (entry / "tokens.bin").stat().st_mtime_ns
    assert read(tmp_path, file).fingerprint == first.fingerprint
    assert (entry / "tokens.bin").stat().st_mtime_ns == written
    assert read(tmp_path, lines(tmp_path, TEXTS[:2])).fingerprint != first.fingerprint
    assert read(tmp_path, lines(tmp_path, TEXTS), data=DataConfig(bad_rows="skip")).fingerprint != first.fingerprint
    (entry / "tokens.bin").write_bytes(b"damaged")
    assert documents(read(tmp_path, lines(tmp_path, TEXTS))) == TEXTS


BROKEN = {
    "not JSON": b'{"text": "good"}\n{"text": "cut\n{"text": "after"}\n',
    "no text": b'{"text": "good"}\n{"txt": "other"}\n{"text": "after"}\n',
    "no string": b'{"text": "good"}\n{"text": 3}\n{"text": "after"}\n',
    "not UTF-8": b'{"text": "good"}\n{"text": "\xff"}\n{"text": "after"}\n',
    "cut xz": lzma.compress(b'{"text": "good"}\n' * 50_000)[:-30],
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(BROKEN[kind])
    with pytest.raises(DataError) as caught:
        read(tmp_path, file)
    message = str(caught.value)
    assert "a.jsonl" in message and message.count("data.bad_rows=skip") == 1 and "\n" not in message
    assert kind == "cut xz" or any(place in message for place in (":2", "row 2"))


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_broken_is_left_out_and_counted_where_that_was_asked_for(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(BROKEN[kind])
    corpus = read(tmp_path, file, data=DataConfig(bad_rows="skip"))
    (note,) = corpus.notes
    assert note.startswith("1 places of the corpus skipped")
    found = documents(corpus)
    assert found[0] == "good" and (found[-1] == "after" or kind == "cut xz")


@pytest.mark.parametrize("texts", [[], ["", "  \n"]])
def test_a_corpus_without_text_is_refused(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(DataError, match=r"There is no text in a\.jsonl"):
        read(tmp_path, lines(tmp_path, texts))


def windows_of(tokens: list[int], length: int, part: slice = slice(None)) -> Windows:
    corpus = Corpus(np.asarray([*tokens, 0], dtype=np.uint16), 0, 0, "")

    def make(ids: Any, following: Any, number: int) -> Features:
        return Features(ids, target=following, positions=np.arange(len(ids)), note={"number": number})

    return Windows(corpus, length, 0, make, part)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 8), st.integers(0, 8))
def test_windows_have_every_token_once_with_the_one_behind_it(
    tokens: list[int], length: int, first: int, count: int
) -> None:
    tokens[0] = 0
    total = -(-len(tokens) // length)
    part = slice(min(first, total), min(first + count, total))
    windows = windows_of(tokens, length, part)
    assert len(windows) == part.stop - part.start
    expected = tokens[part.start * length : part.stop * length]
    pieces = [one for window in windows for one in window]
    assert [token for one in pieces for token in one.input_ids.tolist()] == expected
    behind = [*tokens, 0][part.start * length + 1 : part.start * length + 1 + len(expected)]
    assert [token for one in pieces for token in one.target.tolist()] == behind
    for one in pieces:  # a document begins where a piece begins, and nowhere else
        assert 0 not in one.input_ids[1:]
    flat = Pieces(windows)
    assert len(flat) == len(pieces) and [one.example for one in flat] == [one.example for one in pieces]
    for number, one in enumerate(pieces):
        same = flat[number]
        assert same.input_ids.tolist() == one.input_ids.tolist() and same.note == one.note == {"number": number}
        assert one.example == sum(len(before) for before in pieces[:number]) // length
