"""Every public name, imported: what `foredraft` gives as soon as one of them is asked for."""

from foredraft.config import DecodingConfig
from foredraft.conversation import Conversation
from foredraft.core import Completion, Draft, FinishReason, StepRecord, Verdict
from foredraft.drafting import INgramStorage, NGramStorage, OneLevelNGramStorage
from foredraft.engine import Engine
from foredraft.errors import ForedraftError
from foredraft.functional import (
    autoregressive_generate,
    beam_search_generate,
    max_fn,
    ngram_assisted_speculative_generate,
    speculative_generate,
)
from foredraft.loading import LoadOptions
from foredraft.models import (
    Context,
    DecoderOnlyModel,
    EncoderDecoderModel,
    Feed,
    Network,
    Output,
    TableModel,
    prune_cache,
)
from foredraft.sampling import GreedySampler as GreedyProcessor
from foredraft.sampling import MultinomialSampler as MultinomialProcessor
from foredraft.sampling import NucleusSampler as NucleusProcessor
from foredraft.sampling import Sampler
from foredraft.sampling import TopKNucleusSampler as TopKNucleusProcessor
from foredraft.sampling import TopKSampler as TopKProcessor
from foredraft.seq2seq import (
    autoregressive_generate_encoder_decoder,
    beam_search_generate_encoder_decoder,
    ngram_assisted_speculative_generate_encoder_decoder,
    speculative_generate_encoder_decoder,
)
from foredraft.tracing import Summary, summarize

__all__ = [
    "Completion",
    "Context",
    "Conversation",
    "DecoderOnlyModel",
    "DecodingConfig",
    "Draft",
    "EncoderDecoderModel",
    "Engine",
    "Feed",
    "FinishReason",
    "ForedraftError",
    "GreedyProcessor",
    "INgramStorage",
    "LoadOptions",
    "MultinomialProcessor",
    "NGramStorage",
    "Network",
    "NucleusProcessor",
    "OneLevelNGramStorage",
    "Output",
    "Sampler",
    "StepRecord",
    "Summary",
    "TableModel",
    "TopKNucleusProcessor",
    "TopKProcessor",
    "Verdict",
    "autoregressive_generate",
    "autoregressive_generate_encoder_decoder",
    "beam_search_generate",
    "beam_search_generate_encoder_decoder",
    "max_fn",
    "ngram_assisted_speculative_generate",
    "ngram_assisted_speculative_generate_encoder_decoder",
    "prune_cache",
    "speculative_generate",
    "speculative_generate_encoder_decoder",
    "summarize",
]
