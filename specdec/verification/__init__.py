"""Accept, reject, and what comes next."""

from specdec.verification.base import Verifier, residual_distribution, VERIFIERS
from specdec.verification.exact_match import ExactMatchVerifier
from specdec.verification.rejection import RejectionVerifier, RejectionWithoutResidual

__all__ = [
    "ExactMatchVerifier",
    "RejectionVerifier",
    "RejectionWithoutResidual",
    "Verifier",
    "residual_distribution",
    "VERIFIERS",
]
