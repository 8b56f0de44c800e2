"""How many tokens to draft."""

# The order of registration is the order in which users see the names.
# isort: off
from foredraft.gamma.base import GAMMA_POLICIES, GammaPolicy, Signal
from foredraft.gamma.fixed import FixedGamma
from foredraft.gamma.heuristic import HeuristicGamma
from foredraft.gamma.confidence import ConfidenceGamma
from foredraft.gamma.svip import SvipGamma
from foredraft.gamma.adaedl import AdaEdlGamma
from foredraft.gamma.entropy import EntropyGamma
from foredraft.gamma.entropy_cost import EntropyCostGamma
from foredraft.gamma.cost_aware import CostAwareGamma
from foredraft.gamma.asymmetric import AsymmetricGamma
from foredraft.gamma.throughput import ThroughputGamma
from foredraft.gamma.plain import PlainGamma
from foredraft.gamma.bandit import BanditGamma
from foredraft.gamma.oracle import OracleGamma

__all__ = [
    "GAMMA_POLICIES",
    "AdaEdlGamma",
    "AsymmetricGamma",
    "BanditGamma",
    "ConfidenceGamma",
    "CostAwareGamma",
    "EntropyCostGamma",
    "EntropyGamma",
    "FixedGamma",
    "GammaPolicy",
    "HeuristicGamma",
    "OracleGamma",
    "PlainGamma",
    "Signal",
    "SvipGamma",
    "ThroughputGamma",
]
