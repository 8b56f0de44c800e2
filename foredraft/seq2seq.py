"""The documented functions for encoder–decoder models: the same ones, behind an encoder.

Each takes what its namesake in `functional` takes, and `decoder_start_token_id`; what is described
there and means the same is not described again. The inputs are what the encoder reads: token ids,
or features `[features, frames]`. No function has a loop of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from foredraft import functional
from foredraft.core import Prompt
from foredraft.drafting import INgramStorage
from foredraft.errors import ConfigError, ModelError
from foredraft.functional import GREEDY
from foredraft.gamma.entropy import Ema
from foredraft.inputs import Decoder, EosIds, Model, as_ids, as_runtime
from foredraft.loading import fit_target
from foredraft.loading.runtime import TRANSFORMERS
from foredraft.models import Network
from foredraft.models.refusals import check_is_network
from foredraft.ranges import Count, DraftLength, Fillers, Length, Seed, TokenId
from foredraft.sampling import Sampler
from foredraft.sampling.processors import GivenControls
from foredraft.verification import Verifier

T = TypeVar("T")
StartIds = int | Sequence[int] | None


def autoregressive_generate_encoder_decoder(
    inputs: Prompt,
    model: Model,
    *,
    max_gen_len: Length = 40,
    logits_processor: Sampler = GREEDY,
    controls: GivenControls = (),
    eos_tokens_id: EosIds = 1,
    pad_token_id: TokenId | None = 0,
    use_cache: bool = True,
    debug: bool = False,
    seed: Seed | None = None,
    verifier: str | Verifier = "rejection",
    runtime: str = "transformers",
    decoder_start_token_id: StartIds = None,
) -> list[int]:
    """Decode an encoder–decoder with the target alone, one token in each forward pass.

    Args:
        inputs: what the encoder reads.
        model: a Hugging Face encoder–decoder model, or an `EncoderDecoderModel`.
        decoder_start_token_id: one token or several that the decoder begins with; None: those that
            the model itself names.

    Returns:
        Generated ids, without the start tokens.

    Raises:
        ConfigError: an argument is of another type, or out of its range.
        RequestError: the inputs are empty, or of a kind that the encoder does not read.
        ContextOverflow: the inputs are longer than the encoder takes.
        ModelError: the model is not an encoder–decoder, or names no start token.
    """
    return _behind_an_encoder(functional.autoregressive_generate, "model", locals())


def beam_search_generate_encoder_decoder(
    inputs: Prompt,
    model: Model,
    *,
    max_gen_len: Length = 40,
    num_beams: Count = 4,
    top_k: Count = 3,
    min_length: float = 5.0,
    alpha: float = 1.2,
    controls: GivenControls = (),
    eos_tokens_id: EosIds = 1,
    pad_token_id: TokenId | None = 0,
    use_cache: bool = True,
    debug: bool = False,
    tokenizer: Decoder | None = None,
    runtime: str = "transformers",
    decoder_start_token_id: StartIds = None,
) -> list[int]:
    """Return the best hypothesis of a beam search with an encoder–decoder.

    Args:
        inputs: what the encoder reads.
        model: a Hugging Face encoder–decoder model, or an `EncoderDecoderModel`.
        decoder_start_token_id: as for `autoregressive_generate_encoder_decoder`.

    Returns:
        Generated ids, without the start tokens.

    Raises:
        Errors as for `autoregressive_generate_encoder_decoder`.
    """
    return _behind_an_encoder(functional.beam_search_generate, "model", locals())


def speculative_generate_encoder_decoder(
    inputs: Prompt,
    drafter: Model,
    target: Model,
    tokenizer: Decoder | None = None,
    gamma: DraftLength = 5,
    *,
    use_egag: bool = False,
    gamma_min: DraftLength = 1,
    gamma_max: DraftLength | None = None,
    egag_ema_beta: Ema = 0.0,
    logits_processor: Sampler = GREEDY,
    controls: GivenControls = (),
    max_gen_len: Length = 40,
    eos_tokens_id: EosIds = 1,
    pad_token_id: TokenId | None = 0,
    use_cache: bool = True,
    skip_sample_adjustment: bool = False,
    first_target: bool = True,
    debug: bool = False,
    seed: Seed | None = None,
    verifier: str | Verifier = "rejection",
    runtime: str = "transformers",
    decoder_start_token_id: StartIds = None,
) -> tuple[list[int], float]:
    """Decode an encoder–decoder speculatively, with a draft model.

    Args:
        inputs: what the encoder reads.
        drafter: an encoder–decoder model. One that has the target's own encoder, weight for weight,
            or none, reads what the target's encoder made of the inputs, as in Distil-Whisper.
        target: the model whose distribution is preserved.
        decoder_start_token_id: as for `autoregressive_generate_encoder_decoder`.

    Returns:
        Generated ids, and the acceptance rate accepted / drafted (0.0 when nothing was drafted).

    Raises:
        Errors as for `autoregressive_generate_encoder_decoder`; `VocabularyMismatch`: the models'
            tokens differ.
    """
    return _behind_an_encoder(functional.speculative_generate, "target", locals())


def ngram_assisted_speculative_generate_encoder_decoder(
    inputs: Prompt,
    ngramstorage: INgramStorage,
    target: Model,
    tokenizer: Decoder | None = None,
    gamma: DraftLength = 5,
    *,
    filler_top_k: Fillers = 3,
    logits_processor: Sampler = GREEDY,
    controls: GivenControls = (),
    max_gen_len: Length = 40,
    eos_tokens_id: EosIds = 1,
    pad_token_id: TokenId | None = 0,
    use_cache: bool = True,
    first_target: bool = True,
    stop_if_unknown: bool = True,
    debug: bool = False,
    seed: Seed | None = None,
    verifier: str | Verifier = "rejection",
    runtime: str = "transformers",
    decoder_start_token_id: StartIds = None,
) -> tuple[list[int], float]:
    """Decode an encoder–decoder by n-gram assisted speculation (NASD).

    The encoder's input is counted as well as the output, so that what is copied from it is drafted.

    Args:
        inputs: what the encoder reads.
        ngramstorage: keeps its counts between calls; call its `reset` to forget them.
        target: the model whose distribution is preserved.
        decoder_start_token_id: as for `autoregressive_generate_encoder_decoder`.

    Returns:
        Generated ids, and the acceptance rate accepted / drafted (0.0 when nothing was drafted).

    Raises:
        Errors as for `autoregressive_generate_encoder_decoder`; `VocabularyMismatch`: the storage's
            tokens differ.
    """
    return _behind_an_encoder(functional.ngram_assisted_speculative_generate, "target", locals())


def _behind_an_encoder(namesake: Callable[..., T], name: str, given: dict[str, Any]) -> T:
    """Return what the namesake of a function makes of the function's arguments.

    Args:
        namesake: in `functional`.
        name: what it calls its target.
        given: the arguments; signatures are written out for readers and type checkers, so that
            handing each on by its name would say everything twice.
    """
    model, start = given[name], given.pop("decoder_start_token_id")
    target = _as_target(name, model, start, given["runtime"])
    if target is not model:
        given["runtime"] = TRANSFORMERS.name  # the one it got, whichever was asked for
    return namesake(**given | {name: target})


def _as_target(name: str, model: Model, start: StartIds, runtime: str) -> Model:
    """Return the target: the model itself if it has its start tokens, else an adapter with them."""
    if isinstance(model, Network):
        if start is not None:
            raise ModelError("an adapter has its start tokens already; leave one of the two out")
        return model
    ids = None if start is None else list(as_ids("decoder_start_token_id", start))
    if ids == []:
        raise ConfigError("decoder_start_token_id is empty; give at least one id, or None")
    module = check_is_network(name, model)
    if not getattr(module.config, "is_encoder_decoder", False):
        raise ModelError(
            f"{type(model).__name__} is not an encoder–decoder model; call the function without "
            "_encoder_decoder"
        )
    if ids is None:
        return model
    return fit_target(module, as_runtime(runtime, name, model), decoder_start=ids)
