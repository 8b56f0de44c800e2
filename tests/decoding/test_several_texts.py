"""Several texts in one pass: each is the text it is alone, whoever joins and leaves."""

from __future__ import annotations

import random

import pytest
import torch

from foredraft.config import METHODS, DecodingConfig
from foredraft.decoding import Request, Speculation, begin, step
from foredraft.drafting import DRAFTERS, DraftModelDrafter, DraftParts
from foredraft.engine import MOST_TEXTS, Engine
from foredraft.gamma import FixedGamma
from foredraft.loading.runtime import can_fuse
from foredraft.models import Feed, Network
from foredraft.native.fused import FusedModel
from foredraft.sampling import SAMPLERS, rng_for
from foredraft.verification import VERIFIERS
from tests.kinds.test_F1_one_owner import pair, runtimes
from tests.tiny import VOCAB, build, noisy, random_tokens

SAMPLED = "nucleus(temperature=0.8, top_p=0.9)"
PROMPTS = [random_tokens(random.Random(i), 3 + 5 * i % 17) for i in range(8)]
LENGTHS = [9, 14, 5, 20, 11, 1, 16, 8]
COPYING = ("prompt_lookup", "suffix")
LINES = ("The quick brown", "A house by the sea", "One, two", "The dog does not mind")

needs_a_compiler = pytest.mark.skipif(not can_fuse(), reason="no C compiler here")


def parts_of(
    networks: tuple[Network, Network], drafting: str, verifier: str, sampler: str
) -> Speculation:
    drawn = SAMPLERS.create(sampler)
    neural = DraftModelDrafter(networks[1], drawn)
    drafter = DRAFTERS.create(drafting).build(DraftParts(VOCAB, neural))
    rule = VERIFIERS.create(verifier)
    return Speculation(networks[0], drafter, FixedGamma(4), rule, drawn)


def request(parts: Speculation, number: int) -> Request:
    rng = rng_for(number, keyed=parts.verifier.is_coupled)
    context = parts.target.open(PROMPTS[number])
    made = Request(context, rng, max_new_tokens=LENGTHS[number])
    begin(parts, made)
    return made


def alone(parts: Speculation, number: int) -> list[int]:
    one = request(parts, number)
    while not one.finished:
        step(parts, [one])
    return one.output


@needs_a_compiler
@pytest.mark.parametrize("sampler", ["greedy", SAMPLED])
@pytest.mark.parametrize("verifier", VERIFIERS.names)
@pytest.mark.parametrize(
    "drafting", ["model", "ngram", *(pytest.param(d, marks=pytest.mark.slow) for d in COPYING)]
)
def test_eight_texts_at_once_are_each_the_one_it_is_alone(
    drafting: str, verifier: str, sampler: str
) -> None:
    networks = FusedModel(build("llama")), FusedModel(noisy("llama"))
    parts = parts_of(networks, drafting, verifier, sampler)
    expected = [alone(parts, i) for i in range(len(PROMPTS))]
    source, waiting, running = random.Random(0), list(range(len(PROMPTS))), dict[int, Request]()
    while waiting or running:
        if waiting and (not running or source.random() < 0.6):  # joins in the middle
            number = waiting.pop(0)
            running[number] = request(parts, number)
        chosen = [i for i in running if source.random() < 0.8] or list(running)
        source.shuffle(chosen)
        step(parts, [running[i] for i in chosen])
        for i in chosen:
            if running[i].finished:  # leaves
                assert running.pop(i).output == expected[i]


@needs_a_compiler
@pytest.mark.parametrize("threads", [1, 2])
def test_more_texts_than_a_pass_has_rows_are_each_as_alone(threads: int) -> None:
    network = FusedModel(build("llama"))
    network.threads = threads
    source = random.Random(1)
    begins = [random_tokens(source, source.choice((1, 1, 1, 2, 5, 90))) for _ in range(70)]
    alone = [network.open(tokens) for tokens in begins]
    together = [network.open(tokens) for tokens in begins]
    feeds = [Feed(text, text.begin, keep=min(3, len(text.begin))) for text in together]
    for output, text, feed in zip(network.forward(feeds), alone, feeds, strict=True):
        assert torch.equal(output.logits, text.extend(text.begin, feed.keep))
    for more in (1, 4, 80):  # 80: longer than a pass, beside texts of one token
        tokens = [random_tokens(source, source.choice((1, more))) for _ in begins]
        drafts = network.draft([Feed(t, new) for t, new in zip(together, tokens, strict=True)], 3)
        for drafted, text, new in zip(drafts, alone, tokens, strict=True):
            assert drafted == text.draft(new, 3)
    assert [text.length for text in together] == [text.length for text in alone]


@runtimes
@pytest.mark.parametrize("method", METHODS)
def test_an_engine_says_many_texts_as_it_says_each(runtime: str, method: str) -> None:
    engine = Engine(*pair(runtime))
    config = DecodingConfig(length=8, sampler=SAMPLED, gamma=3, seed=5, verifier="coupled")
    alike = [engine.generate(line, config, method=method) for line in LINES]
    together = engine.generate_many(LINES, config, method=method)
    assert [done.tokens for done in together] == [done.tokens for done in alike]
    assert [done.text for done in together] == [done.text for done in alike]
    assert [done.finish_reason for done in together] == [done.finish_reason for done in alike]


@needs_a_compiler
@pytest.mark.parametrize("sampler", ["greedy", SAMPLED])
def test_sixty_four_prompts_go_through_in_turns(sampler: str) -> None:
    engine = Engine(*pair("compiled"))
    prompts = [f"{LINES[i % 4]} {i}" for i in range(64)]
    assert len(prompts) > MOST_TEXTS
    config = DecodingConfig(length=6, sampler=sampler, gamma=3, seed=1)
    together = engine.generate_many(prompts, config)
    assert [done.tokens for done in together] == [
        engine.generate(prompt, config).tokens for prompt in prompts
    ]


def test_texts_without_a_seed_are_drawn_independently() -> None:
    engine = Engine(*pair("torch"))
    config = DecodingConfig(length=12, sampler="multinomial(temperature=1.0)")
    one, other = engine.generate_many([LINES[0]] * 2, config)
    assert one.seed != other.seed
    assert one.tokens != other.tokens


def test_nothing_to_say_is_nothing_said() -> None:
    assert Engine(*pair("torch")).generate_many([]) == []
