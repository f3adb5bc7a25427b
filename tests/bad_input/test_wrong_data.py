"""Wrong data, through the real command line: each is one message, exit code 2, and a folder that says so."""

from __future__ import annotations

from refusals import COLUMNS, CPU, TINY, Captured, Places, check_failed, refused, wrong


@wrong(
    ("empty.conll", "empty.conll' has no rows"),
    ("blank.conll", "blank.conll' has no rows"),
    ("binary.conll", "binary.conll:2: not utf-8 text", "data.encoding"),
    ("latin1.conll", "latin1.conll:241: not utf-8 text (byte 0xfc)", "latin-1"),
    ("cut.conll.gz", "cut.conll.gz: the compressed file is broken or cut off"),
    ("cut.conll.xz", "cut.conll.xz: the compressed file is broken or cut off"),
    ("short.conll", "short.conll:2: 1 columns where the lines before have 2: 'lives'"),
    ("wide.conll", "wide.conll:2: 3 columns where the lines before have 2: 'new york O'"),
    ("tokens.conll", "tokens.conll", "no column for 'tags': there is 1", "data.columns.tags=NUMBER"),
    ("plain_tag.conll", "plain_tag.conll", "row 1", "'LOC'", "B-PER"),
    ("stray", "Row 'valid-1': Tag 'E-LOC' of token 4 is not of the scheme iob2", "B-TYPE, I-TYPE"),
    ("outside.conll", "Every word of the training rows has the tag 'O'", "data.columns.tags"),
    ("prose.txt", "prose.txt:2: 2 columns where the lines before have 4"),
    ("empty_train", "train.conll' has no rows"),
    ("no_train", "has no training rows (it has: test). Set data.splits.train=FILE"),
    ("no_names", "it holds: one.conll, two.conll", "data.splits.train=FILE"),
    ("two_trains", "could be the split 'train': train-a.conll, train-b.conll", "data.splits.train=FILE"),
    ("no_files", "no files named train", "it holds: nothing"),
    (("unseen", "data.splits.train=trian.conll"), "data.splits.train: ", "Did you mean 'train.conll'?"),
    (("unseen", "data.splits.dev=valid.conll"), "data.splits: There is no split 'dev'", "test, train, valid"),
    (("unseen", "data.splits.train=DATA/no_names"), "no_names' is a folder; a file is needed"),
    (("unseen", "data.columns.tokn=0"), "no column of the task 'tokn'. Did you mean 'tokens'?"),
    (("unseen", "data.columns={tokens: 0, tags: 7}"), "no column number 7: there are 2, numbered from 0"),
    (("unseen", "data.columns={tokens: 0, tags: word}"), "all columns by name, or all by number"),
    (("unseen", "data.format=parquet"), "train.conll' as Parquet"),
    (("unseen", "data.encoding=utf-16"), "train.conll:1: not utf-16 text"),
    (("long.conll", "backbone.context=16", "data.too_long=error"), "Row 'train-41' has 60 tokens; the context is 16"),
    (("unseen", "backbone.context=50000"), "backbone.context=50000 is over the 512 tokens that 'nano' can read"),
)
def test_wrong_columns_files(arguments: tuple[str, ...], says: list[str], places: Places, capsys: Captured) -> None:
    train_on_data(arguments, says, places, capsys)


@wrong(
    ("names.csv", "no column 'tokens'. Did you mean 'token'?", "data.columns.tokens=NAME"),
    ("twice.csv", "twice.csv:1: the header names column 'tags' twice"),
    ("uneven.csv", "uneven.csv:2: 3 columns where the lines before have 2"),
    ("quote.csv", "quote.csv:2: the record that begins here is not CSV"),
    ("no_tags.jsonl", "no column 'tags'. Did you mean 'tag'?", "data.columns.tags=NAME"),
    ("text_tags.jsonl", "text_tags.jsonl", "row 1", "column 'tags' must be a list, not 'B-PER'"),
    ("number_tags.jsonl", "row 1", "Column 'tags' must hold strings"),
    ("null_tags.jsonl", "row 1", "column 'tags' is empty"),
    ("fewer_tags.jsonl", "row 1", "2 tokens have 1 tags; each token needs one"),
    ("not_json.jsonl", "not_json.jsonl:2: not JSON"),
    ("scalar.jsonl", "scalar.jsonl:1: a row must be a JSON object"),
    ("same_id.jsonl", "row 2", "id '7' is that of row 1"),
    ("prose.txt", "Cannot tell the format of", "columns, csv, tsv, json or parquet"),
    ("fake.parquet", "fake.parquet' as Parquet"),
    ("whole.parquet", "whole.parquet' as Parquet"),
    ("nobody/nothing", "'nobody/nothing': the Hub cannot be reached", "data.path=FOLDER"),
)
def test_wrong_files_of_other_formats(
    arguments: tuple[str, ...], says: list[str], places: Places, capsys: Captured
) -> None:
    train_on_data((*arguments, "data.format=auto"), says, places, capsys)


def train_on_data(arguments: tuple[str, ...], says: list[str], places: Places, capsys: Captured) -> None:
    name, *others = arguments
    path = name if name.startswith("nobody/") else f"DATA/{name}"
    given = [places.filled(argument) for argument in (*COLUMNS, f"data.path={path}", *others)]
    message = refused(["train", "task=ner", *given, *CPU, f"hydra.run.dir={places.out}"], says, capsys)
    check_failed(places.out, message)


def test_the_sample_has_options_of_its_own(places: Places, capsys: Captured) -> None:
    given = ["train", "task=ner", "data.options.trian=3", *TINY, *CPU, f"hydra.run.dir={places.out}"]
    check_failed(places.out, refused(given, ["data.options.trian", "Did you mean 'train'?"], capsys))
