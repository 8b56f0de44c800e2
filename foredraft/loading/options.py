"""How a model is to be loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from transformers import PreTrainedConfig

from foredraft.doors import one_of
from foredraft.loading.runtime import Runtime
from foredraft.ranges import Checked, Range

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ACTIVATIONS_CHOICES = ("int8", "float32")
DTYPE_CHOICES = ("auto", *DTYPES)


@dataclass(frozen=True)
class LoadOptions(Checked):
    """How to load a model.

    Attributes:
        device: `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:1`.
        dtype: `auto` (float32 on a CPU, the checkpoint's own elsewhere), `float32`, `bfloat16` or
            `float16`.
        quantize: round the weights: `none`, `int8` (in the compiled pass where it computes, else by
            torchao) or `int4` (in the compiled pass only).
        activations: what quantised weights are multiplied with in the compiled pass: `int8`, in
            blocks of 32, or `float32`.
        trust_remote_code: run Python code that comes with the model.
        runtime: what computes the passes: `native`, `transformers`, or `auto`: native where it can.
        invariant: logits of the target that do not depend on how many tokens a pass reads.
        check_runtime: compare the native runtime with transformers while loading.
        compile: let torch.compile make the kernels of the native runtime's passes.
        threads: threads of torch on a CPU, for the whole process; 0 leaves them as they are, and
            the native runtime takes as many of them as the model can use.
    """

    device: str = "auto"
    dtype: str = "auto"
    quantize: str = "none"
    activations: str = "int8"
    trust_remote_code: bool = False
    runtime: str = "auto"
    invariant: bool = False
    check_runtime: bool = False
    compile: bool = False
    threads: Annotated[int, Range(0, 4096)] = 0

    def runtime_for(self, config: PreTrainedConfig) -> Runtime:
        """Return the runtime of a network with this transformers config."""
        return Runtime(
            self.runtime,
            single=one_of("activations", self.activations, ACTIVATIONS_CHOICES) == "float32",
            invariant=self.invariant,
            check=self.check_runtime,
            compile=self.compile,
        )


def resolve_dtype(name: str, device: torch.device) -> torch.dtype | str:
    """Return the precision of a name in `DTYPE_CHOICES`; `auto` where the model's own is meant."""
    if one_of("dtype", name, DTYPE_CHOICES) == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    return DTYPES[name]
