"""Encoder–decoder models: our methods and transformers' `generate`, with and without its assistant.

Two hundred French sentences written for this project (`sentences.txt`; the corpora hold none of
them) are translated greedily with the same weights by every method. How it is measured: see
`side_by_side.py`. transformers drafts with its own defaults, ours with those below.

    uv run python benchmarks/seq2seq.py [--limit 20] [--rounds 1] [--length 40] [--device cpu]
"""

from __future__ import annotations

from pathlib import Path

from side_by_side import CONFIG, PEER, WITH_A_MODEL, Run, measure, our_run, peer_run, report
from tables import parser_of

from foredraft import Engine, ForedraftError, LoadOptions
from foredraft.bench.prompt_sets import FRENCH, PromptItem
from foredraft.files import read_lines
from foredraft.threads import fit_threads

SENTENCES = read_lines(Path(__file__).parent / "sentences.txt")
OURS = {
    **WITH_A_MODEL,
    # What the encoder reads is counted as well; only what is known is drafted.
    "ngram_over_the_input": ("ngram", CONFIG.replace(stop_if_unknown=True)),
}


def runs_of(engine: Engine, theirs: Engine) -> dict[str, Run]:
    """Return every method by its name; `theirs` is the pair in transformers' runtime."""
    ours = {name: our_run(engine, *told) for name, told in OURS.items()}
    assistant = theirs.drafter.model.model
    return ours | {
        PEER: peer_run(theirs.target),
        "transformers_assisted": peer_run(theirs.target, assistant=assistant),
    }


def main() -> None:
    """Measure and print a table, then one JSON line."""
    parser = parser_of(__doc__)
    parser.add_argument("--limit", type=int, default=len(SENTENCES), help="sentences [all 200]")
    parser.add_argument("--rounds", type=int, default=1, help="passes over the sentences [1]")
    parser.add_argument("--length", type=int, default=40, help="most tokens a sentence [40]")
    parser.add_argument("--target", default="bundled-seq2seq", help="name or folder [%(default)s]")
    parser.add_argument("--drafter", default="bundled", help="name or folder [the target's]")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="file for the JSON, for example seq2seq.json")
    args = parser.parse_args()
    if not 2 <= args.limit <= len(SENTENCES):
        parser.error(f"--limit must be 2 … {len(SENTENCES)}, not {args.limit}")

    try:
        options = [LoadOptions(device=args.device, runtime=r) for r in ("auto", "transformers")]
        engine, theirs = (Engine.load(args.target, args.drafter, options=o) for o in options)
        fit_threads(engine.target.threads)
    except ForedraftError as error:
        parser.error(str(error))
    items = [
        PromptItem(f"{FRENCH}-{number:03}", FRENCH, sentence, args.length)
        for number, sentence in enumerate(SENTENCES[: args.limit], start=1)
    ]
    measured = measure(runs_of(engine, theirs), items, args.rounds)
    report(measured, engine, args.out, rounds=args.rounds, length=args.length)


if __name__ == "__main__":
    main()
