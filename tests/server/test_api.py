"""What requests get: the texts of the engine, whole or in pieces, and numbers that add up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from foredraft.config import DecodingConfig
from foredraft.server import Limits
from foredraft.server.bodies import TO_COME
from tests.server.house import CONFIG, MODEL, SECONDS, Served, engine, events, serving

PROMPT = "Once upon a time"
SAMPLED = {"temperature": 0.8, "top_p": 0.9, "seed": 5}
TEMPERED = "tempered(temperature=0.8, top_k=None, top_p=0.9, min_p=0.0)"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as one:
        yield one


def ask(served: Served, **body: Any) -> dict[str, Any]:
    response = served.post("/v1/completions", **{"prompt": PROMPT, "max_tokens": 20} | body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def streamed(served: Served, path: str, **body: Any) -> list[dict[str, Any]]:
    url = served.url + path
    with httpx.stream("POST", url, json=body | {"stream": True}, timeout=SECONDS) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        return list(events(response))


def expected(length: int = 20, **settings: Any) -> str:
    config = CONFIG.replace(length=length, **settings)
    return engine().generate(PROMPT, config, method="target").text


@pytest.mark.parametrize(
    ("fields", "settings"),
    [({"temperature": 0}, {"sampler": "greedy"}), (SAMPLED, {"sampler": TEMPERED, "seed": 5})],
    ids=["greedy", "sampled"],
)
def test_a_text_is_that_of_plain_decoding_however_it_is_drafted(
    served: Served, fields: dict[str, Any], settings: dict[str, Any]
) -> None:
    text = expected(**settings)
    for drafting in ({}, {"drafting": "suffix"}, {"drafting": "model", "num_draft_tokens": 7}):
        assert ask(served, **fields, **drafting)["choices"][0]["text"] == text
    assert ask(served, **fields, speculative=False)["choices"][0]["text"] == text


def test_pieces_make_the_whole_and_the_last_one_says_why(served: Served) -> None:
    whole = ask(served, **SAMPLED)
    pieces = streamed(
        *(served, "/v1/completions"),
        **{"prompt": PROMPT, "max_tokens": 20, "stream_options": {"include_usage": True}},
        **SAMPLED,
    )
    *text, last, usage = pieces
    assert "".join(p["choices"][0]["text"] for p in text) == whole["choices"][0]["text"]
    assert last["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == []
    assert usage["usage"] == whole["usage"]
    assert usage["seed"] == whole["seed"] == 5
    assert {p["id"] for p in pieces} == {pieces[0]["id"]}
    assert len(text) > 1


def test_a_conversation_is_answered_as_the_engine_answers_it(served: Served) -> None:
    messages = [{"role": "user", "content": "Tell me a story."}]
    config = CONFIG.replace(length=16, chat=True, sampler="greedy")
    text = engine().generate("Tell me a story.", config, method="target").text
    body: dict[str, Any] = {"messages": messages, "max_completion_tokens": 16, "temperature": 0}
    response = served.post("/v1/chat/completions", **body)
    choice = response.json()["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": text, "refusal": None}
    pieces = streamed(served, "/v1/chat/completions", **body)
    deltas = [p["choices"][0]["delta"] for p in pieces]
    assert deltas[0] == {"role": "assistant"}
    assert "".join(d.get("content", "") for d in deltas) == text
    parts = [{"role": "user", "content": [{"type": "text", "text": "Tell me a story."}]}]
    again = served.post("/v1/chat/completions", **body | {"messages": parts})
    assert again.json()["choices"][0]["message"]["content"] == text


def test_several_prompts_have_a_choice_each_and_ids_are_a_prompt_too(served: Served) -> None:
    prompts = [PROMPT, "The little dog", "In the garden"]
    answer = ask(served, prompt=prompts, temperature=0)
    alone = [ask(served, prompt=p, temperature=0)["choices"][0]["text"] for p in prompts]
    assert [c["text"] for c in answer["choices"]] == alone
    assert [c["index"] for c in answer["choices"]] == [0, 1, 2]
    ids = served.post("/tokenize", prompt=PROMPT).json()["tokens"]
    assert ask(served, prompt=ids, temperature=0)["choices"][0]["text"] == alone[0]
    assert answer["usage"]["prompt_tokens"] > len(ids)
    pieces = streamed(served, "/v1/completions", prompt=prompts, max_tokens=20, temperature=0)
    for index, text in enumerate(alone):
        said = [c["text"] for p in pieces for c in p["choices"] if c["index"] == index]
        assert "".join(said) == text


def test_an_echo_begins_with_the_prompt(served: Served) -> None:
    plain = ask(served, temperature=0)["choices"][0]["text"]
    assert ask(served, temperature=0, echo=True)["choices"][0]["text"] == PROMPT + plain
    pieces = streamed(
        *(served, "/v1/completions"), prompt=PROMPT, max_tokens=20, temperature=0, echo=True
    )
    assert "".join(p["choices"][0]["text"] for p in pieces) == PROMPT + plain


def test_nothing_of_a_stop_string_is_sent(served: Served) -> None:
    text = ask(served, temperature=0, max_tokens=40)["choices"][0]["text"]
    word = re.findall(r"\w{4,}", text)[3]
    answer = ask(served, temperature=0, max_tokens=40, stop=[word])
    assert answer["choices"][0]["text"] == text[: text.index(word)]
    assert answer["choices"][0]["finish_reason"] == "stop"
    pieces = streamed(
        *(served, "/v1/completions"), prompt=PROMPT, max_tokens=40, temperature=0, stop=word
    )
    assert "".join(p["choices"][0]["text"] for p in pieces) == text[: text.index(word)]


def test_sixteen_at_once_get_what_each_gets_alone(served: Served) -> None:
    bodies = [
        {"prompt": f"{PROMPT} {name}", "seed": i, "temperature": 0.5 + 0.1 * (i % 4)}
        | ({"top_k": 20} if i % 3 else {"min_p": 0.05})
        for i, name in enumerate(("Tim", "Lily", "Sam", "Mia") * 4)
    ]
    alone = [ask(served, **body)["choices"][0]["text"] for body in bodies]
    with ThreadPoolExecutor(16) as several:
        together = list(several.map(lambda body: ask(served, **body), bodies))
    assert [answer["choices"][0]["text"] for answer in together] == alone
    assert len(set(alone)) > 8


def test_the_numbers_of_speculation_add_up(served: Served) -> None:
    answer = ask(served, temperature=0, max_tokens=60, drafting="model", num_draft_tokens=3)
    told = answer["metrics"]["speculative_decoding"]
    histogram = told["acceptance_histogram"]
    assert sum(histogram) == told["num_spec_steps"]
    kept = sum(count * i for i, count in enumerate(histogram))
    assert kept == told["num_accepted_draft_tokens"] == answer["timings"]["draft_n_accepted"]
    assert told["num_draft_tokens"] == answer["timings"]["draft_n"] >= kept
    assert told["mean_acceptance_length"] > 1
    assert answer["timings"]["predicted_n"] == answer["usage"]["completion_tokens"]
    assert answer["timings"]["prompt_n"] == answer["usage"]["prompt_tokens"]
    assert answer["timings"]["predicted_per_second"] > 0
    plain = ask(served, temperature=0, speculative=False)["metrics"]["speculative_decoding"]
    assert plain["num_draft_tokens"] == plain["num_spec_steps"] == 0
    assert plain["mean_acceptance_length"] == 1


def test_without_a_seed_texts_differ_and_say_how_to_get_them_again(served: Served) -> None:
    first, second = (ask(served, max_tokens=30) for _ in range(2))
    assert first["choices"][0]["text"] != second["choices"][0]["text"]
    again = ask(served, max_tokens=30, seed=first["seed"])
    assert again["choices"][0]["text"] == first["choices"][0]["text"]


def test_metrics_are_counted(served: Served) -> None:
    def value(name: str) -> float:
        found = re.search(rf"^foredraft_{name} (\S+)$", served.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    before = value("generation_tokens_total"), value("prompt_tokens_total")
    answer = ask(served, temperature=0)
    assert value("generation_tokens_total") == before[0] + answer["usage"]["completion_tokens"]
    assert value("prompt_tokens_total") == before[1] + answer["usage"]["prompt_tokens"]
    assert value("requests_running") == value("requests_waiting") == 0
    assert value("time_to_first_token_seconds_count") > 0
    assert value("inter_token_seconds_count") > 0


def test_the_model_and_its_tokens(served: Served) -> None:
    card = served.get("/v1/models").json()["data"][0]
    assert card["id"] == MODEL
    assert card["chat"] is True
    tokens = served.post("/tokenize", prompt=PROMPT, add_special_tokens=False).json()
    assert served.post("/detokenize", tokens=tokens["tokens"]).json() == {"prompt": PROMPT}
    assert ask(served)["system_fingerprint"] == card["system_fingerprint"]


# --- refusals ---------------------------------------------------------------------------------


BAD: list[tuple[dict[str, Any], str, str | None]] = [
    ({"frobnicate": 1}, "frobnicate", "frobnicate"),
    ({"n": 2}, "not honoured yet", "n"),
    ({"presence_penalty": 0.5}, "not honoured yet", "presence_penalty"),
    ({"logit_bias": {"5": 1}}, "not honoured yet", "logit_bias"),
    ({"response_format": {"type": "json_object"}}, "not honoured yet", "response_format"),
    ({"prediction": {"type": "content", "content": "x"}}, "not honoured yet", "prediction"),
    ({"logprobs": 3}, "not honoured yet", "logprobs"),
    ({"temperature": -1}, "greater than or equal to 0", "temperature"),
    ({"temperature": "0.5"}, "valid number", "temperature"),
    ({"top_p": 0}, "greater than 0", "top_p"),
    ({"max_tokens": 0}, "greater than or equal to 1", "max_tokens"),
    ({"max_tokens": 2.5}, "integer", "max_tokens"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "at most 4", "stop"),
    ({"stop": ""}, "at least 1", "stop"),
    ({"prompt": ""}, "empty", None),
    ({"prompt": [10**9]}, "token", None),
    ({"prompt": "\x00"}, "U+0000", None),
    ({"prompt": []}, "at least 1", "prompt"),
    ({"trace": True}, "--allow-trace", "trace"),
    ({"drafting": "no such thing"}, "drafter", None),
    ({"drafting": "suffix(keep=True)"}, "keep", "drafting"),
    ({"verifier": "rejection_without_residual"}, "lossless", "verifier"),
    ({"num_draft_tokens": 4}, "chooses lengths", "num_draft_tokens"),
    ({"num_draft_tokens": 4, "policy": "entropy"}, "leave one", "num_draft_tokens"),
    ({"speculative": False, "drafting": "suffix"}, "means nothing", "drafting"),
    ({"stream_options": {"include_usage": True}}, "stream", "stream_options"),
]


@pytest.mark.parametrize(("fields", "words", "param"), BAD, ids=[str(b[0])[:40] for b in BAD])
def test_what_is_not_honoured_is_refused_by_name(
    served: Served, fields: dict[str, Any], words: str, param: str | None
) -> None:
    response = served.post("/v1/completions", **{"prompt": PROMPT, "max_tokens": 4} | fields)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert words in error["message"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


def test_neutral_values_of_fields_to_come_are_taken(served: Served) -> None:
    for name, values in TO_COME.items():
        for value in values:
            if name != "top_logprobs" and not (name == "logprobs" and value is False):
                ask(served, **{name: value})
    ask(served, presence_penalty=0.0, repetition_penalty=1.0, user="somebody")


def test_a_body_that_is_none_is_refused_in_words(served: Served) -> None:
    for content, words in ((b"{", "no JSON"), (b"[1]", "object"), (b'"x"', "object")):
        response = httpx.post(
            served.url + "/v1/completions",
            content=content,
            headers={"content-type": "application/json"},
        )
        assert response.status_code == 400
        assert words in response.json()["error"]["message"]


def test_another_model_and_another_place_are_not_found(served: Served) -> None:
    response = served.post("/v1/completions", model="gpt-5", prompt=PROMPT)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert served.get("/v1/nothing").status_code == 404
    assert "error" in served.get("/v1/nothing").json()


def test_a_prompt_beyond_the_context_is_refused_with_the_numbers(served: Served) -> None:
    limit = engine().target.model.max_length
    response = served.post("/v1/completions", prompt=[5] * (limit + 3), max_tokens=4)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert str(limit + 3) in error["message"]
    assert str(limit) in error["message"]


def test_a_step_that_fails_is_a_500_and_the_next_request_is_answered(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = engine().target.model

    def failing(feeds: object) -> object:
        raise RuntimeError("the machine is on fire")

    with monkeypatch.context() as broken:
        broken.setattr(network, "forward", failing)
        for streams in (False, True):
            asked = {"prompt": PROMPT, "max_tokens": 4, "stream": streams}
            response = served.post("/v1/completions", **asked)
            assert response.status_code == 500
            assert response.json()["error"]["type"] == "server_error"
    assert ask(served, temperature=0)["choices"][0]["text"] == expected(sampler="greedy")


def test_a_key_is_asked_for_and_the_health_is_open() -> None:
    with serving(Limits(key="secret")) as served:
        for headers in ({}, {"authorization": "Bearer wrong"}):
            for path in ("/v1/models", "/metrics", "/openapi.json"):
                assert served.get(path, headers=headers).status_code == 401
        assert served.post("/v1/completions", prompt=PROMPT).status_code == 401
        assert served.get("/health").status_code == 200
        assert served.get("/").status_code == 200
        right = {"authorization": "Bearer secret"}
        assert served.get("/v1/models", headers=right).status_code == 200


def test_long_bodies_are_refused_before_they_are_read() -> None:
    with serving(Limits(body_bytes=1000)) as served:
        assert served.post("/v1/completions", prompt="x" * 2000).status_code == 413

        def pieces() -> Iterator[bytes]:
            for _ in range(100):
                yield b" " * 100

        response = httpx.post(served.url + "/v1/completions", content=pieces())
        assert response.status_code == 413
        assert served.post("/v1/completions", prompt=PROMPT, max_tokens=2).status_code == 200


def test_pages_elsewhere_may_ask_only_where_they_are_named() -> None:
    origin = {"origin": "https://elsewhere.example"}
    with serving() as served:
        assert "access-control-allow-origin" not in served.get("/health", headers=origin).headers
    with serving(Limits(origins=("https://elsewhere.example",))) as served:
        found = served.get("/health", headers=origin).headers["access-control-allow-origin"]
        assert found == "https://elsewhere.example"


def test_a_server_without_a_draft_model_refuses_what_needs_one() -> None:
    from foredraft.engine import Engine

    alone = Engine(engine().target)
    with serving(served=alone) as served:
        assert ask(served, temperature=0)["choices"][0]["text"] == expected(sampler="greedy")
        response = served.post("/v1/completions", prompt=PROMPT, drafting="model")
        assert response.status_code == 400
        assert "draft model" in response.json()["error"]["message"]


def test_the_default_config_decodes_by_seed_and_place_alone() -> None:
    assert DecodingConfig(drafting="auto", verifier="coupled") == CONFIG
