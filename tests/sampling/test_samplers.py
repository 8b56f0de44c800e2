"""Samplers: which tokens survive, with which probability, by hand and against naive twins."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from foredraft.errors import ConfigError
from foredraft.sampling import (
    SAMPLERS,
    GreedySampler,
    MultinomialSampler,
    NucleusSampler,
    Sampler,
    TemperedSampler,
    TopKNucleusSampler,
    TopKSampler,
)
from tests.doubles import logits_of, repeatable

EVERY = [pytest.param(SAMPLERS.create(name), id=name) for name in SAMPLERS.names]
FOUR = [0.5, 0.25, 0.125, 0.125]
FOUR_OTHERS = [0.6, 0.2, 0.12, 0.08]  # the example of chapter 1

distinct_logits = st.lists(st.integers(-40, 40), min_size=1, max_size=9, unique=True).map(
    lambda values: [v / 8 for v in values]
)
temperatures = st.floats(0.1, 10)


def naive_softmax(logits: list[float], temperature: float = 1.0) -> list[float]:
    weights = [math.exp((x - max(logits)) / temperature) for x in logits]
    return [w / sum(weights) for w in weights]


def naive_top_k(logits: list[float], top_k: int) -> list[float]:
    best = sorted(logits, reverse=True)[:top_k]
    return [x if x in best else -math.inf for x in logits]


def naive_nucleus(logits: list[float], top_p: float) -> list[float]:
    probs = naive_softmax(logits)
    kept: list[int] = []
    for i in sorted(range(len(logits)), key=lambda i: -probs[i]):
        mass = sum(probs[j] for j in kept)
        assume(abs(mass - top_p) > 1e-9)  # on the edge, rounding may decide either way
        if mass < top_p:
            kept.append(i)
    return [x if i in kept else -math.inf for i, x in enumerate(logits)]


def probs_of(sampler: Sampler, logits: list[float]) -> list[float]:
    values: list[float] = sampler.probs(torch.tensor(logits, dtype=torch.float64)).tolist()
    return values


def test_multinomial_at_temperature_one_is_the_model_itself() -> None:
    assert MultinomialSampler().probs(logits_of(FOUR)).tolist() == pytest.approx(FOUR)


def test_half_the_temperature_squares_the_odds() -> None:
    probs = MultinomialSampler(0.5).probs(logits_of([0.75, 0.25]))
    assert probs.tolist() == pytest.approx([0.9, 0.1])


def test_top_k_keeps_the_k_likeliest_and_renormalises() -> None:
    probs = TopKSampler(top_k=2).probs(logits_of([0.1, 0.6, 0.1, 0.2]))
    assert probs.tolist() == pytest.approx([0, 0.75, 0, 0.25])


def test_a_tie_at_the_kth_place_still_keeps_exactly_k() -> None:
    probs = TopKSampler(top_k=2).probs(torch.tensor([1.0, 3.0, 1.0, 1.0]))
    assert int((probs > 0).sum()) == 2
    assert float(probs[1]) > 0.5


def test_top_k_beyond_the_vocabulary_keeps_everything() -> None:
    assert TopKSampler(top_k=99).probs(logits_of(FOUR)).tolist() == pytest.approx(FOUR)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.01, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.76, 3), (0.9, 4), (1.0, 4)]
)
def test_nucleus_keeps_the_smallest_set_that_reaches_top_p(top_p: float, kept: int) -> None:
    probs = NucleusSampler(top_p=top_p).probs(logits_of(FOUR))
    assert int((probs > 0).sum()) == kept


def test_nucleus_never_leaves_nothing() -> None:
    probs = NucleusSampler(top_p=1e-9).probs(torch.zeros(5))
    assert sorted(probs.tolist()) == [0, 0, 0, 0, 1]


def test_top_p_one_keeps_the_thinnest_tail() -> None:
    logits = torch.linspace(0, -80, 2000)
    assert bool((NucleusSampler(top_p=1.0).probs(logits) > 0).all())


def test_top_k_comes_before_nucleus() -> None:
    # Of (0.4, 0.3, 0.3) top-2 leaves (4/7, 3/7), and 4/7 reaches 0.5 alone; nucleus first would
    # keep two.
    probs = TopKNucleusSampler(top_k=2, top_p=0.5).probs(logits_of([0.4, 0.3, 0.3]))
    assert probs.tolist() == pytest.approx([1, 0, 0])


@pytest.mark.parametrize("temperature", [0.05, 1.0, 20.0])
def test_temperature_comes_last_and_never_changes_which_tokens_survive(temperature: float) -> None:
    # At temperature 20 before the filter, 0.8 would need four tokens; at 0.05 only one.
    for sampler in (NucleusSampler(temperature, 0.7), TopKNucleusSampler(temperature, 4, 0.7)):
        survivors = sampler.probs(logits_of(FOUR)) > 0
        assert survivors.tolist() == [True, True, False, False]


def test_tempered_has_the_order_of_transformers_and_nucleus_another() -> None:
    ids, logits = torch.zeros(1, 1, dtype=torch.long), torch.tensor([FOUR_OTHERS]).log()
    order = (TemperatureLogitsWarper(2.0), TopKLogitsWarper(4), TopPLogitsWarper(0.75))
    theirs = logits
    for warper in order:
        theirs = warper(ids, theirs)
    ours = TemperedSampler(2.0, top_k=4, top_p=0.75).probs(logits)
    assert torch.allclose(ours, theirs.softmax(-1))
    assert (ours > 0).sum() == 3
    assert (TopKNucleusSampler(2.0, 4, 0.75).probs(logits) > 0).sum() == 2


def test_filtered_probabilities_get_the_temperature_too() -> None:
    probs = TopKSampler(temperature=0.5, top_k=2).probs(logits_of([0.6, 0.2, 0.1, 0.1]))
    assert probs.tolist() == pytest.approx([0.9, 0.1, 0, 0])


def test_greedy_is_one_hot_at_the_largest_logit() -> None:
    assert GreedySampler().probs(torch.tensor([0.1, 5.0, 4.9])).tolist() == [0, 1, 0]


def test_greedy_takes_the_first_of_equals() -> None:
    assert GreedySampler().probs(torch.tensor([1.0, 7.0, 7.0, 7.0])).tolist() == [0, 1, 0, 0]


def test_only_greedy_calls_itself_greedy() -> None:
    assert [n for n in SAMPLERS.names if SAMPLERS.create(n).is_greedy] == ["greedy"]


@repeatable
@given(distinct_logits, st.integers(1, 12), temperatures)
def test_top_k_equals_its_naive_twin(logits: list[float], top_k: int, temperature: float) -> None:
    expected = naive_softmax(naive_top_k(logits, top_k), temperature)
    assert probs_of(TopKSampler(temperature, top_k), logits) == pytest.approx(expected)


@repeatable
@given(distinct_logits, st.floats(0.01, 1), temperatures)
def test_nucleus_equals_its_naive_twin(
    logits: list[float], top_p: float, temperature: float
) -> None:
    expected = naive_softmax(naive_nucleus(logits, top_p), temperature)
    assert probs_of(NucleusSampler(temperature, top_p), logits) == pytest.approx(expected)


@repeatable
@given(distinct_logits, st.integers(1, 12), st.floats(0.01, 1), temperatures)
def test_top_k_nucleus_equals_its_naive_twin(
    logits: list[float], top_k: int, top_p: float, temperature: float
) -> None:
    expected = naive_softmax(naive_nucleus(naive_top_k(logits, top_k), top_p), temperature)
    sampler = TopKNucleusSampler(temperature, top_k, top_p)
    assert probs_of(sampler, logits) == pytest.approx(expected)


@pytest.fixture
def batch() -> Tensor:
    """Logits of shape `[2, 3, vocab]` without ties, one row with excluded tokens."""
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    logits[1, 2, :4] = -math.inf
    return logits


@pytest.mark.parametrize("sampler", EVERY)
def test_trap_a_block_is_the_same_as_its_rows_one_by_one(sampler: Sampler, batch: Tensor) -> None:
    block = sampler.probs(batch)
    assert block.shape == batch.shape
    for i in range(2):
        for j in range(3):
            assert block[i, j].tolist() == pytest.approx(sampler.probs(batch[i, j]).tolist())


@pytest.mark.parametrize("sampler", EVERY)
def test_the_callers_logits_are_never_edited(sampler: Sampler, batch: Tensor) -> None:
    before = batch.clone()
    sampler.probs(batch).zero_()  # nor do they share memory with the answer
    assert torch.equal(batch, before)


@pytest.mark.parametrize("sampler", EVERY)
@pytest.mark.parametrize(
    ("given_type", "returned"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_probabilities_are_float32_and_float64_stays(
    sampler: Sampler, given_type: torch.dtype, returned: torch.dtype, batch: Tensor
) -> None:
    probs = sampler.probs(batch.to(given_type))
    assert probs.dtype == returned
    assert probs.sum(-1).flatten().tolist() == pytest.approx([1.0] * 6, abs=1e-6)


@pytest.mark.parametrize("sampler", EVERY)
def test_an_excluded_token_stays_excluded(sampler: Sampler) -> None:
    logits = torch.tensor([-math.inf, 1.0, -math.inf, 1.5])
    probs = sampler.probs(logits)
    assert probs[0] == probs[2] == 0
    assert float(probs.sum()) == pytest.approx(1)


Make = Callable[[float], Sampler]
WITH_TEMPERATURE = [pytest.param(SAMPLERS.get(name), id=name) for name in SAMPLERS.names]


@pytest.mark.parametrize("make", WITH_TEMPERATURE)
@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_a_temperature_outside_its_range_is_refused(make: Make, bad: float) -> None:
    with pytest.raises(ConfigError, match=r"temperature must lie in \(0, 10000\], not"):
        make(bad)


@pytest.mark.parametrize("make", WITH_TEMPERATURE)
@pytest.mark.parametrize("extreme", [1e-300, 1e-46, 1e39, 1e300])
def test_an_extreme_temperature_is_refused_or_gives_a_distribution(
    make: Make, extreme: float
) -> None:
    try:
        sampler = make(extreme)
    except ConfigError:
        return
    probs = sampler.probs(torch.tensor([1.0, 3.0, 2.0, -math.inf]))
    assert float(probs.sum()) == pytest.approx(1)
    assert probs[3] == 0


@pytest.mark.parametrize("make", WITH_TEMPERATURE)
@pytest.mark.parametrize("temperature", [1e-4, 1e4])
def test_small_and_large_temperatures_are_legal(make: Make, temperature: float) -> None:
    probs = make(temperature).probs(torch.tensor([1.0, 3.0, 2.0, -math.inf]))
    assert float(probs.sum()) == pytest.approx(1)
    assert probs[3] == 0


@pytest.mark.parametrize("bad", [0, -3])
@pytest.mark.parametrize("make", [TopKSampler, TopKNucleusSampler])
def test_a_top_k_below_one_is_refused(make: Callable[..., Sampler], bad: int) -> None:
    with pytest.raises(ConfigError, match=rf"top_k must lie in \[1, 2147483647\], not {bad}"):
        make(1.0, top_k=bad)


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.0001, math.nan])
@pytest.mark.parametrize("make", [NucleusSampler, TopKNucleusSampler])
def test_a_top_p_outside_its_range_is_refused(make: Callable[..., Sampler], bad: float) -> None:
    with pytest.raises(ConfigError, match=rf"top_p must lie in \(0, 1\], not {bad}"):
        make(1.0, top_p=bad)
