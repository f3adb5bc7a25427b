"""Choose the next token of many sequences at once, each by its own settings.

Letters: N sequences, R those among them that draw, V vocabulary, K candidates, S tokens that a penalty falls on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vertebra.engine.generation.request import Sampling

FIRST_CANDIDATES = 512
"""Sorting a whole vocabulary takes 4 ms a row; the nucleus of a trained model seldom needs it."""
NOT_FINITE = "the model's logits are not finite. Its weights may be damaged, or the precision too low for them."
BELOW_ONE = 1 - 2.0**-50
"""Keeps a uniform number times the total weight below that total after rounding."""


def next_tokens(
    logits_NV: Tensor,
    sampling: Sequence[Sampling],
    history: Sequence[Sequence[int]],
    uniform: Sequence[float],
) -> list[int]:
    """Return one token for each row of the logits; -1 where the logits of a row are not finite.

    `history` are the tokens so far, which the repetition penalty reads. `uniform` is one number in [0, 1) for each row;
    a row that draws takes the token at that place of its cumulative distribution.
    """
    logits_NV = penalised(logits_NV.float(), sampling, history)
    ids_N = _most_likely(logits_NV)
    finite_N = logits_NV.gather(1, ids_N[:, None])[:, 0].isfinite()
    rows = [row for row, one in enumerate(sampling) if one.temperature > 0]
    for filters in (False, True):
        some = [row for row in rows if sampling[row].filters is filters]
        if some:
            settings, u = [sampling[row] for row in some], [uniform[row] for row in some]
            ids_N[some] = _draw(logits_NV[some], settings, u, filters)
    return torch.where(finite_N, ids_N, -1).tolist()


def _most_likely(logits_NV: Tensor) -> Tensor:
    """Return (N,) the largest of each row, or one that is not a number."""
    if logits_NV.device.type == "cpu":  # numpy takes a tenth of the time
        return torch.from_numpy(logits_NV.numpy().argmax(axis=-1))
    return logits_NV.argmax(dim=-1)


def penalised(logits_NV: Tensor, sampling: Sequence[Sampling], history: Sequence[Sequence[int]]) -> Tensor:
    """Make the logits of tokens that came already less likely: positive ones divided, negative ones multiplied."""
    seen = [
        (row, token, one.repetition_penalty)
        for row, one in enumerate(sampling)
        if one.repetition_penalty != 1
        for token in history[row]
    ]
    if not seen:
        return logits_NV
    rows, tokens, penalties = zip(*seen, strict=True)
    row_S, token_S = torch.tensor([rows, tokens], device=logits_NV.device)
    penalty_S = logits_NV.new_tensor(penalties)
    seen_S = logits_NV[row_S, token_S]
    return logits_NV.index_put((row_S, token_S), torch.where(seen_S > 0, seen_S / penalty_S, seen_S * penalty_S))


def _draw(logits_RV: Tensor, sampling: Sequence[Sampling], uniform: Sequence[float], filters: bool) -> Tensor:
    temperature_R = logits_RV.new_tensor([one.temperature for one in sampling])
    scaled_RV = logits_RV / temperature_R[:, None]
    if not filters:
        return _at(scaled_RV, uniform)
    scores_RK, ids_RK = candidates(scaled_RV, sampling)
    return ids_RK.gather(1, _at(scores_RK, uniform)[:, None])[:, 0]


def _at(scores_RK: Tensor, uniform: Sequence[float]) -> Tensor:
    """Return (R,) the places of `uniform` in the cumulative distributions; scores are unnormalised log-probabilities."""
    weights_RK = (scores_RK - scores_RK.amax(dim=-1, keepdim=True)).exp()
    cumulative_RK = weights_RK.cumsum(dim=-1, dtype=torch.float64)
    u_R1 = torch.tensor(uniform, dtype=torch.float64, device=scores_RK.device)[:, None]
    found_R1 = torch.searchsorted(cumulative_RK, u_R1 * cumulative_RK[:, -1:] * BELOW_ONE, right=True)
    return found_R1[:, 0].clamp(max=scores_RK.shape[1] - 1)


def candidates(scores_RV: Tensor, sampling: Sequence[Sampling]) -> tuple[Tensor, Tensor]:
    """Return the tokens that can be drawn, the most likely first: scores (R, K) and ids (R, K).

    The scores of those that a row's filters take out are -inf. K is as large as the rows need.
    """
    vocabulary = scores_RV.shape[1]
    top_k_R1 = torch.tensor([[min(one.top_k or vocabulary, vocabulary)] for one in sampling], device=scores_RV.device)
    top_p_R1 = scores_RV.new_tensor([[one.top_p] for one in sampling])
    floor_R1 = scores_RV.new_tensor([[one.min_p] for one in sampling]).log() + scores_RV.amax(dim=-1, keepdim=True)
    largest = max((one.top_k or 0 for one in sampling), default=0)
    for n_candidates in (min(max(FIRST_CANDIDATES, largest), vocabulary), vocabulary):
        scores_RK, ids_RK = scores_RV.topk(n_candidates, dim=-1)
        place_K = torch.arange(n_candidates, device=scores_RV.device)
        in_k_RK = place_K < top_k_R1
        kept_RK = scores_RK.masked_fill(~in_k_RK, -torch.inf)
        # The nucleus is taken from what top-k left; without top-k, from the whole vocabulary.
        total_R1 = torch.where(
            top_k_R1 < vocabulary, kept_RK.logsumexp(-1, keepdim=True), scores_RV.logsumexp(-1, keepdim=True)
        )
        probability_RK = (kept_RK - total_R1).exp()
        before_RK = probability_RK.cumsum(-1) - probability_RK
        keep_RK = in_k_RK & ((before_RK < top_p_R1) | (top_p_R1 == 1)) & (scores_RK >= floor_R1)
        keep_RK[:, 0] = True
        if n_candidates == vocabulary or not (keep_RK[:, -1] & (top_k_R1[:, 0] > n_candidates)).any():
            break
    return scores_RK.masked_fill(~keep_RK, -torch.inf), ids_RK
