"""Where the time of plain decoding goes, on this machine: a pass over one token, and over more.

Prints milliseconds a target pass by how many new tokens it reads, with and without the cache, and
the cost ratio c of the bundled pair. Medians; close other programs for quiet numbers.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter

from foredraft import Engine, Network

REPEATS, CONTEXT = 9, 200
LENGTHS = (1, 2, 4, 5, 8, 16, 32)  # tokens that a pass reads


def milliseconds(network: Network, held: int, new: int) -> float:
    """Return the median time of a pass over `new` tokens after `held` ones in the cache."""
    tokens = [5] * (held + new)
    context = network.open(tokens)
    if held:
        context.extend(tokens[:held])
    times = []
    for _ in range(REPEATS):
        begin = perf_counter()
        context.extend(tokens[held:], keep=new).sum().item()  # .item() waits for the device
        times.append(perf_counter() - begin)
        context.rollback_to(held)
    return 1000 * median(times)


def main() -> None:
    """Measure and print."""
    engine = Engine.load()
    assert engine.drafter is not None
    target, draft_model = engine.target.model, engine.drafter.model
    times = {new: milliseconds(target, CONTEXT, new) for new in LENGTHS}
    one = times[1]
    print(f"target, {CONTEXT} tokens in the cache:")
    for new, time in times.items():
        print(f"  {new:>3} new tokens {time:8.2f} ms   {time / one:5.2f} x the pass over one")
    whole = milliseconds(target, 0, CONTEXT + 1)
    print(f"without a cache, one token costs a pass over all: {whole:.2f} ms, {whole / one:.1f} x")
    small = milliseconds(draft_model, CONTEXT, 1)
    print(f"draft model, 1 new token: {small:.2f} ms; cost ratio c = {small / one:.2f}")


if __name__ == "__main__":
    main()
