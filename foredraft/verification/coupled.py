"""Coupled: exact match with noise that target and drafter share at each position.

Daliri, Musco and Suresh, "Coupling without Communication and Drafter-Invariant Speculative
Decoding", 2024.

Derived in `docs/en/02b-proofs.md#exact-match-and-its-coupled-form`.
"""

from __future__ import annotations

from dataclasses import dataclass

from foredraft.verification.base import VERIFIERS
from foredraft.verification.exact_match import ExactMatchVerifier


@VERIFIERS.register("coupled")
@dataclass(frozen=True)
class CoupledVerifier(ExactMatchVerifier):
    """The text is a function of the seed: the same with or without speculation.

    The target's token at position t is argmax(log p + g_t) with noise g_t from seed and t, whoever
    drafted and however much; the drafter draws with the same g_t, and so agrees with probability at
    least (1 − TV(p, q)) / (1 + TV(p, q)).
    """

    is_coupled = True
