"""`foredraft replay` and `foredraft advise` at the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench.test_served import TIMINGS, VLLM
from tests.cli.conftest import Run
from tests.toy_engine import PROMPT


def test_the_command_replays_what_generate_printed(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    lines = (
        {"prompt_tokens": [1, 2, 3], "tokens": [1, 2, 3] * 8},
        {"prompt_tokens": [7, 8], "tokens": [4, 5, 6, 7] * 3},
    )
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    code, out, err = run("replay", str(file), "--json", "--policy", "fixed(gamma=4)")
    assert (code, err) == (0, "")
    found = [json.loads(line) for line in out.splitlines()]
    assert [(one["drafting"], one["policy"]) for one in found] == [
        (drafting, policy)
        for drafting in ("prompt_lookup", "suffix", "ngram")
        for policy in ("fixed(gamma=4)", "oracle")
    ]
    assert all(one["num_emitted_tokens"] == 36 for one in found)
    code, out, _ = run("replay", str(file), "--drafting", "suffix")
    assert code == 0
    assert out.splitlines()[0].split()[:2] == ["drafter", "policy"]
    assert len(out.splitlines()) == 7
    assert run("replay", str(file), "--draft-cost", "-1")[0] == 2
    assert run("replay", str(tmp_path / "missing"))[0] == 2


@pytest.mark.parametrize("length", ["12", "60"], ids=["cut", "ended"])
def test_a_printed_run_can_be_replayed(
    run: Run, loaded: list[Any], tmp_path: Path, length: str
) -> None:
    code, out, _ = run("generate", "--prompt", PROMPT, "--length", length, "--json")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert all(line["prompt"] == PROMPT for line in lines)
    file = tmp_path / "printed.jsonl"
    file.write_text(out, encoding="utf-8")
    code, out, err = run("replay", str(file), "--json", "--drafting", "suffix")
    assert (code, err) == (0, "")
    assert json.loads(out.splitlines()[0])["num_emitted_tokens"] == len(lines[0]["tokens"])


def test_advise_prints_sentences_or_one_object(run: Run, loaded: list[Any], tmp_path: Path) -> None:
    few = ("--length", "20", "--repeats", "2", "--positions", "3")
    code, out, err = run("advise", "--prompt", PROMPT, *few)
    assert (code, err) == (0, "")
    assert "c = " in out
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(f'{{"prompt": "{PROMPT}"}}\n{{"prompt": "Sing"}}\n', encoding="utf-8")
    code, out, err = run("advise", "--prompts", str(prompts), *few, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["draft_cost_ratio"] > 0
    assert len(found["acceptance_by_position"]) == 3
    assert found["recommendation"]["method"] in ("target", "speculative")
    assert run("advise", "--prompts", str(tmp_path / "missing"))[0] == 2


@pytest.mark.parametrize("engine", ["vllm", "llama.cpp", "transformers"])
def test_advise_tells_other_engines(run: Run, loaded: list[Any], engine: str) -> None:
    few = ("--length", "20", "--repeats", "2", "--positions", "3", "--for", engine)
    code, out, err = run("advise", "--prompt", PROMPT, *few)
    assert (code, err) == (0, "")
    assert f"\nFor {engine}:\n" in out
    assert ("synthetic_acceptance_rates" in out) is (engine == "vllm")
    code, out, _ = run("advise", "--prompt", PROMPT, *few, "--json")
    assert json.loads(out)["order"]["engine"] == engine


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--table", "[[1, 8, 4]]"), "give it with --for vllm"),
        (("--for", "vllm", "--table", "[[1, 8"), "reading a table failed"),
        (("--for", "vllm", "--table", "7"), "no table by batch size"),
        (("--for", "vllm", "--table", "[[2, 8, 4]]"), "no table by batch size"),
    ],
)
def test_bad_tables_are_refused_before_anything_is_measured(
    run: Run, loaded: list[Any], words: tuple[str, ...], told: str
) -> None:
    code, out, err = run("advise", *words)
    assert (code, out, loaded) == (2, "", [])
    assert told in err


def test_replay_reads_what_other_engines_say(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    answers = ({"metrics": {"speculative_decoding": VLLM}}, {"timings": TIMINGS})
    for answer, name in zip(answers, ("vLLM", "llama.cpp"), strict=True):
        file.write_text(f"{json.dumps(answer)}\n" * 2, encoding="utf-8")
        code, out, err = run("replay", str(file))
        assert (code, err) == (0, "")
        assert out.startswith(f"{name}, 2 texts: ")
        assert ("tokens/T_v" in out) is (name == "vLLM")
        assert out.splitlines()[-1].startswith("Sums hold no token")
        code, out, _ = run("replay", str(file), "--json")
        assert json.loads(out)["engine"] == name


def test_answers_with_tokens_are_replayed_as_well(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    choice = {"token_ids": [4, 5, 6] * 4, "finish_reason": "length"}
    answer = {"prompt_token_ids": [1, 2], "choices": [choice]}
    metrics = {"metrics": {"speculative_decoding": VLLM}}
    file.write_text(json.dumps(answer | metrics), encoding="utf-8")
    code, out, _ = run("replay", str(file), "--drafting", "suffix", "--policy", "fixed(gamma=4)")
    assert code == 0
    assert out.startswith("vLLM, 1 texts: ")
    assert out.splitlines()[-1].split()[:2] == ["suffix", "oracle"]
