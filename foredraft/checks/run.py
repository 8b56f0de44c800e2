"""All checks in order, the quick ones first; an interrupt ends them and keeps what was found."""

from __future__ import annotations

from foredraft.checks.distribution import check_distribution
from foredraft.checks.parity import check_caches, check_greedy, check_vocabularies
from foredraft.checks.report import Finding, Plan, Progress, Report
from foredraft.engine import Engine
from foredraft.errors import ConfigError

CHECKS = (check_vocabularies, check_caches, check_greedy, check_distribution)


def check(
    engine: Engine, plan: Plan, progress: Progress = lambda what, done, total: None
) -> Report:
    """Check that speculation leaves the target's output alone.

    Args:
        engine: the pair of models; its current generation ends.
        plan: what to check.
        progress: called often with what is being done, how much of it is done, and its total.

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
        for part in CHECKS:
            for finding in part(engine, plan, progress):
                findings.append(finding)
            if part is check_vocabularies and not findings[-1].passed:
                break  # what follows would fail for this reason only
    except KeyboardInterrupt:
        interrupted = True
    drafter = engine.drafter.name if engine.drafter else None
    return Report(engine.target.name, drafter, plan, tuple(findings), interrupted)
