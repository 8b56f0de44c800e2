"""The table of how quick the runtime must be on a real model, each bound beside its measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from contest import LLAMACPP, OPENVINO, Contest, rotated
from peers import of_kind
from real_ours import NASD, PASS_CONTEXT, PLAIN, SUFFIX
from side_by_side import Measured, median_of, ratio
from worker import Worker

from foredraft.bench.machine import flags
from foredraft.bench.prompt_sets import PromptItem

TAKING_PART = (PLAIN, NASD, SUFFIX, LLAMACPP, OPENVINO, f"{OPENVINO}_lookup")
COPIED = ("copying", "code")  # kinds of prompts whose answers repeat what they read
PROMPT_TOKENS = 256
WIDE = ("avx512_vnni", "amx_bf16")  # with one of them a pass over five tokens costs less
Figure = dict[str, float | None]


@dataclass(frozen=True)
class Bound:
    """A figure that is wanted, and what it was here."""

    what: str
    limit: float
    found: Figure | None  # median with its interval; None: it could not be measured
    is_least: bool = True  # whether more is better
    note: str = ""

    @property
    def verdict(self) -> str:
        """Whether the median keeps the bound."""
        if self.found is None or self.found["median"] is None:
            return "not measured"
        value = self.found["median"]
        is_met = value >= self.limit if self.is_least else value <= self.limit
        return "met" if is_met else "missed"

    def row(self) -> dict[str, Any]:
        """Return a row of the table."""
        return {
            "what": self.what,
            "bound": f"{'≥' if self.is_least else '≤'} {self.limit}",
            "measured": self.found,
            "verdict": self.verdict,
            "how": self.note,
        }


def bounds(contest: Contest, measured: Measured, repeats: int) -> list[Bound]:
    """Return every bound; what was measured holds greedy texts of all that take part."""
    processor_wide = any(flag in flags().split() for flag in WIDE)
    passes = contest.workers[PLAIN].ask({"question": "passes", "counts": [1, 5], "repeats": 21})
    return [
        _against(measured, LLAMACPP, "plain decoding ÷ llama.cpp, same file"),
        _against(measured, OPENVINO, "plain decoding ÷ OpenVINO GenAI, same file"),
        Bound(
            "pass over 5 tokens ÷ pass over 1",
            1.4 if processor_wide else 2.0,
            five_to_one(passes["seconds"]),
            is_least=False,
            note=f"21 of each in turns, {PASS_CONTEXT} tokens before",
        ),
        reading(contest, measured.prompts, repeats),
        *speculation(measured),
        bundled(contest),
        start_up(contest, measured.prompts[0], repeats),
    ]


def _against(measured: Measured, theirs: str, what: str) -> Bound:
    """Return the bound of plain decoding, prompts and first tokens left out."""
    if theirs not in measured.samples:
        return Bound(what, 2.5, None, note="it is left out")
    found = ratio(measured, PLAIN, theirs, decode=True)
    return Bound(what, 2.5, found, note="decoding alone, all kinds")


def five_to_one(seconds: dict[str, list[float]]) -> Figure:
    """Return the ratio of the times of passes, turn by turn."""
    pairs = zip(seconds["5"], seconds["1"], strict=True)
    found = [five / one for five, one in pairs]
    return median_of(found, len(found))


def reading(contest: Contest, items: Sequence[PromptItem], repeats: int) -> Bound:
    """Return the bound of reading a prompt: the time to its first token."""
    what = f"reading a prompt of {PROMPT_TOKENS} tokens ÷ llama.cpp"
    if LLAMACPP not in contest.workers:
        return Bound(what, 2.0, None, note="it is left out")
    longest = max(items, key=lambda item: len(item.prompt))
    ratios, counts = [], set()
    for turn in range(repeats):
        text = cut(contest, longest)
        found = {name: contest.ask(name, text, 1) for name in rotated((PLAIN, LLAMACPP), turn)}
        ratios.append(found[LLAMACPP]["first_seconds"] / found[PLAIN]["first_seconds"])
        counts |= {answer["prompt_tokens"] for answer in found.values()}
    told = " or ".join(map(str, sorted(counts)))
    return Bound(what, 2.0, median_of(ratios, repeats), note=f"{told} tokens, {repeats} times")


def cut(contest: Contest, item: PromptItem) -> str:
    """Return the beginning of a rendered prompt, repeated if it is too short."""
    tokenizer = contest.tokenizer
    text = contest.text(item)
    tokens = tokenizer(text + text * (PROMPT_TOKENS // len(text.split())))["input_ids"]
    return str(tokenizer.decode(tokens[:PROMPT_TOKENS]))


def speculation(measured: Measured) -> list[Bound]:
    """Return the bounds of copying, with n-grams or suffixes, whichever is quicker."""
    both = of_kind(measured, *COPIED)
    gains = {name: ratio(both, name, PLAIN, decode=True)["median"] for name in (NASD, SUFFIX)}
    best = max(gains, key=lambda name: gains[name] or 0.0)
    lookup = f"{OPENVINO}_lookup"
    theirs = ratio(both, best, lookup, decode=True) if lookup in measured.samples else None
    whole = ratio(both, best, PLAIN)["median"]
    note = f"{best}, decoding alone (÷ plain, whole generations: {whole:.2f})"
    return [
        Bound(
            "n-gram or suffix speculation ÷ plain, copying and code",
            1.7,
            ratio(both, best, PLAIN, decode=True),
            note=note,
        ),
        Bound(
            "the same ÷ OpenVINO's prompt lookup",
            2.0,
            theirs,
            note=note if theirs else "it is left out",
        ),
    ]


def bundled(contest: Contest) -> Bound:
    """Return the bound of the bundled target without matrix tiles, in a process of its own."""
    worker = contest.start(PLAIN, model="bundled", without_tiles=True)
    try:
        found = worker.ask({"question": "passes", "counts": [1, 5], "repeats": 101})
    finally:
        worker.close()
    return Bound(
        "bundled target in float32, no matrix tiles: pass over 5 ÷ pass over 1",
        1.8,
        five_to_one(found["seconds"]),
        is_least=False,
        note="101 of each in turns",
    )


def start_up(contest: Contest, item: PromptItem, repeats: int) -> Bound:
    """Return the bound of a start: a new process each time, everything imported beforehand."""
    modules = contest.workers[PLAIN].ask({"question": "modules"})["modules"]
    seconds = []
    for _ in range(repeats):
        worker: Worker = contest.start(PLAIN, imports=modules)
        request = {"prompt": contest.text(item), "length": 1, "sampler": "greedy"}
        found = worker.ask(request | {"seed": 0, "draft": 0})
        worker.close()
        seconds.append(worker.started["load_seconds"] + found["first_seconds"])
    return Bound(
        "from the command to the first token, imports apart, seconds",
        1.5,
        median_of(seconds, repeats),
        is_least=False,
        note=f"loading and first token, {repeats} new processes",
    )
