"""A drafter that wants to be left alone: it is neither asked nor told, and the text is the same."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock

import pytest
from torch import Tensor

from foredraft.bench.recordings import Recording
from foredraft.bench.replay import CostTable, Replay
from foredraft.core import Draft, DraftStop, StepOutcome
from foredraft.costs import SETTLED, Meter
from foredraft.decoding import Request, Speculation, shared_step, speculative_steps, step
from foredraft.decoding.speculative import begin
from foredraft.drafting import DRAFTERS, Drafter, DraftParts
from foredraft.drafting.base import Beginning
from foredraft.gamma import FixedGamma, GammaPolicy
from foredraft.models import TableModel
from foredraft.sampling import GreedySampler, Rng
from foredraft.verification import RejectionVerifier

SIZE = 8


def counting(tokens: tuple[int, ...]) -> list[float]:
    return [float(t == ((tokens[-1] if tokens else 0) + 1) % SIZE) for t in range(SIZE)]


class Resting(Drafter):
    """Drafts two tokens, rests some steps, and writes down what happens to it."""

    def __init__(self, steps: int) -> None:
        self.steps, self.heard = steps, list[str]()

    def start(self, text: Beginning) -> None:
        self.heard.append("start")

    def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        self.heard.append(f"propose {len(tokens)}")
        self.rest = self.steps
        return Draft([(tokens[-1] + i) % SIZE for i in (1, 2)][:gamma])

    def observe(self, tokens: list[int], num_emitted: int, target_logits: Tensor) -> None:
        assert len(target_logits) >= num_emitted
        self.heard.append(f"observe {num_emitted}")

    def update(self, outcome: StepOutcome) -> None:
        self.heard.append("update")


def parts_of(drafter: Drafter) -> Speculation:
    return Speculation(
        TableModel(counting), drafter, FixedGamma(4), RejectionVerifier(), GreedySampler(), False
    )


@pytest.mark.parametrize("rest", [0, 1, 3, 50])
def test_who_rests_is_neither_asked_nor_told(rest: int) -> None:
    drafter = Resting(rest)
    parts = parts_of(drafter)
    request = Request(parts.target.open([0]), Rng(0), max_new_tokens=20)
    records = list(speculative_steps(parts, request))
    assert request.output == [(i + 1) % SIZE for i in range(20)]
    per_round = ["propose", "observe", "update"]
    heard = [word.split()[0] for word in drafter.heard]
    asked = sum(word == "propose" for word in heard)
    assert heard == ["start", *per_round * asked]
    emitted = [len(record.emitted) for record in records]
    rounds = [3, *[1] * rest] * 20
    assert emitted[:-1] == rounds[: len(emitted) - 1]
    rested = [record for i, record in enumerate(records) if i % (rest + 1)]
    assert all(record.stopped is DraftStop.POLICY for record in rested)
    assert all(record.draft_seconds == 0 for record in rested)


def test_a_rest_belongs_to_its_text() -> None:
    parts = parts_of(Resting(2))
    requests = [Request(parts.target.open([i]), Rng(0), max_new_tokens=12) for i in range(3)]
    for request in requests[:2]:
        begin(parts, request)
    step(parts, requests[:2])
    begin(parts, requests[2])
    records = step(parts, requests)
    assert [len(record.drafted) for record in records] == [0, 0, 2]


def test_the_meter_measures_rests_when_they_are_over() -> None:
    meter = Meter()
    parts = parts_of(Resting(SETTLED + 4))
    parts = Speculation(**{**vars(parts), "meter": meter})
    request = Request(parts.target.open([0]), Rng(0), max_new_tokens=60)
    for record in speculative_steps(parts, request):
        seconds = [0.0] if not meter.rests else meter.rests
        assert seconds[-1] in (0.0, record.verify_seconds)
    assert meter.pass_seconds(0) > 0
    assert meter.rate.count > 3


@pytest.mark.parametrize("milliseconds", [0.4, 2.0, 50.0])
@pytest.mark.parametrize("spec", ["auto", "auto(suffix)", "auto(ngram(filler_top_k=3), model)"])
def test_auto_decides_less_often_beside_a_quick_pass_and_says_the_same(
    spec: str, milliseconds: float
) -> None:
    said = [*range(1, SIZE), *[3, 5, 2] * 30]
    costs = CostTable(0.2e-3 * milliseconds, 1e-3 * milliseconds, 0.1e-3 * milliseconds)
    recordings = [Recording([0], said, len(said))] * 6
    model = TableModel(counting)
    found = Replay(recordings, costs=costs, draft_model=model).play(spec, ["fixed(gamma=1024)"])
    for records in found[0].records:
        assert [token for record in records for token in record.emitted] == said
    if "model" not in spec:
        last = found[0].records[-1]
        assert len(last) < 0.7 * len(said), "it copies all the same"


def test_a_source_that_learns_from_logits_is_told_of_every_step() -> None:
    built = DRAFTERS.create("auto(ngram(filler_top_k=3))").build(DraftParts(SIZE, None))
    parts = parts_of(built)
    request = Request(parts.target.open([0]), Rng(0), max_new_tokens=60)
    list(speculative_steps(parts, request))
    assert request.drafter is not None
    assert request.drafter.rest == 0


@pytest.mark.parametrize("resting", [0, 1, 2])
def test_a_shared_pass_is_measured_by_all_its_rows(resting: int) -> None:
    """Those who rest, or draft never, are rows of the pass and tokens of its rate as well."""
    parts, plain = parts_of(Resting(2)), Speculation.plain(TableModel(counting), GreedySampler())
    plain = replace(plain, target=parts.target, clock=parts.clock)
    requests = [Request(parts.target.open([i]), Rng(0), max_new_tokens=12) for i in range(3)]
    for request in requests[: 3 - resting // 2]:
        begin(parts, request)
    texts = [(parts, request) for request in requests]
    if resting == 2:
        texts[2] = plain, requests[2]  # has no drafter at all
    if resting:
        step(parts, requests[:1])
    counts, brought = list[int](), list[int]()
    parts.meter.verify_seconds = Mock(add=lambda count, seconds: counts.append(count))
    parts.meter.rate = Mock(add=lambda tokens, seconds: brought.append(tokens))
    records = shared_step(texts)
    fed = sum(1 + len(record.drafted) for record in records)
    assert counts[-1] == fed - 1
    assert brought[-1] == sum(len(record.emitted) for record in records)
