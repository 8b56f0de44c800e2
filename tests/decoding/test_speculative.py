"""The loop: known step counts, and every limit kept, for drafts that are right, wrong or both."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from foredraft.core import FinishReason, StepRecord
from foredraft.decoding import Request, Speculation, autoregressive_steps, speculative_steps
from foredraft.drafting import DraftModelDrafter
from foredraft.gamma import FixedGamma
from foredraft.models import DecoderOnlyModel
from foredraft.sampling import SAMPLERS, MultinomialSampler, Sampler, rng_for
from foredraft.verification import VERIFIERS
from tests.doubles import CountingTable, ScriptedPolicy, Table, random_table
from tests.tiny import VOCAB, Witness, build, noisy

SIZE = 8
PROMPT = [0]
LOSSLESS = [name for name in VERIFIERS.names if VERIFIERS.get(name).is_lossless]
every_verifier = pytest.mark.parametrize("verifier", LOSSLESS)
every_sampler = pytest.mark.parametrize("sampler", ["greedy", "multinomial"])
GAMMAS = (1, 2, 3, 4, 5, 9)


def certain(token: int) -> list[float]:
    return [float(t == token % SIZE) for t in range(SIZE)]


def counting(tokens: tuple[int, ...]) -> list[float]:
    """The target: after n comes n + 1."""
    return certain(tokens[-1] + 1 if tokens else 0)


def never(tokens: tuple[int, ...]) -> list[float]:
    return certain(tokens[-1] + 2 if tokens else 0)


def sometimes(tokens: tuple[int, ...]) -> list[float]:
    """Right except after 3 and 7."""
    return never(tokens) if tokens and tokens[-1] % 4 == 3 else counting(tokens)


def run(
    draft_table: Table,
    gamma: int,
    length: int,
    *,
    target_table: Table = counting,
    sampler: str = "greedy",
    verifier: str = "rejection",
    first_target: bool = False,
    max_length: int = 200,
    draft_max_length: int = 200,
    prompt: list[int] = PROMPT,
    eos: tuple[int, ...] = (),
    seed: int = 0,
) -> tuple[Request, list[StepRecord]]:
    target = CountingTable(target_table, max_length=max_length)
    draft_model = CountingTable(draft_table, max_length=draft_max_length)
    parts = Speculation(
        target,
        DraftModelDrafter(draft_model, SAMPLERS.create(sampler)),
        FixedGamma(gamma),
        VERIFIERS.create(verifier),
        SAMPLERS.create(sampler),
        first_target,
    )
    request = started(parts, prompt, length, eos, seed)
    return request, list(checked_steps(parts, request))


def started(
    parts: Speculation, prompt: list[int], length: int, eos: tuple[int, ...] = (), seed: int = 0
) -> Request:
    rng = rng_for(seed, keyed=parts.verifier.is_coupled)
    return Request(parts.target.open(prompt), rng, max_new_tokens=length, eos_token_ids=eos)


def checked_steps(parts: Speculation, request: Request) -> Iterator[StepRecord]:
    """Yield the steps; check the room left for each draft, and the target's memory after it."""
    room = request.room
    for record in speculative_steps(parts, request):
        assert len(record.drafted) < room, "the last place belongs to the target"
        assert 1 <= len(record.emitted) <= len(record.drafted) + 1
        assert record.emitted[: record.num_accepted] == record.drafted[: record.num_accepted]
        assert request.tokens[-len(record.emitted) :] == record.emitted
        assert request.context.length == request.length - 1
        room = request.room
        yield record


def emitted_counts(records: list[StepRecord]) -> list[int]:
    return [len(record.emitted) for record in records]


@every_verifier
@every_sampler
@pytest.mark.parametrize("length", [1, 2, 6, 13])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_drafts_that_are_always_right_give_gamma_plus_one_tokens_a_step(
    gamma: int, length: int, sampler: str, verifier: str
) -> None:
    sequence, records = run(counting, gamma, length, sampler=sampler, verifier=verifier)
    full, rest = divmod(length, gamma + 1)
    assert emitted_counts(records) == [gamma + 1] * full + [rest] * (rest > 0)
    assert all(r.num_accepted == len(r.drafted) == len(r.emitted) - 1 for r in records)
    assert all(r.num_draft_calls == len(r.drafted) for r in records)
    assert sequence.output == [(1 + i) % SIZE for i in range(length)]


@every_verifier
@every_sampler
@pytest.mark.parametrize("length", [1, 2, 6, 13])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_drafts_that_are_never_right_give_one_token_a_step(
    gamma: int, length: int, sampler: str, verifier: str
) -> None:
    sequence, records = run(never, gamma, length, sampler=sampler, verifier=verifier)
    assert emitted_counts(records) == [1] * length
    assert all(r.num_accepted == 0 for r in records)
    assert [len(r.drafted) for r in records] == [min(gamma, length - 1 - i) for i in range(length)]
    assert sequence.output == [(1 + i) % SIZE for i in range(length)]


@every_verifier
@every_sampler
@pytest.mark.parametrize(
    ("gamma", "emitted", "drafted", "accepted"),
    [
        (1, [2, 2, 2, 2, 2, 2], [1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]),
        (2, [3, 1, 3, 1, 3, 1], [2, 2, 2, 2, 2, 0], [2, 0, 2, 0, 2, 0]),
        (3, [4, 4, 4], [3, 3, 3], [3, 3, 3]),
        (4, [4, 4, 4], [4, 4, 3], [3, 3, 3]),
        (5, [4, 4, 4], [5, 5, 3], [3, 3, 3]),
    ],
)
def test_drafts_that_are_sometimes_right_give_the_counts_worked_out_by_hand(
    gamma: int,
    emitted: list[int],
    drafted: list[int],
    accepted: list[int],
    sampler: str,
    verifier: str,
) -> None:
    sequence, records = run(sometimes, gamma, 12, sampler=sampler, verifier=verifier)
    assert emitted_counts(records) == emitted
    assert [len(r.drafted) for r in records] == drafted
    assert [r.num_accepted for r in records] == accepted
    assert sequence.output == [(1 + i) % SIZE for i in range(12)]


@pytest.mark.parametrize("table", [counting, never, sometimes])
def test_first_target_is_one_step_with_an_empty_draft(table: Table) -> None:
    _, plain = run(table, 3, 12)
    _, first = run(table, 3, 12, first_target=True)
    assert first[0].drafted == []
    assert first[0].emitted == [1]
    assert all(r.drafted for r in first[1:-1])
    assert plain[0].drafted


@pytest.mark.parametrize("first_target", [True, False])
@pytest.mark.parametrize("table", [counting, never, sometimes])
@pytest.mark.parametrize("gamma", range(1, 13))
def test_trap_the_length_is_never_overshot(gamma: int, table: Table, first_target: bool) -> None:
    for length in range(1, 11):
        sequence, records = run(table, gamma, length, first_target=first_target)
        assert len(sequence.output) == length == sum(emitted_counts(records))
        assert sequence.finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("eos", [1, 3, 5])
def test_trap_an_end_token_inside_an_accepted_block_cuts_the_block(eos: int) -> None:
    sequence, records = run(counting, 5, 40, eos=(eos,))
    assert sequence.output == list(range(1, eos + 1))
    assert sequence.finish_reason is FinishReason.EOS
    assert records[-1].num_accepted == eos
    assert records[-1].extra_token is None
    assert not records[-1].is_rejection


@pytest.mark.parametrize(("table", "gamma"), [(counting, 2), (never, 3), (sometimes, 5)])
def test_an_end_token_that_the_target_adds_ends_the_text(table: Table, gamma: int) -> None:
    eos = {counting: 3, never: 1, sometimes: 4}[table]
    sequence, records = run(table, gamma, 40, eos=(eos, 6))
    assert sequence.output == list(range(1, eos + 1))
    assert records[-1].extra_token == eos


@pytest.mark.parametrize("table", [counting, never, sometimes])
@pytest.mark.parametrize("gamma", [1, 3, 7, 30])
def test_the_end_of_the_context_ends_the_text(gamma: int, table: Table) -> None:
    for max_length in range(2, 12):
        sequence, _ = run(table, gamma, 50, max_length=max_length)
        assert sequence.length == max_length
        assert sequence.finish_reason is FinishReason.CONTEXT


@pytest.mark.parametrize("gamma", [1, 3, 7])
def test_a_drafter_with_a_shorter_context_stops_drafting_at_its_end(gamma: int) -> None:
    sequence, records = run(counting, gamma, 20, draft_max_length=9)
    assert sequence.output == [(1 + i) % SIZE for i in range(20)]
    assert records[0].drafted
    assert not records[-1].drafted


# Exact match draws anew at every position, so that equal distributions may give unequal tokens.
@pytest.mark.parametrize("verifier", [name for name in LOSSLESS if name != "exact_match"])
@pytest.mark.parametrize("gamma", [1, 4])
def test_a_drafter_equal_to_the_target_is_always_accepted(gamma: int, verifier: str) -> None:
    table = random_table(SIZE, seed=3)
    _, records = run(table, gamma, 40, target_table=table, sampler="multinomial", verifier=verifier)
    assert all(r.num_accepted == len(r.drafted) for r in records)


@every_verifier
def test_the_text_depends_on_the_seed_and_not_on_the_global_one(verifier: str) -> None:
    def text(seed: int, global_seed: int) -> list[int]:
        torch.manual_seed(global_seed)
        target, draft = random_table(SIZE, seed=1), random_table(SIZE, seed=2, zeros=2)
        sequence, _ = run(
            draft,
            3,
            30,
            target_table=target,
            sampler="multinomial",
            verifier=verifier,
            seed=seed,
        )
        return sequence.output

    assert text(5, global_seed=1) == text(5, global_seed=2)
    assert text(5, global_seed=1) != text(6, global_seed=1)


class Alternating(ScriptedPolicy):
    """Drafts nothing in two steps of three."""

    steps = 0

    @property
    def budget(self) -> int:
        self.steps += 1
        return 4 if self.steps % 3 == 0 else 0


@every_verifier
def test_a_draft_model_that_rested_catches_up(verifier: str) -> None:
    sampler = SAMPLERS.create("greedy")
    target, draft_model = Witness(build("llama")), Witness(noisy("llama"))
    parts = Speculation(
        target,
        DraftModelDrafter(draft_model, sampler),
        Alternating(),
        VERIFIERS.create(verifier),
        sampler,
    )
    sequence = started(parts, [5, 6, 7], 24)
    records = list(checked_steps(parts, sequence))
    assert {0, 4} <= {len(r.drafted) for r in records}
    plain = started(parts, [5, 6, 7], 24)
    list(autoregressive_steps(plain, sampler))
    assert sequence.output == plain.output


MODELS: dict[str, Any] = {
    "float32": lambda: DecoderOnlyModel(build("llama")),
    "bfloat16": lambda: DecoderOnlyModel(half_precision()),
    "float64_table": lambda: CountingTable(random_table(VOCAB, seed=0)),
}


def half_precision() -> Any:
    return copy.deepcopy(build("llama")).to(torch.bfloat16)


@every_verifier
@pytest.mark.parametrize("sampler", [MultinomialSampler(1.0), MultinomialSampler(0.3)])
@pytest.mark.parametrize(
    ("target", "drafter"),
    [
        ("float32", "bfloat16"),
        ("float32", "float64_table"),
        ("bfloat16", "float32"),
        ("float64_table", "float32"),
    ],
)
def test_the_two_models_may_have_different_dtypes(
    target: str, drafter: str, sampler: Sampler, verifier: str
) -> None:
    judge = VERIFIERS.create(verifier)
    main, draft_model = MODELS[target](), MODELS[drafter]()
    parts = Speculation(
        main, DraftModelDrafter(draft_model, sampler), FixedGamma(3), judge, sampler
    )
    sequence = started(parts, [5, 6, 7], 12)
    records = list(checked_steps(parts, sequence))
    assert len(sequence.output) == 12
    assert sum(len(r.drafted) for r in records) > 0


def test_trap_a_steps_time_ends_when_its_tokens_are_on_the_host() -> None:
    """On a GPU a pass returns before it is done; the verdict waits for its result.

    The clock moves only inside the parts: drafting takes 1, the pass 10, the verdict 100.
    """
    now = 0.0

    def taking(seconds: float, part: Any, name: str) -> None:
        method = getattr(type(part), name)

        def slow(*args: Any, **kwargs: Any) -> Any:
            nonlocal now
            now += seconds
            return method(*args, **kwargs)

        kind = type(part)  # of a copy for a text, too
        object.__setattr__(part, "__class__", type(kind.__name__, (kind,), {name: slow}))

    sampler, target = MultinomialSampler(), CountingTable(counting)
    drafter = DraftModelDrafter(CountingTable(counting), sampler)
    verifier = VERIFIERS.create("rejection")
    for seconds, part, name in (
        (1, drafter, "propose"),
        (10, target, "forward"),
        (100, verifier, "judge"),
    ):
        taking(seconds, part, name)
    parts = Speculation(target, drafter, FixedGamma(2), verifier, sampler, False, lambda: now)
    records = list(speculative_steps(parts, started(parts, PROMPT, 6)))
    assert [(r.draft_seconds, r.verify_seconds) for r in records] == [(1, 110)] * 2
