"""A name, a folder or a module → a network with its tokenizer, in the runtime that suits it."""

from foredraft.loading.drafter import drafter_for, find_drafter, load_drafter, load_pair
from foredraft.loading.loader import LoadedModel, load
from foredraft.loading.options import LoadOptions
from foredraft.loading.pairing import fit_drafter, fit_target

__all__ = [
    "LoadOptions",
    "LoadedModel",
    "drafter_for",
    "find_drafter",
    "fit_drafter",
    "fit_target",
    "load",
    "load_drafter",
    "load_pair",
]
