"""Is it lossless here? Checks that users run on their own models, with a stated error level."""

from specdec.checks.report import Finding, Plan, Report
from specdec.checks.run import check

__all__ = ["Finding", "Plan", "Report", "check"]
