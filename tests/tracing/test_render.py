"""Records as words: the labels carry the meaning, colour only repeats it."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from rich.console import Console

from foredraft.core import StepRecord
from foredraft.tracing import print_step, step_text, summarize, summary_text
from foredraft.tracing.render import STYLES, percent, rate, step_parts
from tests.doubles import step

UNDRAFTED = step([], 0, [9])
REJECTED = step([1, 2, 3], 1, [1, 7], entropy=0.25, raw_gamma=4.5)
NONE_KEPT = step([1, 2], 0, [7])
ALL_KEPT = step([4, 5], 2, [4, 5, 6])
CUT = step([1, 8, 3], 2, [1, 8])


def letters(tokens: Sequence[int]) -> str:
    """Decode 1 to a, 2 to b and so on."""
    return "".join(chr(96 + t) for t in tokens)


@pytest.mark.parametrize(
    ("record", "parts"),
    [
        (UNDRAFTED, [("target", [9])]),
        (REJECTED, [("accepted", [1]), ("rejected", [2, 3]), ("recovered", [7])]),
        (NONE_KEPT, [("rejected", [1, 2]), ("recovered", [7])]),
        (ALL_KEPT, [("accepted", [4, 5]), ("bonus", [6])]),
        (CUT, [("accepted", [1, 8]), ("rejected", [3])]),
    ],
    ids=["undrafted", "rejected", "none-kept", "all-kept", "cut"],
)
def test_a_step_has_its_parts_in_reading_order(
    record: StepRecord, parts: list[tuple[str, list[int]]]
) -> None:
    assert step_parts(record) == parts


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (UNDRAFTED, "step   1  target: 'i'  [0/0 kept]"),
        (
            REJECTED,
            "step   1  accepted: 'a' rejected: 'bc' recovered: 'g'"
            "  [1/3 kept, H_norm 0.250, raw gamma 4.50]",
        ),
        (ALL_KEPT, "step   1  accepted: 'de' bonus: 'f'  [2/2 kept]"),
    ],
    ids=["undrafted", "rejected", "all-kept"],
)
def test_a_step_reads_the_same_without_colours(record: StepRecord, line: str) -> None:
    assert step_text(1, record, letters).plain == line


def test_every_part_has_its_own_style() -> None:
    assert len(set(STYLES.values())) == len(STYLES) == 5
    line = step_text(1, REJECTED, letters)
    styled = {line.plain[s.start : s.end]: s.style for s in line.spans}
    assert styled["'a'"] == STYLES["accepted"]
    assert styled["'bc'"] == STYLES["rejected"]
    assert styled["'g'"] == STYLES["recovered"]


def printed(record: StepRecord, decoded: str, **options: bool) -> str:
    """Return what `print_step` writes to a narrow console."""
    out = io.StringIO()
    print_step(12, record, lambda tokens: decoded, Console(file=out, width=20, **options))  # type: ignore[arg-type]
    return out.getvalue()


def test_a_plain_console_gets_one_unbroken_line_without_escapes() -> None:
    text = printed(ALL_KEPT, "words that are longer than the console")
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert text.startswith("step  12 ")


def test_a_terminal_gets_colours() -> None:
    assert "\x1b[" in printed(ALL_KEPT, "a", force_terminal=True)


def test_generated_text_is_never_read_as_markup_or_as_a_new_line() -> None:
    text = printed(ALL_KEPT, "[red]\n[/red]")
    assert r"'[red]\n[/red]'" in text
    assert text.count("\n") == 1


def test_a_summary_names_its_numbers() -> None:
    records = [
        step([], 0, [9], 0.0, 10.0),
        step([1, 2, 3], 1, [1, 7], 0.3, 1.0, draft_calls=3),
        step([4, 5], 2, [4, 5, 6], 0.2, 1.0, draft_calls=2),
    ]
    assert summary_text(summarize(records)).plain.splitlines() == [
        "6 tokens in 3 steps, 2.00 tokens a step",
        "acceptance rate 60.0% (3 of 5 drafted tokens), conditional 75.0%",
        "draft cost ratio 0.10, mean gamma 2.50",
        "2.0 tokens/s",
    ]


def test_the_summary_of_plain_decoding_says_nothing_of_drafts() -> None:
    records = [step([], 0, [t], verify_seconds=0.5) for t in range(3)]
    assert summary_text(summarize(records)).plain == "3 tokens in 3 steps\n2.0 tokens/s"


def test_a_missing_number_is_a_dash() -> None:
    assert percent(None) == rate(None) == "–"
    assert summary_text(summarize([UNDRAFTED])).plain.endswith("– tokens/s")


def test_numbers_have_one_decimal() -> None:
    assert percent(0.6127) == "61.3%"
    assert percent(0) == "0.0%"
    assert rate(230.04) == "230.0"
