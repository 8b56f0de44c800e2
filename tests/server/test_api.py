"""What requests get: the texts of the engine, whole or in pieces, and numbers that add up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from foredraft.cli.main import command_parser
from foredraft.cli.serve import default_config
from foredraft.errors import ConfigError
from foredraft.server.memory import check_fits, free_bytes
from tests.server.house import (
    CONFIG,
    MODEL,
    SECONDS,
    Served,
    ask,
    engine,
    events,
    expected,
    serving,
)

PROMPT = "Once upon a time"
SAMPLED = {"temperature": 0.8, "top_p": 0.9, "seed": 5}
TEMPERED = "tempered(temperature=0.8, top_k=None, top_p=0.9, min_p=0.0)"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as one:
        yield one


def streamed(served: Served, path: str, **body: Any) -> list[dict[str, Any]]:
    url = served.url + path
    with httpx.stream("POST", url, json=body | {"stream": True}, timeout=SECONDS) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        return list(events(response))


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


def test_a_server_without_a_draft_model_refuses_what_needs_one() -> None:
    from foredraft.engine import Engine

    alone = Engine(engine().target)
    with serving(served=alone) as served:
        assert ask(served, temperature=0)["choices"][0]["text"] == expected(sampler="greedy")
        response = served.post("/v1/completions", prompt=PROMPT, drafting="model")
        assert response.status_code == 400
        assert "draft model" in response.json()["error"]["message"]


def test_the_default_config_decodes_by_seed_and_place_alone() -> None:
    args = command_parser(["serve"]).parse_args(["serve"])
    assert default_config(args, engine()) == CONFIG
    assert (CONFIG.drafting, CONFIG.verifier, CONFIG.seed) == ("auto", "coupled", None)
    args = command_parser(["serve"]).parse_args(["serve", "--drafting", "suffix", "--gamma", "7"])
    assert default_config(args, engine()) == CONFIG.replace(drafting="suffix", gamma=7)


def test_what_cannot_fit_into_memory_is_said_at_the_start(tmp_path: Path) -> None:
    networks = engine().networks
    each = sum(n.max_length * (n.position_bytes or 0) for n in networks)
    assert each > 0
    check_fits(networks, 4, 5 * each)
    with pytest.raises(ConfigError, match="--max-parallel to 3 or less"):
        check_fits(networks, 9, 4 * each)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   7 kB\n")
    assert free_bytes(tmp_path) == 7 * 1024
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("6000\n")
    (group / "memory.current").write_text("1000\n")
    assert free_bytes(tmp_path) == 5000
    assert free_bytes(tmp_path / "nowhere") is None
