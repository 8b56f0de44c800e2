"""Templates of conversations: what they leave out, refuse or lack."""

from __future__ import annotations

from typing import Any

import pytest

from foredraft.errors import ConfigError, RequestError
from tests.talkers import CHATML, END, GREEDY, NO_SYSTEM, fresh, steps, talkers, text_of

PROMPTS = ("The quick brown fox", "and the dog?", "One, two, three", "a house by the sea")
TRIMS = CHATML.replace("message['content'] +", "message['content'].strip() +")
FORGETS = CHATML.replace(  # as templates leave the reasoning of earlier turns out
    "message['content'] +",
    "(message['content'][2:] if message['role'] == 'assistant' else message['content']) +",
)
DROPS_SYSTEM = "{% set messages = messages | rejectattr('role', 'equalto', 'system') %}" + CHATML


@pytest.mark.parametrize("template", [TRIMS, FORGETS])
@pytest.mark.parametrize("method", ["speculative", "target"])
def test_a_template_that_changes_what_was_said_is_followed(template: str, method: str) -> None:
    engine = talkers(template=template)
    conversation = engine.conversation()
    for prompt in PROMPTS:
        generation = conversation.say(f" {prompt} ", GREEDY, method=method)
        whole = text_of(conversation)
        assert engine.decode(whole).endswith("<|im_start|>assistant\n")
        answer = generation.completion
        assert steps(answer.records) == steps(fresh(engine, whole, GREEDY, method))
    if template is FORGETS:
        first = conversation.messages[1]["content"]
        assert f"assistant\n{first[2:]}{END}" in engine.decode(whole)
    assert conversation.reading.num_read < conversation.reading.num_tokens


def test_a_template_without_a_system_role_is_named_with_what_it_says() -> None:
    engine = talkers(template=NO_SYSTEM)
    with pytest.raises(ConfigError, match=r"System role not supported.*leave the system message"):
        engine.conversation(system="Be brief.")
    conversation = engine.conversation()
    with pytest.raises(ConfigError, match="system message"):
        conversation.system = "Be brief."
    assert conversation.system is None
    assert conversation.say(PROMPTS[0], GREEDY).completion.tokens
    with pytest.raises(ConfigError, match="drops system messages"):
        talkers(template=DROPS_SYSTEM).conversation(system="Be brief.")


def test_what_cannot_converse_is_refused() -> None:
    mute = talkers(template="")
    mute.target.tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="no chat template"):
        mute.conversation()


@pytest.mark.parametrize("odd", ["", "  ", "a\x00", 3, None])
def test_what_is_no_text_is_refused_and_changes_nothing(odd: Any) -> None:
    conversation = talkers().conversation()
    conversation.say(PROMPTS[0], GREEDY).completion  # noqa: B018
    before = conversation.messages
    with pytest.raises(RequestError, match="the prompt"):
        conversation.say(odd, GREEDY)
    if odd is not None:
        with pytest.raises(RequestError, match="the system message"):
            conversation.system = odd
    assert conversation.messages == before
