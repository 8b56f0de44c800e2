"""Is it lossless here? Checks that users run on their own models, with a stated error level."""

from foredraft.checks.report import Finding, Plan, Report
from foredraft.checks.run import check

__all__ = ["Finding", "Plan", "Report", "check"]
