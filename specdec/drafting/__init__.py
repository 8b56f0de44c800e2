"""Where draft tokens come from."""

from specdec.drafting.bandit import BanditDrafter
from specdec.drafting.base import DRAFTERS, Drafter, DraftParts, DraftSource
from specdec.drafting.draft_model import DraftModelDrafter
from specdec.drafting.hybrid import HybridDrafter
from specdec.drafting.ngram import NgramDrafter
from specdec.drafting.ngram_storage import (
    STORAGES,
    INgramStorage,
    NGramStorage,
    OneLevelNGramStorage,
)
from specdec.drafting.prompt_lookup import PromptLookupDrafter
from specdec.drafting.retrieval import RetrievalDrafter
from specdec.drafting.suffix import SuffixDrafter

__all__ = [
    "DRAFTERS",
    "STORAGES",
    "BanditDrafter",
    "DraftModelDrafter",
    "DraftParts",
    "DraftSource",
    "Drafter",
    "HybridDrafter",
    "INgramStorage",
    "NGramStorage",
    "NgramDrafter",
    "OneLevelNGramStorage",
    "PromptLookupDrafter",
    "RetrievalDrafter",
    "SuffixDrafter",
]
