"""The server under load: many clients who come and go, and throughput by how many there are.

First 64 clients for five minutes, a fifth of whose requests are left half-way: nothing is lost, no
answer is a 5xx, memory stays flat, and every text with a seed is, to the byte, the one that a
single client got. Then the same tokens for 1, 2, 4 and 8 clients, with speculation and without.

    uv run --extra server python benchmarks/serve_load.py [--clients 64] [--minutes 5] [--save]
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from tables import RESULTS, keep, markdown

from foredraft.bench.load import Answered, ask, in_turns
from foredraft.bench.machine import describe_machine, place
from foredraft.bench.prompt_sets import load_prompts

SERVED = {"bundled": [], "smollm2": ["--drafter", "none"]}
CLIENTS = (1, 2, 4, 8)
PLAIN = {"speculative": False}
SAMPLERS: Sequence[dict[str, Any]] = (
    {"temperature": 0},
    {"temperature": 0.8, "top_p": 0.9},
    {"temperature": 1.0, "top_k": 40, "min_p": 0.02},
)
TEXTS = 45  # different requests of the stress test
GROWTH = 1.1  # of memory, from the first half minute of full load on, that counts as flat


@contextmanager
def server(target: str) -> Iterator[tuple[str, int]]:
    """Run a server; give its root and its process."""
    command = [sys.executable, "-m", "foredraft", "serve", "--port", "0", "--target", target]
    command += [*SERVED[target], "--max-queue", "256"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        found = re.search(r"http://\S+?(?=/ )", running.stdout.readline())
        assert found, "the server did not start"
        yield found[0], running.pid
    finally:
        running.terminate()
        running.wait(60)


def resident(pid: int) -> int:
    """Return the bytes of memory that a process has."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return 1024 * int(found[1]) if found else 0


@dataclass
class Stress:
    """What a stress test has found so far."""

    answered: Counter[str] = field(default_factory=Counter)
    differing: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, body: dict[str, Any], expected: str, found: Answered) -> None:
        """Count an answer."""
        with self.lock:
            if found.status == 429:
                self.answered["refused, the queue was full"] += 1
            elif found.error or found.status != 200:
                self.answered["failed"] += 1
                self.errors.append(f"{found.status} {found.error}"[:300])
            elif found.was_left:
                self.answered["left half-way"] += 1
                if not expected.startswith(found.text):
                    self.differing.append(body)
            elif found.reason is None:
                self.answered["lost"] += 1
            else:
                self.answered["whole"] += 1
                if found.text != expected:
                    self.differing.append(body)


def bodies(length: int) -> list[dict[str, Any]]:
    """Return requests whose texts are a function of themselves."""
    prompts = [item.prompt for item in load_prompts()]
    source = random.Random(0)
    return [
        {
            "prompt": prompts[i % len(prompts)],
            "max_tokens": source.randint(length // 4, length),
            "seed": i,
            **SAMPLERS[i % len(SAMPLERS)],
        }
        for i in range(TEXTS)
    ]


def stress(url: str, pid: int, clients: int, minutes: float, cancel: float, length: int) -> Stress:
    """Let clients ask, and leave, for some minutes."""
    every = bodies(length)
    alone = [ask(url, body).text for body in every]
    found, end = Stress(), time.monotonic() + 60 * minutes

    def client(number: int) -> None:
        source = random.Random(number)
        while time.monotonic() < end:
            which = source.randrange(len(every))
            leave = source.randint(1, 12) if source.random() < cancel else None
            answer = ask(url, every[which], leave=leave)
            found.add(every[which], alone[which], answer)
            if answer.status == 429:
                time.sleep(1)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(1)
        found.memory.append(resident(pid))
    return found


def throughput(url: str, target: str, requests: int, length: int) -> list[dict[str, Any]]:
    """Return tokens a second by how many clients share them, alternating what is compared."""
    prompts = [item.prompt for item in load_prompts()][:requests]
    rows = []
    for sampler in SAMPLERS[:2]:
        speeds: dict[tuple[bool, int], list[float]] = {}
        for round_ in range(3):
            for clients in CLIENTS:
                for speculative in (True, False):
                    body = {"max_tokens": length, **sampler} | ({} if speculative else PLAIN)
                    start = time.perf_counter()
                    done = in_turns(
                        lambda i, body=body: ask(url, body | {"prompt": prompts[i], "seed": i}),
                        len(prompts),
                        clients,
                    )
                    seconds = time.perf_counter() - start
                    tokens = sum(one.tokens for one in done)
                    if round_:  # the first one learns
                        speeds.setdefault((speculative, clients), []).append(tokens / seconds)
        for speculative in (True, False):
            by_clients = {c: max(speeds[speculative, c]) for c in CLIENTS}
            rows.append(
                {
                    "model": target,
                    "sampler": "greedy" if sampler["temperature"] == 0 else "nucleus",
                    "speculation": "on" if speculative else "off",
                    **{f"{c} clients": round(speed, 1) for c, speed in by_clients.items()},
                    "8 / 1": round(by_clients[8] / by_clients[1], 2),
                }
            )
    return rows


def growth(memory: Sequence[int]) -> float:
    """Return how much memory there is at the end, in shares of that after half a minute."""
    first, last = memory[len(memory) // 5 : len(memory) // 5 + 10], memory[-10:]
    return fmean(last) / fmean(first) if first and last else 1.0


def main() -> None:
    """Measure, print and, if asked for, keep."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--clients", type=int, default=64, help="of the stress test [64]")
    add("--minutes", type=float, default=5.0, help="that it takes; 0: none [5]")
    add("--cancel", type=float, default=0.2, help="share of requests that are left [0.2]")
    add("--targets", nargs="+", default=list(SERVED), choices=SERVED, help="[both]")
    add("--requests", type=int, default=24, help="of each measurement of throughput [24]")
    add("--save", action="store_true", help="write benchmarks/results/serve.*")
    args = parser.parse_args()
    machine = describe_machine()
    rows, told, failed = [], dict[str, Any](), False
    for target in args.targets:
        with server(target) as (url, pid):
            if args.minutes and target == args.targets[0]:
                found = stress(url, pid, args.clients, args.minutes, args.cancel, 96)
                told = {
                    "model": target,
                    "clients": args.clients,
                    "minutes": args.minutes,
                    **found.answered,
                    "texts that differ": len(found.differing),
                    "memory at the end / at the start": round(growth(found.memory), 3),
                    "megabytes": round(found.memory[-1] / 1e6),
                }
                print(*(f"{key}: {value}" for key, value in told.items()), sep="\n")
                print(*found.errors[:5], *found.differing[:5], sep="\n")
                failed = bool(found.differing or found.errors or found.answered["lost"])
                failed |= growth(found.memory) > GROWTH
            rows += throughput(url, target, args.requests, 64)
    print(markdown(rows))
    if args.save:
        page = "\n\n".join([place(machine), markdown([told]) if told else "", markdown(rows)])
        keep(RESULTS / "serve.json", {"machine": machine, "stress": told, "rows": rows}, page)
    if failed:
        sys.exit("a request was lost or failed, a text differed, or memory grew")


if __name__ == "__main__":
    main()
