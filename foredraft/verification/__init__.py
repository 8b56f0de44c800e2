"""Accept, reject, and what comes next."""

# The order of registration is the order in which users see the names.
# isort: off
from foredraft.verification.base import VERIFIERS, Verifier
from foredraft.verification.rejection import RejectionVerifier, RejectionWithoutResidual
from foredraft.verification.block import BlockVerifier
from foredraft.verification.exact_match import ExactMatchVerifier
from foredraft.verification.coupled import CoupledVerifier

__all__ = [
    "VERIFIERS",
    "BlockVerifier",
    "CoupledVerifier",
    "ExactMatchVerifier",
    "RejectionVerifier",
    "RejectionWithoutResidual",
    "Verifier",
]
