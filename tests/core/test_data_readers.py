"""Files in every format, whole and broken."""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.core.data_tasks import shared

from vertebra.config.schema import DataConfig
from vertebra.data.formats import STREAMS, format_of
from vertebra.data.hub import read_hub
from vertebra.data.readers import read_columns, read_csv, read_json, read_parquet, read_tsv
from vertebra.errors import DataError

NUMBERS = {"text": 0, "label": 1}


def rows_of(path: Path, format: str | None = None, **data: Any) -> list[dict[str, Any]]:
    config = DataConfig(path=str(path), **data)
    return list(STREAMS[format or format_of(path, config)](path, config))


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refused(path: Path, format: str | None = None, **data: Any) -> str:
    with pytest.raises(DataError) as error:
        rows_of(path, format, **data)
    message = str(error.value)
    assert "\n" not in message, "one line"
    assert str(path) in message or "data." in message, "it names the file or the setting"
    return message


# --- columns


def test_columns_in_tabs_or_spaces(tmp_path: Path) -> None:
    wanted = [{"0": ["a", "b"], "1": ["O", "B-X"]}, {"0": ["c"], "1": ["O"]}]
    assert rows_of(write(tmp_path, "a.conll", "a O\nb B-X\n\nc O\n")) == wanted
    assert rows_of(write(tmp_path, "b.conll", "a\tO\r\nb\tB-X\r\n\r\n\r\nc\tO")) == wanted
    assert rows_of(write(tmp_path, "c.txt", "-DOCSTART- -X-\n\na   O \nb B-X\n-DOCSTART- -X-\nc O\n \n")) == wanted
    assert rows_of(write(tmp_path, "d.bio", "a|O\nb|B-X\n\nc|O\n"), separator="|") == wanted


def test_columns_keep_odd_tokens(tmp_path: Path) -> None:
    path = write(tmp_path, "a.bmes", '\u3000 O\n" O\n# O\n\u2028 O\n\xa0 O\n')
    assert rows_of(path)[0]["0"] == ["\u3000", '"', "#", "\u2028", "\xa0"]
    assert rows_of(write(tmp_path, "b.bmes", "New York\tO\n\tO\n"))[0]["0"] == ["New York", ""]


def test_blanks_before_a_line_are_no_column(tmp_path: Path) -> None:
    assert rows_of(write(tmp_path, "a.conll", "  a O\nb\t O \n")) == [{"0": ["a", "b"], "1": ["O", "O"]}]


def test_a_line_with_other_columns_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "a.conll", "a NN O\nb NN O\n\nc O\n")
    assert f"{path}:4: 2 columns where the lines before have 3" in refused(path)


# --- tables


def test_csv_has_quotes_and_a_header(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", '\ufefftext, label\r\n"a, ""b""\nc",x\r\n\r\nd,y\r\n')
    assert rows_of(path) == [{"text": 'a, "b"\nc', "label": "x"}, {"text": "d", "label": "y"}]
    assert rows_of(write(tmp_path, "b.csv", "text;label\na, b;x\n")) == [{"text": "a, b", "label": "x"}]
    assert rows_of(write(tmp_path, "c.csv", "a;b,x\n"), columns=NUMBERS) == [{"0": "a;b", "1": "x"}]
    assert rows_of(write(tmp_path, "d.csv", "a@x\n"), columns=NUMBERS, separator="@") == [{"0": "a", "1": "x"}]


def test_csv_takes_a_long_text(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", f"text,label\n{'long ' * 100_000},x\n")
    assert len(rows_of(path)[0]["text"]) == 500_000


@given(
    rows=st.lists(
        st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)] * 2), min_size=1
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_csv_reads_what_python_writes(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([("text", "label"), *rows])
    read = rows_of(write(tmp_path, "a.csv", buffer.getvalue()))
    assert [(row["text"], row["label"]) for row in read] == rows


def test_tsv_has_no_quotes(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", 'text\tlabel\n"unclosed, it is\tx\n\nb\ty\n')
    assert rows_of(path) == [{"text": '"unclosed, it is', "label": "x"}, {"text": "b", "label": "y"}]


@pytest.mark.parametrize(
    ("name", "content", "line", "said"),
    [
        ("a.csv", "text,label\na,x\nb\n", 3, "1 columns where the lines before have 2"),
        ("a.csv", 'text,label\na,x\n"b,y\nc,z\n', 3, "not CSV"),
        ("a.csv", 'text,label\n"a"b,x\n', 2, "not CSV"),
        ("a.csv", "text,text\na,x\n", 1, "names column 'text' twice"),
        ("a.tsv", "text\tlabel\na\tx\tz\n", 2, "3 columns where the lines before have 2"),
    ],
)
def test_a_broken_row_of_a_table_is_named(tmp_path: Path, name: str, content: str, line: int, said: str) -> None:
    path = write(tmp_path, name, content)
    message = refused(path)
    assert f"{path}:{line}:" in message and said in message


def test_a_separator_of_csv_is_one_character(tmp_path: Path) -> None:
    assert "data.separator='||'" in refused(write(tmp_path, "a.csv", "text||label\n"), separator="||")


# --- JSON


def test_json_lines_and_lists(tmp_path: Path) -> None:
    wanted = [{"text": "a"}, {"text": "ü 😀"}]
    assert rows_of(write(tmp_path, "a.jsonl", '{"text": "a"}\n\n{"text": "\\u00fc \\ud83d\\ude00"}\n')) == wanted
    assert rows_of(write(tmp_path, "b.json", json.dumps(wanted))) == wanted
    assert rows_of(write(tmp_path, "c.json", "\n" + json.dumps(wanted, indent=2))) == wanted


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ('{"text": "a"}\n{"text": \n', 2, "not JSON"),
        ('{\n  "text": "a"\n}\n', 1, "one object a line"),
        ('["a"]', None, "item 1: a row must be a JSON object"),
        ('{"text": "a"}\n"b"\n', 2, "a row must be a JSON object"),
        ('[{"text": "a"},\n {"text" "b"}]', 2, "not JSON"),
        ('{"text": "a"}\n{"text": "\\ud800"}\n', 2, "surrogate"),
        ('[{"text": "\\ud83d\\ude00"},\n {"text": "b \\udE00"}]', 2, "surrogate"),
        ('{"text": ' + "[" * 200_000 + "\n", 1, "not JSON"),
        ('{"text": ' + "1" * 5000 + "}\n", 1, "not JSON"),
    ],
)
def test_broken_json_is_named(tmp_path: Path, content: str, line: int | None, said: str) -> None:
    path = write(tmp_path, "a.json", content)
    message = refused(path)
    assert said in message and (line is None or f"{path}:{line}:" in message)


# --- Parquet


def test_parquet_names_class_labels(tmp_path: Path) -> None:
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["bad", "good"], "_type": "ClassLabel"},
        "tags": {"feature": {"names": ["O", "B-X"], "_type": "ClassLabel"}, "_type": "List"},
    }
    table = pa.table({"text": ["a", "b"], "label": [1, -1], "tags": [[0, 1], []]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pa.parquet.write_table(table, tmp_path / "train.parquet")
    assert read_parquet(DataConfig(path=str(tmp_path)))["train"] == [
        {"text": "a", "label": "good", "tags": ["O", "B-X"]},
        {"text": "b", "label": None, "tags": []},
    ]


def test_parquet_is_found_by_its_content(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"text": ["a"]}), tmp_path / "train.data")
    assert rows_of(tmp_path / "train.data") == [{"text": "a"}]


def test_broken_parquet_is_named(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"text": ["a"] * 100}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    for content in (whole[:-20], b"", b"text,label\n"):
        assert "Parquet" in refused(write(tmp_path, "b.parquet", content))


# --- all text formats: compression, encodings, what is no text


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
@pytest.mark.parametrize("name", ["a.tsv.gz", "a.tsv.xz", "a.tsv"])
def test_compression_is_known_by_content(tmp_path: Path, name: str, compress: Callable[[bytes], bytes]) -> None:
    path = write(tmp_path, name, compress("text\tlabel\nä\tx\n".encode()))
    assert rows_of(path) == [{"text": "ä", "label": "x"}]


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_a_cut_or_damaged_archive_is_named(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    whole = compress("".join(f"word{number} O\n" for number in range(20_000)).encode())
    assert "broken or cut off after line" in refused(write(tmp_path, "a.conll.gz", whole[: len(whole) // 2]))
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    refused(write(tmp_path, "b.conll.gz", bytes(damaged)))


def test_encodings(tmp_path: Path) -> None:
    text = "text\tlabel\nGrüße\tx\n"
    for encoding in ("utf-8", "latin-1", "utf-16", "gb18030"):
        path = write(tmp_path, "a.tsv", text.encode(encoding))
        assert rows_of(path, encoding=encoding) == [{"text": "Grüße", "label": "x"}]


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("line", [1, 2, 30_000])
def test_a_wrong_encoding_names_the_line(tmp_path: Path, compress: Callable[[bytes], bytes], line: int) -> None:
    lines = [b"a O"] * 40_000
    lines[line - 1] = "ä O".encode("latin-1")
    path = write(tmp_path, "a.conll", compress(b"\n".join(lines)))
    message = refused(path)
    assert f"{path}:{line}: not utf-8 text (byte 0xe4)" in message and "data.encoding" in message


def test_an_unknown_encoding_is_named(tmp_path: Path) -> None:
    assert "no text encoding 'utf-9'" in refused(write(tmp_path, "a.tsv", "a\n"), encoding="utf-9")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.conll", "a.txt", "a.parquet"])
def test_binary_files_are_refused(tmp_path: Path, name: str) -> None:
    refused(write(tmp_path, name, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256))))
    refused(write(tmp_path, name, b"a O\0\0\n" * 10))


@pytest.mark.parametrize("read", [read_columns, read_csv, read_tsv, read_json, read_parquet])
@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"\xef\xbb\xbf", gzip.compress(b"")],
    # Spelled out: gzip writes the time of day into its header, and workers must collect the same names.
    ids=["nothing", "blank-lines", "byte-order-mark", "empty-gzip"],
)
def test_empty_files_are_refused(tmp_path: Path, read: Callable[[DataConfig], Any], content: bytes) -> None:
    path = write(tmp_path, "train.data", content)
    with pytest.raises(DataError, match=r"train\.data"):
        read(DataConfig(path=str(path)))


@pytest.mark.parametrize("format", STREAMS)
def test_what_is_no_file_is_refused(tmp_path: Path, format: str) -> None:
    write(tmp_path, "trian.csv", "a")
    assert "is a folder" in refused(tmp_path, format)
    assert "Did you mean 'trian.csv'?" in refused(tmp_path / "train.csv", format)


@given(content=st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@pytest.mark.parametrize("format", STREAMS)
def test_any_bytes_give_rows_or_a_data_error(tmp_path: Path, format: str, content: bytes) -> None:
    for start in (b"", b"\x1f\x8b\x08", b"\xfd7zXZ\x00", b"PAR1"):
        path = write(tmp_path, "a.txt", start + content)
        try:
            assert all(isinstance(row, dict) for row in rows_of(path, format))
            rows_of(path)
        except DataError as error:
            assert "\n" not in str(error)


# --- which format


@pytest.mark.parametrize(
    ("content", "format"),
    [
        ("a O\nb O\n\nc O\n", "columns"),
        ("-DOCSTART- -X- O O\n\nEU NNP I-NP I-ORG\n", "columns"),
        ("a O\nb O\n\n" * 20 + "bad\n", "columns"),
        ("a b\tx\nc\ty\n", "tsv"),
        ('{"text": "a"}\n', "json"),
        ('[\n{"text": "a"}]\n', "json"),
        ("One sentence here.\nTwo.\n", "text"),
        ("Ada sleeps.\n\nBob walks.\n\nEve runs.\n", "text"),
        ("A paragraph of\nmany lines\n\nand another one here\n", "text"),
        ("", "text"),
    ],
)
def test_a_txt_file_has_the_format_of_its_content(tmp_path: Path, content: str, format: str) -> None:
    assert format_of(write(tmp_path, "a.txt", content), DataConfig()) == format


# --- real data


@pytest.mark.parametrize(
    ("place", "config", "rows"),
    [
        ("ner/conll2003", {}, {"train": 14041, "valid": 3250, "test": 3453}),
        ("ner/resume_zh", {}, {"train": 3821, "valid": 463, "test": 477}),
        ("sentiment/sst2", {"columns": NUMBERS}, {"train": 6920, "valid": 872, "test": 1821}),
        ("classification/banking77", {}, {"train": 10003, "test": 3080}),
        ("answer_selection/wikiqa", {}, {"train": 8672, "valid": 1130, "test": 2351}),
        ("summarization/dialogsum", {}, {"valid": 500, "test": 500}),
        ("recommendation/ml-100k/u.data", {"columns": NUMBERS}, {"train": 100_000}),
        ("lm/wiki.valid.jsonl.xz", {}, {"train": 300}),
        (
            "sentiment/financial_phrasebank/Sentences_50Agree.txt",
            {"format": "tsv", "separator": "@", "encoding": "latin-1", "columns": NUMBERS},
            {"train": 4846},
        ),
    ],
)
def test_real_data(place: str, config: dict[str, Any], rows: dict[str, int]) -> None:
    from vertebra.data.splits import find_format
    from vertebra.host.manager import create_host

    data = DataConfig(path=shared(place), **config)
    name = find_format(data) if data.format == "auto" else data.format
    read = create_host().get("reader", name).load()(data)
    assert {split: len(some) for split, some in read.items()} == rows


# --- the Hub


def test_a_hub_name_without_a_network_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(*arguments: Any, **settings: Any) -> Any:
        asked.append(arguments)
        raise OSError("no network in this test")

    import datasets

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    before = datasets.config.HF_HUB_OFFLINE
    with pytest.raises(DataError, match=r"Hub cannot be reached.*data\.path=FOLDER.*\./owner/nothing") as error:
        read_hub(DataConfig(path="owner/nothing"))
    assert "\n" not in str(error.value)
    assert len(asked) <= 1, "retries would take most of a minute"
    assert datasets.config.HF_HUB_OFFLINE is before, "the setting is as it was"


def test_hub_rows_have_label_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    one = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features)
    loaded = datasets.DatasetDict({"train": one, "validation": one, "unsupervised": one})
    monkeypatch.setattr(datasets, "load_dataset", lambda *arguments, **settings: loaded)
    rows = read_hub(DataConfig(path="owner/name"))
    assert {split: len(some) for split, some in rows.items()} == {"train": 2, "valid": 2}
    assert rows["valid"][1] == {"text": "b", "label": "yes"}
    with pytest.raises(DataError, match=r"data\.splits\.test: There is no split 'tset'"):
        read_hub(DataConfig(path="owner/name", splits={"test": "tset"}))


def test_a_refusal_of_the_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def refuse(*arguments: Any, **settings: Any) -> Any:
        raise RuntimeError("something broke\nwith much detail") from ValueError("Config name is missing.\n- a\n- b")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    monkeypatch.setattr("vertebra.data.hub.hub_answers", lambda: True)
    with pytest.raises(DataError, match=r"from the Hub: Config name is missing\. ") as error:
        read_hub(DataConfig(path="owner/name"))
    assert "\n" not in str(error.value)
