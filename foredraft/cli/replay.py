"""`foredraft replay`: what drafters and policies would have kept of recorded outputs."""

from __future__ import annotations

import argparse
from pathlib import Path

from foredraft.bench.recordings import read_recordings
from foredraft.bench.replay import RecordedModel, Replay, Replayed
from foredraft.bench.served import LLAMA_CPP, VLLM, Served, added, hold_tokens, read_served
from foredraft.bench.timed import Cost, CostTable
from foredraft.cli.arguments import add_import_flag
from foredraft.cli.output import say_json
from foredraft.cli.parser import Number
from foredraft.cli.view import View
from foredraft.loading import LoadedModel, LoadOptions, load, load_drafter
from foredraft.loading.loader import (
    BUNDLED,
    NO_DRAFTER,
    has_encoder,
    load_tokenizer,
    silence_transformers,
)
from foredraft.models import Seq2SeqModel
from foredraft.ranges import DraftLength
from foredraft.tracing.render import percent, rate
from foredraft.translation import translation_between

WITHOUT_MODEL = ("prompt_lookup", "suffix", "ngram")
WITH_MODEL = ("model", "hybrid(suffix, model)")
LIMITS = {  # what sums cannot tell
    VLLM: (
        "Steps without a draft are not in vLLM's numbers, so that all its tokens a pass are fewer.",
        "Fixed lengths are of its own drafter, at the costs given; where lengths varied, long "
        "drafts came where it was sure.",
        "Sums hold no token: for other drafters and policies record with return_token_ids.",
    ),
    LLAMA_CPP: (
        "llama.cpp tells no positions, so that no other length can be worked out from this.",
        "Sums hold no token: for other drafters and policies record with return_tokens.",
    ),
}
POLICIES = ("fixed(gamma=2)", "fixed(gamma=4)", "fixed(gamma=8)", "heuristic", "cost_aware")
HEADER = ("drafter", "policy", "steps", "kept/drafted", "tokens/step", "tokens/T_v", "regret")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `foredraft replay`."""
    add, costs = parser.add_argument, CostTable()
    shown = "JSON lines: a run (/save, generate --json), prompt and response, answers of vLLM or "
    add("file", help=f"{shown}llama.cpp with their metrics")
    add("--target", default=BUNDLED, help="whose tokenizer it is; not run [%(default)s]")
    add("--drafter", default=NO_DRAFTER, help="draft model, as for generate, or none [%(default)s]")
    usual = ", ".join([*WITHOUT_MODEL, *WITH_MODEL])
    add("--drafting", action="append", metavar="SPEC", help=f"a drafter; may be repeated [{usual}]")
    policies = ", ".join(POLICIES)
    add(
        "--policy",
        action="append",
        metavar="SPEC",
        help=f"a length rule; may be repeated [{policies}]",
    )
    usual = "for policies without one [%(default)s]"
    add("--gamma", type=Number(DraftLength), default=4, metavar="V", help=usual)
    cost, shown = Number(Cost), "a draft call, in target passes [%(default)s]"
    add("--draft-cost", type=cost, metavar="C", help=shown)
    shown = "a token to verify, likewise [%(default)s]"
    add("--token-cost", type=cost, metavar="C", help=shown)
    add("--no-first-target", action="store_true", help="the recorded run began with a draft")
    add("--json", action="store_true", help="one JSON object a drafter and policy")
    add_import_flag(parser)
    parser.set_defaults(run=_replay, draft_cost=costs.draft, token_cost=costs.verify_token)


def _replay(args: argparse.Namespace) -> None:
    silence_transformers()
    file, costs = Path(args.file).expanduser(), CostTable(args.draft_cost, 1.0, args.token_cost)
    served = read_served(file)
    if served:
        _tell_served(added(served), costs, as_json=args.json)
        if not hold_tokens(file):
            return
    target = _target(args.target)
    begin = target.model.start_tokens if isinstance(target.model, Seq2SeqModel) else None
    recordings = read_recordings(file, target.tokenizer, begin=begin)
    draft_model = translation = None
    if args.drafter != NO_DRAFTER:
        drafter = load_drafter(args.drafter, target, LoadOptions())
        draft_model = drafter.model
        translation = translation_between(target.tokenizer, drafter.tokenizer)
    replay = Replay(
        recordings,
        costs=costs,
        draft_model=draft_model,
        translation=translation,
        first_target=not args.no_first_target,
    )
    usual = [*WITHOUT_MODEL, *(WITH_MODEL if draft_model else ())]
    found = [
        one
        for drafting in args.drafting or usual
        for one in replay.run(drafting, args.policy or POLICIES, gamma=args.gamma)
    ]
    if args.json:
        for one in found:
            say_json(one.to_dict())
    else:
        _print_table(found, View())


def _tell_served(one: Served, costs: CostTable, *, as_json: bool) -> None:
    """Print what another engine says of its drafts, and what follows from sums."""
    lengths = one.lengths(costs)
    if as_json:
        told = [{"gamma": g, "tokens_per_step": n, "tokens_per_second": s} for g, n, s in lengths]
        say_json(one.to_dict() | {"fixed_lengths": told[1:] and told})
        return
    view = View()
    view.line(
        f"{one.engine}, {one.texts} texts: {one.num_accepted_tokens} of {one.num_drafted_tokens} "
        f"draft tokens kept ({percent(one.acceptance_rate)}), {one.num_emitted_tokens} tokens in "
        f"{one.num_steps} steps ({rate(one.mean_acceptance_length)} a step)"
    )
    if one.seconds:
        view.line(f"{one.num_emitted_tokens / one.seconds:.1f} tokens/s while decoding")
    if len(lengths) > 1:
        best = max(lengths, key=lambda row: row[2])
        rows = [(str(g), f"{n:.2f}", f"{s:.3f}", "best" * (g == best[0])) for g, n, s in lengths]
        view.columns([("gamma", "tokens/step", "tokens/T_v", ""), *rows])
    for sentence in LIMITS[one.engine]:
        view.line(sentence)


def _target(name: str) -> LoadedModel:
    """Return what stands for the target; an encoder–decoder itself: a drafter may share parts."""
    if has_encoder(name):
        return load(name, "target", LoadOptions())
    tokenizer = load_tokenizer(name)
    return LoadedModel(name, RecordedModel(len(tokenizer)), tokenizer, ())


def _print_table(found: list[Replayed], view: View) -> None:
    rows = [
        (
            *(one.drafting, one.policy, str(r["num_steps"])),
            f"{r['num_accepted_tokens']}/{r['num_drafted_tokens']}",
            f"{r['mean_acceptance_length']:.2f}",
            f"{one.tokens_per_second:.3f}",
            f"{100 * one.regret:.1f}%",
        )
        for one, r in ((one, one.to_dict()) for one in found)
    ]
    view.columns([HEADER, *rows])
