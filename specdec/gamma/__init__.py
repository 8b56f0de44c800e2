"""How many tokens to draft."""

from specdec.gamma.adaedl import AdaEdlGamma
from specdec.gamma.bandit import BanditGamma
from specdec.gamma.base import GAMMA_POLICIES, GammaPolicy, Signal
from specdec.gamma.confidence import ConfidenceGamma
from specdec.gamma.cost_aware import CostAwareGamma
from specdec.gamma.entropy import EntropyGamma
from specdec.gamma.fixed import FixedGamma
from specdec.gamma.heuristic import HeuristicGamma
from specdec.gamma.oracle import OracleGamma
from specdec.gamma.svip import SvipGamma

__all__ = [
    "GAMMA_POLICIES",
    "AdaEdlGamma",
    "BanditGamma",
    "ConfidenceGamma",
    "CostAwareGamma",
    "EntropyGamma",
    "FixedGamma",
    "GammaPolicy",
    "HeuristicGamma",
    "OracleGamma",
    "Signal",
    "SvipGamma",
]
