"""Chat templates and tokenizers are foreign: they fail in one sentence, in time and memory."""

from __future__ import annotations

import itertools
import os
import resource
import time
from functools import cache
from typing import Any

import pytest

from foredraft.config import METHODS, DecodingConfig
from foredraft.engine import Engine
from foredraft.errors import ForedraftError, ModelError
from foredraft.loading import LoadedModel
from foredraft.template import rendered
from foredraft.text import encode_prompt
from foredraft.zoo.tokenizer import CHAT_TEMPLATE, train_tokenizer
from tests.toy_engine import PROMPT, token, toy_target
from tests.toy_engine import tokenizer as toy_tokenizer

SECONDS, MEGABYTES = 5.0, 500
ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}BODY{% endfor %}{% endfor %}"
FAILING = {
    "raises": "{{ raise_exception('first\nsecond') }}",
    "undefined": "{{ nothing.at.all }}",
    "syntax": "{% for %}",
    "unknown filter": "{{ 1|nonsense }}",
    "division": "{{ 1 / 0 }}",
    "sandbox": "{{ messages.__class__.__mro__ }}",
    "endless": ENDLESS.replace("BODY", ""),
    "endless text": ENDLESS.replace("BODY", "word " * 20),
    "endless macro": "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "endless twice": "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}"
    "{% for i in range(99999) %}{{ f(0) if i > 99998 }}{% for j in range(99999) %}{% endfor %}"
    "{% endfor %}",
    "repeated": "{{ 'a' * 10 ** 10 }}",
    "repeated, folded": "{{ ('a' * 1000) * 1000000 }}",
    "power": "{{ (9 ** 9999999) ** 99 }}",
    "centred": "{{ 'a'|center(10 ** 10) }}",
    "centred, folded": "{{ 'a'|center(10000000000) }}",
    "padded": "{{ 'a'.rjust(10000000000) }}",
    "formatted": "{{ '%10000000000d' % 5 }}",
    "formatted too": "{{ '{:10000000000}'.format(5) }}",
    "doubled": "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(60) %}"
    "{% set n.s = n.s ~ n.s %}{% endfor %}",
    "doubled list": "{% set n = namespace(s=[1, 2]) %}{% for i in range(60) %}"
    "{% set n.s = n.s + n.s %}{% endfor %}",
    "replaced": "{% set s = 'a' * 100000 %}{{ s.replace('a', s) }}",
    "joined": "{{ range(99999)|join('a' * 100000) }}",
    "nested": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "too long": "{{ 'é' * 999999 }}",
}


@cache
def tokenizer() -> Any:
    return train_tokenizer(["A lamp in the hall is lit."] * 3, 300)


def with_template(template: str) -> Any:
    made = tokenizer()
    made.chat_template = template
    return made


@pytest.mark.parametrize("template", FAILING.values(), ids=FAILING)
def test_a_template_that_fails_is_one_sentence_in_time_and_memory(template: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.monotonic()
    with pytest.raises(ModelError, match=r"^the chat template .*; switch chat off") as caught:
        encode_prompt(with_template(template), "the hall", chat=True)
    assert time.monotonic() - begin < SECONDS
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    apart = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - before
    assert max(grown, apart) < MEGABYTES * 1000
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 300


def test_no_process_stays_behind() -> None:
    for template in ("{{ 1 / 0 }}", FAILING["endless"], CHAT_TEMPLATE):
        try:
            encode_prompt(with_template(template), "the hall", chat=True)
        except ModelError:
            assert template != CHAT_TEMPLATE
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_template_that_ends_its_process_is_one_sentence() -> None:
    def leave() -> str:
        os._exit(3)

    with pytest.raises(ModelError, match="the chat template failed with an abrupt end"):
        rendered(leave, "the hall")


LEGAL = {
    "ours": CHAT_TEMPLATE,
    "turns": "{%- for m in messages -%}{{ '<|im_start|>' + m.role + '\n' + m['content']|trim }}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "namespace": "{%- set ns = namespace(n=0) -%}{% for m in messages[::-1] %}"
    "{% set ns.n = ns.n + 1 %}{{ ns.n }}{{ m|tojson }}{% endfor %}",
    "macro": "{% macro turn(m) %}[{{ m.role|upper }}] {{ m.content }}{% endmacro %}"
    "{% for m in messages %}{{ turn(m) }}{% if loop.last %}!{% else %}{% continue %}{% endif %}"
    "{% endfor %}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% endfor %}",
    "markup": "{{ messages[0].content }}<b>&amp;</b>\r\n\u2028",
}


@pytest.mark.parametrize("prompt", ["the hall", "<b> & 'é' 门\n\u2028🎉", "long " * 20_000])
@pytest.mark.parametrize("template", LEGAL.values(), ids=LEGAL)
def test_a_legal_template_gives_the_text_that_transformers_gives(
    template: str, prompt: str
) -> None:
    made = with_template(template)
    message = [{"role": "user", "content": prompt}]
    expected = made.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    ids = made(expected, add_special_tokens=False)["input_ids"]
    assert encode_prompt(made, prompt, chat=True) == ids


class Broken:
    """A tokenizer that fails in one of its methods, and is whole otherwise."""

    def __init__(self, method: str, error: Any) -> None:
        self.method, self.error = method, error

    def __getattr__(self, name: str) -> Any:
        if name == self.method:
            return self._fail
        return getattr(toy_tokenizer(), name)

    def __len__(self) -> int:
        return len(toy_tokenizer())

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._fail() if self.method == "__call__" else toy_tokenizer()(*args, **options)

    def _fail(self, *args: Any, **options: Any) -> Any:
        if isinstance(self.error, BaseException):
            raise self.error
        return self.error


WRONG = [
    RuntimeError("one\ntwo"),
    MemoryError(),
    RecursionError("deep"),
    KeyError("x"),
    None,
    {"input_ids": None},
    {"input_ids": [[1, 2]]},
    {"input_ids": ["a"]},
    7,
]


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        *itertools.product(["__call__", "decode", "apply_chat_template"], WRONG),
        *(("get_vocab", wrong) for wrong in WRONG if not isinstance(wrong, dict)),
    ],
    ids=str,
)
def test_whatever_a_tokenizer_does_is_one_sentence(method: str, wrong: Any) -> None:
    made: Any = Broken(method, wrong)
    engine = Engine(LoadedModel("toy", toy_target(), made, (token("<|eos|>"),)))
    config = DecodingConfig(length=3, chat=method == "apply_chat_template", stop=("é",))
    with pytest.raises(ForedraftError) as caught:
        engine.generate(PROMPT, config, method="target")
    assert "\n" not in str(caught.value)
    assert "tokenizer" in str(caught.value) or "template" in str(caught.value)


def test_every_method_renders_once_a_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    made = toy_tokenizer()
    engine = Engine(*(LoadedModel(n, toy_target(), made, ()) for n in ("target", "drafter")))
    count = [0]

    def counted(render: Any, prompt: str, **options: bool) -> str:
        count[0] += 1
        return rendered(render, prompt, **options)

    monkeypatch.setattr("foredraft.template.rendered", counted)
    engine.compare(PROMPT, DecodingConfig(length=2, chat=True), METHODS)
    assert count == [1]
