"""Shared fixtures: tiny models with no weights to fetch, and a switched-off network."""

from __future__ import annotations

import os

import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
torch.set_num_threads(1)  # models this small gain nothing from threads and lose much to waiting


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let figures of the documents be made by the tests that look at what they show."""
    shown = "write what the tests of pages see to docs/figures"
    parser.addoption("--save-figures", action="store_true", help=shown)


def pytest_configure(config: pytest.Config) -> None:
    """Show tests of a processor no GPU, which they would choose by themselves."""
    if "not gpu" in config.option.markexpr:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what tests of deliberate mistakes have caught, also under -q."""
    passed = terminalreporter.stats.get("passed", [])
    caught = [v for report in passed for k, v in report.user_properties if k == "mutant caught"]
    if caught:
        terminalreporter.section(f"mutants caught: {len(caught)}")
        for line in caught:
            terminalreporter.line(str(line))
