"""Tests of the bundled encoder–decoder pair wait for its weights, and say so."""

from __future__ import annotations

import pytest

from specdec.zoo import bundled_path

ROLES = ("seq2seq_target", "seq2seq_drafter")
MISSING = [role for role in ROLES if not (bundled_path(role) / "model.safetensors").is_file()]

needs_seq2seq_weights = pytest.mark.skipif(
    bool(MISSING), reason=f"no weights yet: {', '.join(MISSING)}"
)
