"""All checks in order, the quick ones first; an interrupt ends them and keeps what was found."""

from __future__ import annotations

from collections.abc import Iterator

from foredraft.checks.distribution import check_distribution
from foredraft.checks.parity import check_caches, check_greedy, check_vocabularies
from foredraft.checks.report import Finding, Plan, Progress, Report
from foredraft.engine import Engine
from foredraft.errors import ConfigError, ContextOverflow, ModelError

CHECKS = {  # name in the findings → check
    "vocabulary": check_vocabularies,
    "cache parity": check_caches,
    "greedy parity": check_greedy,
    "distribution": check_distribution,
}


def check(
    engine: Engine, plan: Plan, progress: Progress = lambda what, done, total: None
) -> Report:
    """Check that speculation leaves the target's output alone; the current generation ends.

    Raises:
        ConfigError: the plan needs a draft model, and the engine has none.
    """
    if plan.needs_drafter and engine.drafter is None:
        raise ConfigError(
            f"methods {', '.join(plan.methods)} need a draft model; load one, or check ngram alone"
        )
    findings: list[Finding] = []
    interrupted = False
    try:
        for name, part in CHECKS.items():
            for finding in _until_an_error(name, part(engine, plan, progress)):
                findings.append(finding)
            if any(finding.is_final for finding in findings):
                break  # what follows would fail for this reason only
    except KeyboardInterrupt:
        interrupted = True
    drafter = engine.drafter.name if engine.drafter else None
    return Report(engine.target.name, drafter, plan, tuple(findings), interrupted)


def _until_an_error(name: str, found: Iterator[Finding]) -> Iterator[Finding]:
    """Yield what a check finds; a model that cannot do what is asked of it is a finding too."""
    try:
        yield from found
    except ContextOverflow:  # the prompt's fault
        raise
    except ModelError as error:
        yield Finding(name, "the models", False, str(error), is_final=True)
