"""Looks only: headings, streamed text, traces and tables, with and without colours."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from rich.console import Console
from rich.text import Text

from foredraft.cli.layout import columns, settings
from foredraft.conversation import Reading
from foredraft.core import Completion, FinishReason, StepRecord
from foredraft.decoding import Difference
from foredraft.engine import Engine
from foredraft.escape import for_line, for_terminal
from foredraft.files import Json
from foredraft.results import Result
from foredraft.tracing import Summary, print_step
from foredraft.tracing.render import percent, rate

HEADINGS = {
    "speculative": "Speculative",
    "ngram": "Ngram Assisted",
    "target": "Target AR",
    "drafter": "Drafter AR",
}
ECHO_LIMIT = 200  # characters of a piped line that are shown again


class View:
    """Prints to one stream, or standard output as it is at the time; in colours on a terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.console = Console(file=self.stream, highlight=False, soft_wrap=True, emoji=False)

    def line(self, text: str = "", style: str = "") -> None:
        """Print one line of plain text; what a terminal would obey is shown escaped."""
        self.console.print(Text(for_terminal(text), style=style))

    def error(self, message: object) -> None:
        """Print a refusal."""
        self.line(for_line(f"error: {message}"), style="red")

    def echo(self, line: str) -> None:
        """Show a line that was read from a pipe, so that a transcript can be followed."""
        shown = line[:ECHO_LIMIT]
        printable = "".join(c if for_terminal(c) == c else "\ufffd" for c in shown)
        self.line(f"> {printable}{' …' if len(line) > ECHO_LIMIT else ''}", style="dim")

    def heading(self, method: str) -> None:
        """Begin a method's section."""
        self.line(f"\n== {HEADINGS[method]} ==", style="bold")

    def text(self, piece: str) -> None:
        """Print text as it is generated, without a line end."""
        self.stream.write(for_terminal(piece))
        self.stream.flush()

    def step(self, number: int, record: StepRecord, engine: Engine) -> None:
        """Print one step of the trace."""
        print_step(number, record, engine.decode, self.console)

    def numbers(self, summary: Summary, undrafted: str = "", *, tells_free: bool = False) -> None:
        """End a method's section with its acceptance rate and speed, and why it drafted nothing.

        Args:
            summary: its statistics.
            undrafted: why it drafted nothing, if it did not.
            tells_free: whether to say how many tokens cost no pass.
        """
        parts = [f"{rate(summary.tokens_per_second)} tokens/s"]
        if summary.num_drafted_tokens:
            parts.insert(0, f"acceptance rate {percent(summary.acceptance_rate)}")
            parts.append(f"{summary.mean_acceptance_length:.2f} tokens/step")
            parts.append(f"mean gamma {summary.mean_gamma:.2f}")
        if summary.mean_normalized_entropy is not None:
            parts.append(f"mean H_norm {summary.mean_normalized_entropy:.3f}")
        if tells_free:
            parts.append(f"{percent(summary.free_token_share)} of the tokens without a pass")
        self.line(" · ".join([*parts, undrafted] if undrafted else parts), style="cyan")

    def logprobs(self, positions: Sequence[dict[str, Json]]) -> None:
        """Print the log-probabilities of each token, and of the likeliest ones beside it."""
        for one in positions:
            others = [f"{_spelt(other)} {_nats(other)}" for other in one["top"]]
            self.line(
                f"  {_spelt(one):<18} {_nats(one)}  {'  '.join(others)}".rstrip(), style="dim"
            )

    def turn(self, summary: Summary, drafting: str, reading: Reading, undrafted: str = "") -> None:
        """End an answer with its numbers, τ in tokens a pass of the target, and what was read."""
        steps = summary.mean_acceptance_length or 0.0
        parts = [
            f"{summary.num_emitted_tokens} tokens",
            f"{rate(summary.tokens_per_second)} tokens/s",
            f"τ {steps:.2f}",
            f"drafting: {drafting}",
            f"read {reading.num_read} of {reading.num_tokens} tokens",
        ]
        self.line(" · ".join([*parts, undrafted] if undrafted else parts), style="dim")

    def dropped(self, reading: Reading, positions: int) -> None:
        """Say which turns a full context has lost."""
        turns, tokens = reading.num_dropped_turns, reading.num_dropped_tokens
        oldest = f"the oldest {turns} turns were" if turns > 1 else "the oldest turn was"
        told = f"the context of {positions} tokens is full: {oldest} dropped ({tokens} tokens)"
        self.line(f"[{told}]", style="yellow")

    def cut(self, done: Completion, positions: int) -> None:
        """Say what has cut an answer off, if anything has."""
        if done.finish_reason is FinishReason.LENGTH:
            told = f"cut at {len(done.tokens)} tokens; /length N allows more"
            self.line(f"[{told}]", style="yellow")
        elif done.finish_reason is FinishReason.CONTEXT:
            told = f"cut, since the context of {positions} tokens is full"
            self.line(f"[{told}; the next turn drops the oldest ones]", style="yellow")
        else:
            self.unsatisfied(done)

    def unsatisfied(self, done: Completion) -> None:
        """Say that a text was cut off before it was what its structure wants, if it was."""
        if done.finish_reason is FinishReason.UNSATISFIED:
            told = f"cut at {len(done.tokens)} tokens, before the structure was complete"
            self.line(f"[{told}; a larger length allows more]", style="yellow")

    def numbered(self, number: int, text: str) -> None:
        """Print one of several texts under its number."""
        self.line(f"\n{number}:", style="bold")
        self.line(text)

    def total(self, results: Sequence[Result]) -> None:
        """Print what several texts took together."""
        tokens = sum(r.summary.num_emitted_tokens for r in results)
        seconds = sum(r.summary.total_seconds or 0.0 for r in results)
        speed = rate(tokens / seconds if seconds else None)
        counts = f"{len(results)} text{'s' * (len(results) > 1)} · {tokens} tokens"
        self.line(f"\n{counts} · {seconds:.2f} s · {speed} tokens/s", style="cyan")

    def ratios(self, results: Sequence[Result]) -> None:
        """Print each method's speed as a ratio to Target AR, and any greedy difference."""
        known = [r for r in results if r.speedup is not None]
        if len(known) > 1:
            words = [f"{HEADINGS[r.completion.method]} {r.speedup:.2f}x" for r in known]
            self.line(f"\nratio to Target AR: {' · '.join(words)}", style="cyan")
        for result in results:
            if isinstance(result.matches_baseline, Difference):
                self.line(_difference_sentence(result, result.matches_baseline), style="yellow")

    def statistics(self, results: Sequence[Result]) -> None:
        """Print every statistic of several results, a column each."""
        statistics = [{**r.summary.to_dict(), "speedup": r.speedup} for r in results]
        header = ("statistic", *(HEADINGS[r.completion.method] for r in results))
        body = [(name, *(_cell(column[name]) for column in statistics)) for name in statistics[0]]
        self.columns([header, *body], right=True)

    def columns(self, rows: Iterable[Sequence[str]], *, right: bool = False) -> None:
        """Print aligned columns, the first to the left, the others to the right if asked."""
        for line in columns([list(map(for_line, row)) for row in rows], right=right):
            self.line(line)

    def settings(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Print names, their values and what they mean."""
        for line in settings([(name, for_line(value), told) for name, value, told in rows]):
            self.line(line)

    def clear(self) -> None:
        """Clear the screen; does nothing in a pipe."""
        self.console.clear()


def _spelt(one: dict[str, Json]) -> str:
    return repr(one["text"])


def _nats(one: dict[str, Json]) -> str:
    """Return a log-probability, and what the controls made of it if they did anything."""
    raw, controlled = (
        "−∞" if value is None else f"{value:.3f}"
        for value in (one["logprob"], one["controlled_logprob"])
    )
    return raw if raw == controlled else f"{raw}→{controlled}"


def _difference_sentence(result: Result, difference: Difference) -> str:
    name, margin = HEADINGS[result.completion.method], difference.logit_margin
    if margin is None:
        how = "one output ends there"
    elif difference.is_near_tie:
        how = f"a near-tie of rounding: logit margin {margin:.2g}"
    else:
        how = f"logit margin {margin:.2g}, too much for rounding"
    return f"{name} differs from Target AR at token {difference.position} ({how})"


def _cell(value: object) -> str:
    if isinstance(value, list):
        return " ".join(f"{v:.2f}" for v in value) or "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value)
