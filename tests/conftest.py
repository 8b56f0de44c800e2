"""Shared fixtures: tiny models with no weights to fetch, and a switched-off network."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
