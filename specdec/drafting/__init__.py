"""Where draft tokens come from."""

from specdec.drafting.base import Drafter
from specdec.drafting.draft_model import DraftModelDrafter
from specdec.drafting.ngram import NgramDrafter
from specdec.drafting.ngram_storage import (
    STORAGES,
    INgramStorage,
    NGramStorage,
    OneLevelNGramStorage,
)

__all__ = [
    "STORAGES",
    "DraftModelDrafter",
    "Drafter",
    "INgramStorage",
    "NGramStorage",
    "NgramDrafter",
    "OneLevelNGramStorage",
]
