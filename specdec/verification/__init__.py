"""Accept, reject, and what comes next."""

from specdec.verification.base import VERIFIERS, Verifier, residual_distribution
from specdec.verification.exact_match import ExactMatchVerifier
from specdec.verification.rejection import RejectionVerifier, RejectionWithoutResidual

__all__ = [
    "VERIFIERS",
    "ExactMatchVerifier",
    "RejectionVerifier",
    "RejectionWithoutResidual",
    "Verifier",
    "residual_distribution",
]
