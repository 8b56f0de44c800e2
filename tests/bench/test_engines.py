"""What other engines are told: lines that a shell and Python read as they are meant."""

from __future__ import annotations

import ast
import json
import shlex
from dataclasses import replace
from typing import Any

import pytest

from foredraft.bench.advice import Advice, Candidate
from foredraft.bench.engines import ENGINES, PROPOSER, SYNTHETIC, Order, Pair, Table, order
from foredraft.errors import ConfigError

PAIR = Pair("org/big model's", "org/small")


def candidate(drafting: str, gamma: int | None = 4, speedup: float = 1.5) -> Candidate:
    return Candidate(drafting, gamma, 3.0, speedup, speedup)


def advice(*candidates: Candidate, drafter: str | None = "org/small") -> Advice:
    best = candidates[0]
    slow = candidate("auto", None, 0.5)
    return Advice(
        *("org/big", drafter, {}, {1: 0.1}, {0: 1.0}, 0.2, (0.9, 0.8), 0.85),
        *([*candidates, slow], best, slow, best.is_worth_it, None),
    )


def config_of(told: Order) -> dict[str, Any]:
    words = shlex.split(told.text)
    found: dict[str, Any] = json.loads(words[words.index("--speculative-config") + 1])
    return found


def test_vllm_runs_a_draft_model_itself() -> None:
    told = order("vllm", advice(candidate("model", 6)), PAIR)
    assert shlex.split(told.text)[:3] == ["vllm", "serve", PAIR.target]
    assert config_of(told) == {
        "method": "draft_model",
        "model": "org/small",
        "num_speculative_tokens": 6,
    }
    assert SYNTHETIC in told.notes
    foreign = order("vllm", advice(candidate("model")), replace(PAIR, is_foreign=True))
    assert config_of(foreign)["use_heterogeneous_vocab"] is True
    head = order("vllm", advice(candidate("model")), replace(PAIR, is_head=True))
    assert config_of(head)["method"] == "eagle3"


def test_vllm_looks_up_by_its_own_ngram() -> None:
    told = order("vllm", advice(candidate("prompt_lookup", 8)), PAIR)
    assert config_of(told) == {
        "method": "ngram",
        "prompt_lookup_max": 3,
        "prompt_lookup_min": 1,
        "num_speculative_tokens": 8,
    }


@pytest.mark.parametrize("drafting", ["suffix", "ngram", "suffix(factor=2.0)"])
def test_our_drafts_go_inside_vllm(drafting: str) -> None:
    told = order("vllm", advice(candidate(drafting, 8), drafter=None), Pair("big"))
    assert shlex.split(told.text)[0] == f"FOREDRAFT_VLLM_DRAFTER={drafting}"
    assert config_of(told)["method"] == "custom_class"
    assert config_of(told)["model"] == PROPOSER


def test_what_chooses_by_itself_is_given_room() -> None:
    told = order("vllm", advice(candidate("auto", None), drafter=None), Pair("big"))
    assert config_of(told)["num_speculative_tokens"] == 8


@pytest.mark.parametrize("engine", ENGINES)
def test_never_is_a_plain_command(engine: str) -> None:
    told = order(engine, advice(candidate("model", 4, 0.9)), PAIR)
    assert any("decode plainly" in note for note in told.notes)
    for word in ("spec", "assistant", "lookup"):
        assert word not in told.text


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_a_mixture_gives_way_to_the_best_that_the_engine_has(engine: str) -> None:
    found = advice(candidate("hybrid(suffix, model)", 4, 2.0), candidate("model", 3, 1.7))
    told = order(engine, found, PAIR)
    assert "cannot draft as hybrid(suffix, model), gamma 4 does" in told.notes[0]
    assert "model, gamma 3" in told.notes[0]
    alone = order(engine, advice(candidate("hybrid(suffix, model)", 4, 2.0)), PAIR)
    assert "decode plainly" in alone.notes[0]


def test_llama_cpp_mixes() -> None:
    found = advice(candidate("hybrid(suffix, model)", 5, 2.0))
    words = shlex.split(order("llama.cpp", found, Pair("a b.gguf", "c.gguf")).text)
    assert words[:3] == ["llama-server", "-m", "a b.gguf"]
    flags = dict(zip(words[1::2], words[2::2], strict=True))
    assert flags["-md"] == "c.gguf"
    assert flags["--spec-type"] == "ngram-simple,draft-simple"
    assert flags["--spec-draft-n-max"] == flags["--spec-ngram-simple-size-m"] == "5"
    assert flags["--spec-draft-n-min"] == "0"


def test_llama_cpp_reads_gguf_and_was_called_otherwise() -> None:
    told = order("llama.cpp", advice(candidate("suffix", 5)), PAIR)
    assert "-m target.gguf" in told.text
    assert any("GGUF" in note for note in told.notes)
    assert any("--draft-max" in note for note in told.notes)


@pytest.mark.parametrize("is_foreign", [False, True])
def test_transformers_is_told_in_python(is_foreign: bool) -> None:
    told = order(
        "transformers", advice(candidate("model", 5)), replace(PAIR, is_foreign=is_foreign)
    )
    ast.parse(told.text)
    assert repr(PAIR.target) in told.text
    assert "assistant.generation_config.num_assistant_tokens = 5" in told.text
    assert ("assistant_tokenizer=assistant_tokenizer" in told.text) is is_foreign
    looked_up = order("transformers", advice(candidate("suffix", 7)), PAIR)
    ast.parse(looked_up.text)
    assert "prompt_lookup_num_tokens=7" in looked_up.text
    assert any("nearest" in note for note in looked_up.notes)


def test_a_table_is_handed_on() -> None:
    told = order("vllm", advice(candidate("model", 4)), PAIR, [(1, 8, 6), (9, 64, 0)])
    assert config_of(told)["num_speculative_tokens_per_batch_size"] == [[1, 8, 6], [9, 64, 0]]
    assert config_of(told)["num_speculative_tokens"] == 6, "no row may ask for more"


@pytest.mark.parametrize(
    "table",
    [
        [(2, 8, 4)],
        [(1, 8, 4), (8, 9, 0)],
        [(1, 8, -1)],
        [(1, 0, 1)],
        [(1, 8)],
        [(1, 8, 4.5)],
        [(1, 8, True)],
    ],
)
def test_a_table_that_is_none_is_refused(table: Table) -> None:
    with pytest.raises(ConfigError, match="no table by batch size"):
        order("vllm", advice(candidate("model")), PAIR, table)


def test_a_table_is_for_vllm() -> None:
    with pytest.raises(ConfigError, match=r"llama\.cpp takes none"):
        order("llama.cpp", advice(candidate("model")), PAIR, [(1, 8, 4)])
