"""A step record → words with styles, for a coloured terminal or plain text.

Looks only; the labels stay in plain text, so that colour never carries meaning alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.text import Text

from foredraft.core import DraftStop, StepRecord
from foredraft.tracing.summary import Summary

STYLES = {
    "accepted": "green",
    "rejected": "red strike",
    "recovered": "bold yellow",
    "bonus": "bold cyan",
    "target": "bold blue",
}

REASONS = {  # why nothing was drafted
    DraftStop.CONTEXT: "the draft model has {positions}",
    DraftStop.POLICY: "the policy decided for plain decoding",
    DraftStop.UNKNOWN: "no match was found to copy from",
    DraftStop.ROOM: "the length leaves no room for a draft",
    DraftStop.FIRST_TARGET: "the text ended with its first token",
    DraftStop.GAMMA: "the draft length is 0",
}

Decode = Callable[[Sequence[int]], str]


def step_parts(record: StepRecord) -> list[tuple[str, list[int]]]:
    """Return (kind, tokens) for each non-empty part of a step, in reading order.

    Kinds: `accepted`, `rejected` (drafted, not kept), then the extra token: `recovered` after a
    rejection, `bonus` after full acceptance, `target` when nothing was drafted.
    """
    kept = record.num_accepted
    parts = [("accepted", record.drafted[:kept]), ("rejected", record.drafted[kept:])]
    if record.extra_token is not None:
        kind = "recovered" if record.is_rejection else "bonus" if record.drafted else "target"
        parts.append((kind, [record.extra_token]))
    return [(kind, tokens) for kind, tokens in parts if tokens]


def step_text(number: int, record: StepRecord, decode: Decode) -> Text:
    """Return one line for a step: its parts, then the numbers of the policy."""
    line = Text(f"step {number:>3} ")
    for kind, tokens in step_parts(record):
        line.append(f" {kind}: ", style="dim")
        line.append(repr(decode(tokens)), style=STYLES[kind])
    line.append(f"  [{record.num_accepted}/{record.gamma} kept", style="dim")
    if record.normalized_entropy is not None and record.raw_gamma is not None:
        numbers = f", H_norm {record.normalized_entropy:.3f}, raw gamma {record.raw_gamma:.2f}"
        line.append(numbers, style="dim")
    if record.stopped is not None:
        line.append(f", stopped: {record.stopped}", style="dim")
    line.append("]", style="dim")
    return line


def summary_text(summary: Summary) -> Text:
    """Return the summary of a generation in at most four lines."""
    s = summary
    lines = [f"{s.num_emitted_tokens} tokens in {s.num_steps} steps"]
    if s.num_drafted_tokens:
        lines[0] += f", {s.mean_acceptance_length:.2f} tokens a step"
        lines.append(
            f"acceptance rate {percent(s.acceptance_rate)} "
            f"({s.num_accepted_tokens} of {s.num_drafted_tokens} drafted tokens), "
            f"conditional {percent(s.conditional_acceptance_rate)}"
        )
    if s.draft_cost_ratio is not None:
        lines.append(f"draft cost ratio {s.draft_cost_ratio:.2f}, mean gamma {s.mean_gamma:.2f}")
    lines.append(f"{rate(s.tokens_per_second)} tokens/s")
    return Text("\n".join(lines))


def undrafted(records: Sequence[StepRecord], positions: int) -> str:
    """Return why a method that drafts has drafted nothing, or less than it might; else nothing.

    The draft model has so many positions, in tokens.
    """
    stops = Counter(r.stopped for r in records if r.stopped is not None)
    has = f"{positions} positions"
    if not stops:
        return ""  # plain decoding
    if not any(r.drafted for r in records):
        if len(stops) > 1:  # the first step never drafts, and says so only where it is the last
            del stops[DraftStop.FIRST_TARGET]
        (reason, _), *_ = stops.most_common(1)
        return f"nothing was drafted: {REASONS[reason].format(positions=has)}"
    short = stops[DraftStop.CONTEXT]
    if not short:
        return ""
    tried = stops.total() - stops[DraftStop.FIRST_TARGET]
    return f"{short} of {tried} drafts were cut short: the draft model has {has}"


def percent(value: float | None) -> str:
    """Return `61.3%`, or a dash where there is no number."""
    return "–" if value is None else f"{100 * value:.1f}%"


def rate(value: float | None) -> str:
    """Return a rate with one decimal, or a dash where there is no number."""
    return "–" if value is None else f"{value:.1f}"


def print_step(
    number: int, record: StepRecord, decode: Decode, console: Console | None = None
) -> None:
    """Print a step, in colours where the console has them."""
    (console or Console(soft_wrap=True)).print(step_text(number, record, decode), soft_wrap=True)
