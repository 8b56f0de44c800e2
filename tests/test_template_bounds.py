"""Templates that cannot run on run here; all others in a process of their own."""

from __future__ import annotations

import os
from typing import Any

import pytest

from foredraft.template_bounds import is_bounded
from foredraft.text import encode_prompt
from foredraft.zoo.tokenizer import CHAT_TEMPLATE
from tests.kinds.test_F3_templates_and_tokenizers import FAILING, LEGAL, with_template
from tests.talkers import CHATML

TURN = "'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'"
BOUNDED = {
    "ours": CHAT_TEMPLATE,
    "chatml": CHATML,
    "first turn": "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}{{ 'Be brief.' }}{% endif %}{{"
    + TURN
    + "}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}",
    "header": "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '[' + message['role'] + ']' + message['content'] | trim + '<|eot|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}",
    "system apart": "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
    "{% else %}{% set rest = messages %}{% endif %}{% for message in rest %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ message['content'].strip() }}"
    "{% endfor %}",
    "tools": "{%- if tools %}{%- for tool in tools %}{{ tool | tojson }}{%- endfor %}{%- endif %}"
    "{%- for message in messages %}{%- if message.role in ['user', 'system'] %}{{-" + TURN + "}}"
    "{%- elif message.role == 'assistant' %}{%- for tool_call in message.tool_calls %}"
    "{%- if tool_call.function is defined %}{%- set tool_call = tool_call.function %}{%- endif %}"
    "{{- tool_call.arguments | tojson }}{%- endfor %}{%- endif %}{%- endfor %}",
    "thoughts": "{%- set ns = namespace(last=messages|length - 1, is_open=true) %}"
    "{%- for message in messages[::-1] %}{%- if ns.is_open and message.role == 'user' %}"
    "{%- set ns.is_open = false %}{%- set ns.last = ns.last - loop.index0 %}{%- endif %}"
    "{%- endfor %}{%- for message in messages %}{%- set content = message.content %}"
    "{%- if '</think>' in content %}{%- set content = message.content.split('</think>')[-1] %}"
    "{%- endif %}{{- content.lstrip('\n') }}{%- endfor %}",
}
ENDS = "{% for message in messages %}BODY{% endfor %}"
UNBOUNDED = FAILING | {
    "characters": "{% for c in messages[0].content %}{{ messages[0].content }}{% endfor %}",
    "within": ENDS.replace("BODY", "{% for other in messages %}{% endfor %}"),
    "within, said": ENDS.replace("BODY", "{% for c in message.content %}{% endfor %}"),
    "within, bent": "{% set message = namespace(x=messages) %}"
    + ENDS.replace("BODY", "{% for other in message.x %}{% endfor %}"),
    "within a test": ENDS.replace(
        "BODY", "{% if 1 %}{% for m in messages %}{% endfor %}{% endif %}"
    ),
    "where there is none": "{% for message in messages %}{% else %}{% for c in 'abc' %}{% endfor %}"
    "{% endfor %}",
    "itself": "{% for message in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "doubled by a set": "{% set a = 'aaaaaaaa' %}" + "{% set a = a + a %}" * 60,
    "doubled by two": "{% set a = 'a' %}{% set b = 'b' %}{% set a = a + b %}{% set b = b + a %}",
    "joined in a name": ENDS.replace("BODY", "{% set n.s = n.s ~ 'x' %}"),
    "escaped": "{% set a = '\\\\' %}" + "{% set a = a | tojson %}" * 60,
    "escaped at once": "{{ messages[0].content" + "|tojson" * 60 + " }}",
    "taken apart": "{{ (messages[0].content.split('a')|string).split('b')|string }}",
    "a list that grew": "{% set messages = messages + messages %}" + ENDS,
    "a list of tuples": "{% for k, v in messages %}{% endfor %}",
    "counted": "{% for i in range(9) %}{% endfor %}",
    "filtered": "{% for m in messages|selectattr('role') %}{% endfor %}",
    "indented": "{{ messages|tojson(indent=999999999) }}",
    "format": "{{ messages[0].content % 5 }}",
    "replaced too": "{{ messages[0].content.replace('', messages[0].content) }}",
    "defined elsewhere": "{% import 'x' as y %}",
    "block": "{% block a %}{% endblock %}",
    "caught": "{% filter trim %}{% endfilter %}",
    "unpacked": "{{ namespace(**messages[0]) }}",
    "date": "{{ strftime_now('%9999999999d') }}",
    "time": "{% set x %}{{ messages }}{% endset %}",
}
# Of these no more is made than is known to be little: they only fail.
ONLY_FAIL = {"raises", "undefined", "sandbox", "syntax"}


@pytest.mark.parametrize("template", BOUNDED.values(), ids=BOUNDED)
def test_a_template_that_goes_through_messages_once_needs_no_process(
    template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_bounded(template)
    made = with_template(template)
    message = [{"role": "user", "content": "the hall"}]
    expected = made.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("it was run apart"))
    ids = made(expected, add_special_tokens=False)["input_ids"]
    assert encode_prompt(made, "the hall", chat=True) == ids


@pytest.mark.parametrize(
    "template", [t for name, t in UNBOUNDED.items() if name not in ONLY_FAIL], ids=str
)
def test_what_may_run_on_or_grow_is_not_trusted(template: str) -> None:
    assert not is_bounded(template)


@pytest.mark.parametrize("name", ["macro", "generation"])
def test_what_is_not_known_is_not_trusted(name: str) -> None:
    assert not is_bounded(LEGAL[name])


def test_long_conversations_and_foreign_tokenizers_are_rendered_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forks, fork = list[int](), os.fork

    def counted() -> int:
        child = fork()
        forks.append(child)
        return child

    monkeypatch.setattr(os, "fork", counted)
    made = with_template(CHAT_TEMPLATE)
    encode_prompt(made, "the hall " * 40_000, chat=True)
    assert len(forks) == 1

    class Foreign(type(made)):  # type: ignore[misc]
        def apply_chat_template(self, *args: Any, **options: Any) -> Any:
            return super().apply_chat_template(*args, **options)

    made.__class__ = Foreign
    try:
        encode_prompt(made, "the hall", chat=True)
    finally:
        made.__class__ = Foreign.__base__
    assert len(forks) == 2
