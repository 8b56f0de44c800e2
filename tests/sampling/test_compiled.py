"""Sampling in C and its readable twin: the same probabilities, and the same tokens drawn."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from foredraft.choices import Dense, OneHot
from foredraft.native import sampling, structures
from foredraft.native.compiler import load_library
from foredraft.native.sampling import Filtered, filtered
from foredraft.sampling import (
    SAMPLERS,
    MultinomialSampler,
    NucleusSampler,
    Rng,
    Sampler,
    TopKNucleusSampler,
    TopKSampler,
    rng_for,
)
from tests.native.test_fused import LACKS, needs_a_compiler

pytestmark = needs_a_compiler

SHAPES = {1: 40, 2: 60, 3: 60, 31: 60, 255: 60, 256: 60, 257: 60, 4096: 25, 49152: 4}
KINDS = ("random", "flat", "peaked", "ties", "excluded", "one", "half", "falling")
EDGE = 2e-7  # of mass: beside it rounding decides what is in a nucleus


@pytest.fixture(params=LACKS, autouse=True)
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile for a processor that lacks something."""
    found = structures.with_types(load_library(structures.SOURCE, *LACKS[request.param]))
    monkeypatch.setattr(sampling, "functions", lambda: found)


def logits_like(kind: str, source: random.Random, rows: int, vocab: int) -> Tensor:
    generator = torch.Generator().manual_seed(source.getrandbits(32))
    logits = torch.randn(rows, vocab, generator=generator)
    match kind:
        case "random":
            return logits * source.choice([0.01, 1.0, 4.0, 30.0])
        case "flat":
            return torch.full_like(logits, source.choice([-1e4, 0.0, 3.5]))
        case "ties":
            return (logits * source.choice([0.4, 2.0])).round()
        case "excluded":
            return logits.masked_fill(logits < logits.amax(-1, keepdim=True) - 1, -torch.inf)
        case "one":
            most = logits.amax(-1, keepdim=True)
            return logits.masked_fill(logits < most, -torch.inf)
        case "half":
            return (logits * 6).bfloat16().float()
        case "peaked":
            logits[:, source.randrange(vocab)] += source.choice([12.0, 80.0, 1000.0])
            return logits
    return torch.arange(vocab, 0, -1).expand(rows, -1) * source.choice([1e-6, 0.01, 1.0])


def random_sampler(source: random.Random, vocab: int) -> Sampler:
    name = source.choice([name for name in SAMPLERS.names if name != "greedy"])
    values = {
        "temperature": source.choice([1e-40, 0.01, 0.7, 1.0, 1.5, 9999.0]),
        "top_k": source.choice([1, 2, 5, 40, vocab, vocab + 3, 2 * (vocab // 3) + 1]),
        "top_p": source.choice([1e-9, 0.3, 0.5, 0.9, 0.95, 0.9999, 1.0]),
        "min_p": source.choice([0.0, 0.0, 1e-6, 0.02, 0.2, 1.0]),
    }
    return SAMPLERS.get(name)(**{name_: values[name_] for name_ in SAMPLERS.parameters(name)})


def cases() -> Iterator[tuple[Sampler, Tensor]]:
    source = random.Random(7)
    for vocab, count in SHAPES.items():
        for kind in KINDS:
            for _ in range(count):
                sampler = random_sampler(source, vocab)
                yield sampler, logits_like(kind, source, source.randint(1, 3), vocab)


def is_on_edge(sampler: Sampler, logits: Tensor) -> bool:
    """Whether some token is where `top_p` or `min_p` ends, as far as float32 can tell."""
    rule = sampler.rule
    assert rule is not None
    kept = logits.double().sort(-1, descending=True).values[: rule.top_k or len(logits)]
    if rule.temperature_first:
        kept = (kept - kept[0]) / max(rule.temperature, 1e-30)
    probs = kept.softmax(-1)
    shares = probs / probs[0]
    near = rule.min_p > 0 and float((shares / rule.min_p - 1).abs().min()) < 1e-4
    return near or (rule.top_p < 1 and float((probs.cumsum(-1) - rule.top_p).abs().min()) < EDGE)


def test_probabilities_and_draws_are_those_of_the_readable_rule() -> None:
    on_edge, rows, rng = 0, 0, random.Random(3)
    for sampler, logits in cases():
        choices, decided = sampler.choices(logits)
        assert isinstance(choices, Filtered)
        assert decided == len(logits) == len(choices)
        # In float64: torch's own softmax in float32 errs by more than is allowed here.
        expected = sampler.probs(logits.double()).float()
        for row in range(len(logits)):
            rows += 1
            p, q = choices.row(row).dense(expected)[0], expected[row]
            if not agree(p, q):
                assert is_on_edge(sampler, logits[row]), (sampler, row)
                on_edge += 1
                continue
            for uniform in (0.0, rng.random(), rng.random(), 1 - 2**-53):
                assert draw(choices, row, uniform) == draw(Dense(p[None]), 0, uniform)
                if 0 < uniform < 0.99:
                    assert draw(choices, row, uniform) == draw(Dense(q[None]), 0, uniform)
    assert rows > 4000
    assert on_edge < rows / 200


def agree(p: Tensor, q: Tensor) -> bool:
    """Whether two distributions do; below 1e-30 C may see 0 where torch sees nearly 0."""
    alone = ((p > 1e-30) & (q == 0)) | ((q > 1e-30) & (p == 0))
    return torch.allclose(p, q, rtol=0, atol=1e-6) and not alone.any()


def draw(choices: Filtered | Dense, row: int, uniform: float) -> int:
    rng = Rng(0)
    rng._ahead.append(uniform)
    token = choices.draw(row, rng, 0)
    assert not rng._ahead, "one draw, one number"
    return token


@pytest.mark.parametrize(
    "sampler", [TopKSampler(1.0, 3), NucleusSampler(1.0, 0.5), TopKNucleusSampler(1.0, 5, 0.6)]
)
def test_of_equals_the_first_are_kept(sampler: Sampler) -> None:
    for vocab in (6, 40, 600, 5000):
        logits = torch.zeros(1, vocab)
        kept = sampler.choices(logits)[0].dense(logits)[0].nonzero()[:, 0].tolist()
        assert kept == list(range(len(kept)))
        assert kept == sampler.probs(logits)[0].nonzero()[:, 0].tolist()


def test_a_nucleus_with_nearly_all_of_the_mass() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 20_000, generator=generator) * 5
    for top_p in (0.999, 0.99999, 0.9999999, 1 - 2**-50):
        sampler = NucleusSampler(1.0, top_p)
        p, q = sampler.choices(logits)[0].dense(logits), sampler.probs(logits)
        torch.testing.assert_close(p, q, rtol=0, atol=1e-6)
        assert abs(int((p > 0).sum()) - int((q > 0).sum())) <= 0.01 * 20_000


def test_the_whole_interface_agrees_with_the_dense_form() -> None:
    source = random.Random(5)
    for _ in range(300):
        vocab, rows = source.choice([2, 7, 300]), source.randint(2, 4)
        sampler = random_sampler(source, vocab)
        made, _ = sampler.choices(logits_like("random", source, rows, vocab))
        assert isinstance(made, Filtered)
        dense = Dense(made.probs)
        q = sampler.probs(logits_like("random", source, rows - 1, vocab))
        tokens = [source.randrange(vocab) for _ in range(rows - 1)]
        assert made.probabilities(tokens) == dense.probabilities(tokens)
        for draft in (Dense(q), OneHot(tokens)):
            overlaps = made.overlaps(draft, rows - 1), dense.overlaps(draft, rows - 1)
            assert overlaps[0] == pytest.approx(overlaps[1], abs=1e-6)
            for mine, theirs in (
                (made.residual(0, draft, 0.5), dense.residual(0, draft, 0.5)),
                (made.followed_by(tokens), dense.followed_by(tokens)),
                (made.row(1), dense.row(1)),
            ):
                assert torch.equal(mine.dense(q), theirs.dense(q))
            weights = [0.3] * (rows - 1)
            among = range(rows - 1)
            assert made.surpluses(among, draft, weights) == dense.surpluses(among, draft, weights)
        keyed = rng_for(1, keyed=True)
        assert made.draw(0, keyed, 5) == dense.draw(0, keyed, 5)


@pytest.mark.parametrize("odd", [torch.nan, torch.inf])
def test_a_row_without_a_number_decides_nothing(odd: float) -> None:
    for vocab in (3, 40, 300):
        for row in range(3):
            logits = torch.randn(3, vocab)
            logits[row, vocab // 2] = odd
            choices, decided = MultinomialSampler().choices(logits)
            assert decided == row
            torch.testing.assert_close(
                choices.dense(logits)[:row], logits[:row].softmax(-1), rtol=0, atol=1e-6
            )
            assert 0 <= choices.draw(row, Rng(0), 0) < vocab
    assert MultinomialSampler().choices(torch.full((1, 9), -torch.inf))[1] == 0


def test_logits_are_read_wherever_they_lie() -> None:
    wide = torch.randn(4, 50)
    for logits in (wide[:, 3:40], wide.T, wide[1::2]):
        choices, _ = MultinomialSampler().choices(logits)
        torch.testing.assert_close(choices.dense(wide), logits.softmax(-1), rtol=0, atol=1e-6)


def test_only_samplers_of_the_house_on_a_cpu_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(MultinomialSampler):
        def probs(self, logits: Tensor) -> Tensor:
            return super().probs(-logits)

    logits = torch.randn(2, 5)
    assert isinstance(MultinomialSampler().choices(logits)[0], Filtered)
    assert torch.equal(Other().choices(logits)[0].dense(logits), (-logits).softmax(-1))
    for dtype in (torch.float64, torch.bfloat16):
        assert isinstance(MultinomialSampler().choices(logits.to(dtype))[0], Dense)
    assert filtered(logits[:, :0], MultinomialSampler().rule) is None
    monkeypatch.setattr(sampling, "functions", lambda: None)
    assert isinstance(MultinomialSampler().choices(logits)[0], Dense)
