"""What becomes of the last prompt (`/stats`, `/compare`, `/save`), and `/model`."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from foredraft.cli.view import HEADINGS, View
from foredraft.config import DecodingConfig
from foredraft.decoding import Difference
from foredraft.tracing import summarize
from foredraft.zoo.tokenizer import train_tokenizer
from tests.cli.transcript import converse, open_shell, printed
from tests.toy_engine import PROMPT, STORY, tokenizer, toy_engine

STATISTICS = f"""\
> {PROMPT}

== Speculative ==
{STORY}
acceptance rate 92.3% · # tokens/s · 3.20 tokens/step · mean gamma 3.25

== Target AR ==
{STORY}
# tokens/s

ratio to Target AR: Speculative #x · Target AR #x
> /stats
statistic  Speculative  Target AR
num_steps  5  16
num_target_calls  5  16
num_draft_calls  16  0
num_drafted_tokens  13  0
num_accepted_tokens  12  0
num_emitted_tokens  16  16
acceptance_rate  0.9231  –
conditional_acceptance_rate  0.9231  –
acceptance_by_position  1.00 1.00 1.00 0.67  –
mean_accepted_tokens  2.4  0
mean_acceptance_length  3.2  1
mean_gamma  3.25  –
mean_normalized_entropy  –  –
undrafted_step_share  0.2  1
free_token_share  0.6875  0
tokens_per_second  #  #
total_seconds  #  #
time_to_first_token_seconds  #  #
seconds_per_token  #  #
draft_cost_ratio  #  –
mean_threads  –  –
speedup  #  #
"""


def test_stats_shows_every_statistic_of_the_last_prompt() -> None:
    config = DecodingConfig(ngram=False)
    assert converse(PROMPT, "/stats", config=config) == STATISTICS


def test_stats_before_any_prompt_says_what_to_do() -> None:
    refusal = "error: nothing has been generated yet; type a prompt first"
    assert converse("/stats", "/save x") == f"> /stats\n{refusal}\n> /save x\n{refusal}\n"


@pytest.mark.parametrize("gamma", [4, 8])
def test_compare_runs_all_four_and_cuts_no_statistic(gamma: int) -> None:
    shell = open_shell(config=DecodingConfig(speculative=False, ngram=False, gamma=gamma))
    before = shell.config
    shell.run([f"/compare {PROMPT}"], echo=False)
    assert [r.completion.method for r in shell.results] == list(HEADINGS)
    assert shell.config is before
    table = printed(shell).split("\nstatistic")[1]
    assert "…" not in table
    assert all(heading in table for heading in HEADINGS.values())
    names = {line.split()[0] for line in table.splitlines()[1:]}
    assert names == {*shell.results[0].summary.to_dict(), "speedup"}


def test_save_writes_settings_and_results_as_json_lines(tmp_path: Path) -> None:
    shell = open_shell()
    file = tmp_path / "last run.jsonl"
    shell.run(["/seed 7", PROMPT, f"/save {file}"], echo=False)
    assert printed(shell).endswith(f"\nsaved the settings and 3 results to {file}\n")
    settings, *results = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    assert DecodingConfig.from_dict(settings["config"]) == shell.config
    assert [r["method"] for r in results] == ["speculative", "ngram", "target"]
    for saved, kept in zip(results, shell.results, strict=True):
        assert saved["text"] == STORY
        assert saved["seed"] == 7
        assert saved["matches_baseline"] is True
        summary = summarize(kept.completion.records).to_dict()
        assert {name: saved[name] for name in summary} == summary


def test_a_refused_prompt_leaves_the_last_results() -> None:
    shell = open_shell()
    shell.run([PROMPT, "\0"], echo=False)
    assert {r.completion.text for r in shell.results} == {STORY}


@cache
def random_model(vocab_size: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config)


def test_model_loads_another_drafter_and_the_output_stays(tmp_path: Path) -> None:
    random_model(len(tokenizer())).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    shell = open_shell()
    target = shell.engine.target
    shell.run([f"/model drafter {tmp_path}", PROMPT], echo=False)
    assert printed(shell).startswith(f"model: toy-target, {tmp_path}\n")
    assert shell.engine.target is target
    speculative = shell.results[0]
    assert speculative.completion.text == STORY
    assert speculative.summary.num_accepted_tokens < 12  # it is not the toy drafter that drafts


def test_a_drafter_with_another_tokenizer_is_taken_and_changes_no_text(tmp_path: Path) -> None:
    stranger = train_tokenizer(["quite another text, with words of its own"], 300)
    random_model(len(stranger)).save_pretrained(tmp_path)
    stranger.save_pretrained(tmp_path)
    shell = open_shell(toy_engine())
    shell.run([f"/model drafter {tmp_path}", PROMPT], echo=False)
    assert printed(shell).startswith(f"model: toy-target, {tmp_path}\n")
    assert shell.results[0].completion.text == STORY
    assert shell.results[0].summary.num_drafted_tokens > 0


def test_a_model_that_does_not_fit_or_exist_is_refused_and_the_old_one_stays() -> None:
    engine = toy_engine()
    shell = open_shell(engine)
    lines = ["/model drafter bundled-seq2seq", "/model target no/such/folder", PROMPT]
    shell.run(lines, echo=False)
    mismatch, missing, *_ = printed(shell).splitlines()
    assert " cannot draft for a decoder-only target; " in mismatch
    assert mismatch.endswith(", or none: --drafter none")
    assert missing == (
        "error: no model folder 'no/such/folder'; give 'bundled', 'bundled-seq2seq', an existing "
        "folder or .gguf file, or a hub name such as Qwen/Qwen2.5-0.5B or owner/name:file.gguf"
    )
    assert shell.engine is engine
    assert shell.results[0].completion.text == STORY


@pytest.mark.parametrize(
    ("difference", "sentence"),
    [
        (Difference(3, None, 0.0), "(one output ends there)"),
        (Difference(3, 0.002, 0.01), "(a near-tie of rounding: logit margin 0.002)"),
        (Difference(3, 1.5, 0.01), "(logit margin 1.5, too much for rounding)"),
    ],
)
def test_a_greedy_difference_is_a_near_tie_or_a_bug(difference: Difference, sentence: str) -> None:
    engine = toy_engine()
    results = engine.compare(PROMPT, DecodingConfig(), ("speculative", "target"))
    stream = io.StringIO()
    View(stream).ratios([replace(results[0], matches_baseline=difference), results[1]])
    last = stream.getvalue().splitlines()[-1]
    assert last == f"Speculative differs from Target AR at token 3 {sentence}"
