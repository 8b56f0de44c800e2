"""Advice times drafts as the recommended policy makes them, and plays only what it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from foredraft.bench.advise import GAMMAS, Advice, advise
from foredraft.bench.recordings import Recording
from foredraft.bench.replay import Clock, CostTable, Replay, TimedModel
from foredraft.engine import Engine
from foredraft.gamma import OracleGamma
from foredraft.models import Drafted, Feed
from tests.bench.test_advise import PROMPTS
from tests.toy_engine import toy_drafter, toy_engine, toy_target

CALL, TOKEN, PASS = 0.4, 0.01, 1.0  # seconds: a call is dear, a further token of it is cheap


class OneCall(TimedModel):
    """A draft model that makes a whole draft in one call, as one in C or a graph does."""

    def draft(self, feeds: Sequence[Feed], count: int) -> list[Drafted]:
        self._seconds, self._seconds_a_token = CALL, TOKEN
        return super().draft(feeds, count)


def advice() -> Advice:
    clock, plain = Clock(), toy_engine()
    assert plain.drafter is not None
    target = TimedModel(toy_target(), PASS, 0.001, clock)
    drafter = OneCall(toy_drafter(), CALL, 0.0, clock)
    engine = Engine(replace(plain.target, model=target), replace(plain.drafter, model=drafter))
    return advise(engine, PROMPTS, length=40, num_speculative_tokens=8, repeats=2, clock=clock)


def test_what_is_predicted_is_what_is_measured() -> None:
    found = advice()
    assert found.pays
    assert found.costs.draft == pytest.approx(CALL)
    assert found.costs.draft_token == pytest.approx(TOKEN)
    assert found.best.speedup == pytest.approx(found.measured_speedup, rel=0.3)
    assert found.gamma >= 6  # long drafts cost hardly more than short ones


def test_a_draft_in_one_call_costs_what_the_table_says() -> None:
    recordings = [Recording([1, 2, 3], [4, 5, 6, 1, 2, 3] * 5, 30)]
    costs = CostTable(draft=CALL, verify=PASS, verify_token=0.0, draft_token=TOKEN)
    (cheap,) = Replay(recordings, costs=costs, draft_model=toy_drafter()).play("model", ["fixed"])
    dear_costs = replace(costs, draft_token=None)
    (dear,) = Replay(recordings, costs=dear_costs, draft_model=toy_drafter()).play(
        "model", ["fixed"]
    )
    steps = [step for steps in cheap.records for step in steps]
    calls, drafts = sum(s.num_draft_calls for s in steps), sum(bool(s.drafted) for s in steps)
    assert cheap.seconds == pytest.approx(
        PASS * len(steps) + CALL * drafts + TOKEN * (calls - drafts)
    )
    assert dear.seconds == pytest.approx(PASS * len(steps) + CALL * calls)


def test_the_oracle_is_played_only_where_regret_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    begin = OracleGamma.__init__

    def counted(self: OracleGamma, *args: object) -> None:
        made.append(self)
        begin(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(OracleGamma, "__init__", counted)
    advice()
    assert made == []
    replay = Replay([Recording([1, 2], [1, 2, 1, 2], 4)])
    assert len(replay.play("suffix", [f"fixed(gamma={g})" for g in GAMMAS])) == len(GAMMAS)
    assert made == []
    *_, oracle = replay.run("suffix", ["fixed"])
    assert (oracle.policy, oracle.regret, len(made)) == ("oracle", 0.0, 2)
