"""The referee: right verifiers pass, wrong ones fail, whichever way they draw."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from examples import verifiers
from foredraft.checks.cases import VOCAB, cases
from foredraft.checks.protocols import protocol_of
from foredraft.checks.referee import ROUNDING, Hearing, Judgement
from foredraft.errors import ConfigError

Draw = Callable[[Tensor], int]
OWN = np.random.default_rng(0)


def judged(function: Callable[..., object], **settings: Any) -> Judgement:
    return Hearing(**settings).judge(function, "subject")


def rejection_by(accepts: Callable[[Tensor, Tensor, Any], bool], draw: Draw) -> Callable[..., Any]:
    """Return token rejection with draws of a kind."""

    def verify(tokens: list[int], q: Tensor, p: Tensor, rng: Any) -> list[int]:
        for i, token in enumerate(tokens):
            if not accepts(p[i, token], q[i, token], rng):
                return [*tokens[:i], draw((p[i] - q[i]).clamp(min=0))]
        return [*tokens, draw(p[-1])]

    return verify


def usual(p: Tensor, q: Tensor, rng: Any) -> bool:
    return bool(torch.rand(()) < p / q)


def multinomial(weights: Tensor) -> int:
    return int(torch.multinomial(weights, 1))


def searched(weights: Tensor) -> int:
    ends = (weights / weights.sum()).cumsum(0)
    return int(torch.searchsorted(ends, torch.rand(1)).clamp(max=VOCAB - 1))


def raced(weights: Tensor) -> int:
    return int((weights / torch.empty_like(weights).exponential_()).argmax())


def raced_backwards(weights: Tensor) -> int:
    return int((weights * torch.empty_like(weights).exponential_()).argmax())


def gumbel(weights: Tensor) -> int:
    return int((weights.log() - torch.empty_like(weights).exponential_().log()).argmax())


def by_python(weights: Tensor) -> int:
    return random.choices(range(VOCAB), weights.tolist())[0]


def by_numpy(weights: Tensor) -> int:
    row = weights.double().numpy()
    return int(OWN.choice(VOCAB, p=row / row.sum()))


ENUMERATED = {
    "compared": rejection_by(usual, multinomial),
    "multiplied": rejection_by(lambda p, q, rng: bool(torch.rand(1) * q < p), multinomial),
    "read": rejection_by(lambda p, q, rng: torch.rand(1).item() < float(p / q), multinomial),
    "bernoulli": rejection_by(
        lambda p, q, rng: bool(torch.bernoulli((p / q).clamp(max=1))), multinomial
    ),
    "source": rejection_by(lambda p, q, rng: rng.random() < float(p / q), multinomial),
    "raced": rejection_by(usual, raced),
    "example": verifiers.rejection,
    "vllm": verifiers.rejection_random_sample_pytorch,
}
COUNTED = {
    "gumbel": rejection_by(usual, gumbel),
    "python": rejection_by(lambda p, q, rng: random.random() < float(p / q), by_python),
    "numpy": rejection_by(lambda p, q, rng: OWN.random() < float(p / q), by_numpy),
    "randn": rejection_by(
        lambda p, q, rng: bool((torch.randn(()) / 2**0.5).erf() < 2 * p / q - 1), raced
    ),
}


def _transformers() -> Callable[..., object]:
    from transformers.generation import utils

    found: Callable[..., object] = utils._speculative_sampling
    return found


def test_that_of_transformers_passes() -> None:
    judgement = judged(_transformers())
    assert judgement.passed
    assert judgement.total_variation < 1e-6
    assert not judgement.why_counted
    assert judgement.missed < 0.005


@pytest.mark.parametrize("name", ENUMERATED)
def test_right_ones_pass_exactly(name: str) -> None:
    judgement = judged(ENUMERATED[name])
    assert (judgement.passed, judgement.why_counted) == (True, "")
    assert judgement.total_variation < ROUNDING / 10
    assert len(judgement.findings) == len(cases())


@pytest.mark.slow
def test_inverted_sums_are_enumerated_too() -> None:
    assert judged(rejection_by(usual, searched)).total_variation < ROUNDING / 10


@pytest.mark.parametrize("name", COUNTED)
def test_what_cannot_be_enumerated_is_counted(name: str) -> None:
    judgement = judged(COUNTED[name], samples=400)
    assert judgement.passed
    assert judgement.why_counted
    assert judgement.detectable is not None
    assert judgement.detectable > 0.1
    assert judgement.to_dict()["enumerated"] is False


def dropped_residual(tokens: list[int], q: Tensor, p: Tensor, rng: Any) -> list[int]:
    return verifiers.no_residual(tokens, q, p, rng)


def lenient(p: Tensor, q: Tensor, rng: Any) -> bool:
    """Accept a little too often, where the target hardly ever says it."""
    return bool(torch.rand(()) < (p / q).clamp(min=0.02))


def sharper(tokens: list[int], q: Tensor, p: Tensor, rng: Any) -> list[int]:
    return verifiers.rejection(tokens, q**2 / (q**2).sum(-1, keepdim=True), p, rng)


def one_bonus_row_early(tokens: list[int], q: Tensor, p: Tensor, rng: Any) -> list[int]:
    return verifiers.rejection(tokens, q, torch.cat([p[:-1], p[-2:-1]]), rng)


def reuses_its_number(tokens: list[int], q: Tensor, p: Tensor, rng: Any) -> list[int]:
    same = torch.rand(())
    return list(rejection_by(lambda p, q, rng: bool(same < p / q), multinomial)(tokens, q, p, rng))


WRONG = {
    "no residual": dropped_residual,
    "accepts at least 2 %": rejection_by(lenient, multinomial),
    "another q": sharper,
    "bonus row": one_bonus_row_early,
    "one number for all": reuses_its_number,
    "race backwards": rejection_by(usual, raced_backwards),
    "everything is kept": lambda tokens, q, p, rng: [*tokens, multinomial(p[-1])],
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_ones_fail(name: str) -> None:
    judgement = judged(WRONG[name], samples=3000)
    assert not judgement.passed
    assert judgement.total_variation > 0.001
    assert any(finding.worst for finding in judgement.findings)


def test_counting_finds_what_is_wrong_as_well() -> None:
    judgement = judged(dropped_residual, samples=2000, is_counted=True)
    assert not judgement.passed
    assert judgement.why_counted == "asked for"


def test_older_transformers_are_told_whether_the_text_is_done() -> None:
    seen = []

    def older(
        candidate_input_ids: Tensor,
        candidate_logits: Tensor,
        candidate_length: int,
        new_logits: Tensor,
        is_done_candidate: bool,
    ) -> object:
        seen.append(is_done_candidate)
        arguments = candidate_input_ids, candidate_logits, candidate_length, new_logits
        return _transformers()(*arguments)

    assert judged(older).passed
    assert set(seen) == {False}


def rejection_random_sample_pytorch(
    output_token_ids: Tensor,
    cu_num_draft_tokens: Tensor,
    draft_token_ids: Tensor,
    draft_probs: Tensor | None,
    target_probs: Tensor,
    bonus_token_ids: Tensor,
    recovered_token_ids: Tensor,
    uniform_probs: Tensor,
    is_greedy: Tensor,
    max_spec_len: int,
    vocab_size: int,
    IS_NGRAM: bool = False,
) -> None:
    """The parameters of the form for Ascend."""
    assert (max_spec_len, vocab_size) == (len(draft_token_ids), VOCAB)
    assert IS_NGRAM is (draft_probs is None)
    verifiers.rejection_random_sample_pytorch(
        *(output_token_ids, cu_num_draft_tokens, draft_token_ids, draft_probs, target_probs),
        *(bonus_token_ids, recovered_token_ids, uniform_probs, is_greedy),
    )


def sample_recovered_tokens_pytorch(
    output_token_ids: Tensor,
    cu_num_draft_tokens: Tensor,
    draft_token_ids: Tensor,
    draft_probs: Tensor | None,
    target_probs: Tensor,
    q: Tensor,
    vocab_size: int,
    IS_NGRAM: bool = False,
) -> None:
    """The same with the numbers themselves; without draft probabilities it writes into p."""
    for row, token in enumerate(draft_token_ids.tolist()):
        residual = target_probs[row]
        if draft_probs is None:
            residual[token] = 0
        else:
            residual = (residual - draft_probs[row]).clamp(min=0)
        output_token_ids[row] = (residual / q[0]).argmax()


@pytest.mark.slow
def test_races_that_share_their_numbers_are_enumerated_where_one_counts() -> None:
    judgement = judged(rejection_random_sample_pytorch)
    assert (judgement.passed, judgement.why_counted) == (True, "")
    assert judgement.protocol.startswith("vLLM")


def test_two_winners_of_one_race_are_not_taken_for_independent() -> None:
    def twice(tokens: list[int], q: Tensor, p: Tensor, rng: Any) -> list[int]:
        """Throws the draft away, and draws two tokens from one race."""
        times = torch.empty(VOCAB).exponential_()
        return [int((p[0] / times).argmax()), int((p[1] / times).argmax())]

    judgement = judged(twice, samples=3000)
    assert judgement.why_counted == "two of its tokens share their random numbers"
    assert not judgement.passed


def test_the_rules_of_vllm_are_found_by_their_neighbour() -> None:
    alone = FunctionType(rejection_random_sample_pytorch.__code__, {}, argdefs=(False,))
    with pytest.raises(ConfigError, match="no sample_recovered_tokens_pytorch"):
        judged(alone)


def test_too_few_texts_are_no_pass() -> None:
    assert judged(verifiers.rejection, samples=5, is_counted=True).passed is None


def test_a_counted_verdict_depends_on_its_seed_alone() -> None:
    one, same, other = (
        judged(dropped_residual, samples=300, is_counted=True, seed=seed) for seed in (1, 1, 2)
    )
    assert one == same != other


MALFORMED: dict[str, tuple[object, str]] = {
    "nothing": (None, "returned None"),
    "no tokens": ([], r"returned \[\]"),
    "too many": ([0] * 9, "returned"),
    "out of range": ([VOCAB], r"returned \[4\]"),
    "negative": ([-1], "returned"),
    "no integers": ([0.5], "integers"),
    "words": ("text", "returned 'text'"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_answer_is_refused(name: str) -> None:
    out, told = MALFORMED[name]
    with pytest.raises(ConfigError, match=told):
        judged(lambda tokens, q, p, rng: out)


def test_tensors_and_arrays_of_tokens_are_answers() -> None:
    def as_tensor(tokens: list[int], q: Tensor, p: Tensor, rng: Any) -> Tensor:
        return torch.tensor(verifiers.rejection(tokens, q, p, rng))

    def as_array(tokens: list[int], q: Tensor, p: Tensor, rng: Any) -> Any:
        return np.array(verifiers.rejection(tokens, q, p, rng))

    assert judged(as_tensor).passed
    assert judged(as_array).passed


def test_what_it_raises_is_one_sentence() -> None:
    def breaks(tokens: list[int], q: Tensor, p: Tensor, rng: Any) -> list[int]:
        raise IndexError("there")

    with pytest.raises(ConfigError, match=r"subject, asked about the draft \[\d\].* IndexError"):
        judged(breaks)


@pytest.mark.parametrize("function", [lambda tokens: tokens, lambda *, only: only, dict.fromkeys])
def test_what_is_no_verifier_is_refused(function: Callable[..., object]) -> None:
    with pytest.raises(ConfigError, match="is no verifier that is known"):
        protocol_of(function)


def test_torchs_generators_are_left_as_they_were() -> None:
    before = torch.get_rng_state()
    judged(verifiers.no_residual)
    assert torch.equal(before, torch.get_rng_state())


def test_every_case_is_a_law() -> None:
    for case in cases():
        assert sum(case.texts().values()) == pytest.approx(1)
        assert sum(chance for _, chance in case.drafts()) == pytest.approx(1)
        assert all(q > 0 for _, q in case.drafts())
