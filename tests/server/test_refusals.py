"""What requests do not get: every refusal is an object that names the field, and hurts nobody."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from foredraft.server import Limits
from tests.server.house import Served, ask, engine, expected, serving

PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as one:
        yield one


BAD: list[tuple[dict[str, Any], str, str | None]] = [
    ({"frobnicate": 1}, "frobnicate", "frobnicate"),
    ({"n": 0}, "greater than or equal to 1", "n"),
    ({"n": 65}, "less than or equal to 64", "n"),
    ({"best_of": 3}, "thrown away", "best_of"),
    ({"presence_penalty": 101}, "less than or equal to 100", "presence_penalty"),
    ({"frequency_penalty": -101}, "greater than or equal to", "frequency_penalty"),
    ({"repetition_penalty": 0}, "greater than or equal to 0.01", "repetition_penalty"),
    ({"no_repeat_ngram_size": -1}, "greater than or equal to 0", "no_repeat_ngram_size"),
    ({"logit_bias": {"the": 1}}, "id=bias", "logit_bias"),
    ({"logit_bias": {"5": 101}}, "less than or equal to 100", "logit_bias"),
    ({"logit_bias": {"99999999": 1}}, "leave it out", None),
    ({"bad_words": [""]}, "at least 1", "bad_words"),
    ({"min_tokens": -1}, "greater than or equal to 0", "min_tokens"),
    ({"logprobs": 21}, "less than or equal to 20", "logprobs"),
    ({"logprobs": True}, "integer", "logprobs"),
    ({"response_format": {"type": "xml"}}, "json_schema", "response_format"),
    ({"response_format": {"type": "json_schema"}}, "missing", "response_format"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": 5}}}},
        "cannot be obeyed",
        "response_format",
    ),
    ({"regex": "[a"}, "cannot be obeyed", "regex"),
    ({"grammar": "start: x"}, "cannot be obeyed", "grammar"),
    ({"grammar": 'start: "a"', "regex": "a"}, "exclude each other", "grammar"),
    ({"prediction": {"type": "file", "content": "x"}}, "content", "prediction"),
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
    (
        {"speculative": False, "prediction": {"type": "content", "content": "x"}},
        "means nothing",
        "prediction",
    ),
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


NEUTRAL: dict[str, tuple[object, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "presence_penalty": (None, 0, 0.0),
    "frequency_penalty": (None, 0),
    "repetition_penalty": (None, 1, 1.0),
    "no_repeat_ngram_size": (None, 0),
    "min_tokens": (None, 0),
    "bad_words": (None, []),
    "logit_bias": (None, {}),
    "logprobs": (None,),
    "prediction": (None,),
    "response_format": (None, {"type": "text"}),
    "user": ("somebody",),
}


def test_neutral_values_change_nothing(served: Served) -> None:
    for name, values in NEUTRAL.items():
        for value in values:
            answer = ask(served, temperature=0, **{name: value})
            assert answer["choices"][0]["text"] == expected(), name


def test_a_body_that_is_none_is_refused_in_words(served: Served) -> None:
    for content, words in (
        *((b"{", "no JSON"), (b"[1]", "object"), (b'"x"', "object"), (b"\xff", "body")),
        (b"[" * 100_000, "body"),
        (b'{"prompt": "x", "\\ud800": 1}', "body"),
        (b'{"prompt": "x", "' + b"y" * 9999 + b'": 1}', "unknown field"),
        (b'{"prompt": "x", "model": "\\ud800"}', "model"),
        (b'{"prompt": "x", "max_tokens": ' + b"9" * 9999 + b"}", "body"),
        (b'{"prompt": "x", "temperature": NaN}', "finite"),
        (b'{"prompt": "\\ud800"}', "U+D800"),
        (b'{"prompt": "x", "stop": "\\ud800"}', "stop"),
    ):
        response = httpx.post(
            served.url + "/v1/completions",
            content=content,
            headers={"content-type": "application/json"},
        )
        assert response.status_code in (400, 404), content[:40]
        assert words in response.json()["error"]["message"], response.text[:300]
        assert len(response.text) < 1000


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


def test_a_page_whose_name_leads_here_may_not_ask() -> None:
    with serving(Limits(hosts=("127.0.0.1", "localhost"))) as served:
        assert served.get("/health").status_code == 200
        for host in ("evil.example", "evil.example:8000", "", "127.0.0.1.evil.example"):
            refused = served.get("/health", headers={"host": host})
            assert refused.status_code == 421
            assert "error" in refused.json()
        assert served.get("/health", headers={"host": "localhost:9"}).status_code == 200


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
