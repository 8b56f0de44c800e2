"""Beam search: exhaustive width finds the true best, and scores are the model's own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from foredraft.decoding import BeamSettings, Request, beam_search
from foredraft.decoding.beam import Hypothesis
from foredraft.errors import ConfigError
from foredraft.functional import autoregressive_generate, beam_search_generate
from foredraft.models import TableModel
from foredraft.sampling import Rng
from tests.doubles import Table, random_table
from tests.tiny import build

EOS = 0
PROMPT = [1, 2]
SIZE = 3
ALPHAS = (0.0, 0.6, 1.2, 3.0)


def search(
    table: Table,
    settings: BeamSettings,
    max_new_tokens: int,
    *,
    eos: tuple[int, ...] = (EOS,),
    max_length: int = 100,
    **more: Any,
) -> Hypothesis:
    model = TableModel(table, max_length=max_length)
    request = Request(model.open(PROMPT), Rng(0), max_new_tokens=max_new_tokens, eos_token_ids=eos)
    best = beam_search(request, settings, **more)
    assert request.output == list(best.tokens)
    assert request.finished
    return best


def log_prob(table: Table, tokens: tuple[int, ...]) -> float:
    prefixes = [(*PROMPT, *tokens[:i]) for i in range(len(tokens))]
    return sum(math.log(table(p)[t]) for p, t in zip(prefixes, tokens, strict=True))


def all_outputs(limit: int, begun: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """Yield every output: ended by its only end token, or `limit` tokens long."""
    if begun and (begun[-1] == EOS or len(begun) == limit):
        yield begun
        return
    for token in range(SIZE):
        yield from all_outputs(limit, (*begun, token))


def best_of_all(table: Table, limit: int, min_length: float, alpha: float) -> tuple[int, ...]:
    def score(tokens: tuple[int, ...]) -> float:
        penalty = ((min_length + len(tokens)) / (min_length + 1)) ** alpha
        return log_prob(table, tokens) / penalty

    return max(all_outputs(limit), key=score)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("min_length", [0.0, 5.0])
@pytest.mark.parametrize("limit", [1, 2, 4])
def test_exhaustive_width_finds_the_best_of_all_outputs(
    limit: int, min_length: float, alpha: float
) -> None:
    settings = BeamSettings(SIZE**limit, SIZE, min_length, alpha)
    for seed in range(6):
        table = random_table(SIZE, seed)
        found = search(table, settings, limit)
        assert found.tokens == best_of_all(table, limit, min_length, alpha)
        assert found.ended == (found.tokens[-1] == EOS)


def test_the_outputs_compared_above_are_not_all_of_one_length() -> None:
    lengths = {
        len(best_of_all(random_table(SIZE, seed), 4, 5.0, alpha))
        for seed in range(6)
        for alpha in ALPHAS
    }
    assert len(lengths) >= 3


@pytest.mark.parametrize("num_beams", [2, 3, 5])
@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_the_score_is_that_of_the_tokens(num_beams: int, top_k: int) -> None:
    settings = BeamSettings(num_beams, top_k)
    for seed in range(5):
        table = random_table(SIZE, seed)
        found = search(table, settings, 8)
        assert found.log_prob == pytest.approx(log_prob(table, found.tokens), abs=1e-5)
        penalty = settings.length_penalty(len(found.tokens))
        assert found.score(settings) == pytest.approx(found.log_prob / penalty)


@pytest.mark.parametrize(("top_k", "eos"), [(1, (EOS,)), (1, ()), (3, ())])
def test_one_beam_is_greedy(top_k: int, eos: tuple[int, ...]) -> None:
    for seed in range(8):
        model = TableModel(random_table(SIZE, seed))
        options: dict[str, Any] = {"max_gen_len": 9, "eos_tokens_id": eos}
        beam = beam_search_generate(PROMPT, model, num_beams=1, top_k=top_k, **options)
        assert beam == autoregressive_generate(PROMPT, model, **options)


def short_or_long(tokens: tuple[int, ...]) -> list[float]:
    """Ends at once with probability 0.6, or else says 1 three times and ends."""
    said = len(tokens) - len(PROMPT)
    if said == 0:
        return [0.6, 0.4, 0.0]
    return [0.0, 1.0, 0.0] if said < 3 else [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("alpha", "tokens"), [(0.0, (0,)), (1.0, (0,)), (2.0, (1, 1, 1, 0)), (4.0, (1, 1, 1, 0))]
)
def test_a_larger_alpha_prefers_the_longer_output(alpha: float, tokens: tuple[int, ...]) -> None:
    # ln 0.6 = −0.51 against ln 0.4 = −0.92 divided by (9 / 6)^alpha: they meet at alpha 1.44.
    assert search(short_or_long, BeamSettings(2, 2, 5.0, alpha), 10).tokens == tokens


def trap(tokens: tuple[int, ...]) -> list[float]:
    """The likelier first token leads to unlikely continuations."""
    said = tokens[len(PROMPT) :]
    if not said:
        return [0.0, 0.6, 0.4]
    return [0.34, 0.33, 0.33] if said == (1,) else [1.0, 0.0, 0.0]


def test_two_beams_escape_where_one_is_trapped() -> None:
    assert search(trap, BeamSettings(1, 2, alpha=0.0), 2).tokens == (1, 0)
    assert search(trap, BeamSettings(2, 2, alpha=0.0), 2).tokens == (2, 0)


@pytest.mark.parametrize("max_new_tokens", [1, 2, 5])
def test_nothing_follows_an_end_token_and_no_output_is_too_long(max_new_tokens: int) -> None:
    for seed in range(8):
        found = search(random_table(SIZE, seed), BeamSettings(3, 3), max_new_tokens)
        assert 1 <= len(found.tokens) <= max_new_tokens
        assert EOS not in found.tokens[:-1]
        assert len(found.tokens) == max_new_tokens or found.tokens[-1] == EOS


def test_the_context_limits_the_output() -> None:
    found = search(random_table(SIZE, 0), BeamSettings(), 50, eos=(), max_length=7)
    assert len(found.tokens) == 7 - len(PROMPT)


def test_every_step_shows_at_most_the_wanted_beams_best_first() -> None:
    shown: list[list[Hypothesis]] = []
    search(random_table(SIZE, 0), BeamSettings(4, 3), 5, eos=(), on_step=shown.append)
    assert [len(beams) for beams in shown] == [3, 4, 4, 4, 1]
    for beams in shown:
        log_probs = [beam.log_prob for beam in beams]
        assert log_probs == sorted(log_probs, reverse=True)
        assert len({beam.tokens for beam in beams}) == len(beams)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral_sliding"])
def test_the_cache_changes_nothing(name: str) -> None:
    for prompt in ([5, 6, 7], [9], [3] * 12):
        outputs = [
            beam_search_generate(
                prompt, build(name), max_gen_len=10, num_beams=4, top_k=4, use_cache=use_cache
            )
            for use_cache in (True, False)
        ]
        assert outputs[0] == outputs[1]
        assert outputs[0]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("num_beams", 0),
        ("top_k", 0),
        ("min_length", -1.0),
        ("alpha", -0.1),
        ("alpha", float("nan")),
        ("min_length", float("nan")),
    ],
)
def test_settings_out_of_range_are_refused_by_name(setting: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"^{setting} must lie in .*, not {value!r}$"):
        BeamSettings(**{setting: value})


@pytest.mark.parametrize("setting", ["num_beams", "top_k"])
def test_counts_that_are_no_whole_numbers_are_refused_by_name(setting: str) -> None:
    counts: dict[str, Any] = {setting: 2.5}
    with pytest.raises(ConfigError, match=f"^{setting} must .*2.5"):
        BeamSettings(**counts)
