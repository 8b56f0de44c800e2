"""Advice times drafts as the recommended policy makes them, and plays only what it reads."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foredraft.bench.advice import Advice
from foredraft.bench.advise import advise
from foredraft.bench.recordings import Recording
from foredraft.bench.replay import Replay
from foredraft.bench.timed import Clock, CostTable, TimedModel
from foredraft.bench.timing import GAMMAS
from foredraft.engine import Engine
from foredraft.gamma import OracleGamma
from tests.bench.test_advise import PROMPTS
from tests.toy_engine import toy_drafter, toy_engine, toy_target

CALL, TOKEN, PASS = 0.4, 0.01, 1.0  # seconds: a call is dear, a further token of it is cheap


def advice() -> Advice:
    clock, plain = Clock(), toy_engine()
    assert plain.drafter is not None
    target = TimedModel(toy_target(), lambda rows: PASS + 0.001 * (rows - 1), clock)
    drafter = TimedModel(toy_drafter(), lambda calls: CALL + TOKEN * (calls - 1), clock)
    engine = Engine(replace(plain.target, model=target), replace(plain.drafter, model=drafter))
    return advise(engine, PROMPTS, length=40, num_speculative_tokens=8, repeats=2, clock=clock)


def test_what_is_predicted_is_what_is_measured() -> None:
    found = advice()
    assert found.pays
    assert found.draft_seconds[1] == pytest.approx(CALL)
    assert found.draft_seconds[12] == pytest.approx(CALL + 11 * TOKEN)
    for one in (found.best, found.auto):
        assert one.speedup == pytest.approx(one.measured_speedup, rel=0.1)
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
