"""What `benchmarks/in_vllm.py` makes of answers, without vLLM."""

from __future__ import annotations

from typing import Any

import in_vllm
import pytest
from in_vllm import PLAIN, Answered


def answered(seconds: float, passes: int, *, drafted: int = 0, accepted: int = 0) -> Answered:
    return Answered([[1, 2, 3, 4], [5, 6]], seconds, passes, drafted, accepted)


def test_a_row_is_of_both_contenders() -> None:
    found = {
        "ours": [answered(1.0, 3, drafted=4, accepted=3), answered(3.0, 3)],
        PLAIN: [answered(2.0, 4), answered(2.0, 4)],
    }
    row = in_vllm.row("ours", found, 2)
    assert row["tokens_a_pass"] == 12 / 6
    assert row["of_plain"] == 12 / 8
    assert row["acceptance_rate"] == 3 / 4
    assert row["tokens_per_second"]["median"] == pytest.approx((6 + 2) / 2)
    assert row["ratio"]["median"] == pytest.approx((2 + 2 / 3) / 2)


class Scripted:
    """A worker that says what it was asked for, and when."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self.log.append(self.name)
        texts = [prompt[:1] * request["length"] for prompt in request["prompts"]]
        return {"texts": texts, "seconds": 1.0, "passes": 1, "drafted": 0, "accepted": 0}


def test_two_contenders_answer_in_turns_each_first_every_other_time() -> None:
    log = list[str]()
    workers: Any = {name: Scripted(name, log) for name in ("a", "b")}
    found = in_vllm.in_turns(workers, [[[1]], [[2], [3]]], 2, 4)
    assert "".join(log) == "ab" + "abbaabba"
    assert [one.texts for one in found["a"]] == [[[1] * 4], [[2] * 4, [3] * 4]] * 2
    equal = in_vllm.differences(found | {PLAIN: found["b"]}, "a", [[[1]], [[2], [3]]], None)
    assert equal == {"texts_of_plain": "3/3", "near_ties": 0}


def test_without_vllm_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(in_vllm, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        in_vllm.main([])
    assert "vLLM is not installed here" in capsys.readouterr().err
