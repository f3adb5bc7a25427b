"""The family of tasks that write: prompts, targets, what is cut, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.tiny_models import config as tiny_config

from vertebra.config.schema import BackboneConfig
from vertebra.data.encode import encode_split
from vertebra.engine.loading import load_backbone, load_tokenizer
from vertebra.errors import BackboneError, ConfigError, DataError
from vertebra.host.manager import create_host
from vertebra.tasks.config import GenerationConfig
from vertebra.tasks.features import Features
from vertebra.tasks.generation import Generation, fill

TOKENIZER = load_tokenizer(BackboneConfig(), create_host())
TINY = BackboneConfig(init="random", config={"n_layer": 1, "n_embd": 32, "n_head": 2})


class Headline(Generation):
    name: ClassVar[str] = "headline"
    columns: ClassVar[dict[str, type]] = {"story": str, "headline": object}
    metrics: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[str] = "story"
    target: ClassVar[str] = "headline"


def task(prompt: str = "Story: {story}\nHeadline:", **settings: Any) -> Headline:
    return Headline(GenerationConfig(prompt=prompt, **settings))


def encoded(one: Headline, story: str, headline: Any = None) -> Features:
    row = {"id": "1", "story": story} | ({} if headline is None else {"headline": headline})
    features = one.encode(row, TOKENIZER)
    assert isinstance(features, Features)
    return features


def test_the_loss_is_over_the_target_and_its_end_alone() -> None:
    one = encoded(task(), "It rained all day.", "Rain")
    prompt = TOKENIZER.decode(one.input_ids[: one.note["prompt"]])
    assert prompt == "Story: It rained all day.\nHeadline:"
    assert TOKENIZER.decode(one.target[:-1]) == " Rain"
    assert one.target[-1] == TOKENIZER.eos_token_id
    assert one.input_ids.tolist()[one.note["prompt"] :] == one.target[:-1]
    assert one.positions.tolist() == list(range(one.note["prompt"] - 1, len(one)))
    assert [one.input_ids.tolist()[place + 1] for place in one.positions[:-1]] == one.target[:-1]


@given(st.text(min_size=1).filter(str.strip), st.text(min_size=1).filter(str.strip))
def test_a_prompt_does_not_depend_on_the_target(story: str, headline: str) -> None:
    one = task(max_new_tokens=6)
    with_target, without = encoded(one, story, headline), encoded(one, story)
    length = without.note["prompt"]
    assert length == len(without)
    assert with_target.input_ids[:length].tolist() == without.input_ids.tolist()
    limit = 24
    try:
        short, shorter = one.shorten(with_target, limit), one.shorten(without, limit)
    except DataError:
        return  # a story whose tokens are part of the frame's
    assert short.input_ids[: short.note["prompt"]].tolist() == shorter.input_ids.tolist()
    assert len(shorter) + 6 <= max(limit, length + 6 if len(shorter) == length else 0)
    assert len(short) <= limit or len(without) == len(shorter)
    assert short.target == with_target.target


def test_the_source_is_cut_at_its_end_and_the_template_and_the_target_stay() -> None:
    one = task(max_new_tokens=8)
    story = "One two three four five six seven eight nine ten eleven twelve thirteen fourteen."
    row = {"id": "1", "story": story, "headline": "Numbers"}
    found = encode_split(one, [row], TOKENIZER, context=24)
    assert found.too_long == 1
    [features] = found.features
    prompt = TOKENIZER.decode(features.input_ids[: features.note["prompt"]])
    assert prompt.startswith("Story: One two three")
    assert prompt.endswith("\nHeadline:")
    assert "fourteen" not in prompt
    assert features.note["prompt"] + 8 == 24
    assert TOKENIZER.decode(features.target[:-1]) == " Numbers"
    assert [features.input_ids.tolist()[place + 1] for place in features.positions[:-1]] == features.target[:-1]


def test_a_frame_that_leaves_no_room_for_the_source_is_refused() -> None:
    with pytest.raises(DataError, match="has no room for the prompt around 'story'"):
        encode_split(task(max_new_tokens=8), [{"id": "1", "story": "Rain."}], TOKENIZER, context=12)


def test_a_row_that_is_too_long_can_be_an_error() -> None:
    with pytest.raises(DataError, match="Row '1' has"):
        encode_split(
            task(max_new_tokens=8), [{"id": "1", "story": "rain " * 40}], TOKENIZER, context=32, too_long="error"
        )


def test_a_target_over_the_limit_is_cut_and_counted_or_refused() -> None:
    one = encoded(task(max_new_tokens=3), "Rain.", "It rained and rained and rained all day")
    assert len(one.target) == 3
    assert TOKENIZER.eos_token_id not in one.target
    assert one.note["cut"] > 0
    notes = task(max_new_tokens=3).notes({"train": [one], "valid": [one]})
    assert notes[0].startswith("1 targets of train have more than task.max_new_tokens=3 tokens")
    with pytest.raises(DataError, match=r"task\.max_new_tokens=3"):
        encoded(task(max_new_tokens=3, long_target="error"), "Rain.", "It rained and rained and rained all day")


def test_the_rows_that_are_predicted_in_training_are_spread_evenly_and_named() -> None:
    one = task(texts_while_training=4)
    assert list(one.predicted_while_training(10)) == [0, 2, 5, 7]
    assert list(one.predicted_while_training(3)) == [0, 1, 2]
    assert list(task(texts_while_training=0).predicted_while_training(3)) == []
    features = [replace(encoded(one, "Rain."), example=number) for number in range(10)]
    assert one.notes({"valid": features}) == [
        "while training, 4 of 10 rows of valid, spread evenly, are predicted (task.texts_while_training); the final scores "
        "are of all rows"
    ]


def test_what_a_user_wrote_as_a_special_token_is_text() -> None:
    one = encoded(task(), "a<|endoftext|>b", "c<|endoftext|>d")
    assert TOKENIZER.eos_token_id not in one.input_ids
    assert one.target.count(TOKENIZER.eos_token_id) == 1


def test_chinese_targets_begin_without_a_space() -> None:
    assert TOKENIZER.decode(encoded(task(), "下雨了。", "雨").target[:-1]) == "雨"
    assert TOKENIZER.decode(encoded(task("{story}\n"), "Rain.", "Rain").target[:-1]) == "Rain"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"story": " \n", "headline": "a"}, "column 'story' is empty"),
        ({"story": "a", "headline": ""}, "column 'headline' is empty"),
        ({"story": "a", "headline": []}, "column 'headline' is empty"),
        ({"story": "a", "headline": ["b", " "]}, "column 'headline' is empty, or one of its texts is"),
        ({"story": "a", "headline": 3}, "must be a text or a list of texts"),
        ({"story": "a", "headline": ["b", 3]}, "must be a text or a list of texts"),
    ],
)
def test_rows_without_texts_are_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        task().check(row)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("Headline:", "must have {story} once"),
        ("{story} {story}", "must have {story} once"),
        ("{story", "Braces that are text are written twice"),
        ("{story:>5}", "only plain names"),
        ("{story!r}", "only plain names"),
    ],
)
def test_templates_that_cannot_be_filled_are_refused(prompt: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        task(prompt)


def test_a_name_in_the_template_that_stands_for_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"stroy.*Known|no name"):
        encoded(task("{stroy} {story}"), "a")


@given(st.text())
def test_braces_in_a_row_are_text(story: str) -> None:
    text, start, end = fill("<{{{story}}}>", {"story": story}, "story")
    assert text == f"<{{{story.strip()}}}>"
    assert text[start:end] == story.strip()


def test_several_right_texts_are_all_references_and_the_first_is_learnt() -> None:
    one = task()
    row = {"id": "1", "story": "a", "headline": ["b", "c"]}
    assert one.reference(row) == ["b", "c"]
    assert one.reference({"headline": ["b"]}) == one.reference({"headline": "b"}) == "b"
    assert encoded(one, "a", ["b", "c"]).target == encoded(one, "a", "b").target


# --- backbones


def test_a_backbone_that_sees_what_comes_is_refused() -> None:
    with pytest.raises(BackboneError, match=r"backbone\.attention=bidirectional cannot write a text"):
        load_backbone(replace(TINY, attention="bidirectional"), create_host(), language_model=True)


def test_the_output_matrix_is_the_embedding_until_it_is_untied() -> None:
    backbone = load_backbone(TINY, create_host(), language_model=True)
    head = task().build_head_on(backbone)
    embedding = backbone.model.get_input_embeddings().weight
    assert head.output.weight is embedding
    names = [name for name, _ in backbone.named_parameters()]
    assert len(names) == len(set(names))
    assert not any("lm_head" in name for name in names)
    backbone.untie()
    assert head.output.weight is not embedding
    assert head.output.weight.equal(embedding)
    assert not backbone.model.config.tie_word_embeddings


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3", "gpt_neox", "gemma2"])
def test_families_whose_logits_are_more_than_a_product_are_refused(family: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    made = tiny_config(family)
    AutoModelForCausalLM.from_config(made).save_pretrained(tmp_path)
    wide = BackboneConfig(name="hf", path=str(tmp_path), init="random", config={"vocab_size": len(TOKENIZER)})
    TOKENIZER.save_pretrained(tmp_path)
    if family == "gemma2":  # it caps its logits
        with pytest.raises(BackboneError, match="makes its logits by more than one matrix"):
            load_backbone(wide, create_host(), language_model=True)
        return
    backbone = load_backbone(wide, create_host(), language_model=True)
    assert backbone.language_model is not None
    assert backbone.language_model.base_model is backbone.model
