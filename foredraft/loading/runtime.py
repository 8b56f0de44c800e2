"""Runtime: which code computes a network, and the choice of it."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedConfig, PreTrainedModel

from foredraft.doors import one_of
from foredraft.errors import ConfigError, ModelError
from foredraft.loading.checkpoint import Loaded, Unmade
from foredraft.loading.quantising import Quantised
from foredraft.models.base import Network
from foredraft.models.decoder_only import CausalModel, DecoderOnlyModel
from foredraft.models.encoder import Encoder
from foredraft.models.encoder_decoder import EncoderDecoderModel, Seq2SeqModel
from foredraft.native.fused import CompiledModel, FusedModel
from foredraft.native.graphs import StaticModel
from foredraft.native.network import NativeModel, prove_equal
from foredraft.native.seq2seq import (
    CompiledSeq2Seq,
    CompiledT5,
    Decoder,
    NativeSeq2Seq,
    known_seq2seq,
    laid_out,
)
from foredraft.native.structures import library
from foredraft.native.weights import is_in_family, is_plain

RUNTIME_CHOICES = ("auto", "native", "transformers")


@dataclass(frozen=True)
class Runtime:
    """Which code computes a network.

    Attributes:
        name: `native` (the Llama family and its cousins; decoders of the T5 family),
            `transformers`, or `auto`: native where it can be.
        single: activations of the compiled pass stay in float32 where weights are quantised.
        invariant: a token's logits do not depend on how many share its pass; native runtime only.
        check: compare the native runtime with transformers before it is used.
        compile: let torch.compile make the kernels of the native runtime's passes; on CUDA only.

    Raises:
        ConfigError: an unknown name, or `invariant` or `compile` with transformers.
    """

    name: str = "transformers"
    single: bool = False
    invariant: bool = False
    check: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        one_of("runtime", self.name, RUNTIME_CHOICES)
        if self._native_flags and self.name == "transformers":
            raise ConfigError(
                f"{self._native_flags[0]} needs the native runtime; use --runtime native or auto"
            )

    @property
    def _native_flags(self) -> list[str]:
        """What was asked for that the native runtime alone can do."""
        flags = {"--invariant": self.invariant, "--compile": self.compile}
        return [flag for flag, given in flags.items() if given]

    def is_native_for(self, config: PreTrainedConfig) -> bool:
        """Whether the causal LM of a transformers config gets the native runtime."""
        return self.name == "native" or (self.name == "auto" and is_in_family(config))

    def adapt(self, network: Loaded, *, vocab_size: int | None = None) -> CausalModel:
        """Return the adapter of a causal LM.

        Args:
            network: a transformers module, or an `Unmade` source that the native runtime computes.
            vocab_size: columns wanted, see `CausalModel`.

        Raises:
            ModelError: the native runtime does not know it, or differs from transformers.
            ConfigError: `invariant` or `compile`, and it does not get the native runtime; `check`,
                and its weights are rounded here.
            RollbackUnsupported: it has layers that cannot forget.
        """
        device = network.device.type
        if not self.is_native_for(network.config) or self._leaves(network.config, device):
            module = network.whole() if isinstance(network, Unmade) else network
            self.check_needs_no_native(type(module).__name__)
            return DecoderOnlyModel(module, vocab_size=vocab_size)
        if self.compile and device != "cuda":
            raise ConfigError(
                "--compile makes kernels for CUDA; on a CPU the native runtime is compiled C "
                "already; leave it out"
            )
        if device == "cuda":
            model: CausalModel = StaticModel(
                network,
                vocab_size=vocab_size,
                invariant=self.invariant,
                compiled=self.compile,
            )
        elif device == "cpu" and can_fuse():  # invariant, whatever was asked for
            model = FusedModel(network, vocab_size=vocab_size, single=self.single)
        else:
            model = NativeModel(network, vocab_size=vocab_size, invariant=self.invariant)
        if self.check:
            self._prove(model, network)
        return model

    def adapt_seq2seq(
        self,
        network: PreTrainedModel,
        *,
        vocab_size: int | None = None,
        decoder_start: Sequence[int] | None = None,
        encoder: Encoder | None = None,
    ) -> Seq2SeqModel:
        """Return the adapter of an encoder–decoder, or of a decoder that reads another's encoder.

        Args:
            network: a transformers module.
            vocab_size: columns wanted, see `CausalModel`.
            decoder_start: see `EncoderDecoderModel`.
            encoder: likewise.

        Raises:
            ModelError: the native runtime does not know it, or differs from transformers; or as for
                `EncoderDecoderModel`.
            ConfigError: `invariant` and its passes are not compiled, or `compile`.
        """
        decoder, start = self.decoder_of(network, vocab_size), decoder_start
        if decoder is None or self.compile:
            self.check_needs_no_native(type(network).__name__)
        if self.invariant and not isinstance(decoder, CompiledT5):
            raise ConfigError(
                "--invariant needs the compiled pass for an encoder–decoder; install gcc or clang "
                "and compute on a CPU, or leave it out"
            )
        if decoder is None:
            return EncoderDecoderModel(
                network, vocab_size=vocab_size, decoder_start=start, encoder=encoder
            )
        model: CompiledSeq2Seq | NativeSeq2Seq
        if isinstance(decoder, CompiledT5):
            model = CompiledSeq2Seq(
                network, decoder, vocab_size=vocab_size, decoder_start=start, encoder=encoder
            )
        else:
            model = NativeSeq2Seq(
                network, decoder, vocab_size=vocab_size, decoder_start=start, encoder=encoder
            )
        if self.check:
            prove_equal(model, network)
        return model

    def decoder_of(self, network: PreTrainedModel, vocab_size: int | None) -> Decoder | None:
        """Return the decoder of an encoder–decoder, laid out; None: transformers computes it.

        Raises:
            ModelError: the native runtime is asked for and does not know it.
        """
        if not self.is_native_for_seq2seq(network):
            return None
        compiled = network.device.type == "cpu" and can_fuse()
        return laid_out(network, vocab_size, compiled=compiled)

    def is_native_for_seq2seq(self, network: PreTrainedModel) -> bool:
        """Whether the decoder of an encoder–decoder gets the native runtime.

        On CUDA it must be asked for: nobody has measured there whether it is the quicker one.
        """
        suits = network.device.type == "cpu" and known_seq2seq(network)
        return self.name == "native" or (self.name == "auto" and suits)

    def _prove(self, model: CausalModel, network: Loaded) -> None:
        """Compare a model with transformers; if it rounds activations, a double that does not."""
        if isinstance(network, Quantised):
            raise ConfigError(
                "--check-runtime compares with transformers, which does not round weights; leave "
                "it out, or --quantize"
            )
        if isinstance(model, FusedModel) and model.rounds:
            model = FusedModel(network, vocab_size=model.vocab_size, single=True)
        prove_equal(model, network.whole() if isinstance(network, Unmade) else network)

    def _leaves(self, config: PreTrainedConfig, device: str) -> bool:
        """Whether a network of the family is left to transformers: torch cannot compute it here."""
        compiled = device == "cpu" and can_fuse()
        return self.name == "auto" and not (compiled or is_plain(config))

    def check_needs_no_native(self, name: str) -> None:
        """Raise if the native runtime is needed for a network that it does not know."""
        if self._native_flags:
            raise ConfigError(
                f"{self._native_flags[0]} needs the native runtime, which does not know {name}; "
                "leave it out"
            )


@functools.cache
def can_fuse() -> bool:
    """Whether the native runtime can be one C function a pass; warns, once, if it cannot."""
    try:
        library()
    except ModelError as error:
        warnings.warn(f"the native runtime is slower than it could be: {error}", RuntimeWarning, 2)
        return False
    return True


TRANSFORMERS = Runtime()


def is_native(model: Network) -> bool:
    """Whether a model is computed by the native runtime."""
    return isinstance(model, CompiledModel | NativeModel | NativeSeq2Seq)
