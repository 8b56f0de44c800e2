"""How many tokens to draft."""

from specdec.gamma.base import GammaPolicy, GAMMA_POLICIES
from specdec.gamma.confidence import ConfidenceGamma
from specdec.gamma.entropy import EntropyGamma
from specdec.gamma.fixed import FixedGamma
from specdec.gamma.heuristic import HeuristicGamma

__all__ = [
    "ConfidenceGamma",
    "EntropyGamma",
    "FixedGamma",
    "GammaPolicy",
    "HeuristicGamma",
    "GAMMA_POLICIES",
]
