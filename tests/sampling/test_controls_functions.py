"""The documented functions under controls: token for token what transformers' own generate says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
)

import foredraft
from foredraft.core import FinishReason
from foredraft.decoding import BeamSettings, Request, beam_search
from foredraft.decoding.beam import Hypothesis
from foredraft.errors import ConfigError
from foredraft.models import TableModel
from foredraft.sampling import Control, ControlledText, Controls, Rng
from foredraft.sampling.penalties import (
    BadWords,
    LogitBias,
    MinNewTokens,
    NoRepeatNgrams,
    Repetition,
)
from foredraft.sampling.processors import Processors
from tests.doubles import logits_of, random_table
from tests.sampling.naive_controls import NEVER, bent
from tests.sampling.test_controls_laws import CASES, text_of, vocab_of
from tests.tiny import VOCAB, build, noisy

PROMPT = [5, 6, 7, 5, 6]
LENGTH, END = 24, 60
GAMMAS = (1, 2, 8, 48)
FAVOURED, BAD = 9, [[11], [6, 7]]
pytestmark = pytest.mark.filterwarnings("ignore:logits processors are called:RuntimeWarning")

# name → ours, and processors of transformers for a text that begins with so many tokens
TWINS: dict[str, tuple[tuple[Control, ...], Callable[[int], list[Any]]]] = {
    "repetition": ((Repetition(1.4),), lambda _: [RepetitionPenaltyLogitsProcessor(1.4)]),
    "ngrams": ((NoRepeatNgrams(2),), lambda _: [NoRepeatNGramLogitsProcessor(2)]),
    "bias": (
        (LogitBias(((FAVOURED, 3.5), (END, 2.0))),),
        lambda _: [SequenceBiasLogitsProcessor({(FAVOURED,): 3.5, (END,): 2.0})],
    ),
    "bad_words": (
        (BadWords(sequences=((11,), (6, 7))),),
        lambda _: [NoBadWordsLogitsProcessor(BAD)],
    ),
    "growing": (
        (LogitBias(((END, 30.0),)), MinNewTokens(7)),
        lambda begin: [
            SequenceBiasLogitsProcessor({(END,): 30.0}),
            MinNewTokensLengthLogitsProcessor(begin, 7, [END], device="cpu"),
        ],
    ),
    "all": (
        (LogitBias(((FAVOURED, 1.0),)), Repetition(1.2), NoRepeatNgrams(3), MinNewTokens(5)),
        lambda begin: [
            SequenceBiasLogitsProcessor({(FAVOURED,): 1.0}),
            RepetitionPenaltyLogitsProcessor(1.2),
            NoRepeatNGramLogitsProcessor(3),
            MinNewTokensLengthLogitsProcessor(begin, 5, [END], device="cpu"),
        ],
    ),
}
every_twin = pytest.mark.parametrize("name", TWINS)


def generated(model: Any, prompt: list[int], processors: list[Any], begin: int) -> list[int]:
    """Return what transformers' generate says after the `begin` tokens the sequence begins with."""
    settings = GenerationConfig(
        max_new_tokens=LENGTH,
        do_sample=False,
        eos_token_id=END,
        pad_token_id=0,
        bos_token_id=None,
        decoder_start_token_id=model.config.decoder_start_token_id
        if model.config.is_encoder_decoder
        else None,
    )
    ids = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        generation_config=settings,
        logits_processor=LogitsProcessorList(processors),
    )
    said: list[int] = ids[0, begin:].tolist()
    return said


@pytest.mark.parametrize("is_ours", [True, False], ids=["controls", "processors"])
@pytest.mark.parametrize(
    "architecture",
    ["llama", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gpt2", "qwen3"))],
)
@every_twin
def test_every_function_says_what_generate_says(
    name: str, architecture: str, is_ours: bool
) -> None:
    target, drafter = build(architecture), noisy(architecture)
    ours, processors = TWINS[name]
    expected = generated(target, PROMPT, processors(len(PROMPT)), len(PROMPT))
    controls: Any = ours if is_ours else LogitsProcessorList(processors(len(PROMPT)))
    options: dict[str, Any] = {"max_gen_len": LENGTH, "eos_tokens_id": END, "controls": controls}
    free = foredraft.autoregressive_generate(PROMPT, target, max_gen_len=LENGTH, eos_tokens_id=END)
    assert foredraft.autoregressive_generate(PROMPT, target, **options) == expected
    for gamma in GAMMAS:
        said, _ = foredraft.speculative_generate(PROMPT, drafter, target, gamma=gamma, **options)
        assert said == expected, gamma
        storage = foredraft.NGramStorage(3, VOCAB)
        said, _ = foredraft.ngram_assisted_speculative_generate(
            PROMPT, storage, target, gamma=gamma, stop_if_unknown=gamma > 2, **options
        )
        assert said == expected, gamma
    assert (
        foredraft.beam_search_generate(PROMPT, target, num_beams=1, top_k=1, **options) == expected
    )
    if name != "bad_words":
        assert free != expected


@pytest.mark.parametrize("architecture", ["t5", pytest.param("bart", marks=pytest.mark.slow)])
@every_twin
def test_so_does_every_function_behind_an_encoder(name: str, architecture: str) -> None:
    target, drafter = build(architecture), noisy(architecture)
    ours, processors = TWINS[name]
    expected = generated(target, PROMPT, processors(1), 1)
    for controls in (ours, LogitsProcessorList(processors(1))):
        options: dict[str, Any] = {
            "max_gen_len": LENGTH,
            "eos_tokens_id": END,
            "controls": controls,
        }
        said = foredraft.autoregressive_generate_encoder_decoder(PROMPT, target, **options)
        assert said == expected
        for gamma in (2, 8):
            said, _ = foredraft.speculative_generate_encoder_decoder(
                PROMPT, drafter, target, gamma=gamma, **options
            )
            assert said == expected, gamma
            storage = foredraft.NGramStorage(3, VOCAB)
            said, _ = foredraft.ngram_assisted_speculative_generate_encoder_decoder(
                PROMPT, storage, target, gamma=gamma, **options
            )
            assert said == expected, gamma
        said = foredraft.beam_search_generate_encoder_decoder(
            PROMPT, target, num_beams=1, top_k=1, **options
        )
        assert said == expected


# --- beam search ----------------------------------------------------------------------------------


def naive_beam(
    model: TableModel, controls: Sequence[Control], settings: BeamSettings, limit: int
) -> tuple[tuple[int, ...], FinishReason]:
    """Return the best text, with every prefix computed anew."""
    text = text_of(model.vocab_size)

    def score(tokens: tuple[int, ...], log_prob: float) -> float:
        penalty = ((settings.min_length + len(tokens)) / (settings.min_length + 1)) ** 1.2
        return log_prob / penalty

    beams, ended = {(): 0.0}, dict[tuple[int, ...], float]()
    for _ in range(limit):
        grown = dict[tuple[int, ...], float]()
        for tokens, log_prob in beams.items():
            row = bent(
                controls, text, tokens, logits_of(model.next_probs((*text.begin, *tokens))).tolist()
            )
            if max(row) == NEVER:
                continue
            told = torch.tensor(row, dtype=torch.float64).log_softmax(-1).tolist()
            best = sorted(range(len(row)), key=lambda token: -told[token])[: settings.top_k]
            grown |= {(*tokens, t): log_prob + told[t] for t in best if told[t] > NEVER}
        if not grown:
            standing = beams | ended
            best_text = max((t for t in standing if t), key=lambda t: score(t, standing[t]))
            is_ended = best_text in ended
            return best_text, FinishReason.EOS if is_ended else FinishReason.BLOCKED
        ordered = sorted(grown.items(), key=lambda one: -one[1])
        over = {t: p for t, p in ordered if t[-1] in text.ends or len(t) == limit}
        ended |= over
        live = [(t, p) for t, p in ordered if t not in over][: settings.num_beams]
        beams = dict(live)
        if not beams:
            break
    best_text = max(ended, key=lambda t: score(t, ended[t]))
    return best_text, FinishReason.EOS if best_text[-1] in text.ends else FinishReason.LENGTH


@pytest.mark.parametrize(("num_beams", "top_k"), [(1, 1), (2, 2), (4, 3), (40, 4)])
@pytest.mark.parametrize("case", CASES)
def test_beams_are_bent_by_what_each_of_them_holds(case: str, num_beams: int, top_k: int) -> None:
    controls, vocab = CASES[case], vocab_of(case)
    settings = BeamSettings(num_beams, top_k)
    for seed in range(6):
        model = TableModel(random_table(vocab, seed))
        text: ControlledText = text_of(vocab)
        request = Request(
            model.open(text.begin),
            Rng(0),
            max_new_tokens=4,
            eos_token_ids=text.ends,
            controls=Controls(controls, text),
        )
        found: Hypothesis = beam_search(request, settings)
        expected, reason = naive_beam(model, controls, settings, 4)
        assert found.tokens == expected == tuple(request.output)
        if reason is not FinishReason.LENGTH:
            assert request.finish_reason is reason
        assert request.finished


def test_a_processor_that_fails_is_named_in_one_sentence() -> None:
    def fails(ids: object, scores: object) -> Any:
        raise ValueError("no such\ntoken")

    with pytest.raises(ConfigError, match=r"^one of the controls failed .*no such token"):
        foredraft.autoregressive_generate(PROMPT, build("llama"), controls=fails)


def test_processors_are_announced_as_slow() -> None:
    with pytest.warns(RuntimeWarning, match="called for each drafted token"):
        Controls([Processors(lambda ids, scores: scores)], text_of(3))
