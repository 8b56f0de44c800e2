"""Shared fixtures: tiny models with no weights to fetch, and a switched-off network."""

from __future__ import annotations

import os

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what tests of deliberate mistakes have caught, also under -q."""
    passed = terminalreporter.stats.get("passed", [])
    caught = [v for report in passed for k, v in report.user_properties if k == "mutant caught"]
    if caught:
        terminalreporter.section(f"mutants caught: {len(caught)}")
        for line in caught:
            terminalreporter.line(str(line))
