"""AutoDrafter: what it is worth in worlds whose costs are known, and who drafts when."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

import pytest
import torch

from foredraft.bench.recordings import Recording
from foredraft.bench.replay import Clock, CostTable, Replay
from foredraft.config import DecodingConfig
from foredraft.core import Draft, DraftStop
from foredraft.costs import LONGER, WORTHWHILE, Meter, Prices, best_length, quickest_length
from foredraft.decoding import Request, Speculation, begin, step
from foredraft.drafting import DRAFTERS, DraftModelDrafter, DraftParts, SuffixDrafter
from foredraft.drafting.auto import AutoDrafter
from foredraft.drafting.base import Beginning
from foredraft.drafting.judged import FIRST_REST, LONGEST_REST, JudgedDrafter
from foredraft.errors import ConfigError
from foredraft.gamma import FixedGamma
from foredraft.method import Method
from foredraft.models import TableModel
from foredraft.sampling import GreedySampler, Rng
from foredraft.verification import RejectionVerifier
from tests.doubles import judged_step

GREEDY = GreedySampler()
VOCAB = 40
UNBOUNDED = "fixed(gamma=1024)"


def texts(*, novel: bool, count: int = 24, length: int = 60, seed: int = 0) -> list[Recording]:
    """Return recorded texts: of new tokens throughout, or of phrases that come again."""
    source, found = random.Random(seed), list[Recording]()
    phrases = [[source.randrange(VOCAB) for _ in range(9)] for _ in range(4)]
    for number in range(count):
        tokens = list[int]()
        while len(tokens) < length:
            if novel:  # no two tokens ever follow each other twice
                tokens.append((7 * len(tokens) + number * len(tokens) // VOCAB) % VOCAB)
            else:
                tokens += source.choice(phrases)
        found.append(Recording([number % VOCAB, 1, 2], tokens[:length], length))
    return found


def guessing(recordings: list[Recording], chance: float) -> TableModel:
    """Return a draft model that is right with a chance, sure of itself either way."""
    said = {}
    for one in recordings:
        whole = (*one.prompt, *one.tokens)
        said |= {whole[:end]: whole[end] for end in range(len(one.prompt), len(whole))}

    def row(tokens: tuple[int, ...]) -> list[float]:
        right = said.get(tokens, 0)
        coin = random.Random(hash(tokens) % 10**6).random()
        token = right if coin < chance else (right + 1) % VOCAB
        return [0.9 if i == token else 0.1 / (VOCAB - 1) for i in range(VOCAB)]

    return TableModel(row)


def rates(
    recordings: list[Recording], chance: float, costs: CostTable, *draftings: str
) -> list[float]:
    """Return tokens per pass of each drafter, with its lengths by `auto` or fixed."""
    replay = Replay(recordings, costs=costs, draft_model=guessing(recordings, chance))
    found = []
    for drafting in draftings:
        spec, _, gamma = drafting.partition("/")
        policy = f"fixed(gamma={gamma})" if gamma else UNBOUNDED
        found.append(replay.play(spec, [policy])[0].tokens_per_second)
    return found


@pytest.mark.parametrize("novel", [True, False])
@pytest.mark.parametrize(("draft", "token"), [(0.05, 0.02), (0.3, 0.1), (1.5, 0.4)])
def test_a_drafter_of_noise_costs_next_to_nothing(novel: bool, draft: float, token: float) -> None:
    costs = CostTable(draft, 1.0, token)
    (auto,) = rates(texts(novel=novel), 0.0, costs, "auto")
    assert auto > 0.97


@pytest.mark.parametrize("novel", [True, False])
@pytest.mark.parametrize("chance", [0.3, 0.7, 0.95])
@pytest.mark.parametrize(("draft", "token"), [(0.02, 0.02), (0.2, 0.06), (0.6, 0.2)])
def test_auto_is_hardly_slower_than_the_best_fixed_choice(
    novel: bool, chance: float, draft: float, token: float
) -> None:
    choices = [
        f"{drafter}/{gamma}"
        for drafter, gamma in itertools.product(("model", "suffix"), (1, 2, 4, 8))
    ]
    costs = CostTable(draft, 1.0, token, draft_token=0.6 * draft)
    auto, *fixed = rates(texts(novel=novel), chance, costs, "auto", *choices)
    assert auto > 0.94 * max(1.0, *fixed)  # the first texts, in which it learns, among them


def test_texts_of_eight_tokens_lose_nothing() -> None:
    short = texts(novel=True, count=150, length=8)
    (auto,) = rates(short, 0.2, CostTable(0.3, 1.0, 0.1), "auto")
    assert auto > 0.97


def test_rows_that_others_pay_for_are_weighed_by_what_they_add() -> None:
    """Eight rows cost nothing: a text alone drafts them, of eight in a pass hardly one does."""
    recordings = texts(novel=False, count=8, length=96)
    alone, shared = (_drafted_together(recordings, together) for together in (1, 8))
    assert alone > 0.6
    assert shared < 0.5 * alone


def _drafted_together(recordings: list[Recording], together: int) -> float:
    """Return the mean length of drafts where so many texts share each pass."""
    meter = Meter()
    source = DRAFTERS.create("auto(suffix)").build(DraftParts(VOCAB, None))
    lengths, clock = list[int](), Clock()
    said = {}
    for one in recordings:
        whole = (*one.prompt, *one.tokens)
        said |= {whole[:end]: whole[end] for end in range(len(one.prompt), len(whole))}

    class Table(TableModel):
        def forward(self, feeds):  # type: ignore[no-untyped-def]
            clock.now += 1.0 + 0.5 * max(0, sum(len(feed.tokens) for feed in feeds) - 8)
            return super().forward(feeds)

    model = Table(lambda tokens: [float(i == said.get(tokens, 0)) for i in range(VOCAB)])
    parts = Speculation(
        model, source, FixedGamma(1024), RejectionVerifier(), GREEDY, True, clock, meter
    )
    for first in range(0, len(recordings), together):
        requests = []
        for one in recordings[first : first + together]:
            made = Request(model.open(one.prompt), Rng(0), max_new_tokens=len(one.tokens))
            begin(parts, made)
            requests.append(made)
        while running := [one for one in requests if not one.finished]:
            lengths += [record.gamma for record in step(parts, running)]
    return sum(lengths) / len(lengths)


def test_copies_are_judged_whether_they_are_drafted_or_not() -> None:
    drafter = JudgedDrafter(SuffixDrafter(VOCAB))
    drafter.meter = Meter()
    prompt = [1, 2, 3, 4, 1, 2, 3]
    drafter.start(Beginning(prompt, Rng(0)))
    before = drafter.retrieve(prompt, 3).confidences[0]
    for _ in range(12):  # what was promised is never said
        drafter.start(Beginning(prompt, Rng(0)))
        drafter.retrieve(prompt, 3)
        drafter.observe([*prompt, 9], 1, torch.zeros(1, VOCAB))
        drafter.retrieve([*prompt, 9], 3)
    drafter.start(Beginning(prompt, Rng(0)))
    after = drafter.retrieve(prompt, 3).confidences[0]
    assert after < 0.6 * before


def test_the_best_length_is_that_of_most_tokens_beyond_the_price() -> None:
    seconds = [0.25 * k for k in range(9)]
    assert best_length([0.9, 0.9, 0.9], seconds, 2.0) == (3, pytest.approx(0.939))
    assert best_length([0.9, 0.1, 0.9], seconds, 2.0) == (1, pytest.approx(0.4))
    assert best_length([0.4, 0.9], seconds, 2.0) == (0, 0.0)
    # One does not pay and two do: T_v has steps.
    assert best_length([0.8, 0.8], [0.5] * 9, 2.0) == (2, pytest.approx(0.44))


def test_the_quickest_length_is_that_of_most_tokens_a_second() -> None:
    def found(mean: float, *drafted: float, texts: int = 1) -> tuple[int, float]:
        return quickest_length(mean, Prices(texts, 1.0, 1.0, [], [], [0, *drafted], [], []))

    for mean in (0.2, 0.6, 0.9):
        for each in (0.1, 0.3, 0.9):
            for texts in (1, 4):
                gains = [sum(mean**i for i in range(1, k + 1)) for k in range(7)]
                speeds = [(texts + gain) / (1 + each * k) for k, gain in enumerate(gains)]
                speeds[0] *= WORTHWHILE
                best = 0
                for k in range(1, 7):  # a longer one must be that much better
                    if speeds[k] > speeds[best] * (1 + LONGER * (k - best)):
                        best = k
                speeds[0] = texts
                costs = [each * k for k in range(1, 7)]
                assert found(mean, *costs, texts=texts) == (best, pytest.approx(speeds[best]))


def test_what_has_rested_in_vain_looks_again() -> None:
    """After looks in vain it rests a few steps at a time, and finds a repetition all the same."""
    recording = Recording([0], [*range(1, VOCAB), *([5, 6, 7, 8] * 20)], 119)
    replay = Replay([recording], costs=CostTable(0.2, 1.0, 0.05))
    steps = replay.play("auto(suffix)", [UNBOUNDED])[0].records[0]
    assert len(steps) < 70
    assert any(one.gamma > 4 for one in steps)


@pytest.mark.parametrize("is_told", [False, True])
def test_looks_come_later_in_each_text_until_a_copy_is_drafted(is_told: bool) -> None:
    """But for what is said with each text: another one's tells nothing of it."""
    inner = SuffixDrafter(VOCAB)
    inner.is_told = is_told
    source = JudgedDrafter(inner)
    source.start(Beginning([1, 2, 3], Rng(0)))
    for _ in range(8):
        source.was_looked_at(is_used=False, price=3.0)
    rests = [source.looks.texts * FIRST_REST]
    for _ in range(8):
        source.start(Beginning([1, 2, 3], Rng(0)))
        rests.append(source.rest)
    later = [min(FIRST_REST * n, LONGEST_REST) for n in range(1, 10)]
    assert rests == ([FIRST_REST] * 9 if is_told else later)
    source.was_looked_at(is_used=True, price=3.0)
    source.start(Beginning([1, 2, 3], Rng(0)))
    assert source.rest == FIRST_REST


def test_a_policy_other_than_the_bare_fixed_bounds_it() -> None:
    def longest(**settings: str) -> int:
        method = Method.of(DecodingConfig(drafting="auto(suffix)", **settings), "speculative")
        assert method.source is not None
        meter = Meter()
        for _ in range(12):
            meter.update(judged_step(0, 0, verify_seconds=1.0))
        drafter = method.source.build(DraftParts(VOCAB, None)).for_text(meter)
        tokens = [1, 2, 3, 4, 5, 6, 7, 8] * 4
        drafter.start(Beginning(tokens, Rng(0)))
        return len(drafter.propose(tokens, min(60, method.policy.budget), method.policy).tokens)

    assert longest() > 8
    assert longest(policy="fixed(gamma=3)") == 3
    assert longest(policy="plain") == 0


def test_a_model_that_is_not_wanted_is_never_begun() -> None:
    """An encoder would read the prompt, and a draft model the text, for nothing."""
    recordings = texts(novel=True, count=40)
    neural = DraftModelDrafter(guessing(recordings, 0.0), GREEDY)
    drafter = DRAFTERS.create("auto(suffix, model)").build(DraftParts(VOCAB, neural))
    begun, meter = list[bool](), Meter()
    for one in recordings:
        own = drafter.for_text(meter)
        own.start(Beginning(one.prompt, Rng(0)))
        tokens = list(one.prompt)
        for token in one.tokens:
            draft = own.propose(tokens, 10, FixedGamma(10))
            tokens.append(token)
            own.observe(tokens, 1, torch.zeros(1, VOCAB))
            outcome = judged_step(
                len(draft.tokens),
                0,
                draft_seconds=2.0 * draft.num_calls,
                verify_seconds=1.0,
                num_calls=draft.num_calls,
                num_read=draft.num_read,
            )
            for learner in (meter, own):
                learner.update(outcome)
        begun.append(own._is_begun)
    assert sum(begun) < 0.4 * len(begun)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("auto(sources=[])", "sources must name at least one drafter"),
        ("auto(suffix, hybrid)", "sources must retrieve or be the model, not 'hybrid'"),
        ("auto(explore=0.9)", r"explore must lie in \[0, 0.5\], not 0.9"),
        ("auto(gamma_max=0)", r"gamma_max must lie in \[1, 1024\], not 0"),
    ],
)
def test_what_cannot_be_is_refused_in_words(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DRAFTERS.create(spec)


def test_a_step_without_a_draft_says_that_a_rule_wanted_none() -> None:
    drafter = DRAFTERS.create("auto(suffix)").build(DraftParts(VOCAB, None)).for_text(Meter())
    drafter.start(Beginning([1, 2, 3], Rng(0)))
    draft = drafter.propose([1, 2, 3], 4, FixedGamma(4))
    assert (draft.tokens, draft.stopped) == ([], DraftStop.POLICY)


def decided(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Note of every draft of `auto` whether it was decided about, or done again."""
    found, propose = list[bool](), AutoDrafter.propose

    def noted(self: AutoDrafter, *given: Any) -> Draft:
        draft = propose(self, *given)
        found.append(not self._is_repeated)
        return draft

    monkeypatch.setattr(AutoDrafter, "propose", noted)
    return found


def play_drafts(draft: float, token: float) -> list[list[int]]:
    """Let `auto` decode short texts that a model guesses well; return the lengths of its drafts."""
    short = texts(novel=True, count=240, length=12)
    costs = CostTable(draft * 1e-3, 0.3e-3, token * 1e-3)
    model = guessing(short, 0.8)
    [found] = Replay(short, costs=costs, draft_model=model).play("auto(model)", [UNBOUNDED])
    return [[len(record.drafted) for record in text] for text in found.records]


def test_a_decision_for_drafts_outlives_a_short_text(monkeypatch: pytest.MonkeyPatch) -> None:
    found = decided(monkeypatch)
    play_drafts(0.03, 0.01)
    assert 0.02 < sum(found) / len(found) < 0.15


def test_the_neighbours_of_a_length_are_tried_and_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    further, as_decided = Counter[int](), AutoDrafter._as_decided

    def noted(self: AutoDrafter, tokens: list[int], gamma: int, more: int, *rest: Any) -> Draft:
        further[more] += 1
        return as_decided(self, tokens, gamma, more, *rest)

    monkeypatch.setattr(AutoDrafter, "_as_decided", noted)
    play_drafts(0.03, 0.01)
    assert set(further) == {-1, 0, 1}
    assert further[-1] + further[1] < 0.1 * further[0]


def test_a_decision_for_plain_decoding_outlives_a_short_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Deciding takes time that a text of a few tokens does not bring back."""
    asked, propose = list[int](), AutoDrafter.propose

    def counted(self: AutoDrafter, tokens: list[int], *rest: Any) -> Draft:
        asked.append(len(tokens))
        return propose(self, tokens, *rest)

    monkeypatch.setattr(AutoDrafter, "propose", counted)
    short = [Recording([0], [5, 3, 6, 2], 4)] * 80
    # Drafts of the model are in vain, and so are looks: a row more costs as much as a pass.
    costs = CostTable(0.3e-3, 0.4e-3, 0.4e-3)
    found = Replay(short, costs=costs, draft_model=guessing(short, 0.0)).play("auto", [UNBOUNDED])
    assert len(found[0].records) == len(short)
    before, later = asked[: len(asked) // 2], asked[len(asked) // 2 :]
    assert before
    assert len(asked) < 1.5 * len(short), "of three questions that a text has"
    assert later
