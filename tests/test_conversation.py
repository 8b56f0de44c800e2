"""A conversation answers as a fresh reading of its whole text does, and reads only what is new."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from foredraft.config import DecodingConfig
from foredraft.core import FinishReason
from foredraft.drafting.suffix import SuffixDrafter
from foredraft.errors import ContextOverflow, RequestError
from foredraft.loading.runtime import can_fuse
from tests.talkers import (
    END,
    GREEDY,
    SAMPLED,
    Listener,
    fresh,
    speaker,
    steps,
    talkers,
    text_of,
    token,
)

PROMPTS = ("The quick brown fox", "and the dog?", "One, two, three", "a house by the sea")
needs_a_compiler = pytest.mark.skipif(not can_fuse(), reason="no C compiler here")
WAYS: dict[str, tuple[dict[str, Any], DecodingConfig, str]] = {
    "draft model": ({}, GREEDY, "speculative"),
    "draft model, sampled": ({}, SAMPLED, "speculative"),
    "coupled": ({}, SAMPLED.replace(verifier="coupled"), "speculative"),
    "suffix": ({"alone": True}, GREEDY.replace(drafting="suffix"), "speculative"),
    "hybrid": ({}, GREEDY.replace(drafting="hybrid(suffix, model)"), "speculative"),
    "suffix, sampled": ({"alone": True}, SAMPLED.replace(drafting="suffix"), "speculative"),
    "n-grams": ({"alone": True}, GREEDY, "ngram"),
    "plain": ({"alone": True}, GREEDY, "target"),
    "plain, sampled": ({"alone": True}, SAMPLED, "target"),
    "without a cache": ({}, GREEDY.replace(cache=False), "speculative"),
    "transformers": ({"runtime": "llama"}, GREEDY, "speculative"),
}


@pytest.mark.parametrize(("models", "config", "method"), WAYS.values(), ids=WAYS)
def test_every_turn_is_that_of_a_fresh_reading(
    models: dict[str, Any], config: DecodingConfig, method: str
) -> None:
    engine = talkers(**models)
    conversation = engine.conversation(system="Be brief.")
    for prompt in PROMPTS:
        generation = conversation.say(prompt, config, method=method)
        whole = text_of(conversation)
        answer = generation.completion
        assert steps(answer.records) == steps(fresh(engine, whole, config, method))
        assert conversation.messages[-1] == {"role": "assistant", "content": answer.text}
    assert [m["role"] for m in conversation.messages] == ["system", *["user", "assistant"] * 4]


@needs_a_compiler
def test_the_logits_of_a_turn_are_to_the_bit_those_of_the_whole_text_the_turns_end_included() -> (
    None
):
    engine = talkers(alone=True)
    network = engine.target.model
    conversation = engine.conversation()
    end = token(END)
    for number, prompt in enumerate(PROMPTS):
        generation = conversation.say(prompt, GREEDY, method="target")
        whole, context = text_of(conversation), generation.request.context
        assert whole.count(end) == 2 * number + 1  # of every prompt, of every answer but the next
        held = context.length
        assert (held == 0) is (number == 0)
        ours = context.fork().extend(whole[held:], keep=len(whole) - held)
        theirs = network.open(whole).extend(whole, keep=len(whole))
        assert torch.equal(ours, theirs[held:])
        assert generation.completion.tokens


@pytest.mark.parametrize("says_end", [False, True])
def test_only_the_new_turn_is_read_by_target_and_draft_model(
    says_end: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    swapped = None
    if says_end:  # the seventh token of the first answer ends it
        swapped = talkers().conversation().say(PROMPTS[0], GREEDY).completion.tokens[6]
    engine = talkers(says_end=swapped)
    assert engine.drafter is not None
    conversation = engine.conversation()
    first = conversation.say(PROMPTS[0], GREEDY)
    before, answer = text_of(conversation), first.completion
    reason = FinishReason.EOS if says_end else FinishReason.LENGTH
    assert answer.finish_reason is reason
    assert (answer.tokens[-1] == token(END)) is says_end
    target = Listener(engine.target.model, monkeypatch)
    drafter = Listener(engine.drafter.model, monkeypatch)
    second = conversation.say(PROMPTS[1], GREEDY)
    new = [*([] if says_end else [token(END)]), *speaker()("\n<|im_start|>user\n")["input_ids"][1:]]
    known = [*before, *answer.tokens]
    assert text_of(conversation)[: len(known) + len(new)] == known + new
    second.completion  # noqa: B018
    assert target.fed[0] == text_of(conversation)[len(known) - 1 :]
    assert conversation.reading.num_tokens == len(text_of(conversation))
    assert conversation.reading.num_read == len(target.fed[0])
    # It had not read the end of the answer, and reads the target's first token of the next.
    assert len(target.fed[0]) <= len(drafter.fed[0]) <= len(target.fed[0]) + 1 + GREEDY.gamma


def test_drafters_that_copy_see_every_turn() -> None:
    engine, config = talkers(alone=True), GREEDY.replace(drafting="suffix", length=40)
    conversation = engine.conversation()
    conversation.say(PROMPTS[0], config).completion  # noqa: B018
    again = conversation.say(PROMPTS[0], config)
    assert again.completion.tokens
    drafter = again.request.drafter
    assert isinstance(drafter, SuffixDrafter)
    assert drafter.text[: len(text_of(conversation))] == text_of(conversation)


# --- answers that are cut -------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["target", "speculative"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_stop_string_is_no_part_of_the_text(method: str, size: int) -> None:
    engine = talkers()
    free = engine.conversation().say(PROMPTS[0], GREEDY, method=method).completion.text
    config = GREEDY.replace(stop=(free[4 : 4 + size],))
    conversation = engine.conversation()
    done = conversation.say(PROMPTS[0], config, method=method).completion
    assert done.finish_reason is FinishReason.STOP
    assert conversation.messages[-1]["content"] == done.text == free[: free.index(config.stop[0])]
    generation = conversation.say(PROMPTS[1], GREEDY, method=method)
    whole = text_of(conversation)
    assert f"assistant\n{done.text}{END}\n{'<|im_start|>'}user" in engine.decode(whole)
    answer = generation.completion
    assert steps(answer.records) == steps(fresh(engine, whole, GREEDY, method))


@pytest.mark.parametrize("way", ["draft model", "suffix", "plain, sampled", "transformers"])
@pytest.mark.parametrize("when", [0, 1, 2, 5])
def test_after_an_interrupt_in_any_pass_the_conversation_goes_on(way: str, when: int) -> None:
    models, config, method = WAYS[way]
    engine = talkers(**models)
    conversation = engine.conversation()
    conversation.say(PROMPTS[0], config, method=method).completion  # noqa: B018
    before = conversation.messages
    network, calls = engine.target.model, itertools.count()
    forward = network.forward

    def interrupted(feeds: Any) -> Any:
        output = forward(feeds)
        if next(calls) == when:
            raise KeyboardInterrupt
        return output

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "forward", interrupted)
        generation = conversation.say(PROMPTS[1], config, method=method)
        with pytest.raises(KeyboardInterrupt):
            generation.completion  # noqa: B018
    said = generation.text
    new = conversation.messages[len(before) :]
    assert [m["content"] for m in new] == ([PROMPTS[1], said] if said else [])
    later = conversation.say(PROMPTS[2], config, method=method)
    whole = text_of(conversation)
    assert generation.request.finished
    assert generation.completion.finish_reason is FinishReason.INTERRUPTED
    answer = later.completion
    assert steps(answer.records) == steps(fresh(engine, whole, config, method))
    assert engine.decode(whole).count("<|im_start|>user") == (3 if said else 2)


@pytest.mark.parametrize("runtime", [pytest.param("llama:native", marks=needs_a_compiler), "llama"])
@pytest.mark.parametrize("when", [0, 1, 3])
@pytest.mark.parametrize("whose", ["target", "drafter"])
def test_an_interrupt_in_the_middle_of_a_pass_spoils_no_memory(
    runtime: str, when: int, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = talkers(runtime=runtime)
    assert engine.drafter is not None
    conversation = engine.conversation()
    conversation.say(PROMPTS[0], GREEDY).completion  # noqa: B018
    network: Any = getattr(engine, whose).model
    calls = itertools.count()
    if runtime == "llama":  # between two layers
        owner, name = network.model.model.layers[1], "forward"
    else:
        owner, name = network._passes, "_describe"
    run = getattr(owner, name)

    def interrupted(*args: Any, **named: Any) -> Any:
        if next(calls) == when:
            raise KeyboardInterrupt
        return run(*args, **named)

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        conversation.say(PROMPTS[1], GREEDY).completion  # noqa: B018
    monkeypatch.undo()
    later = conversation.say(PROMPTS[2], GREEDY)
    whole, answer = text_of(conversation), later.completion
    assert steps(answer.records) == steps(fresh(engine, whole, GREEDY, "speculative"))


def test_an_answer_that_is_left_half_way_is_kept_as_far_as_it_came() -> None:
    conversation = talkers(alone=True).conversation()
    generation = conversation.say(PROMPTS[0], GREEDY, method="target")
    chunks = list(itertools.islice(generation, 4))
    said = "".join(chunk.text for chunk in chunks)
    assert conversation.messages[-1]["content"] == said
    assert not generation.request.finished  # looking does not interrupt it
    conversation.say(PROMPTS[1], GREEDY, method="target")
    assert list(generation) == []
    assert [m["content"] for m in conversation.messages] == [PROMPTS[0], said]


# --- undo, reset, system --------------------------------------------------------------------------


def test_undo_takes_the_newest_turn_back_and_reset_all() -> None:
    engine = talkers()
    conversation = engine.conversation(system="Be brief.")
    turns = []
    for prompt in PROMPTS[:3]:
        generation = conversation.say(prompt, GREEDY)
        turns.append((text_of(conversation), generation.completion.tokens))
    assert conversation.undo() == PROMPTS[2]
    assert conversation.undo() == PROMPTS[1]
    assert [m["content"] for m in conversation.messages[1:2]] == [PROMPTS[0]]
    again = conversation.say(PROMPTS[1], GREEDY)
    assert (text_of(conversation), again.completion.tokens) == turns[1]
    assert conversation.reading.num_read == 1  # all but the last was in memory still
    conversation.reset()
    assert [m["role"] for m in conversation.messages] == ["system"]
    again = conversation.say(PROMPTS[0], GREEDY)
    assert (text_of(conversation), again.completion.tokens) == turns[0]
    conversation.reset()
    with pytest.raises(RequestError, match="no turn to take back"):
        conversation.undo()


def test_a_new_system_message_is_read_with_all_that_follows() -> None:
    engine = talkers()
    conversation = engine.conversation()
    conversation.say(PROMPTS[0], GREEDY).completion  # noqa: B018
    conversation.system = "Be long."
    generation = conversation.say(PROMPTS[1], GREEDY)
    whole = text_of(conversation)
    assert engine.decode(whole).startswith("<|im_start|>system\nBe long.<|im_end|>\n")
    assert steps(generation.completion.records) == steps(
        fresh(engine, whole, GREEDY, "speculative")
    )
    conversation.system = None
    assert conversation.messages[0]["role"] == "user"


# --- a full context -------------------------------------------------------------------------------


def test_a_full_context_drops_its_oldest_turns_and_says_so() -> None:
    engine = talkers(max_position_embeddings=160)
    conversation = engine.conversation(system="Be brief.")
    seen = []
    for number in range(12):
        generation = conversation.say(f"{number} {PROMPTS[number % 4]}", GREEDY)
        whole, reading = text_of(conversation), conversation.reading
        assert len(whole) == reading.num_tokens <= 160 - 12
        assert engine.decode(whole).startswith("<|im_start|>system\nBe brief.")
        assert steps(generation.completion.records) == steps(
            fresh(engine, whole, GREEDY, "speculative")
        )
        seen.append((reading.num_dropped_turns, reading.num_dropped_tokens))
        if reading.num_dropped_turns:
            assert len(whole) <= 80
    dropped = sum(turns for turns, _ in seen)
    assert 0 < dropped < 12
    assert len(conversation.messages) == 1 + 2 * (12 - dropped)
    assert all((turns > 0) is (tokens > 0) for turns, tokens in seen)
    assert sum(turns > 0 for turns, _ in seen) < dropped  # several at a time


def test_a_turn_that_fits_in_no_context_is_refused_with_the_numbers() -> None:
    engine = talkers(max_position_embeddings=64)
    conversation = engine.conversation(system="Be brief.")
    conversation.say("and", GREEDY).completion  # noqa: B018
    before = conversation.messages
    with pytest.raises(
        ContextOverflow,
        match=r"this turn has \d+ tokens with the chat template and the system message, but the "
        r"model has 64 positions.*shorten it to 63 tokens",
    ):
        conversation.say("dog " * 60, GREEDY)
    assert conversation.messages == before
    assert conversation.say("and", GREEDY).completion.tokens


def test_settings_and_methods_may_change_from_turn_to_turn() -> None:
    engine = talkers()
    conversation = engine.conversation()
    for (config, method), prompt in zip(
        [
            (GREEDY, "speculative"),
            (SAMPLED, "drafter"),
            (GREEDY.replace(cache=False), "target"),
            (SAMPLED.replace(drafting="bandit(model, suffix)"), "speculative"),
            (GREEDY, "ngram"),
            (GREEDY, "speculative"),
        ],
        itertools.cycle(PROMPTS),
        strict=False,
    ):
        generation = conversation.say(prompt, config, method=method)
        whole, answer = text_of(conversation), generation.completion
        if "bandit" not in config.drafting:  # whose arms depend on the clock
            assert steps(answer.records) == steps(fresh(engine, whole, config, method))
    assert len(conversation.messages) == 12
