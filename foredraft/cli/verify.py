"""`foredraft verify`: the checks of `foredraft.checks` on a pair of models, as a report or as JSON.

Exit code 0: everything passed. 1: a check failed, or could not tell. 130: interrupted, and nothing
had failed so far.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from foredraft.checks import Finding, Plan, Report, check
from foredraft.checks.report import LOSSLESS, METHODS
from foredraft.checks.statistics import POWER
from foredraft.cli.arguments import add_model_flags
from foredraft.cli.loading import load_engine
from foredraft.cli.output import complain, say_json
from foredraft.cli.parser import Number
from foredraft.cli.view import View
from foredraft.errors import VocabularyMismatch
from foredraft.escape import for_line
from foredraft.loading.loader import BUNDLED
from foredraft.ranges import hints_of
from foredraft.translation import translation_between

MARKS = {True: ("ok", "green"), False: ("FAIL", "bold red"), None: ("?", "yellow")}
DEFAULT = Plan()
METHODS_WITHOUT_MODEL = ("ngram",)
METHODS_BY_TRANSLATION = ("retokenized", "intersection", "egag", "ngram")
AS_GIVEN = ("samples", "level", "sampler", "gamma", "length", "seed")  # flags of a plan


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `foredraft verify`."""
    add_model_flags(parser)
    group = parser.add_argument_group("checks")
    add = group.add_argument
    usual = "a method; may be repeated [those that suit the pair]"
    add("--method", action="append", choices=tuple(METHODS), help=usual)
    rules = ", ".join(LOSSLESS)
    add("--verifier", action="append", metavar="SPEC", help=f"a rule; may be repeated [{rules}]")
    number = {name: Number(hint) for name, hint in hints_of(Plan).items()}
    shown = "generations a method and verifier [%(default)s]"
    add("--samples", type=number["samples"], metavar="N", help=shown)
    add("--level", type=number["level"], metavar="P", help="chance of a false alarm [%(default)s]")
    add("--sampler", metavar="SPEC", help="sampler to test [%(default)s]")
    add("--gamma", type=number["gamma"], metavar="V", help="draft length in sampling [%(default)s]")
    shown = "tokens of a greedy generation [%(default)s]"
    add("--length", type=number["length"], metavar="V", help=shown)
    add("--seed", type=number["seed"], metavar="V", help="sample i has seed + i [%(default)s]")
    shown = "a prompt; may be repeated [eight short ones, four of them for sampling]"
    add("--prompt", action="append", metavar="TEXT", help=shown)
    add("--json", action="store_true", help="one JSON object instead of the report")
    add("--mutant", help=argparse.SUPPRESS)  # a verifier with a known mistake, to see it caught
    parser.set_defaults(run=_verify, **{name: getattr(DEFAULT, name) for name in AS_GIVEN})


def _verify(args: argparse.Namespace) -> None:
    plan = Plan(
        methods=tuple(dict.fromkeys(args.method or DEFAULT.methods)),
        verifiers=tuple(dict.fromkeys(args.verifier or DEFAULT.verifiers)),
        prompts=tuple(args.prompt or ()),
        mutant=args.mutant,
        **{name: getattr(args, name) for name in AS_GIVEN},
    )
    report = _report(args, plan)
    with suppress(BrokenPipeError):  # the reader has left; the verdict stands
        if args.json:
            say_json(report.to_dict())
        else:
            print_report(report, View())
    if not report.passed:
        raise SystemExit(130 if report.interrupted and not report.failed else 1)


def _report(args: argparse.Namespace, plan: Plan) -> Report:
    try:
        engine = load_engine(args, is_drafter_needed=plan.needs_drafter)
    # Of an encoder–decoder: a finding like any other, and the end of all others.
    except VocabularyMismatch as error:
        finding = Finding("vocabulary", "both models", False, str(error))
        return Report(args.target, args.drafter or BUNDLED, plan, (finding,))
    except KeyboardInterrupt:
        return Report(args.target, args.drafter or BUNDLED, plan, (), interrupted=True)
    if engine.drafter is None and not args.method:  # none was wanted, or the default does not fit
        plan = replace(plan, methods=METHODS_WITHOUT_MODEL)
    if engine.drafter is not None and not args.method:
        tokenizers = engine.target.tokenizer, engine.drafter.tokenizer
        if translation_between(*tokenizers) is not None:
            plan = replace(plan, methods=METHODS_BY_TRANSLATION)
    with progress_shown() as show:
        return check(engine, plan, show)


@contextmanager
def progress_shown() -> Iterator[Callable[[str, int, int], None]]:
    """Show progress on standard error: a bar on a terminal, else a line for each new matter."""
    if not sys.stderr.isatty():
        last = [""]

        def line(what: str, done: int, total: int) -> None:
            if what != last[0]:
                complain(f"checking {what}")
                last[0] = what

        yield line
        return
    told = TextColumn("{task.description}", markup=False)  # a spec string has brackets
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), told)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")

        def update(what: str, done: int, total: int) -> None:
            bar.update(task, description=for_line(what), completed=done, total=total)

        yield update


def print_report(report: Report, view: View) -> None:
    """Print the findings, what they can and cannot exclude, and the verdict."""
    plan = report.plan
    view.line(f"target {report.target}, drafter {report.drafter or 'none'}")
    width = max((len(finding.subject) for finding in report.findings), default=0) + 2
    for finding in report.findings:
        mark, style = MARKS[finding.passed]
        line = f"{mark:<5}{finding.check:<15}{finding.subject:<{width}}{finding.sentence}"
        view.line(line, style="" if finding.passed else style)
    smallest = report.detectable_total_variation
    if smallest is not None:
        view.line(
            f"\ndistribution tests: {len(report.tests)}, sampler {plan.sampler}, "
            f"gamma {plan.gamma}, chance of any false alarm {plan.level:g}"
        )
        view.line(
            f"smallest detectable total variation {smallest:.3f}: a bias of that size between the "
            f"cells of a test (groups of texts) would have been found with probability {POWER:g}"
        )
    if report.interrupted:
        view.line("\ninterrupted: what is missing above was not checked", style="yellow")
    if report.failed:
        view.line("FAILED", style="bold red")
    elif report.passed:
        view.line("passed", style="green")
    elif not report.interrupted:
        view.line("undecided: see the lines marked ?", style="yellow")
