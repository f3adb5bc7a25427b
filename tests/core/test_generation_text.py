"""Streamed text: whole characters, nothing of a stop string, and the same text as at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, PreTrainedModel, PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

import vertebra.nano
from vertebra.engine.generation.generator import Generator
from vertebra.engine.generation.request import Request, Sampling
from vertebra.engine.generation.text import TextStream


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    (folder,) = vertebra.nano.__path__
    return AutoTokenizer.from_pretrained(folder)


def pieces(
    tokenizer: PreTrainedTokenizerBase, prompt: list[int], ids: list[int], stop: tuple[str, ...]
) -> Iterator[str]:
    """Yield what is shown after each token."""
    stream = TextStream(tokenizer, prompt, stop)
    for number, token in enumerate(ids):
        stream.push([token])
        last = stream.stopped or number == len(ids) - 1
        if last:
            stream.end()
        yield stream.take(last=last)
        if last:
            return


@settings(max_examples=60, deadline=None)
@given(text=st.text(min_size=1, max_size=40), before=st.text(max_size=10))
def test_streamed_characters_are_whole_and_all_there(
    tokenizer: PreTrainedTokenizerBase, text: str, before: str
) -> None:
    ids = [token for byte in text.encode() for token in tokenizer.convert_tokens_to_ids(_byte_token(tokenizer, byte))]
    shown = list(pieces(tokenizer, tokenizer(before)["input_ids"], ids, ()))
    assert "".join(shown) == text
    if "\N{REPLACEMENT CHARACTER}" not in text:
        assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in shown)


def _byte_token(tokenizer: PreTrainedTokenizerBase, byte: int) -> list[str]:
    """Return the token of one byte: every character of more than one byte then comes in parts."""
    return [bytes_to_unicode()[byte]]


@settings(max_examples=80, deadline=None)
@given(
    text=st.text(alphabet="abAé ", min_size=1, max_size=30),
    stop=st.lists(st.text(alphabet="abAé ", min_size=1, max_size=4), max_size=3).map(tuple),
)
def test_nothing_of_a_stop_string_is_shown(
    tokenizer: PreTrainedTokenizerBase, text: str, stop: tuple[str, ...]
) -> None:
    ids = tokenizer(text)["input_ids"]
    shown = "".join(pieces(tokenizer, [], ids, stop))
    found = [text.find(one) for one in stop if one in text]
    if not found:
        assert shown == text
    else:
        # Tokens come in turn, so the string that is complete first counts, even if another begins before it.
        assert not any(one in shown for one in stop)
        assert text.startswith(shown) and any(text.startswith(one, len(shown)) for one in stop)


def test_bytes_that_are_no_character_come_at_the_end(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer.convert_tokens_to_ids([token for byte in b"a\xf0\x9f" for token in _byte_token(tokenizer, byte)])
    shown = list(pieces(tokenizer, [], ids, ()))
    assert shown[:2] == ["a", ""] and shown[2] == tokenizer.decode(ids)[1:]


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    torch.manual_seed(0)
    made = GPT2Config(
        vocab_size=len(tokenizer), n_positions=300, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    model = AutoModelForCausalLM.from_config(made).eval()
    model.generation_config.eos_token_id = None
    return model


def test_a_stream_is_the_completions_in_parts(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    generator = Generator(model, tokenizer, eos_ids=(), slots=2)
    requests = [
        Request("Where is", 40, Sampling(temperature=1.0, seed=1)),
        Request("Ein Satz über", 60, Sampling(temperature=2.0, seed=2)),
        Request("東京", 50, Sampling(temperature=1.5, seed=3)),
    ]
    completions = generator.generate(requests)
    texts = [""] * 3
    ids: list[list[int]] = [[] for _ in requests]
    ended: dict[int, str] = {}
    order = []
    for token in generator.stream(requests):
        assert token.request not in ended
        texts[token.request] += token.text
        ids[token.request].append(token.id)
        order.append(token.request)
        if token.finish is not None:
            ended[token.request] = token.finish
    assert [(tuple(i), t, ended[n]) for n, (i, t) in enumerate(zip(ids, texts, strict=True))] == [
        (one.ids, one.text, one.finish) for one in completions
    ]
    assert order[:4] == [0, 1, 0, 1]
    for request, one in zip(requests, completions, strict=True):
        prompt = tokenizer(request.prompt)["input_ids"]
        whole = tokenizer.decode([*prompt, *one.ids], skip_special_tokens=True)
        assert request.prompt + (one.text or "") == whole


def test_stop_strings_end_a_request(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    generator = Generator(model, tokenizer, eos_ids=())
    request = Request("Where is", 40, Sampling(temperature=1.0, seed=1))
    (free,) = generator.generate([request])
    assert free.text is not None
    stop = free.text[20:23]
    stopping = Request(request.prompt, 40, request.sampling, stop=("not there at all", stop))
    (one,) = generator.generate([stopping])
    assert one.finish == "stop" and one.text == free.text[: free.text.index(stop)]
    assert one.ids == free.ids[: len(one.ids)] and len(one.ids) < 40
    assert "".join(token.text for token in generator.stream([stopping])) == one.text


def test_a_token_that_ends_a_text_is_no_part_of_it(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    request = Request("Where is", 40, Sampling(temperature=1.0, seed=1))
    (free,) = Generator(model, tokenizer, eos_ids=()).generate([request])
    place = next(n for n, token in enumerate(free.ids) if n > 4 and tokenizer.decode([token]).isalpha())
    assert free.ids[place] not in tokenizer.all_special_ids
    generator = Generator(model, tokenizer, eos_ids=[free.ids[place]])
    (one,) = generator.generate([request])
    assert one.finish == "eos" and one.ids == free.ids[: free.ids.index(free.ids[place]) + 1]
    whole = tokenizer.decode([*tokenizer(request.prompt)["input_ids"], *one.ids[:-1]])
    assert request.prompt + (one.text or "") == whole
    assert "".join(token.text for token in generator.stream([request])) == one.text
    (watched,) = generator.generate([replace(request, stop=("not there at all",))])
    assert watched == one, "whether a text is watched for stop strings or not"


def test_special_tokens_are_no_text(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    stream = TextStream(tokenizer, [0])
    stream.push([*tokenizer("word")["input_ids"], 0])
    stream.end()
    assert stream.text == "word"
