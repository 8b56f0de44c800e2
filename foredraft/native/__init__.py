"""The Llama family and T5's decoder by themselves: torch operations, C for a CPU, CUDA graphs."""

from foredraft.native.fused import FusedModel
from foredraft.native.graphs import StaticModel
from foredraft.native.network import NativeModel
from foredraft.native.seq2seq import CompiledSeq2Seq, NativeSeq2Seq

__all__ = ["CompiledSeq2Seq", "FusedModel", "NativeModel", "NativeSeq2Seq", "StaticModel"]
