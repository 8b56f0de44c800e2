"""A name, a folder or a module → a network with its tokenizer, in the runtime that suits it."""

from foredraft.loading.loader import LoadedModel, load, load_drafter, load_pair
from foredraft.loading.options import LoadOptions
from foredraft.loading.pairing import fit_drafter, fit_target

__all__ = [
    "LoadOptions",
    "LoadedModel",
    "fit_drafter",
    "fit_target",
    "load",
    "load_drafter",
    "load_pair",
]
