"""specdec: faster text from language models, with their output distribution unchanged."""

from specdec.config import DecodingConfig
from specdec.core import Completion, Draft, FinishReason, StepRecord, Verdict
from specdec.drafting import INgramStorage, NGramStorage, OneLevelNGramStorage
from specdec.engine import Engine
from specdec.errors import SpecDecError
from specdec.functional import (
    autoregressive_generate,
    beam_search_generate,
    max_fn,
    ngram_assisted_speculative_generate,
    speculative_generate,
)
from specdec.models import (
    DecoderOnlyModel,
    EncoderDecoderModel,
    LanguageModel,
    LoadOptions,
    TableModel,
    prune_cache,
)
from specdec.sampling import GreedySampler as GreedyProcessor
from specdec.sampling import MultinomialSampler as MultinomialProcessor
from specdec.sampling import NucleusSampler as NucleusProcessor
from specdec.sampling import Sampler
from specdec.sampling import TopKNucleusSampler as TopKNucleusProcessor
from specdec.sampling import TopKSampler as TopKProcessor
from specdec.seq2seq import (
    autoregressive_generate_encoder_decoder,
    beam_search_generate_encoder_decoder,
    ngram_assisted_speculative_generate_encoder_decoder,
    speculative_generate_encoder_decoder,
)
from specdec.tracing import Summary, summarize

__version__ = "0.1.0"

__all__ = [
    "Completion",
    "DecoderOnlyModel",
    "DecodingConfig",
    "Draft",
    "EncoderDecoderModel",
    "Engine",
    "FinishReason",
    "GreedyProcessor",
    "INgramStorage",
    "LanguageModel",
    "LoadOptions",
    "MultinomialProcessor",
    "NGramStorage",
    "NucleusProcessor",
    "OneLevelNGramStorage",
    "Sampler",
    "SpecDecError",
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
