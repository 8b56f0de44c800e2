"""What bends answers, and what is told of their tokens: as the library does it, at any load."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from foredraft.config import DecodingConfig
from foredraft.core import Completion
from foredraft.results import logprob_dicts
from tests.server.house import CONFIG, PROMPT, SECONDS, Served, ask, engine, events, serving

SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["Lily", "Tom"]}, "age": {"type": "integer", "maximum": 9}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "child", "schema": SCHEMA}}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as one:
        yield one


def plainly(length: int = 20, **settings: Any) -> Completion:
    config = CONFIG.replace(length=length, **settings)
    return engine().generate(PROMPT, config, method="target")


BENT: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"presence_penalty": 1.5}, {"presence_penalty": 1.5}),
    ({"frequency_penalty": 0.7}, {"frequency_penalty": 0.7}),
    ({"repetition_penalty": 1.3}, {"repetition_penalty": 1.3}),
    ({"no_repeat_ngram_size": 2}, {"no_repeat_ngram_size": 2}),
    ({"logit_bias": {"16": -99.5, "301": 2}}, {"logit_bias": ("16=-99.5", "301=2")}),
    ({"bad_words": ["little", "Lily"]}, {"bad_words": ("little", "Lily")}),
    ({"min_tokens": 20}, {"min_new_tokens": 20}),
    ({"response_format": JSON_SCHEMA}, {"json_schema": json.dumps(SCHEMA)}),
    ({"response_format": {"type": "json_object"}}, {"json_schema": '{"type": "object"}'}),
    (
        {"regex": " (one|two) dogs? and [0-9]{1,3} cats"},
        {"regex": " (one|two) dogs? and [0-9]{1,3} cats"},
    ),
    ({"grammar": 'start: " yes" | " no"'}, {"grammar": 'start: " yes" | " no"'}),
]


@pytest.mark.parametrize(("fields", "settings"), BENT, ids=[next(iter(f)) for f, _ in BENT])
@pytest.mark.parametrize("temperature", [0, 1])
def test_a_field_does_what_the_setting_does(
    served: Served, fields: dict[str, Any], settings: dict[str, Any], temperature: float
) -> None:
    sampler = "tempered" if temperature else "greedy"
    wanted = plainly(sampler=sampler, seed=7, **settings).text
    answer = ask(served, temperature=temperature, seed=7, **fields)
    assert answer["choices"][0]["text"] == wanted
    if temperature == 0:
        assert wanted != plainly().text or fields.get("min_tokens")


def test_a_schema_cut_short_says_so(served: Served) -> None:
    [choice] = ask(served, response_format=JSON_SCHEMA, max_tokens=3, temperature=0)["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["stop_reason"] == "unsatisfied"
    [choice] = ask(served, response_format=JSON_SCHEMA, max_tokens=60, temperature=0)["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["stop_reason"] is None
    assert json.loads(choice["text"]).keys() == {"name", "age"}


def test_the_official_client_asks_for_structure_and_choices(served: Served) -> None:
    client = openai.OpenAI(base_url=served.url + "/v1", api_key="none")
    answer = client.chat.completions.create(
        model="bundled",
        messages=[{"role": "user", "content": "Tell me a story."}],
        max_tokens=40,
        temperature=1,
        seed=3,
        n=3,
        response_format=JSON_SCHEMA,  # type: ignore[arg-type]
        logprobs=True,
        top_logprobs=2,
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for choice in answer.choices:
        assert json.loads(choice.message.content or "").keys() == {"name", "age"}
        assert choice.logprobs is not None
        content = choice.logprobs.content or []
        said = b"".join(bytes(one.bytes or []) for one in content).decode()
        assert said.removesuffix("<|end|>").startswith(choice.message.content or "")
        assert all(len(one.top_logprobs) == 2 for one in content)
    assert answer.usage is not None
    prompt = len(engine().encode("Tell me a story.", chat=True))
    assert answer.usage.prompt_tokens == prompt  # read once


@pytest.mark.parametrize("stream", [False, True])
def test_choices_are_those_of_the_seeds_behind_the_first(served: Served, stream: bool) -> None:
    wanted = [plainly(sampler="tempered", seed=11 + i).text for i in range(4)]
    body = {"prompt": PROMPT, "max_tokens": 20, "seed": 11, "n": 4, "stream": stream}
    if not stream:
        assert [c["text"] for c in ask(served, **body)["choices"]] == wanted
        return
    texts = [""] * 4
    with httpx.stream("POST", served.url + "/v1/completions", json=body, timeout=SECONDS) as got:
        for event in events(got):
            for choice in event["choices"]:
                texts[choice["index"]] += choice["text"]
    assert texts == wanted
    served.wait_until_idle()


def test_choices_of_several_prompts_stand_behind_each_other(served: Served) -> None:
    prompts = [PROMPT, "The little dog"]
    answer = ask(served, prompt=prompts, n=2, seed=5)
    config = CONFIG.replace(length=20, sampler="tempered")
    wanted = [
        engine().generate(prompt, config.replace(seed=5 + i), method="target").text
        for prompt in prompts
        for i in range(2)
    ]
    assert [choice["text"] for choice in answer["choices"]] == wanted
    read = sum(len(engine().encode(prompt)) for prompt in prompts)
    assert answer["usage"]["prompt_tokens"] == read


def test_log_probabilities_are_those_of_the_library(served: Served) -> None:
    done = plainly(logprobs=3, repetition_penalty=1.2)
    wanted = logprob_dicts(done.records, engine().decode)
    answer = ask(served, temperature=0, logprobs=3, repetition_penalty=1.2)
    told = answer["choices"][0]["logprobs"]
    assert told["tokens"] == [one["text"] for one in wanted]
    assert told["token_logprobs"] == pytest.approx([one["logprob"] for one in wanted], abs=1e-4)
    assert [len(top) for top in told["top_logprobs"]] == [3] * len(wanted)
    assert told["text_offset"][:2] == [0, len(wanted[0]["text"])]
    assert "".join(told["tokens"]) == answer["choices"][0]["text"]


def test_log_probabilities_stream_with_their_tokens(served: Served) -> None:
    body = {"prompt": PROMPT, "max_tokens": 20, "temperature": 0, "logprobs": 0, "echo": True}
    whole = ask(served, **body)["choices"][0]["logprobs"]
    streamed: dict[str, list[Any]] = {name: [] for name in whole}
    url = served.url + "/v1/completions"
    with httpx.stream("POST", url, json=body | {"stream": True}, timeout=SECONDS) as response:
        for event in events(response):
            for choice in event["choices"]:
                for name, values in (choice["logprobs"] or {}).items():
                    streamed[name] += values
    assert streamed["tokens"] == whole["tokens"]
    assert streamed["text_offset"] == whole["text_offset"]
    assert whole["text_offset"][0] == len(PROMPT)


def test_a_prediction_is_drafted_from_and_counted(served: Served) -> None:
    text = plainly(60).text
    content = {"type": "content", "content": [{"type": "text", "text": text}]}
    answer = ask(served, temperature=0, max_tokens=60, prediction=content, drafting="suffix")
    assert answer["choices"][0]["text"] == text
    told = answer["usage"]["completion_tokens_details"]
    assert told["accepted_prediction_tokens"] > 30
    assert told["rejected_prediction_tokens"] <= 4
    other = {"type": "content", "content": "Numbers are odd or even, and 7 is odd. " * 5}
    answer = ask(served, temperature=0, max_tokens=60, prediction=other, drafting="suffix")
    assert answer["choices"][0]["text"] == text
    assert "completion_tokens_details" not in ask(served)["usage"]


def test_texts_with_other_controls_share_passes_and_stay_themselves(served: Served) -> None:
    bodies = [fields | {"seed": i} for i, (fields, _) in enumerate(BENT)]
    alone = [ask(served, **body)["choices"][0]["text"] for body in bodies]
    with httpx.Client(timeout=SECONDS) as client:
        from concurrent.futures import ThreadPoolExecutor

        def post(body: dict[str, Any]) -> str:
            sent = {"prompt": PROMPT, "max_tokens": 20} | body
            answer = client.post(served.url + "/v1/completions", json=sent)
            return str(answer.json()["choices"][0]["text"])

        with ThreadPoolExecutor(8) as several:
            together = list(several.map(post, bodies))
    assert together == alone


def test_the_servers_own_structure_gives_way_to_a_requests() -> None:
    config = DecodingConfig(drafting="auto", verifier="coupled", regex=" no")
    with serving(config=config) as served:
        assert ask(served, temperature=0)["choices"][0]["text"] == " no"
        said = ask(served, temperature=0, regex=" yes( sir)?")["choices"][0]["text"]
        assert re.fullmatch(" yes( sir)?", said)
