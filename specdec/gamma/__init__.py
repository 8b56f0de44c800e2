"""How many tokens to draft."""

from specdec.gamma.base import GAMMA_POLICIES, GammaPolicy
from specdec.gamma.confidence import ConfidenceGamma
from specdec.gamma.entropy import EntropyGamma
from specdec.gamma.fixed import FixedGamma
from specdec.gamma.heuristic import HeuristicGamma

__all__ = [
    "GAMMA_POLICIES",
    "ConfidenceGamma",
    "EntropyGamma",
    "FixedGamma",
    "GammaPolicy",
    "HeuristicGamma",
]
