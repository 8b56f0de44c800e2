"""How many tokens to draft."""

from foredraft.gamma.adaedl import AdaEdlGamma
from foredraft.gamma.bandit import BanditGamma
from foredraft.gamma.base import GAMMA_POLICIES, GammaPolicy, Signal
from foredraft.gamma.confidence import ConfidenceGamma
from foredraft.gamma.cost_aware import CostAwareGamma
from foredraft.gamma.entropy import EntropyGamma
from foredraft.gamma.fixed import FixedGamma
from foredraft.gamma.heuristic import HeuristicGamma
from foredraft.gamma.oracle import OracleGamma
from foredraft.gamma.svip import SvipGamma

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
