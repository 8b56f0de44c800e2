"""Tokens per second of our methods and of transformers' own `generate`, on the same weights.

How it is measured: see `side_by_side.py`. Greedy; every text is compared with Target AR's.

    uv run python benchmarks/quick.py [--prompts 5] [--rounds 3] [--device cpu] [--out FILE]
"""

from __future__ import annotations

from pathlib import Path

from side_by_side import CONFIG, PEER, WITH_A_MODEL, measure, our_run, peer_run, report
from tables import parser_of

from foredraft import Engine, LoadOptions
from foredraft.bench.prompt_sets import load_prompts
from foredraft.loading import load
from foredraft.threads import fit_threads

NASD = CONFIG.replace(ngramstorage="basic", ngram_order=3, top_k_filler=3)
OURS = {**WITH_A_MODEL, "nasd_basic_3_filler_3": ("ngram", NASD)}


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table, then one JSON line."""
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--prompts", type=int, default=5, help="of each kind [5]")
    add("--rounds", type=int, default=3, help="passes over the prompts [3]")
    add("--length", type=int, default=60, help="most tokens a prompt [60]")
    add("--device", default="auto")
    add("--out", type=Path, help="file for the JSON, for example quick.json")
    args = parser.parse_args(arguments)

    engine = Engine.load(options=LoadOptions(device=args.device))
    fit_threads(engine.target.threads)
    theirs = load("bundled", "target", LoadOptions(device=args.device, runtime="transformers"))
    runs = {name: our_run(engine, *told) for name, told in OURS.items()} | {PEER: peer_run(theirs)}
    items = load_prompts(max_prompts=args.prompts, max_length=args.length)
    measured = measure(runs, items, args.rounds)
    report(measured, engine, args.out, rounds=args.rounds, length=args.length)


if __name__ == "__main__":
    main()
