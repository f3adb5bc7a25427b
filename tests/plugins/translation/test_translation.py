"""Translations: the task and its directions, its scores beside sacrebleu's own, its files, its baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from vertebra.config.options import configure
from vertebra.config.schema import BackboneConfig, DataConfig
from vertebra.data.inputs import iterate_file
from vertebra.data.load import load_splits
from vertebra.engine.loading import load_tokenizer
from vertebra.errors import ConfigError, DataError
from vertebra.host.manager import create_host
from vertebra.metrics.bootstrap import interval
from vertebra.report.figures import Table
from vertebra_translation.baselines import Copy, Dictionary, dictionary
from vertebra_translation.config import TranslationConfig
from vertebra_translation.metrics import Bleu, ChrF, CorpusMetric, TranslationLengthRatio
from vertebra_translation.sample import read as read_sample
from vertebra_translation.task import Translation

DATA = Path(__file__).resolve().parents[4] / "shared/data/translation"
BOTH = ("en-de", "de-en")


def counts_of(metric: Any, pairs: list[tuple[Any, Any]]) -> Any:
    return np.asarray([metric.count(*pair) for pair in pairs], dtype=np.float64)


# --- scores

WORDS = st.lists(
    st.sampled_from(["the", "a", "dog", "runs", "in", "house", ",", ".", "red", "cats", "5"]), min_size=1, max_size=12
).map(" ".join)
CORPUS = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6)


@given(CORPUS.filter(lambda pairs: any(len(one.split()) >= 4 for one, _ in pairs)))
@settings(max_examples=60)
def test_scores_of_a_corpus_are_sacrebleu_s(pairs: list[tuple[str, str]]) -> None:
    predicted, right = [one for one, _ in pairs], [other for _, other in pairs]
    bleu = sacrebleu.corpus_bleu(predicted, [right])
    assert Bleu().score(counts_of(Bleu(), pairs)) * 100 == pytest.approx(bleu.score)
    chrf = sacrebleu.corpus_chrf(predicted, [right])
    assert ChrF().score(counts_of(ChrF(), pairs)) * 100 == pytest.approx(chrf.score)
    length = TranslationLengthRatio()
    assert length.score(counts_of(length, pairs)) == pytest.approx(bleu.sys_len / bleu.ref_len)


def test_chinese_is_cut_by_sacrebleu_s_own_tokenizer_and_japanese_by_character() -> None:
    pairs = [("我喜欢红色的狗。", "我喜欢红色的小狗。"), ("GPT-2 很好", "GPT-2 很好")]
    predicted, right = [one for one, _ in pairs], [[other for _, other in pairs]]
    for code, tokenizer in (("zh", "zh"), ("ja", "char")):
        metric = Bleu((f"en-{code}",))
        expected = sacrebleu.corpus_bleu(predicted, right, tokenize=tokenizer).score
        assert metric.score(counts_of(metric, pairs)) * 100 == pytest.approx(expected)
        assert f"tok:{tokenizer}" in metric.signature
    assert "tok:13a" in Bleu().signature
    assert f"version:{sacrebleu.__version__}" in Bleu().signature


@pytest.mark.parametrize("text", ["Ja", "Ein Hund", "Ein Hund rennt", "Ein Hund rennt schnell"])
def test_a_perfect_translation_scores_one_however_short_it_is(text: str) -> None:
    for metric in (Bleu(), ChrF(), TranslationLengthRatio()):
        assert metric.score(counts_of(metric, [(text, text)])) == pytest.approx(1.0)


def test_nothing_scores_zero_and_an_empty_corpus_too() -> None:
    for metric in (Bleu(), ChrF(), TranslationLengthRatio()):
        assert metric.score(np.zeros((0, 3))) == 0.0
        assert metric.score(counts_of(metric, [("", "Ein Hund")])) == 0.0


@given(CORPUS)
@settings(max_examples=20)
def test_a_resampled_corpus_scores_as_if_it_were_scored_anew(pairs: list[tuple[str, str]]) -> None:
    metric = Bleu()
    counts = counts_of(metric, pairs)
    drawn = np.random.default_rng(0).integers(len(pairs), size=len(pairs))
    again = counts_of(metric, [pairs[number] for number in drawn])
    assert metric.score(counts[drawn]) == metric.score(again)
    low, high = interval(metric, counts)
    assert 0 <= low <= high <= 1 + 1e-9


def test_several_directions_count_alike() -> None:
    pair = ({"en-de": "Ein Hund rennt schnell", "de-en": "no"}, {"en-de": "Ein Hund rennt schnell", "de-en": "A dog"})
    assert Bleu(BOTH).score(counts_of(Bleu(BOTH), [pair])) == pytest.approx(0.5)
    task = Translation(TranslationConfig(directions=BOTH))
    [table] = task.figures([pair[0]], [pair[1]])
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == list(BOTH)
    assert table.rows[0][1] == pytest.approx(1.0)
    assert "tok:13a" in str(table.rows[0][-1])


@pytest.mark.parametrize("kind", [Bleu, ChrF, TranslationLengthRatio])
def test_directions_are_told_apart_by_name_and_not_by_their_order(kind: type[CorpusMetric]) -> None:
    texts = {"en-de": "Ein Hund rennt schnell", "de-en": "A dog runs fast"}
    turned = dict(reversed(texts.items()))
    metric, task = kind(BOTH), Translation(TranslationConfig(directions=BOTH))
    assert metric.count(turned, texts) == metric.count(texts, turned) == metric.count(texts, texts)
    assert task.figures([turned], [texts]) == task.figures([texts], [texts])
    for other in ("Ein Hund", {"en-de": "Ein Hund"}, {**texts, "fr-en": "A dog"}):
        with pytest.raises(DataError, match="the directions are en-de, de-en"):
            metric.count(other, texts)


# --- directions


def test_each_row_is_an_example_for_each_direction_with_its_tag_in_the_prompt() -> None:
    tokenizer = load_tokenizer(BackboneConfig(), create_host())
    task = Translation(TranslationConfig(directions=BOTH))
    row = {"id": "1", "source": "A dog.", "target": "Ein Hund."}
    prompts = [tokenizer.decode(one.input_ids[: one.note["prompt"]]) for one in task.encode(row, tokenizer)]
    assert prompts == ["English: A dog.\nGerman:", "German: Ein Hund.\nEnglish:"]
    targets = [tokenizer.decode(one.target[:-1]) for one in task.encode(row, tokenizer)]
    assert targets == [" Ein Hund.", " A dog."]
    assert task.reference(row) == {"en-de": "Ein Hund.", "de-en": "A dog."}
    assert task.combine(row, ["a", "b"]) == {"en-de": "a", "de-en": "b"}
    back = Translation(TranslationConfig(directions=("de-en",)))
    assert back.reference(row) == "A dog."
    assert tokenizer.decode(back.encode(row, tokenizer)[0].target[:-1]) == " A dog."


def test_a_row_to_be_predicted_may_name_its_direction() -> None:
    tokenizer = load_tokenizer(BackboneConfig(), create_host())
    task = Translation(TranslationConfig(directions=BOTH))
    row = task.row_from_text("de-en: Ein Hund")
    assert row == {"source": "Ein Hund", "direction": "de-en"}
    [one] = task.encode(row, tokenizer)
    assert tokenizer.decode(one.input_ids) == "German: Ein Hund\nEnglish:"
    assert task.combine(row, ["A dog"]) == "A dog"
    [first] = task.encode({"source": "A dog"}, tokenizer)
    assert tokenizer.decode(first.input_ids).endswith("\nGerman:")
    with pytest.raises(DataError, match="no direction 'fr-en': this model has learnt en-de, de-en"):
        task.encode({"source": "x", "direction": "fr-en"}, tokenizer)
    assert Translation().row_from_text("Note: this") == {"source": "Note: this"}


def test_a_row_of_a_file_may_name_its_direction(tmp_path: Path) -> None:
    task = Translation(TranslationConfig(directions=BOTH))

    def rows(name: str, content: str) -> list[dict[str, Any]]:
        (tmp_path / name).write_text(content, encoding="utf-8")
        return [{**row, "id": ""} for row in iterate_file(tmp_path / name, DataConfig(), task)]

    wanted = [{"id": "", "source": "Ein Hund", "direction": "de-en"}, {"id": "", "source": "A dog"}]
    assert rows("in.csv", "source,direction\nEin Hund,de-en\nA dog,\n") == wanted
    assert rows("in.jsonl", '{"text": "Ein Hund", "direction": "de-en"}\n{"source": "A dog"}\n') == wanted
    for wrong, said in (
        ('{"source": "x", "direction": "fr-en"}', "no direction 'fr-en': this model has learnt en-de, de-en"),
        ('{"source": "x", "direction": ["de-en"]}', "column 'direction' must be a text"),
        ('{"source": "  "}', "column 'source' is empty"),
    ):
        with pytest.raises(DataError, match=rf"in\.jsonl:1: .*{said}"):
            rows("in.jsonl", wrong)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"direction": "ende"}, "two codes with a hyphen"),
        ({"direction": "en-de", "directions": ("en-fr",)}, "gives en-de and de-en, not en-fr"),
    ],
)
def test_directions_that_are_none_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Translation(TranslationConfig(**settings))


def test_a_direction_that_the_texts_contradict_is_refused() -> None:
    chinese, german = {"source": "a", "target": "我喜欢狗。"}, {"source": "a", "target": "Ein Hund."}
    Translation(TranslationConfig(direction="en-zh")).fit([chinese])
    Translation().fit([german])
    with pytest.raises(DataError, match="mostly Chinese or Japanese"):
        Translation().fit([chinese])
    with pytest.raises(DataError, match="hardly any Chinese or Japanese"):
        Translation(TranslationConfig(direction="en-zh")).fit([german])


# --- data


def splits_of(option: str, path: Path, **data: Any) -> Any:
    host = create_host()
    changes = {"option": f"translation/{option}", "path": str(path), **data}
    choice = configure(host, task="translation", data=changes).tasks[0]
    return load_splits(choice.data, Translation(choice.config), host)


def test_parallel_files_are_read_line_by_line(tmp_path: Path) -> None:
    for name, text in {"train.en": "a\nb\n", "train.de": "c\nd", "dev.en": "e\r\n", "dev.de": "f\n"}.items():
        (tmp_path / name).write_bytes(text.encode())
    rows = splits_of("multi30k_en_de", tmp_path, test_fraction=0.0).rows
    assert [(row["source"], row["target"]) for row in rows["train"]] == [("a", "c"), ("b", "d")]
    assert [(row["source"], row["target"]) for row in rows["valid"]] == [("e", "f")]


def test_files_that_data_splits_names(tmp_path: Path) -> None:
    for name in ("train", "more", "dev"):
        for language in ("en", "de"):
            (tmp_path / f"{name}.{language}").write_text(f"{name} {language}\n" * 9)
    rows = splits_of("parallel", tmp_path, splits={"train": ("train", "more"), "test": "dev"}).rows
    assert [row["source"] for row in rows["test"]] == ["dev en"] * 9
    assert len(rows["train"]) + len(rows["valid"]) == 18, "dev is the test split, and so not valid, too"
    for splits, said in (
        ({"validation": "more"}, r"no split 'validation'"),
        (
            {"train": ("train", "mor")},
            r"data\.splits\.train: There is no file or folder '.*mor\.en'.*Did you mean 'more\.en'",
        ),
        ({"train": ()}, r"data\.splits\.train: the list of names is empty"),
    ):
        with pytest.raises(DataError, match=said):
            splits_of("parallel", tmp_path, splits=splits)
    for language in ("en", "de"):
        (tmp_path / f"dev.{language}").write_text("")
    with pytest.raises(DataError, match=r"The valid split of .* has no rows"):
        splits_of("parallel", tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "one/pairs.txt").write_text("a\tb\n" * 9)
    with pytest.raises(DataError, match=r"'sentence_pairs' finds its splits by itself.*data\.splits\.test"):
        splits_of("pairs", tmp_path / "one", splits={"test": "nosuch.txt"})


def test_files_of_unequal_length_are_refused_with_both_counts(tmp_path: Path) -> None:
    (tmp_path / "train.en").write_text("a\nb\nc\n")
    (tmp_path / "train.de").write_text("d\ne\n")
    with pytest.raises(DataError, match=r"train\.en' has 3 lines and '.*train\.de' has 2"):
        splits_of("parallel", tmp_path)


def test_a_missing_side_and_an_empty_line_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.en").write_text("a\nb\n")
    with pytest.raises(DataError, match=r"no file or folder '.*train\.de'.*a file of both languages"):
        splits_of("parallel", tmp_path)
    (tmp_path / "train.de").write_text("c\n\n")
    with pytest.raises(DataError, match=r"train row 2 .*column 'target' is empty"):
        splits_of("parallel", tmp_path)
    with pytest.raises(
        DataError, match=r"no pair of files such as train\.fr and train\.nl; it holds: train\.de, train\.en"
    ):
        splits_of("parallel", tmp_path, options={"source": "fr", "target": "nl"})


def test_pairs_are_cut_so_that_no_sentence_stands_in_two_splits(tmp_path: Path) -> None:
    lines = [f"sentence {number % 50}.\tSatz {number}.\tby somebody" for number in range(400)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    first = splits_of("pairs", tmp_path / "pairs.txt")
    sources = {split: {row["source"] for row in rows} for split, rows in first.rows.items()}
    assert sum(map(len, sources.values())) == 50
    assert {split: len(rows) for split, rows in first.rows.items()} == {"train": 320, "valid": 40, "test": 40}
    assert "test: 10% of the training rows (40), cut by seed 0, rows of one source together" in first.notes
    assert splits_of("pairs", tmp_path) == first
    other = splits_of("pairs", tmp_path, split_seed=1)
    assert {row["source"] for row in other.rows["test"]} != sources["test"]


@pytest.mark.parametrize("seed", range(4))
def test_a_few_pairs_are_cut_by_sentence_too(tmp_path: Path, seed: int) -> None:
    lines = [f"{word}\tZiel {number}" for word in ("one", "two", "three") for number in range(6)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    splits = splits_of("pairs", tmp_path / "pairs.txt", split_seed=seed)
    sources = [{row["source"] for row in splits.rows[split]} for split in ("train", "valid", "test")]
    assert [len(some) for some in sources] == [1, 1, 1]
    assert set.union(*sources) == {"one", "two", "three"}


def test_a_line_without_a_tab_is_refused_or_skipped_and_counted(tmp_path: Path) -> None:
    lines = [f"a{number}\tb{number}" for number in range(40)]
    (tmp_path / "cmn.txt").write_text("\n".join([*lines, "no tab here", "c\t", *lines[:2]]))
    with pytest.raises(DataError, match=r"cmn\.txt:41: no sentence, tab and translation: 'no tab here'"):
        splits_of("pairs", tmp_path)
    splits = splits_of("pairs", tmp_path, options={"skip_bad_lines": True})
    assert sum(map(len, splits.rows.values())) == 42
    assert "2 lines without a translation were skipped: 41, 42" in splits.notes


@pytest.mark.parametrize(
    ("option", "place", "direction", "rows"),
    [
        ("sample", None, "en-de", {"train": 1500, "valid": 120, "test": 120}),
        ("multi30k_en_de", "multi30k_en_de", "en-de", {"train": 29000, "valid": 1014, "test": 1000}),
        ("tatoeba_en_zh", "tatoeba_en_zh", "en-zh", {"train": 24783, "valid": 3098, "test": 3098}),
    ],
)
def test_each_data_option_loads(option: str, place: str | None, direction: str, rows: dict[str, int]) -> None:
    if place and not (DATA / place).is_dir():
        pytest.skip(f"needs {DATA / place}")
    changes: dict[str, Any] = {"option": f"translation/{option}"} | ({"path": str(DATA / place)} if place else {})
    host = create_host()
    choice = configure(host, task={"name": "translation", "direction": direction}, data=changes).tasks[0]
    task = Translation(choice.config)
    splits = load_splits(choice.data, task, host)
    task.fit(splits.rows["train"])
    assert {name: len(some) for name, some in splits.rows.items()} == rows
    if option == "tatoeba_en_zh":
        assert "1 lines without a translation were skipped: 13" in splits.notes
        test = [row["id"] for row in splits.rows["test"][:4]]
        assert test == ["line-4", "line-5", "line-20", "line-25"], "the same on every machine, in every version"
        sources = [{row["source"] for row in some} for some in splits.rows.values()]
        assert len(set.union(*sources)) == sum(map(len, sources)), "no sentence stands in two splits"


def test_the_sample_is_a_function_of_its_seed_and_no_sentence_stands_twice() -> None:
    data = read_sample(DataConfig())
    sources = [row["source"] for rows in data.values() for row in rows]
    assert len(set(sources)) == len(sources)
    assert read_sample(DataConfig()) == data != read_sample(DataConfig(options={"seed": 2}))
    with pytest.raises(DataError, match=r"data\.options\.train=0"):
        read_sample(DataConfig(options={"train": 0}))


# --- baselines


def test_the_dictionary_is_that_of_model_1() -> None:
    sources = [["the", "dog"], ["the", "cat"], ["a", "dog"], ["a", "red", "cat"]]
    targets = [["der", "Hund"], ["die", "Katze"], ["ein", "Hund"], ["eine", "rote", "Katze"]]
    found = dictionary(sources, targets)
    assert found["dog"] == "Hund"
    assert found["cat"] == "Katze"
    assert set(found) == {"the", "dog", "cat", "a", "red"}


def test_model_1_by_hand() -> None:
    """The same expectation maximisation, one word at a time."""
    sources = [["a", "b"], ["b", "c"], ["a", "c", "c"]]
    targets = [["x", "y"], ["y", "z"], ["x", "z"]]
    table: dict[tuple[str, str], float] = {}
    for source, target in zip(sources, targets, strict=True):
        table |= {(one, other): 1.0 for one in ["", *source] for other in target}
    for _ in range(5):
        counts = dict.fromkeys(table, 0.0)
        for source, target in zip(sources, targets, strict=True):
            for other in target:
                total = sum(table[one, other] for one in ["", *source])
                for one in ["", *source]:
                    counts[one, other] += table[one, other] / total
        sums = {one: sum(count for (left, _), count in counts.items() if left == one) for one in ["", "a", "b", "c"]}
        table = {pair: count / sums[pair[0]] for pair, count in counts.items()}
    best = {one: max("xyz", key=lambda other, one=one: table.get((one, other), 0.0)) for one in "abc"}  # type: ignore[misc]
    assert dictionary(sources, targets) == best


@pytest.mark.parametrize("directions", [("en-de",), BOTH])
def test_baselines_predict_what_the_task_does(directions: tuple[str, ...]) -> None:
    task = Translation(TranslationConfig(directions=directions))
    data = read_sample(DataConfig(options={"train": 200, "valid": 10, "test": 10}))
    scores = []
    for kind, baseline in zip((Copy, Dictionary), task.baselines(), strict=True):
        assert type(baseline) is kind
        baseline.fit(data["train"], data["valid"])
        predictions = baseline.predict(data["test"])
        metric = ChrF.for_task(task)
        pairs = list(zip(predictions, [task.reference(row) for row in data["test"]], strict=True))
        scores.append(metric.score(counts_of(metric, pairs)))
    assert scores[0] < scores[1]


def test_the_plugin_brings_what_its_task_names() -> None:
    host = create_host()
    assert host.get("task", "translation").load() is Translation
    for name in Translation.metrics:
        assert host.get("metric", name).load().for_task(Translation()).name == name


@pytest.mark.slow
def test_the_sample_is_learnt_from_random_weights(tmp_path: Path) -> None:
    import vertebra

    config = configure(create_host(), task="translation", trainer={"epochs": 8.0, "trackers": []})
    scores = vertebra.train(config, tmp_path / "run").metrics
    assert scores["test"]["bleu"] > 0.5, "word by word has 0.01"
