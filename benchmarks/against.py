"""This checkout beside an older commit: start-up, plain decoding, speculation and NASD.

Both sides run the bundled pair in processes of their own that take turns (A B B A …) on the same
prompts, greedily, so that a machine whose speed drifts treats both alike. Every ratio is new / old
in speed, so that above 1 this checkout is faster: the median over prompts (of start-up: over
starts) with its bootstrap 95 % interval. Every round has new processes; the older commit lies in a
temporary git worktree.

    uv run python benchmarks/against.py COMMIT [--prompts 4] [--rounds 4] [--at-least 0.97] [--json]
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import tables
from side_by_side import median_of
from worker import Answer, Worker

from foredraft.bench.machine import describe_machine, place
from foredraft.bench.prompt_sets import PromptItem, load_prompts

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).with_name("against_worker.py")
NEW, OLD = "new", "old"
METHODS: dict[str, tuple[str, dict[str, Any]]] = {  # name → method, settings
    "target_ar": ("target", {}),
    "speculative, gamma 4": ("speculative", {"gamma": 4}),
    "nasd": ("ngram", {}),
}
START_UP = ("start-up, wall", "start-up, processor")  # until the models are loaded


class Side(Protocol):
    """Whoever generates with one side's code."""

    def ask(self, request: dict[str, Any]) -> Answer:
        """Return `tokens` and the `seconds` they took."""


def started(checkout: Path) -> Worker:
    """Return a process with the code of a checkout, its models loaded."""
    command = [sys.executable, str(WORKER), str(checkout)]
    return Worker(command, {"PYTHONPATH": str(checkout)})


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """Check a commit out in a temporary folder, which is gone afterwards, whatever happens."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        place = Path(folder) / "old"
        try:
            git("worktree", "add", "--detach", str(place), commit)
            yield place
        finally:
            subprocess.run(
                ["git", "-C", str(ROOT), "worktree", "remove", "--force", str(place)],
                capture_output=True,
                check=False,  # there is none where adding it failed
            )


def git(*words: str) -> str:
    """Return what git says of this checkout."""
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@dataclass
class Pairs:
    """Figures of both sides, turn by turn."""

    # by side; of a start-up: starts a second
    speeds: dict[str, list[float]] = field(default_factory=lambda: {NEW: [], OLD: []})
    # whether both sides wrote the same tokens; nothing of a start-up
    same: list[bool] = field(default_factory=list)

    def row(self, name: str, num_prompts: int) -> dict[str, Any]:
        """Return the medians of both sides and of their ratio."""
        pairs = zip(self.speeds[NEW], self.speeds[OLD], strict=True)
        return {
            "measure": name,
            **{f"{side}_per_second": median(speeds) for side, speeds in self.speeds.items()},
            "ratio": median_of([new / old for new, old in pairs], num_prompts),
            "texts": len(self.same),
            "same_texts": sum(self.same),
        }


def in_turn(turn: int) -> tuple[str, str]:
    """Return who is first and who second: A B, then B A."""
    return (NEW, OLD) if turn % 2 == 0 else (OLD, NEW)


def starts(checkouts: dict[str, Path], count: int, say: Callable[[str], None]) -> list[Any]:
    """Start each side some times, after one start that fills caches; return two rows."""
    found = {name: Pairs() for name in START_UP}
    for turn in range(-1, count):
        for side in in_turn(turn):
            say(f"start-up {turn + 1}/{count}: {side}")
            worker = started(checkouts[side])
            worker.close()
            if turn >= 0:
                for name, key in zip(START_UP, ("seconds", "processor_seconds"), strict=True):
                    found[name].speeds[side].append(1 / worker.started[key])
    return [pairs.row(name, count) for name, pairs in found.items()]


def generations(
    rounds: Iterable[dict[str, Side]], items: Sequence[PromptItem], say: Callable[[str], None]
) -> list[Any]:
    """Run every method on every prompt on both sides of each round; return a row a method."""
    found = {name: Pairs() for name in METHODS}
    turn = 0
    for number, sides in enumerate(rounds, start=1):
        for count, item in enumerate([items[0], *items]):
            say(f"round {number}: " + (f"prompt {count}/{len(items)}" if count else "warm-up"))
            for name, (method, settings) in METHODS.items():
                told = {"method": method, "prompt": item.prompt}
                told["settings"] = settings | {"length": item.length}
                done = {side: sides[side].ask(told) for side in in_turn(turn)}
                turn += 1
                if count:
                    for side, answer in done.items():
                        speed = len(answer["tokens"]) / answer["seconds"]
                        found[name].speeds[side].append(speed)
                    found[name].same.append(done[NEW]["tokens"] == done[OLD]["tokens"])
    return [pairs.row(name, len(items)) for name, pairs in found.items()]


def workers(checkouts: dict[str, Path], count: int) -> Iterator[dict[str, Worker]]:
    """Yield pairs of new processes: how quick one is depends on where its memory happens to lie."""
    for turn in range(count):
        with ExitStack() as stack:
            yield {
                side: stack.enter_context(closing(started(checkouts[side])))
                for side in in_turn(turn)
            }


def compare(old: Path, args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure both sides; return all figures."""
    checkouts = {NEW: ROOT, OLD: old}
    items = load_prompts(max_prompts=args.prompts, max_length=args.length)
    rows = starts(checkouts, args.starts, say)
    unknown: dict[str, bool] = {}

    def rounds() -> Iterator[dict[str, Side]]:
        for pair in workers(checkouts, args.rounds):
            unknown.update({side: one.started["stop_if_unknown"] for side, one in pair.items()})
            yield dict(pair)

    rows += generations(rounds(), items, say)
    return {
        "machine": describe_machine(),
        "setting": {"prompts": len(items), "rounds": args.rounds, "length": args.length},
        "against": args.commit,
        "stop_if_unknown": unknown,  # NASD has each side's own default
        "rows": rows,
    }


def too_slow(rows: Sequence[dict[str, Any]], least: float) -> list[str]:
    """Return what is slower than allowed beyond doubt: the whole interval lies below."""
    highs = {row["measure"]: row["ratio"]["high"] for row in rows}
    return [name for name, high in highs.items() if high is not None and high < least]


def rendered(found: dict[str, Any]) -> str:
    """Return the figures as a table, and what must be known to read it."""
    rows = [
        {
            **{key: row[key] for key in ("measure", "new_per_second", "old_per_second")},
            "new / old": tables.shown(row["ratio"], "{:.3f}"),
            "same text": f"{row['same_texts']}/{row['texts']}" if row["texts"] else "",
        }
        for row in found["rows"]
    ]
    unknown = found["stop_if_unknown"]
    notes = [
        f"Old: {found['against']}; new: {place(found)}. Tokens, or starts, a second.",
        "NASD drafts with each side's default at unknown contexts: stop_if_unknown is "
        f"{unknown[NEW]} here, {unknown[OLD]} there"
        + ("." if unknown[NEW] == unknown[OLD] else ", so that it is not the same method."),
    ]
    return "\n".join([tables.markdown(rows), "", *notes])


def parser_of() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = tables.parser_of(__doc__)
    add = parser.add_argument
    add("commit", help="the older side: a commit, branch or tag")
    add("--prompts", type=int, default=4, help="of each kind [%(default)s]")
    add("--length", type=int, default=60, help="most tokens a prompt [%(default)s]")
    add("--rounds", type=int, default=4, help="new processes, each with all prompts [%(default)s]")
    add("--starts", type=int, default=6, help="of each side; an interval needs six [%(default)s]")
    add("--at-least", type=float, metavar="RATIO", help="exit with 1 where surely slower, as 0.97")
    add("--json", action="store_true", help="print figures instead of a table")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and judge on request."""
    parser = parser_of()
    args = parser.parse_args(arguments)
    tables.check_least(parser, args, prompts=1, length=1, rounds=1, starts=1)
    try:
        args.commit = git("rev-parse", "--short", "--verify", f"{args.commit}^{{commit}}")
    except subprocess.CalledProcessError:
        parser.error(f"git knows no commit {args.commit!r}")
    with worktree(args.commit) as old:
        found = compare(old, args, lambda line: print(line, file=sys.stderr, flush=True))
    print(json.dumps(found) if args.json else rendered(found))
    slow = too_slow(found["rows"], args.at_least) if args.at_least else []
    if slow:
        print(f"slower than {args.at_least}: {', '.join(slow)}", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the worktree goes then, too
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
