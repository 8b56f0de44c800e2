"""Accept, reject, and what comes next."""

# The order of registration is the order in which users see the names.
# isort: off
from specdec.verification.base import VERIFIERS, Verifier, residual_distribution
from specdec.verification.rejection import RejectionVerifier, RejectionWithoutResidual
from specdec.verification.block import BlockVerifier
from specdec.verification.exact_match import ExactMatchVerifier
from specdec.verification.coupled import CoupledVerifier

__all__ = [
    "VERIFIERS",
    "BlockVerifier",
    "CoupledVerifier",
    "ExactMatchVerifier",
    "RejectionVerifier",
    "RejectionWithoutResidual",
    "Verifier",
    "residual_distribution",
]
