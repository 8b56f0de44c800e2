"""The documented functions: their equal outputs, and what they refuse."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

import foredraft
from foredraft.errors import (
    ConfigError,
    ContextOverflow,
    ForedraftError,
    RequestError,
    VocabularyMismatch,
)
from foredraft.models import TableModel
from foredraft.verification import VERIFIERS
from tests.tiny import MAX_LENGTH, VOCAB, build, full_logits, noisy, tokenizer

GREEDY = foredraft.GreedyProcessor()
PROMPT = [5, 6, 7, 5, 6]
SAMPLER = foredraft.MultinomialProcessor(temperature=1.0)


def storage() -> foredraft.NGramStorage:
    return foredraft.NGramStorage(3, VOCAB)


def speculative(inputs: Any = PROMPT, **options: Any) -> tuple[list[int], float]:
    return foredraft.speculative_generate(inputs, noisy("llama"), build("llama"), **options)


def ngram(inputs: Any = PROMPT, **options: Any) -> tuple[list[int], float]:
    return foredraft.ngram_assisted_speculative_generate(
        inputs, storage(), build("llama"), **options
    )


def plain(inputs: Any = PROMPT, **options: Any) -> list[int]:
    return foredraft.autoregressive_generate(inputs, build("llama"), **options)


def beam(inputs: Any = PROMPT, **options: Any) -> list[int]:
    return foredraft.beam_search_generate(inputs, build("llama"), **options)


EVERY: dict[str, Callable[..., Any]] = {
    "autoregressive": plain,
    "beam": beam,
    "speculative": speculative,
    "ngram": ngram,
}
every_function = pytest.mark.parametrize("call", EVERY.values(), ids=EVERY)


def ids_of(result: Any) -> list[int]:
    return result[0] if isinstance(result, tuple) else result


VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "gamma_1": {"gamma": 1},
    "gamma_9": {"gamma": 9},
    "no_cache": {"use_cache": False},
    "draft_first": {"first_target": False},
    "short": {"max_gen_len": 3},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_all_methods_give_the_same_greedy_ids(options: dict[str, Any]) -> None:
    shared = {k: v for k, v in options.items() if k in ("max_gen_len", "use_cache")}
    expected = plain(eos_tokens_id=[], **shared)
    assert len(expected) == options.get("max_gen_len", 40)
    assert speculative(eos_tokens_id=[], **options)[0] == expected
    assert ngram(eos_tokens_id=[], **options)[0] == expected


@pytest.mark.parametrize("options", [{"gamma_max": 8}, {"gamma_min": 3}, {"egag_ema_beta": 0.9}])
def test_egag_changes_no_greedy_id(options: dict[str, Any]) -> None:
    assert speculative(use_egag=True, **options)[0] == plain()


def test_the_ids_are_the_argmax_of_the_hugging_face_model() -> None:
    tokens = list(PROMPT)
    for _ in range(12):
        tokens.append(int(full_logits(build("llama"), tokens)[-1].argmax()))
    assert plain(max_gen_len=12, eos_tokens_id=[]) == tokens[len(PROMPT) :]


@pytest.mark.parametrize("call", [plain, speculative, ngram])
def test_generation_ends_with_an_end_token_and_includes_it(call: Callable[..., Any]) -> None:
    free = plain(eos_tokens_id=[])
    for end in set(free[5:9]):
        expected = free[: free.index(end) + 1]
        assert ids_of(call(eos_tokens_id=end)) == expected
        assert ids_of(call(eos_tokens_id=[VOCAB - 1, end])) == expected


@every_function
def test_a_tensor_a_list_and_a_tuple_of_ids_are_the_same_input(call: Callable[..., Any]) -> None:
    expected = call(PROMPT, max_gen_len=6)
    assert call(torch.tensor(PROMPT), max_gen_len=6) == expected
    assert call(tuple(PROMPT), max_gen_len=6) == expected


REFUSED: dict[str, tuple[Any, type[ForedraftError], str]] = {
    "empty": ([], RequestError, "inputs is empty"),
    "empty_tensor": (torch.tensor([], dtype=torch.long), RequestError, "inputs is empty"),
    "batch": ([[5, 6], [7, 8]], RequestError, "batch"),
    "batch_tensor": (torch.tensor([[5, 6]]), RequestError, "batch"),
    "floats": ([5.0, 6.0], RequestError, "ids"),
    "too_large": ([5, VOCAB], RequestError, f"token {VOCAB} is outside .* {VOCAB - 1}"),
    "negative": ([-1, 5], RequestError, "token -1 is outside"),
    "too_long": ([5] * MAX_LENGTH, ContextOverflow, f"{MAX_LENGTH} positions"),
}


@every_function
@pytest.mark.parametrize(("inputs", "kind", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_prompt_is_refused(
    call: Callable[..., Any], inputs: Any, kind: type[ForedraftError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        call(inputs)


@every_function
@pytest.mark.parametrize("max_gen_len", [0, -3])
def test_a_length_below_one_is_refused(call: Callable[..., Any], max_gen_len: int) -> None:
    with pytest.raises(ForedraftError, match=rf"max_gen_len must lie in .*, not {max_gen_len}"):
        call(max_gen_len=max_gen_len)


@pytest.mark.parametrize("verifier", ["rejection", "block", "exact_match", "coupled"])
def test_every_verifier_gives_the_same_greedy_ids(verifier: str) -> None:
    expected = plain(eos_tokens_id=[], verifier=verifier)
    assert expected == plain(eos_tokens_id=[])
    assert speculative(eos_tokens_id=[], verifier=verifier)[0] == expected
    assert ngram(eos_tokens_id=[], verifier=VERIFIERS.create(verifier))[0] == expected


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_coupled_the_seed_alone_decides_the_sampled_ids(seed: int) -> None:
    options: dict[str, Any] = {
        "logits_processor": SAMPLER,
        "seed": seed,
        "verifier": "coupled",
        "eos_tokens_id": [],
    }
    expected = plain(**options)
    assert speculative(gamma=3, **options)[0] == expected
    assert speculative(gamma=6, use_egag=True, use_cache=False, **options)[0] == expected
    assert ngram(**options)[0] == expected
    assert plain(**options | {"seed": seed + 100}) != expected


def test_a_lossy_verifier_cannot_hide_behind_another_one() -> None:
    with pytest.raises(ConfigError, match=r"skip_sample_adjustment .* BlockVerifier"):
        speculative(skip_sample_adjustment=True, verifier="block")


@pytest.mark.parametrize("call", [plain, speculative, ngram])
def test_an_unknown_verifier_is_refused_by_name(call: Callable[..., Any]) -> None:
    with pytest.raises(ForedraftError, match=r"unknown verifier 'blok' .*'block'"):
        call(verifier="blok")


@pytest.mark.parametrize("call", [speculative, ngram])
def test_a_gamma_below_one_is_refused(call: Callable[..., Any]) -> None:
    with pytest.raises(ForedraftError, match="gamma must lie in"):
        call(gamma=0)


def cycle(step: int) -> TableModel:
    """A table in which n is followed by n + step, modulo 8; after 3 and 7 always by n + 1."""

    def row(tokens: tuple[int, ...]) -> list[float]:
        last = tokens[-1] if tokens else 0
        following = last + (1 if last % 4 == 3 else step)
        return [float(t == following % 8) for t in range(8)]

    return TableModel(row)


def test_the_acceptance_rate_is_accepted_by_drafted() -> None:
    options: dict[str, Any] = {"gamma": 4, "first_target": False, "eos_tokens_id": []}
    run = foredraft.speculative_generate
    assert run([0], cycle(1), cycle(1), max_gen_len=10, **options)[1] == 1.0
    assert run([0], cycle(2), cycle(1), max_gen_len=3, **options)[1] == 0.0
    # They agree after 3 and 7 only; drafts of 4, 3, 2, 1 tokens keep 1, 0, 0, 1 of them.
    assert run([3], cycle(2), cycle(1), max_gen_len=6, **options)[1] == 2 / 10
    assert run([0], cycle(1), cycle(1), max_gen_len=1)[1] == 0.0  # nothing drafted


def test_debug_names_accepted_rejected_recovered_and_bonus_tokens(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ids, _ = foredraft.speculative_generate(
        [0], cycle(2), cycle(1), gamma=1, max_gen_len=7, eos_tokens_id=[], debug=True
    )
    lines = capsys.readouterr().out.splitlines()
    assert ids == [1, 2, 3, 4, 5, 6, 7]
    assert [re.findall(r" (\w+): '", line) for line in lines] == [
        ["target"],
        ["rejected", "recovered"],
        ["rejected", "recovered"],
        ["accepted", "bonus"],
        ["rejected", "recovered"],
        ["target"],
    ]
    assert "accepted: '[4]' bonus: '[5]'" in re.sub(" +", " ", lines[3])
    assert "rejected: '[3]' recovered: '[2]'" in re.sub(" +", " ", lines[1])


@pytest.mark.parametrize(
    ("drafter", "options", "num_steps"),
    [
        ("certain", {}, 4),  # 3 + 3 + 3 + 3 tokens: gamma is the upper bound
        ("certain", {"gamma_max": 5}, 2),
        ("unsure", {}, 6),  # 2 a step: gamma_min is 1
        ("unsure", {"gamma_min": 2}, 4),
        ("unsure", {"gamma_min": 3, "gamma_max": 7}, 3),
    ],
)
def test_egag_drafts_within_its_bounds(
    drafter: str, options: dict[str, Any], num_steps: int, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"certain": [1.0] + [0.0] * 7, "unsure": [0.125] * 8}[drafter]  # H = 0 and H = ln V
    model = TableModel({(): row})
    options = options | {"gamma": 2, "use_egag": True, "first_target": False, "max_gen_len": 12}
    foredraft.speculative_generate([3], model, TableModel({(): row}), debug=True, **options)
    assert len(capsys.readouterr().out.splitlines()) == num_steps


def test_debug_shows_text_with_a_tokenizer(capsys: pytest.CaptureFixture[str]) -> None:
    words = tokenizer()("the", add_special_tokens=False)["input_ids"]
    foredraft.speculative_generate(
        [0], TableModel(always(words[0])), TableModel(always(words[0])), tokenizer(), debug=True
    )
    assert repr(tokenizer().decode([words[0]])) in capsys.readouterr().out


def always(token: int) -> dict[tuple[int, ...], list[float]]:
    return {(): [float(t == token) for t in range(300)]}


@every_function
def test_debug_prints_something_and_changes_nothing(
    call: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    silent = call(max_gen_len=6)
    assert capsys.readouterr().out == ""
    assert call(max_gen_len=6, debug=True) == silent
    assert capsys.readouterr().out.count("\n") >= 2


def test_skip_sample_adjustment_is_another_rule_under_sampling() -> None:
    options: dict[str, Any] = {"logits_processor": SAMPLER, "max_gen_len": 30, "eos_tokens_id": []}
    texts = {
        skip: [speculative(skip_sample_adjustment=skip, seed=s, **options)[0] for s in range(3)]
        for skip in (True, False)
    }
    assert texts[True] != texts[False]
    assert all(len(text) == 30 for text in texts[True])


def test_skip_sample_adjustment_changes_nothing_under_greedy() -> None:
    assert speculative(skip_sample_adjustment=True)[0] == plain()


@pytest.mark.parametrize("call", [plain, speculative, ngram])
def test_the_seed_decides_the_text(call: Callable[..., Any]) -> None:
    options: dict[str, Any] = {"logits_processor": SAMPLER, "eos_tokens_id": []}
    first = ids_of(call(seed=1, **options))
    assert ids_of(call(seed=1, **options)) == first
    assert ids_of(call(seed=2, **options)) != first


def test_an_ngram_storage_is_kept_between_calls() -> None:
    grams = storage()
    rates = [
        foredraft.ngram_assisted_speculative_generate(
            PROMPT, grams, build("llama"), stop_if_unknown=True, filler_top_k=1, eos_tokens_id=[]
        )[1]
        for _ in range(2)
    ]
    assert rates[1] > rates[0]


@pytest.mark.parametrize("drafter_vocab", [VOCAB - 8, VOCAB + 8])
@pytest.mark.parametrize("sampler", [GREEDY, SAMPLER], ids=["greedy", "sampling"])
def test_drafter_and_target_may_be_padded_differently(
    sampler: foredraft.Sampler, drafter_vocab: int
) -> None:
    # With VOCAB - 8 the target emits tokens that the drafter has no embedding for.
    drafter = build("llama", 1, vocab_size=drafter_vocab)
    for seed in range(3):
        prompt = [5 + seed, 6, 7]
        ids, _ = foredraft.speculative_generate(
            prompt, drafter, build("llama"), logits_processor=sampler, eos_tokens_id=[], seed=seed
        )
        assert len(ids) == 40
        if sampler is GREEDY:
            assert ids == plain(prompt, eos_tokens_id=[])


def test_max_fn_normalises_what_is_positive() -> None:
    x = torch.tensor([[0.5, -0.2, 0.3], [-1.0, 0.0, 4.0]])
    expected = torch.tensor([[0.625, 0.0, 0.375], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(foredraft.max_fn(x), expected)
    assert x[0, 1] == -0.2, "the caller's tensor is not edited"


def test_max_fn_of_nothing_positive_is_zero_without_nan() -> None:
    assert torch.equal(foredraft.max_fn(torch.tensor([-1.0, 0.0])), torch.zeros(2))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"verifier": 123}, "verifier must be a name or a Verifier object, not 123"),
        ({"verifier": None}, "legal names: rejection"),
        ({"seed": 1.5}, r"seed must be a whole number in .*, not 1.5"),
        ({"seed": "7", "verifier": "coupled"}, "seed must be a whole number in .*, not '7'"),
        ({"gamma": 2.5}, "gamma must be a whole number"),
        ({"logits_processor": "greedy"}, "logits_processor must be a Sampler object"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_named(settings: dict[str, Any], words: str) -> None:
    row = {(): [0.5, 0.5]}
    with pytest.raises(ConfigError, match=words):
        foredraft.speculative_generate([0], TableModel(row), TableModel(row), **settings)
    if "gamma" not in settings:
        with pytest.raises(ConfigError, match=words):
            foredraft.autoregressive_generate([0], TableModel(row), **settings)


def test_what_drafts_from_another_vocabulary_is_refused() -> None:
    two, three = TableModel({(): [0.5, 0.5]}), TableModel({(): [0.2, 0.3, 0.5]})
    for drafter, target in ((two, three), (three, two)):
        with pytest.raises(VocabularyMismatch, match=r"the drafter has \d tokens but the target"):
            foredraft.speculative_generate([0], drafter, target)
    with pytest.raises(VocabularyMismatch, match="the storage has 9 tokens but the target 3"):
        foredraft.ngram_assisted_speculative_generate([0], foredraft.NGramStorage(3, 9), three)
