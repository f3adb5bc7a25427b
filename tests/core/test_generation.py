"""Generation equals transformers' own, token by token, whatever runs beside a request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import peft
import pytest
import torch
from tests.core.tiny_models import CONTEXT, SPECIAL, VOCABULARY, config
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, GemmaConfig, PreTrainedModel, Qwen2Config, SmolLM3Config

from vertebra.engine.generation.cache import PAGE, Slot
from vertebra.engine.generation.generator import Generator
from vertebra.engine.generation.replica import replica
from vertebra.engine.generation.request import Request, Sampling
from vertebra.errors import BackboneError, ConfigError, DataError

FAMILIES = ["gpt2", "llama", "qwen3", "mistral", "gpt_neox"]
LENGTH = 160
NO_END: frozenset[int] = frozenset()


def causal_model(family: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Return a tiny model with random weights, large enough that its logits differ clearly, and a long context."""
    made = config(family)
    made.max_position_embeddings = 4 * LENGTH
    for name, value in changes.items():
        setattr(made, name, value)
    return from_config(made, seed)


def from_config(made: Any, seed: int = 0) -> PreTrainedModel:
    made.tie_word_embeddings = False  # with the embedding as its head, a random model repeats itself
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(made, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(12)
    model.generation_config.eos_token_id = None
    return model


def prompts(lengths: list[int], seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


def reference(model: PreTrainedModel, prompt: list[int], new: int) -> list[int]:
    """Return the tokens that `generate` of transformers gives for one prompt alone."""
    return generated(model, prompt, new, eos_token_id=None)[0, len(prompt) :].tolist()


def generated(model: PreTrainedModel, prompt: list[int], new: int, **settings: Any) -> Any:
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)
    return model.generate(ids, attention_mask=mask, max_new_tokens=new, do_sample=False, pad_token_id=0, **settings)


def assert_same_tokens(model: PreTrainedModel, prompt: list[int], got: tuple[int, ...], wanted: list[int]) -> None:
    """Equal, or first different where the two most likely tokens are within 1e-4."""
    assert len(got) == len(wanted)
    for place, (one, other) in enumerate(zip(got, wanted, strict=True)):
        if one != other:
            with torch.no_grad():
                logits = model(torch.tensor([prompt + wanted[:place]])).logits[0, -1]
            top = logits.topk(2).values
            assert top[0] - top[1] <= 1e-4, f"token {place} differs"
            return


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_equals_transformers_over_a_thousand_tokens(family: str) -> None:
    model = causal_model(family)
    asked = prompts([3, 40, 17, 1, 70, 33, 32, 31, 5, 64, 11, 29])
    new = [120, 60, 90, 110, 40, 100, 130, 80, 95, 75, 105, 30]
    generator = Generator(model, slots=5, prefill_tokens=90)
    assert generator.notes == ()
    completions = generator.generate(
        Request(prompt, max_new_tokens=n, eos_ids=NO_END) for prompt, n in zip(asked, new, strict=True)
    )
    assert sum(len(one.ids) for one in completions) == sum(new) > 1000
    assert sum(len(set(one.ids)) for one in completions) > 100
    for prompt, n, one in zip(asked, new, completions, strict=True):
        assert one.finish == "length"
        assert_same_tokens(model, prompt, one.ids, reference(model, prompt, n))


@pytest.mark.parametrize("made", [Qwen2Config, SmolLM3Config, GemmaConfig], ids=["qwen2", "smollm3", "gemma"])
def test_more_families_equal_transformers(made: Any) -> None:
    like = config("llama")
    shape = {name: getattr(like, name) for name in ("hidden_size", "intermediate_size", "num_hidden_layers")}
    heads = {name: getattr(like, name) for name in ("num_attention_heads", "num_key_value_heads")}
    model = from_config(made(vocab_size=VOCABULARY, head_dim=8, **shape, **heads, **SPECIAL))
    generator = Generator(model, slots=2)
    assert generator.notes == ()
    asked = prompts([9, 40, 2])
    for prompt, one in zip(asked, generator.generate(Request(p, 50, eos_ids=NO_END) for p in asked), strict=True):
        assert_same_tokens(model, prompt, one.ids, reference(model, prompt, 50))


@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral"])
def test_shared_prefixes_change_no_token(family: str) -> None:
    model = causal_model(family)
    (system,) = prompts([3 * PAGE + 5])
    asked = [system + tail for tail in prompts([4, 9, 1, 20, 2], seed=1)]
    asked += [[*asked[0][: 2 * PAGE], 5], asked[1][: 3 * PAGE], [*asked[3], 7, 8]]
    generator = Generator(model, slots=3)
    for prompt, one in zip(asked, generator.generate(Request(p, 20, eos_ids=NO_END) for p in asked), strict=True):
        assert_same_tokens(model, prompt, one.ids, reference(model, prompt, 20))


def test_a_shared_prefix_is_computed_once() -> None:
    model = causal_model("gpt2")
    generator = Generator(model)
    (system,) = prompts([2 * PAGE])
    asked = [system + tail for tail in prompts([3, 4, 5, 6], seed=1)]
    widths = []
    decoder = generator.scheduler()._decoder  # what is computed shows nowhere else
    forward = decoder._forward

    def watched(stream: Any) -> Any:
        widths.append(len(stream.input_ids_T))
        return forward(stream)

    decoder._forward = watched
    logits = decoder.logits([Slot(list(prompt)) for prompt in asked])
    assert widths == [2 * PAGE + 3 + 4 + 5 + 6]
    with torch.no_grad():
        for row, prompt in zip(logits, asked, strict=True):
            torch.testing.assert_close(row, model(torch.tensor([prompt])).logits[0, -1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["gemma2", "bloom", "gpt_neo"])
def test_a_family_that_does_not_pack_runs_alone_and_says_so(family: str) -> None:
    model = causal_model(family)
    generator = Generator(model, slots=2)
    (note,) = generator.notes
    assert note.startswith("one request at a time") and family in note and "\n" not in note
    asked = prompts([3, 20, 9])
    for prompt, one in zip(asked, generator.generate(Request(p, 20, eos_ids=NO_END) for p in asked), strict=True):
        assert_same_tokens(model, prompt, one.ids, reference(model, prompt, 20))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft asks transformers by an old name
@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("targets", ["all-linear", ["attn.c_proj", "o_proj"]], ids=["all", "square"])
def test_dora_generates_what_it_computes(family: str, targets: Any) -> None:
    model = causal_model(family)
    transposed = family == "gpt2"
    peft.get_peft_model(model, peft.LoraConfig(use_dora=True, target_modules=targets, fan_in_fan_out=transposed))
    learnt = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(torch.randn(parameter.shape, generator=learnt))
    generator = Generator(model)
    assert generator.notes == (), "packed, whatever DoRA reads"
    asked = prompts([9, 40, 2])
    for prompt, one in zip(asked, generator.generate(Request(p, 20, eos_ids=NO_END) for p in asked), strict=True):
        assert_same_tokens(model, prompt, one.ids, reference(model, prompt, 20))


class ReadsItsLayer(nn.Module):
    """Multiplies with the matrix of a layer as GPT-2 stores it, inputs first, without calling the layer."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        product: Tensor = x @ self.layer.weight + self.layer.bias
        return product


@pytest.mark.parametrize("layer", ["c_proj", "c_attn"], ids=["square", "wide"])
@pytest.mark.parametrize("packs", [True, False])
def test_layers_that_a_module_reads_are_not_prepacked(layer: str, packs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = causal_model("gpt2")
    for block in model.transformer.h:
        setattr(block.attn, layer, ReadsItsLayer(getattr(block.attn, layer)))
    if not packs:
        monkeypatch.setattr(type(model), "_can_set_attn_implementation", lambda _: False)
    generator = Generator(model)
    beginnings = ["plain linear layers"] if packs else ["plain linear layers", "one request at a time"]
    assert [note.partition(",")[0] for note in generator.notes] == beginnings
    asked = prompts([9, 40, 2])
    for prompt, one in zip(asked, generator.generate(Request(p, 20, eos_ids=NO_END) for p in asked), strict=True):
        assert_same_tokens(model, prompt, one.ids, reference(model, prompt, 20))


def test_positions_that_depend_on_the_longest_sequence_are_not_packed() -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    generator = Generator(causal_model("llama", rope_parameters=rope))
    assert "'dynamic'" in generator.notes[0]


def test_the_model_is_left_as_it_was() -> None:
    model = causal_model("gpt2").train()
    before = (model.config._attn_implementation, [name for name, _ in model.named_modules()])
    ids = torch.tensor(prompts([12]))
    with torch.no_grad():
        wanted = model(ids).logits
        Generator(model).generate([Request(ids[0].tolist(), 4)])
        assert torch.equal(model(ids).logits, wanted)
    assert model.training
    assert (model.config._attn_implementation, [name for name, _ in model.named_modules()]) == before


def test_weights_are_shared_unless_another_precision_is_asked_for() -> None:
    model = causal_model("llama")
    same, half = replica(model, None), replica(model, torch.bfloat16)
    for name, parameter in model.named_parameters():
        assert same.get_parameter(name) is parameter
        assert half.get_parameter(name).dtype == torch.bfloat16
    for name, buffer in model.named_buffers():
        assert half.get_buffer(name) is buffer


def test_bf16_gives_the_tokens_of_a_bf16_model_where_they_are_clear() -> None:
    model = causal_model("gpt2")
    (prompt,) = prompts([40])
    (one,) = Generator(model, dtype=torch.bfloat16).generate([Request(prompt, 8, eos_ids=NO_END)])
    rounded = AutoModelForCausalLM.from_config(model.config, dtype=torch.bfloat16).eval()
    rounded.load_state_dict(model.state_dict())
    with torch.no_grad():
        logits = rounded(torch.tensor([[*prompt, *one.ids[:-1]]])).logits[0, len(prompt) - 1 :].float()
    chosen = logits.gather(1, torch.tensor(one.ids)[:, None])[:, 0]
    assert (logits.amax(-1) - chosen <= 0.03 * logits.abs().amax()).all()


def test_each_request_has_its_own_end() -> None:
    model = causal_model("gpt2")
    prompt = prompts([6])[0]
    free = reference(model, prompt, 40)
    end = next(token for token in free if token not in free[:5])
    requests = [
        Request(prompt, 40, eos_ids=frozenset([end])),
        Request(prompt, 5, eos_ids=frozenset([end])),
        Request(prompt, 40, eos_ids=NO_END),
    ]
    first, second, third = Generator(model).generate(requests)
    assert (first.finish, list(first.ids)) == ("eos", free[: free.index(end) + 1])
    assert (second.finish, list(second.ids)) == ("length", free[:5])
    assert (third.finish, list(third.ids)) == ("length", free)


def test_end_tokens_come_from_the_generation_configuration() -> None:
    model = causal_model("gpt2")
    prompt = prompts([6])[0]
    free = reference(model, prompt, 10)
    model.generation_config.eos_token_id = [VOCABULARY - 1, free[3]]
    (one,) = Generator(model).generate([Request(prompt, 10)])
    assert one.finish == "eos" and list(one.ids) == free[: free.index(free[3]) + 1]


def test_the_context_ends_a_text() -> None:
    model = AutoModelForCausalLM.from_config(config("gpt2"), dtype=torch.float32).eval()
    asked = prompts([CONTEXT - 3, CONTEXT - 1, 4])
    completions = Generator(model).generate(Request(prompt, 500, eos_ids=NO_END) for prompt in asked)
    assert [one.finish for one in completions] == ["context"] * 3
    assert [len(one.ids) for one in completions] == [3, 1, CONTEXT - 4]


@pytest.mark.parametrize("family", ["gpt2", "gptj"])
def test_a_draw_depends_on_its_own_seed_alone(family: str) -> None:
    model = causal_model(family)
    asked = prompts([5, 40, 12, 3, 60])
    settings = [
        Sampling(temperature=1.0, seed=11),
        Sampling(temperature=0.7, top_k=20, seed=12),
        Sampling(temperature=1.3, top_p=0.9, seed=13),
        Sampling(temperature=1.0, min_p=0.05, repetition_penalty=1.2, seed=14),
        Sampling(repetition_penalty=1.5),
    ]
    requests = [Request(prompt, 30, one, eos_ids=NO_END) for prompt, one in zip(asked, settings, strict=True)]
    alone = [Generator(model).generate([request])[0].ids for request in requests]
    for slots, order in ((5, [0, 1, 2, 3, 4]), (2, [4, 2, 0, 3, 1])):
        together = Generator(model, slots=slots).generate(requests[number] for number in order)
        assert [one.ids for one in together] == [alone[number] for number in order]
    again = replace(requests[0], sampling=replace(settings[0], seed=99))
    assert Generator(model).generate([again])[0].ids != alone[0]


def test_a_penalty_that_forbids_repeating_does() -> None:
    model = causal_model("gpt2")
    prompt = prompts([6])[0]
    (one,) = Generator(model).generate([Request(prompt, 60, Sampling(repetition_penalty=1e6), eos_ids=NO_END)])
    assert len({*prompt, *one.ids}) == len(set(prompt)) + len(one.ids)


def test_requests_come_and_go_while_others_run() -> None:
    model = causal_model("llama")
    first, second, third, fourth = prompts([20, 50, 7, 33])
    scheduler = Generator(model, slots=2, eos_ids=()).scheduler()
    numbers = [scheduler.add(Request(first, 12)), scheduler.add(Request(second, 40))]
    got: dict[int, list[int]] = {}

    ended: dict[int, list[int]] = {}

    def step() -> None:
        for token in scheduler.step():
            if token.completion is not None:
                ended[token.request] = list(token.completion.ids)
            got.setdefault(token.request, []).append(token.id)

    for _ in range(4):
        step()
    numbers += [scheduler.add(Request(third, 15)), scheduler.add(Request(fourth, 10))]
    scheduler.cancel(numbers[1])
    while scheduler.busy:
        step()
    assert len(got[numbers[1]]) == 4 and numbers[1] not in ended
    for number, prompt, new in ((0, first, 12), (2, third, 15), (3, fourth, 10)):
        assert got[number] == ended[number] == reference(model, prompt, new)
    scheduler.cancel(numbers[1])
    assert scheduler.step() == []


def test_no_requests_are_no_completions() -> None:
    generator = Generator(causal_model("gpt2"))
    assert generator.generate([]) == []
    assert list(generator.stream([])) == []


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"temperature": -1}, "temperature=-1"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"temperature": "hot"}, "temperature='hot'"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_k": 1.5}, "top_k=1.5"),
        ({"top_p": 0}, "top_p=0"),
        ({"top_p": 1.1}, "top_p=1.1"),
        ({"min_p": -0.1}, "min_p=-0.1"),
        ({"repetition_penalty": 0}, "repetition_penalty=0"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": True}, "seed=True"),
    ],
)
def test_sampling_out_of_range_is_one_line(wrong: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Sampling(**wrong)
    assert part in str(caught.value) and "must be" in str(caught.value) and "\n" not in str(caught.value)


def test_requests_that_cannot_run_are_one_line() -> None:
    model = AutoModelForCausalLM.from_config(config("gpt2"), dtype=torch.float32).eval()
    generator = Generator(model)
    for request, part in (
        (Request([]), "no tokens"),
        (Request([1, VOCABULARY]), f"the token {VOCABULARY}"),
        (Request([-1]), "the token -1"),
        (Request([1] * CONTEXT), f"context {CONTEXT}"),
        (Request("a text"), "needs a tokenizer"),
        (Request([1], stop=("x",)), "need a tokenizer"),
    ):
        with pytest.raises(DataError, match=f"^Request 1: .*{part}") as caught:
            generator.generate([Request([1]), request])
        assert "\n" not in str(caught.value)
    for wrong in ({"max_new_tokens": 0}, {"stop": "word"}, {"stop": ("",)}):
        with pytest.raises(ConfigError):
            Request([1], **wrong)  # type: ignore[arg-type]


def test_generators_that_cannot_work_are_refused() -> None:
    model = causal_model("gpt2")
    with pytest.raises(BackboneError, match="AutoModelForCausalLM"):
        Generator(AutoModel.from_config(config("gpt2")))
    for wrong in ({"slots": 0}, {"prefill_tokens": 0}, {"dtype": torch.int8}):
        with pytest.raises(ConfigError):
            Generator(model, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_an_error(value: float) -> None:
    model = causal_model("gpt2")
    generator = Generator(model)
    with torch.no_grad():
        model.transformer.ln_f.bias[3] = value
    with pytest.raises(BackboneError, match="Request 0: the model's logits are not finite"):
        generator.generate([Request([1, 2])])
