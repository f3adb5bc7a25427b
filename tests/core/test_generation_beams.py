"""Beam search equals transformers' own, whatever runs beside a request."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.core.test_generation import NO_END, causal_model, generated, prompts, reference
from tests.core.tiny_models import CONTEXT, VOCABULARY, config
from transformers import AutoModelForCausalLM, PreTrainedModel

from vertebra.engine.generation.cache import PAGE
from vertebra.engine.generation.generator import Generator
from vertebra.engine.generation.request import Request, Sampling
from vertebra.errors import BackboneError, ConfigError

ENDS = frozenset({3, 7})
"""Two of the tokens, so that texts of a random model end here and there."""


def searched(
    model: PreTrainedModel, prompt: list[int], new: int, beams: int, penalty: float = 1.0, ends: frozenset[int] = ENDS
) -> tuple[list[int], float]:
    """Return what `generate` of transformers finds for one prompt alone, and its score."""
    more = {"num_beams": beams, "length_penalty": penalty, "return_dict_in_generate": True, "output_scores": True}
    out = generated(model, prompt, new, eos_token_id=sorted(ends) or None, **more)
    found = out.sequences[0, len(prompt) :].tolist()
    while found and found[-1] == 0:
        found.pop()
    return found, float(out.sequences_scores[0])


def score(model: PreTrainedModel, prompt: list[int], found: list[int], penalty: float) -> float:
    with torch.no_grad():
        logs = model(torch.tensor([prompt + found])).logits[0].log_softmax(-1)
    total = sum(float(logs[len(prompt) - 1 + place, token]) for place, token in enumerate(found))
    return total / len(found) ** penalty


def model_that_ends(family: str) -> PreTrainedModel:
    """Return a model whose distributions are flat enough that ends, and texts of several lengths, compete."""
    model = causal_model(family)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(0.25)
    return model


@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral", "gpt_neo"])
@pytest.mark.parametrize(("beams", "penalty"), [(2, 1.0), (4, 1.0), (4, 0.0), (5, 2.0), (3, -1.0)])
def test_the_answer_is_that_of_transformers(family: str, beams: int, penalty: float) -> None:
    model = model_that_ends(family)
    asked = prompts([3, 40, 17, 1, PAGE, PAGE - 1, 70])
    generator = Generator(model, slots=9, prefill_tokens=90)
    requests = [
        Request(p, 2 * PAGE + n, eos_ids=ENDS, beams=beams, length_penalty=penalty) for n, p in enumerate(asked)
    ]
    for n, (prompt, one) in enumerate(zip(asked, generator.generate(requests), strict=True)):
        wanted, worth = searched(model, prompt, 2 * PAGE + n, beams, penalty)
        assert list(one.ids) == wanted or abs(score(model, prompt, list(one.ids), penalty) - worth) < 1e-4
        assert (one.finish == "eos") == (one.ids[-1] in ENDS)


def test_texts_end_in_both_ways_and_are_not_the_greedy_ones() -> None:
    """The comparison with transformers would be worth little if all texts ended alike, or one beam found them, too."""
    model = model_that_ends("gpt2")
    asked = prompts([3, 40, 17, 1, 32, 31, 70])
    generator = Generator(model)
    found = generator.generate([Request(p, 64, eos_ids=ENDS, beams=4) for p in asked])
    greedy = generator.generate([Request(p, 64, eos_ids=ENDS) for p in asked])
    assert {one.finish for one in found} == {"eos", "length"}
    assert sum(one.ids != other.ids for one, other in zip(found, greedy, strict=True)) >= 5


def test_without_end_tokens_texts_are_as_long_as_asked() -> None:
    model = model_that_ends("gpt2")
    (prompt,) = prompts([12])
    (one,) = Generator(model).generate([Request(prompt, 3 * PAGE, eos_ids=NO_END, beams=4)])
    assert list(one.ids) == searched(model, prompt, 3 * PAGE, 4, ends=NO_END)[0]
    assert (len(one.ids), one.finish) == (3 * PAGE, "length")


def test_what_runs_beside_changes_nothing() -> None:
    model = model_that_ends("llama")
    asked = prompts([9, 33, 9, 50, 4, 20])
    kinds: list[dict[str, Any]] = [
        {"beams": 4},
        {},
        {"sampling": Sampling(temperature=1.0, seed=5)},
        {"beams": 3, "length_penalty": 0.5},
        {"beams": 6},
        {"sampling": Sampling(repetition_penalty=1.5)},
    ]
    requests = [Request(p, 40, eos_ids=ENDS, **kind) for p, kind in zip(asked, kinds, strict=True)]
    alone = [Generator(model).generate([one])[0] for one in requests]
    assert Generator(model, slots=7).generate(requests) == alone
    assert Generator(model, slots=2).generate(requests) == alone  # fewer than one of them has beams
    assert list(alone[1].ids) == cut(reference(model, asked[1], 40))


def cut(tokens: list[int]) -> list[int]:
    ends = [place for place, token in enumerate(tokens) if token in ENDS]
    return tokens[: ends[0] + 1] if ends else tokens


def test_a_penalty_falls_on_the_text_of_each_beam() -> None:
    model = model_that_ends("gpt2")
    (prompt,) = prompts([6])
    request = Request(prompt, 30, eos_ids=NO_END, beams=3, sampling=Sampling(repetition_penalty=1e6))
    (one,) = Generator(model).generate([request])
    assert len({*prompt, *one.ids}) == len(set(prompt)) + 30


def test_pages_of_a_search_are_given_back() -> None:
    model = model_that_ends("gpt2")
    scheduler = Generator(model, slots=8).scheduler()
    numbers = [scheduler.add(Request(p, 50, eos_ids=NO_END, beams=4)) for p in prompts([40, 7])]
    for _ in range(PAGE + 3):
        assert scheduler.step() == []
    scheduler.cancel(numbers[0])
    tokens = [token for _ in iter(lambda: scheduler.busy, False) for token in scheduler.step()]
    assert [(token.request, len(token.completion.ids)) for token in tokens if token.completion] == [(numbers[1], 50)]
    pages = scheduler._decoder._pages  # what is held shows nowhere else
    pages.compact()
    assert pages.used == 0


def test_the_context_ends_a_search() -> None:
    made = config("gpt2")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(made).eval()
    (prompt,) = prompts([CONTEXT - 6])
    (one,) = Generator(model).generate([Request(prompt, 50, eos_ids=NO_END, beams=3)])
    assert (len(one.ids), one.finish) == (6, "context")


def test_more_beams_than_tokens_are_no_harm() -> None:
    model = model_that_ends("gpt2")
    (prompt,) = prompts([5])
    (one,) = Generator(model).generate([Request(prompt, 4, eos_ids=ENDS, beams=2 * VOCABULARY)])
    assert 1 <= len(one.ids) <= 4


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"beams": 0}, "beams=0: must be a whole number from 1"),
        ({"beams": 2.5}, "beams=2.5"),
        ({"beams": 4, "sampling": Sampling(temperature=0.5)}, "leave the temperature at 0"),
        ({"beams": 4, "stop": ("\n",)}, "leave out the stop strings"),
        ({"beams": 4, "length_penalty": float("nan")}, "length_penalty=nan: must be a number"),
    ],
)
def test_searches_that_cannot_be_are_one_line(wrong: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Request([1, 2], **wrong)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_an_error(value: float) -> None:
    model = model_that_ends("gpt2")
    generator = Generator(model)
    scheduler = generator.scheduler()
    logits = scheduler._decoder.logits
    scheduler._decoder.logits = lambda slots: torch.full_like(logits(slots), value)  # type: ignore[method-assign]
    scheduler.add(Request([1, 2, 3], 5, beams=2))
    with pytest.raises(BackboneError, match="Request 0: the model's logits are not finite"):
        scheduler.step()
