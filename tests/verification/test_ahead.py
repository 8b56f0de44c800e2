"""Verdicts reached on a device are the verdicts of the questions, for the same numbers."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from foredraft.checks.statistics import chi_square, p_value
from foredraft.choices import Dense
from foredraft.core import Draft, Verdict
from foredraft.decoding import Request, Speculation, speculative_steps
from foredraft.drafting import DraftModelDrafter
from foredraft.gamma import FixedGamma
from foredraft.models import TableModel
from foredraft.sampling import KeyedRng, MultinomialSampler, Rng, rng_for
from foredraft.sampling.rng import inverse_transform
from foredraft.verification import VERIFIERS, exact_match, rejection
from tests.doubles import random_table
from tests.enumeration import EnumeratedRandomness

ON_DEVICE = ("rejection", "rejection_without_residual", "exact_match", "coupled")
CASES = 1500  # random steps a verifier is tried on
every_verifier = pytest.mark.parametrize("name", ON_DEVICE)


def distributions(source: random.Random, rows: int, vocab: int) -> Tensor:
    """Return float32 distributions: flat, peaked, with zeros, one-hot; `[rows, vocab]`."""
    generator = torch.Generator().manual_seed(source.getrandbits(32))
    logits = torch.randn(rows, vocab, generator=generator) * source.choice([0.3, 2.0, 20.0, 300.0])
    zeros = torch.rand(rows, vocab, generator=generator) < source.choice([0.0, 0.5, 0.95])
    zeros[torch.arange(rows), logits.argmax(-1)] = False
    return logits.masked_fill(zeros, float("-inf")).softmax(-1)


def random_step(source: random.Random) -> tuple[Draft, Tensor]:
    """Return a draft and the target's distributions after its prefixes, `[drafted + 1, vocab]`."""
    gamma, vocab = source.randint(1, 6), source.choice([2, 5, 255, 256, 257, 1000])
    target = distributions(source, gamma + 1, vocab)
    draft = distributions(source, gamma, vocab)
    kind = source.choice(["other", "equal", "near", "counted"])
    if kind == "equal":
        draft = target[:-1].clone()
    if kind == "near":
        draft = 0.9 * target[:-1] + 0.1 * draft
    tokens = [inverse_transform(row, source.random()) for row in draft]
    return Draft(tokens, None if kind == "counted" else Dense(draft)), target


def source_for(name: str, seed: int) -> Rng:
    return rng_for(seed, keyed=VERIFIERS.get(name).is_coupled)


@every_verifier
def test_trap_verdicts_and_numbers_used_are_those_of_the_questions(name: str) -> None:
    verifier: Any = VERIFIERS.create(name)
    source, verdicts = random.Random(name), Counter[tuple[bool, bool]]()
    asked, seen = source_for(name, 1), source_for(name, 1)
    for position in range(CASES):
        draft, target = random_step(source)
        expected = verifier.judge(draft, Dense(target), asked, position)
        assert verifier.judge_ahead(draft, target, seen, position) == expected
        verdicts[expected.num_accepted > 0, expected.num_accepted < len(draft.tokens)] += 1
    assert min(verdicts[kind] for kind in [(True, True), (True, False), (False, True)]) > CASES / 20
    assert asked.accepts(0.5) == seen.accepts(0.5)
    assert asked.ahead(3) == seen.ahead(3)


@every_verifier
def test_what_it_emits_follows_the_target(name: str) -> None:
    """A right verifier fails this with probability 1e-6 over the choice of the seed."""
    verifier: Any = VERIFIERS.create(name)
    target = torch.tensor([[0.5, 0.2, 0.05, 0.25], [0.1, 0.6, 0.3, 0.0]])
    q = torch.tensor([[0.2, 0.5, 0.2, 0.1]])
    counted, samples = Counter[int](), 8000
    for seed in range(samples):
        rng = source_for(name, seed)
        draft = Draft([rng.categorical(q[0], 0)], Dense(q))
        verdict = verifier.judge_ahead(draft, target, rng, 0)
        counted[draft.tokens[0] if verdict.num_accepted else verdict.next_token] += 1
    expected = [samples * p for p in target[0].tolist()]
    chance = p_value(chi_square([counted[i] for i in range(4)], expected), 3)
    assert (chance >= 1e-6) is VERIFIERS.get(name).is_lossless


class Silence(TorchDispatchMode):
    """Counts what is asked of the device."""

    asked = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        assert name != "nonzero"
        self.asked += name in ("_local_scalar_dense", "is_nonzero")
        return func(*args, **(kwargs or {}))


@every_verifier
def test_no_question_is_asked_before_the_one_copy(name: str, monkeypatch: Any) -> None:
    verifier: Any = VERIFIERS.create(name)
    draft, target = random_step(random.Random(3))
    copies = []
    to_list = Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", lambda t: copies.append(t.shape) or to_list(t))
    with Silence() as silence:
        verifier.judge_ahead(draft, target, source_for(name, 1), 0)
    assert len(copies) == 1
    assert silence.asked <= copies[0].numel()  # `tolist` takes them one by one on a CPU


def test_a_batch_is_drawn_as_each_row_alone() -> None:
    source = random.Random(0)
    for _ in range(300):
        probs = distributions(source, 4, source.choice([1, 3, 256, 700]))
        ends = [0.0, 1 - 2**-53, source.random(), source.random()]
        picked = Rng(0).pick(probs, torch.tensor(ends, dtype=torch.float64))
        assert picked.tolist() == [
            inverse_transform(p, u) for p, u in zip(probs, ends, strict=True)
        ]
        assert (probs.gather(1, picked[:, None]) > 0).all()


def test_numbers_looked_at_come_again_until_they_are_used() -> None:
    plain, looking = Rng(4), Rng(4)
    numbers = [plain._uniform() for _ in range(6)]
    assert looking.ahead(4) == numbers[:4]
    assert looking.ahead(2) == numbers[:2]
    looking.use(1)
    assert looking.accepts(numbers[1] + 1e-9)
    assert not looking.accepts(numbers[2] - 1e-9)
    assert looking.ahead(3) == numbers[3:]


def test_a_source_that_decides_otherwise_is_asked() -> None:
    assert Rng(0).foresees
    assert KeyedRng(0).foresees
    assert not EnumeratedRandomness().foresees


@pytest.fixture
def as_on_device(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let verifiers decide as they do on CUDA; return the lengths of the drafts they judged so."""
    judged: list[int] = []
    for module, kind in ((rejection, "RejectionVerifier"), (exact_match, "ExactMatchVerifier")):
        verifier: Any = getattr(module, kind)
        inner = verifier.judge_ahead

        def judge(self: Any, draft: Draft, *rest: Any, inner: Any = inner) -> Verdict:
            judged.append(len(draft.tokens))
            verdict: Verdict = inner(self, draft, *rest)
            return verdict

        monkeypatch.setattr(verifier, "judge_ahead", judge)
        monkeypatch.setattr(module, "decides_on_device", lambda rng, probs: rng.foresees)
    return judged


def text_of(name: str, seed: int) -> list[int]:
    sampler = MultinomialSampler(0.8)
    target = TableModel(random_table(7, seed=1))
    drafter = DraftModelDrafter(TableModel(random_table(7, seed=2)), sampler)
    parts = Speculation(target, drafter, FixedGamma(3), VERIFIERS.create(name), sampler)
    request = Request(target.open([1, 2]), source_for(name, seed), max_new_tokens=40)
    for _ in speculative_steps(parts, request):
        pass
    return request.output


@pytest.mark.parametrize("name", ON_DEVICE)
def test_a_seed_writes_the_same_text_on_any_device(name: str, request: Any) -> None:
    asked = [text_of(name, seed) for seed in range(20)]
    judged = request.getfixturevalue("as_on_device")
    assert [text_of(name, seed) for seed in range(20)] == asked
    assert 3 in judged


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_verifier
def test_gpu_verdicts_are_those_of_the_host(name: str) -> None:
    verifier, source = VERIFIERS.create(name), random.Random(name)
    same = 0
    for position in range(200):
        draft, target = random_step(source)
        here = verifier.judge(draft, Dense(target), source_for(name, position), position)
        drawn = isinstance(draft.choices, Dense)
        there = Draft(draft.tokens, Dense(draft.choices.probs.cuda()) if drawn else None)
        on_device = Dense(target.cuda())
        same += verifier.judge(there, on_device, source_for(name, position), position) == here
    assert same >= 199  # sums in another order may move a border past a number
