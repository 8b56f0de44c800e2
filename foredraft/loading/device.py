"""A name → the device that computes, asked whether it can."""

from __future__ import annotations

import warnings

import torch

from foredraft.errors import ConfigError, quoted

DEVICE_CHOICES = ("auto", "cpu", "cuda")


def resolve_device(name: str) -> torch.device:
    """Return the device of a name; `auto` is CUDA where there is one.

    Raises:
        ConfigError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    legal = f"legal: {', '.join(DEVICE_CHOICES)} (or cuda:0, …)"
    try:
        with warnings.catch_warnings(action="ignore"):  # that a name is deprecated
            device = torch.device(name)
    except (RuntimeError, TypeError, ValueError):
        raise ConfigError(f"unknown device {quoted(name)}; {legal}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r} asked for but torch sees no GPU; use --device cpu")
    try:
        torch.zeros(1, device=device).tolist()  # meta makes tensors, but has nothing to read
    except Exception:
        raise ConfigError(f"device {quoted(name)} cannot compute here; {legal}") from None
    return device
