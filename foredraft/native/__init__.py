"""The Llama family by itself: torch operations, C for a CPU, graphs for CUDA."""

from foredraft.native.fused import FusedModel
from foredraft.native.graphs import StaticModel
from foredraft.native.network import NativeModel

__all__ = ["FusedModel", "NativeModel", "StaticModel"]
