"""Where draft tokens come from."""

# The order of registration is the order in which users see the names.
# isort: off
from foredraft.drafting.base import (
    DRAFTERS,
    Beginning,
    Drafter,
    DraftModel,
    DraftParts,
    DraftSource,
)
from foredraft.drafting.draft_model import DraftModelDrafter
from foredraft.drafting.head import HeadDrafter
from foredraft.drafting.translated import IntersectionDrafter, RetokenizedDrafter, neural_parts
from foredraft.drafting.retrieval import RetrievalDrafter
from foredraft.drafting.prompt_lookup import PromptLookupDrafter
from foredraft.drafting.suffix import SuffixDrafter
from foredraft.drafting.ngram import Ngram, NgramDrafter
from foredraft.drafting.ngram_storage import (
    STORAGES,
    INgramStorage,
    NGramStorage,
    OneLevelNGramStorage,
    check_storage,
)
from foredraft.drafting.plain import PlainDrafter
from foredraft.drafting.hybrid import HybridDrafter
from foredraft.drafting.bandit import BanditDrafter
from foredraft.drafting.auto import AutoDrafter
from foredraft.drafting.forced import ForcedDrafter
from foredraft.drafting.prediction import PredictionDrafter
from foredraft.drafting.first import FirstDrafter

__all__ = [
    "DRAFTERS",
    "STORAGES",
    "AutoDrafter",
    "BanditDrafter",
    "Beginning",
    "DraftModel",
    "DraftModelDrafter",
    "DraftParts",
    "DraftSource",
    "Drafter",
    "FirstDrafter",
    "ForcedDrafter",
    "HeadDrafter",
    "HybridDrafter",
    "INgramStorage",
    "IntersectionDrafter",
    "NGramStorage",
    "Ngram",
    "NgramDrafter",
    "OneLevelNGramStorage",
    "PlainDrafter",
    "PredictionDrafter",
    "PromptLookupDrafter",
    "RetokenizedDrafter",
    "RetrievalDrafter",
    "SuffixDrafter",
    "check_storage",
    "neural_parts",
]
