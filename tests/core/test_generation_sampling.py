"""Which tokens can be drawn, and how often, as the logits processors of transformers say."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from vertebra.engine.generation import sampling as module
from vertebra.engine.generation.request import Sampling
from vertebra.engine.generation.sampling import candidates, next_tokens, penalised

VOCABULARY = 300


def processed(logits_V: Tensor, one: Sampling, history: list[int]) -> Tensor:
    """Return the scores as transformers processes them."""
    steps = LogitsProcessorList()
    if one.repetition_penalty != 1:
        steps.append(RepetitionPenaltyLogitsProcessor(one.repetition_penalty))
    steps.append(TemperatureLogitsWarper(float(one.temperature)))
    if one.top_k is not None:
        steps.append(TopKLogitsWarper(one.top_k))
    if one.top_p < 1:
        steps.append(TopPLogitsWarper(one.top_p))
    if one.min_p > 0:
        steps.append(MinPLogitsWarper(one.min_p))
    return steps(torch.tensor([history]), logits_V[None].clone())[0]


samplings = st.builds(
    Sampling,
    repetition_penalty=st.sampled_from([1.0, 0.8, 1.3]),
    temperature=st.sampled_from([0.2, 1.0, 1.7]),
    top_k=st.sampled_from([None, 1, 5, 40, VOCABULARY, 1000]),
    top_p=st.sampled_from([1.0, 0.05, 0.5, 0.93]),
    min_p=st.sampled_from([0.0, 0.02, 0.4, 1.0]),
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(samplings, min_size=1, max_size=6), seed=st.integers(0, 1000), first=st.sampled_from([7, 512]))
def test_scores_are_those_of_transformers(rows: list[Sampling], seed: int, first: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits_NV = 3 * torch.randn(len(rows), VOCABULARY, generator=generator)
    history = [torch.randint(VOCABULARY, (n + 1,), generator=generator).tolist() for n in range(len(rows))]
    wanted = torch.stack([processed(*row) for row in zip(logits_NV, rows, history, strict=True)])

    scores_NV = penalised(logits_NV, rows, history) / torch.tensor([[one.temperature] for one in rows])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FIRST_CANDIDATES", first)
        kept_NK, ids_NK = candidates(scores_NV, rows)
    got = torch.full_like(logits_NV, -torch.inf).scatter_(1, ids_NK, kept_NK)
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize(
    "one",
    [
        Sampling(temperature=1.0),
        Sampling(temperature=0.5, top_k=9),
        Sampling(temperature=1.5, top_p=0.8, repetition_penalty=1.4),
        Sampling(temperature=1.0, min_p=0.1),
    ],
)
def test_uniform_numbers_give_each_token_its_share(one: Sampling) -> None:
    logits_V = 2 * torch.randn(50, generator=torch.Generator().manual_seed(3))
    history = [4, 9, 9]
    n = 20_000
    grid = [(place + 0.5) / n for place in range(n)]
    tokens = next_tokens(logits_V.expand(n, -1), [one] * n, [history] * n, grid)
    share = torch.bincount(torch.tensor(tokens), minlength=50) / n
    torch.testing.assert_close(share, processed(logits_V, one, history).softmax(-1), atol=1.5 / n, rtol=0)


def test_the_ends_of_the_distribution_can_be_drawn() -> None:
    logits_NV = torch.tensor([[5.0, 1.0, -torch.inf, 1.0]])
    for one in (Sampling(temperature=1.0), Sampling(temperature=1.0, top_k=3)):
        for u in (0.0, 1 - 2.0**-53):
            (token,) = next_tokens(logits_NV, [one], [[0]], [u])
            assert token in (0, 1, 3)


def test_rows_keep_their_own_settings() -> None:
    logits_NV = torch.randn(4, VOCABULARY, generator=torch.Generator().manual_seed(0))
    rows = [Sampling(), Sampling(temperature=1.0), Sampling(temperature=1.0, top_k=1), Sampling(repetition_penalty=9.0)]
    history = [[0]] * 3 + [[int(logits_NV[3].argmax())]]
    uniform = [0.3, 0.9, 0.9, 0.0]
    together = next_tokens(logits_NV, rows, history, uniform)
    alone = [
        next_tokens(logits_NV[n : n + 1], rows[n : n + 1], history[n : n + 1], uniform[n : n + 1])[0] for n in range(4)
    ]
    assert together == alone
    assert together[0] == logits_NV[0].argmax() and together[2] == logits_NV[2].argmax()
    assert together[3] != logits_NV[3].argmax()


def test_rows_that_are_not_finite_are_marked() -> None:
    logits_NV = torch.zeros(4, 9)
    logits_NV[1, 3], logits_NV[2, 3] = torch.nan, torch.inf
    logits_NV[3] = -torch.inf
    assert next_tokens(logits_NV, [Sampling()] * 4, [[0]] * 4, [0.0] * 4) == [0, -1, -1, -1]
