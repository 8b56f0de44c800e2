"""A caller's network as we need it, without a change to what the caller owns."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def view_of(network: M) -> M:
    """Return a network of its own modules over the same weights: its mode and dtype are ours."""
    shared: dict[int, Tensor] = {
        id(weight): nn.Parameter(weight.detach(), requires_grad=False)
        for weight in network.parameters()
    }
    shared |= {id(buffer): buffer.detach() for buffer in network.buffers()}
    return copy.deepcopy(network, shared)


def in_evaluation(network: M) -> M:
    """Return the network if no part of it is in training, else a view of it that is in none."""
    if any(module.training for module in network.modules()):
        return view_of(network).eval()
    return network
