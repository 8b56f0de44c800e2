"""Who asks: OpenAI's own client, a fuzzer of the schema, and the example."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.server.house import MODEL, Served, serving

ROOT = Path(__file__).parents[2]
PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(max_queue=200) as one:
        yield one


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=served.url + "/v1", api_key="none", max_retries=0) as one:
        yield one


def test_completions_whole_and_in_pieces(client: openai.OpenAI) -> None:
    asked = {"model": MODEL, "prompt": PROMPT, "max_tokens": 24, "temperature": 0.8, "seed": 11}
    whole = client.completions.create(**asked)  # type: ignore[call-overload]
    pieces = list(
        client.completions.create(**asked, stream=True, stream_options={"include_usage": True})  # type: ignore[call-overload]
    )
    text = "".join(p.choices[0].text for p in pieces if p.choices)
    assert text == whole.choices[0].text
    assert pieces[-1].usage == whole.usage
    assert whole.usage.completion_tokens == 24
    assert whole.model_extra["metrics"]["speculative_decoding"]["num_draft_tokens"] > 0


def test_conversations_whole_and_in_pieces(client: openai.OpenAI) -> None:
    asked = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Tell me a story."}],
        "max_completion_tokens": 24,
        "temperature": 0,
    }
    whole = client.chat.completions.create(**asked)  # type: ignore[call-overload]
    pieces = list(client.chat.completions.create(**asked, stream=True))  # type: ignore[call-overload]
    text = "".join(p.choices[0].delta.content or "" for p in pieces)
    assert text == whole.choices[0].message.content
    assert pieces[-1].choices[0].finish_reason == whole.choices[0].finish_reason == "length"


def test_models_and_errors(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    with pytest.raises(openai.BadRequestError, match="thrown away") as error:
        client.completions.create(model=MODEL, prompt=PROMPT, best_of=3)
    assert error.value.param == "best_of"
    with pytest.raises(openai.NotFoundError) as missing:
        client.completions.create(model="gpt-5", prompt=PROMPT)
    assert missing.value.code == "model_not_found"


def test_who_stops_listening_ends_the_text(client: openai.OpenAI, served: Served) -> None:
    stream = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=4000, stream=True)
    next(iter(stream))
    stream.close()
    served.wait_until_idle()


def test_a_client_that_does_not_wait_ends_the_text(served: Served) -> None:
    url = served.url + "/v1"
    with (
        openai.OpenAI(base_url=url, api_key="x", max_retries=0) as impatient,
        pytest.raises(openai.APITimeoutError),
    ):
        impatient.completions.create(
            model=MODEL, prompt=PROMPT, max_tokens=2000, temperature=2, timeout=0.05
        )
    served.wait_until_idle()


def test_the_example_runs(served: Served) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "openai_client.py", served.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "the same text twice: True" in done.stdout


def test_the_schema_says_what_is_taken_and_what_is_answered(served: Served) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings

    schema = schemathesis.openapi.from_url(served.url + "/openapi.json")
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=25,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def fuzzed(case: schemathesis.Case) -> None:
            nonlocal tried
            tried += 1
            if isinstance(case.body, dict):
                case.body["max_tokens"] = 3  # what is legal is not to take long
                case.body.pop("max_completion_tokens", None)
            response = case.call(timeout=30)
            assert response.status_code < 500, (case.body, response.text)
            if response.status_code >= 400:
                assert response.json()["error"]["message"]

        fuzzed()
    assert tried > 100
    served.wait_until_idle()
