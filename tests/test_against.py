"""`benchmarks/against.py`: whose turn it is, what is compared, what is left behind. No clock."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import against
import pytest

from foredraft.bench.prompt_sets import load_prompts

ITEMS = load_prompts(max_prompts=2, max_length=5)  # eight


class FakeSide:
    """Generates at a speed of its own, and notes whose turn it was."""

    def __init__(self, name: str, speed: float, turns: list[str]) -> None:
        self.name, self.speed, self.turns = name, speed, turns
        self.requests: list[dict[str, Any]] = []

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self.turns.append(self.name)
        self.requests.append(request)
        odd = request["method"] == "ngram" and self.name == against.NEW
        tokens = [1, 2, 3, 4] if odd else [1, 2, 3]
        return {"tokens": tokens, "seconds": len(tokens) / self.speed}


def sides(new: float, old: float) -> tuple[dict[str, Any], list[str]]:
    turns: list[str] = []
    speeds = {against.NEW: new, against.OLD: old}
    return {name: FakeSide(name, speed, turns) for name, speed in speeds.items()}, turns


def quiet(line: str) -> None:
    """Say nothing."""


def test_sides_take_turns_a_b_b_a() -> None:
    both, turns = sides(2, 1)
    against.generations([both], ITEMS, quiet)
    assert turns[:4] == [against.NEW, against.OLD, against.OLD, against.NEW]
    assert turns.count(against.NEW) == turns.count(against.OLD)


def test_a_ratio_is_new_by_old_and_its_tokens_are_compared() -> None:
    both, _ = sides(30, 20)
    rows = against.generations([both] * 2, ITEMS, quiet)
    assert [row["measure"] for row in rows] == list(against.METHODS)
    for row in rows:
        assert row["ratio"] == pytest.approx({"median": 1.5, "low": 1.5, "high": 1.5})
        assert (row["new_per_second"], row["old_per_second"]) == pytest.approx((30, 20))
    assert [(row["same_texts"], row["texts"]) for row in rows] == [(16, 16), (16, 16), (0, 16)]


def test_both_sides_are_asked_the_same_after_a_warm_up() -> None:
    both, _ = sides(1, 1)
    against.generations([both], ITEMS, quiet)
    new, old = (both[name].requests for name in (against.NEW, against.OLD))
    assert new == old
    assert len(new) == (1 + len(ITEMS)) * len(against.METHODS)
    assert new[1]["settings"] == {"gamma": 4, "length": 5}
    assert new[2]["settings"] == {"length": 5}  # NASD has each side's own default


def test_only_what_is_slower_beyond_doubt_is_too_slow() -> None:
    ends = {"slow": 0.9, "perhaps": 0.98, "few prompts": None}
    rows = [{"measure": name, "ratio": {"high": high}} for name, high in ends.items()]
    assert against.too_slow(rows, 0.97) == ["slow"]


def test_start_ups_are_counted_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    class FakeWorker:
        def __init__(self, checkout: Path) -> None:
            started.append(str(checkout))
            is_new = str(checkout) == against.NEW
            self.started = {"seconds": 1.0 if is_new else 4.0, "processor_seconds": 2.0}

        def close(self) -> None:
            pass

    monkeypatch.setattr(against, "started", FakeWorker)
    rows = against.starts({name: Path(name) for name in (against.NEW, against.OLD)}, 6, quiet)
    assert len(started) == 2 * 7
    assert [row["ratio"]["median"] for row in rows] == [4, 1]


def test_the_table_says_where_defaults_differ() -> None:
    both, _ = sides(30, 20)
    found = {
        "machine": {"processor": "P", "flags": "avx2", "commit": "abc"},
        "against": "def",
        "stop_if_unknown": {against.NEW: True, against.OLD: False},
        "rows": against.generations([both], ITEMS, quiet),
    }
    shown = against.rendered(found)
    assert "1.500 [1.500, 1.500]" in shown
    assert "not the same method" in shown
    assert "processor P, flags avx2, commit abc" in shown
    found["stop_if_unknown"] = {against.NEW: True, against.OLD: True}
    assert "not the same method" not in against.rendered(found)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, which the script takes for its own."""
    names = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for words in (["init", "-q"], ["add", "."], [*names, "commit", "-qm", "one"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setattr(against, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("end", [None, KeyboardInterrupt, RuntimeError])
@pytest.mark.usefixtures("repository")
def test_the_worktree_is_gone_whatever_happens(end: type[BaseException] | None) -> None:
    try:
        with against.worktree("HEAD") as place:
            assert (place / "file").is_file()
            if end is not None:
                raise end
    except (KeyboardInterrupt, RuntimeError):
        assert end is not None
    assert not place.exists()
    assert against.git("worktree", "list").count("\n") == 0


@pytest.mark.usefixtures("repository")
def test_an_unknown_commit_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        against.main(["no-such-commit"])
    assert "git knows no commit 'no-such-commit'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_worker_runs_the_code_of_its_checkout() -> None:
    worker = against.started(against.ROOT)
    try:
        assert worker.started["stop_if_unknown"] is True
        told = {"method": "target", "prompt": "Once", "settings": {"length": 3}}
        assert len(json.loads(json.dumps(worker.ask(told)))["tokens"]) == 3
    finally:
        worker.close()
