"""What `benchmarks/passes.py` times, and what it makes of the times. Nothing is timed."""

from __future__ import annotations

import json
from pathlib import Path

import passes
import pytest
import tables

from foredraft import LoadOptions
from foredraft.loading import load


def test_every_case_is_there_once_and_the_first_is_one_token_of_one_text() -> None:
    cases = passes.cases(with_drafter=True)
    assert cases[0] == passes.Case(passes.TARGET, 1, 1)
    assert len(cases) == len(set(cases))
    assert {c.texts for c in cases if c.model == passes.DRAFTER} == set(passes.TEXTS)
    assert {c.tokens for c in cases if c.texts == max(passes.TEXTS)} == {1, passes.GAMMA + 1}
    assert all(c.model == passes.TARGET for c in passes.cases(with_drafter=False))


def test_a_ratio_is_taken_within_its_turn() -> None:
    """The machine is three times as slow in the second turn; the ratio is 2 in each."""
    one, two = passes.Case(passes.TARGET, 1, 1), passes.Case(passes.TARGET, 1, 2)
    rows = passes.rows({one: [0.1, 0.3, 0.1], two: [0.2, 0.6, 0.2]})
    assert [row["ratio"]["median"] for row in rows] == pytest.approx([1, 2])
    assert rows[1]["milliseconds"] == pytest.approx(200)


def test_texts_are_as_long_after_a_pass_as_before_it() -> None:
    texts = passes.Texts(load("bundled", "drafter", LoadOptions()).model, count=3, length=5)
    assert texts.seconds(texts=2, tokens=4) > 0
    assert [text.length for text in texts.opened] == [5, 5, 5]


def test_it_prints_a_row_a_case_and_saves_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(passes, "RESULTS", tmp_path)
    monkeypatch.setattr(passes, "CONTEXT", 6)
    monkeypatch.setattr(passes, "TOKENS", (1, 2))
    monkeypatch.setattr(passes, "TEXTS", (1, 2))
    passes.main(["--turns", "1", "--save"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(found["rows"]) == 2 + 3 + 2
    assert {"processor", "flags", "commit"} <= found["machine"].keys()
    kept = passes.file_of("bundled", found["machine"]["flags"])
    assert kept.parent == tmp_path
    assert json.loads(kept.read_text()) == tables.rounded(found)
    assert "passes.py" in kept.with_suffix(".md").read_text()


@pytest.mark.parametrize(
    ("flags", "name"),
    [("avx2 avx512f avx512_vnni", "passes-x"), ("asimd", "passes-x"), ("avx2", "passes-x-avx2")],
)
def test_a_processor_of_narrow_vectors_has_files_of_its_own(flags: str, name: str) -> None:
    assert passes.file_of("x", flags).stem == name


def test_a_number_of_turns_below_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        passes.main(["--turns", "0"])
    assert "--turns must be 1 or more" in capsys.readouterr().err
