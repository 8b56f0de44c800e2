"""What a finished model can do on held-out documents: acceptance as a drafter, translation."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from foredraft.core import StepRecord
from foredraft.decoding import Request, Speculation, autoregressive_steps, speculative_steps
from foredraft.drafting import DraftModelDrafter
from foredraft.errors import ConfigError
from foredraft.gamma import FixedGamma
from foredraft.loading import fit_drafter, fit_target
from foredraft.models import Network
from foredraft.sampling import GreedySampler, Rng
from foredraft.tracing import Summary, summarize
from foredraft.verification import RejectionVerifier
from foredraft.zoo.corpus import Document, split
from foredraft.zoo.run import Run
from foredraft.zoo.teacher import load_teacher
from foredraft.zoo.tokenizer import ids_of

PROMPT_TOKENS = 32  # the beginning of a document that a causal model is given
NEW_TOKENS = 60
GAMMA = 4
TRANSLATED = 1000  # sentences
GREEDY = GreedySampler()


def held_out_acceptance(
    run: Run,
    teacher: PreTrainedModel,
    drafter: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    num_documents: int = 60,
) -> Summary:
    """Decode held-out documents of a run's first source greedily; return the statistics of all.

    A causal model continues their beginnings, an encoder–decoder answers their prompts.
    """
    target = fit_target(teacher)
    parts = Speculation(
        target,
        DraftModelDrafter(fit_drafter(drafter, target), GREEDY),
        FixedGamma(GAMMA),
        RejectionVerifier(),
        GREEDY,
    )
    records: list[StepRecord] = []
    for document in _held_out(run)[:num_documents]:
        if run.recipe.is_seq2seq:
            prompt = ids_of(tokenizer, document.prompt)
        else:
            prompt = ids_of(tokenizer, document.text)[:PROMPT_TOKENS]
        records += speculative_steps(parts, _request(target, prompt, tokenizer))
    return summarize(records)


@dataclass(frozen=True)
class Translation:
    """Quality of greedy translations, as sacrebleu measures it (Post, 2018)."""

    bleu: float  # corpus BLEU, 0 … 100
    chrf: float  # corpus chrF2, 0 … 100
    num_sentences: int  # how many were translated


def held_out_translation(
    run: Run, network: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> Translation:
    """Translate held-out prompts of a run's first source greedily, and compare with the answers.

    A prompt that occurs twice counts once.

    Raises:
        ConfigError: sacrebleu is not installed.
    """
    check_sacrebleu()
    import sacrebleu

    model = fit_target(network)
    pairs = {document.prompt: document.answer for document in _held_out(run)}
    prompts = list(pairs)[:TRANSLATED]
    ours = [_translate(model, tokenizer, prompt) for prompt in prompts]
    references = [[pairs[prompt] for prompt in prompts]]
    bleu, chrf = sacrebleu.corpus_bleu(ours, references), sacrebleu.corpus_chrf(ours, references)
    return Translation(bleu.score, chrf.score, len(prompts))


@dataclass(frozen=True)
class Measured:
    """What goes into a model card beside the losses."""

    acceptance: Summary | None = None  # of a distilled drafter
    translation: Translation | None = None  # of an encoder–decoder model


def measure(run: Run, network: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Measured:
    """Measure what there is to measure of a finished network, which is in evaluation mode."""
    teacher = load_teacher(run)
    return Measured(
        held_out_acceptance(run, teacher, network, tokenizer) if teacher else None,
        held_out_translation(run, network, tokenizer) if run.recipe.is_seq2seq else None,
    )


def check_sacrebleu() -> None:
    """Raise unless translations can be measured: before hours of training, not after."""
    if importlib.util.find_spec("sacrebleu") is None:
        raise ConfigError(
            "a card of an encoder–decoder model needs sacrebleu; install it with: "
            "uv sync --extra train"
        )


def _translate(model: Network, tokenizer: PreTrainedTokenizerFast, prompt: str) -> str:
    request = _request(model, ids_of(tokenizer, prompt), tokenizer)
    for _ in autoregressive_steps(request, GREEDY):
        pass
    return str(tokenizer.decode(request.output, skip_special_tokens=True))


def _held_out(run: Run) -> list[Document]:
    return split(run.recipe.data[0], run.data_dir, held_out=True)


def _request(model: Network, prompt: list[int], tokenizer: PreTrainedTokenizerFast) -> Request:
    ends = (tokenizer.eos_token_id,)
    return Request(model.open(prompt), Rng(0), max_new_tokens=NEW_TOKENS, eos_token_ids=ends)
