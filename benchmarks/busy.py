"""Plain decoding beside programs that never rest: `uv run python benchmarks/busy.py`.

As many busy loops as this process may use processors, at the same priority. Quiet and busy take
turns; what is printed are medians of tokens a second.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from foredraft import Engine
from foredraft.bench.machine import processor
from foredraft.models import Network
from foredraft.threads import usable_threads

PROMPT, LEAST_SHARE = 40, 0.3
LOOP = "while True: pass"


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Have so many processes run that do nothing, as fast as they can."""
    running = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(count)]
    try:
        time.sleep(0.5)
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


def tokens_per_second(model: Network, seconds: float) -> float:
    """Return how quickly a network continues a text, by its likeliest tokens."""
    prompt = [5 + i for i in range(PROMPT)]
    text = model.open(prompt)
    logits, count = text.extend(prompt), 0
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        if text.length == PROMPT + 200:
            text.rollback_to(PROMPT)
        logits = text.extend([int(logits[-1].argmax())])
        count += 1
    return count / (time.perf_counter() - begin)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="bundled", help="a model (default: bundled)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a measurement (default: 3)")
    parser.add_argument("--rounds", type=int, default=5, help="of quiet and busy (default: 5)")
    args = parser.parse_args()
    model = Engine.load(args.target, None).target.model
    loops = usable_threads()
    torch.set_num_threads(loops)
    tokens_per_second(model, args.seconds)
    print(f"{args.target} on {processor()}, {loops} threads")
    found: dict[str, list[float]] = {"quiet": [], "busy": []}
    for _ in range(args.rounds):
        found["quiet"].append(tokens_per_second(model, args.seconds))
        with busy_loops(loops):
            found["busy"].append(tokens_per_second(model, args.seconds))
        print(*(f"{name} {rates[-1]:.0f} tokens/s" for name, rates in found.items()), flush=True)
    quiet, busy = (statistics.median(rates) for rates in found.values())
    print(f"beside {loops} busy loops {busy:.0f} of {quiet:.0f} tokens/s: {busy / quiet:.2f}")
    print(f"wanted: at least {LEAST_SHARE}; {'met' if busy >= LEAST_SHARE * quiet else 'missed'}")


if __name__ == "__main__":
    main()
