"""`system_fingerprint`: weights, runtime and version: a text is a function of these as well."""

from __future__ import annotations

import hashlib

import torch

from foredraft.engine import Engine
from foredraft.loading import LoadedModel
from foredraft.version import __version__

SAMPLED = 4096  # bytes of each end of a tensor: all of a large model would take seconds


def fingerprint(engine: Engine) -> str:
    """Return a name for what answers; equal ones give equal texts to equal requests with seeds."""
    digest = hashlib.blake2b(f"{__version__} {torch.__version__}".encode(), digest_size=8)
    model = engine.target.model
    digest.update(f"{type(model).__name__} {model.dtype} {model.vocab_size}".encode())
    _add_weights(digest, engine.target)
    return f"fd-{__version__}-{digest.hexdigest()}"


def _add_weights(digest: hashlib.blake2b, loaded: LoadedModel) -> None:
    for weight in loaded.model.weights():
        flat = weight.detach().reshape(-1)
        digest.update(f"{tuple(weight.shape)} {weight.dtype}".encode())
        count = min(SAMPLED // weight.element_size(), len(flat))
        for part in (flat[:count], flat[len(flat) - count :]):
            digest.update(part.contiguous().cpu().view(torch.uint8).numpy().tobytes())
