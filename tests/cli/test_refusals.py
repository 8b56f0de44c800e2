"""Every command and bad values: one line, nothing changed, and the shell goes on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from foredraft.cli.commands import COMMANDS
from foredraft.config import DecodingConfig
from tests.cli.transcript import as_bytes, converse, open_shell, printed
from tests.toy_engine import PROMPT, STORY, tokenizer

TAKE_NOTHING = [c.name for c in COMMANDS.values() if not c.usage]
SWITCHES = [c.name for c in COMMANDS.values() if c.usage == "[on|off]"]
SAMPLERS = "legal: greedy, multinomial, topk, nucleus, topknucleus, tempered"
STORAGE_USAGE = "usage: /set_ngramstorage basic|onelevel <n>"
POLICIES = (
    "legal: fixed, heuristic, confidence, svip, adaedl, entropy, entropy_cost, cost_aware, "
    "asymmetric, throughput, plain, bandit"
)
DRAFTERS = (
    "legal: model, retokenized, intersection, prompt_lookup, suffix, ngram, plain, hybrid, "
    "bandit, auto"
)
NO_TURNS = "each line is a prompt of its own here, not a turn"
MODEL_USAGE = "usage: /model target|drafter NAME"

# What is typed → the whole sentence.
REFUSALS = {
    "/gamma": "gamma must be a whole number in [1, 1024], not ''",
    "/gamma x": "gamma must be a whole number in [1, 1024], not 'x'",
    "/gamma 2.5": "gamma must be a whole number in [1, 1024], not '2.5'",
    "/gamma 4 5": "gamma must be a whole number in [1, 1024], not '4 5'",
    "/gamma 0": "gamma must lie in [1, 1024], not 0",
    "/length": "length must be a whole number in [1, 1000000000], not ''",
    "/length many": "length must be a whole number in [1, 1000000000], not 'many'",
    "/length 0": "length must lie in [1, 1000000000], not 0",
    "/top_k_filler": "top_k_filler must be a whole number in [1, 1024], not ''",
    "/top_k_filler 0": "top_k_filler must lie in [1, 1024], not 0",
    "/seed": f"seed must be a whole number in [0, {2**63 - 1}], not ''",
    "/seed 1.5": f"seed must be a whole number in [0, {2**63 - 1}], not '1.5'",
    "/repetition_penalty 0": "repetition_penalty must lie in [0.01, 100], not 0.0",
    "/presence_penalty much": "presence_penalty must be a number in [-100, 100], not 'much'",
    "/frequency_penalty 101": "frequency_penalty must lie in [-100, 100], not 101.0",
    "/logit_bias the": (
        "logit_bias 'the': logit_bias must be a whole number in [0, 2147483647], not 'the'; "
        "write id=bias, e.g. 42=-5.5"
    ),
    "/no_repeat_ngram_size -1": "no_repeat_ngram_size must lie in [0, 1024], not -1",
    "/min_new_tokens some": (
        "min_new_tokens must be a whole number in [0, 1000000000], not 'some'"
    ),
    "/json_schema nowhere.json": "cannot read 'nowhere.json': No such file or directory",
    "/grammar nowhere.lark": "cannot read 'nowhere.lark': No such file or directory",
    "/prediction nowhere.txt": "cannot read 'nowhere.txt': No such file or directory",
    "/stop \ud800": (
        "the stop string '\\ud800' is not text: it holds U+D800, which no text holds; "
        "give valid UTF-8"
    ),
    "/bad_words \ud800": (
        "the text in bad_words '\\ud800' is not text: it holds U+D800, which no text holds; "
        "give valid UTF-8"
    ),
    "/regex [a": (
        "regex '[a' cannot be obeyed: 'at 1(8): invalid regex \"[a\" (in regex): regex parse "
        "error: [a ^ error: unclosed character class 1 | start: /[a/ ^'; correct it"
    ),
    "/logprobs -1": "logprobs must lie in [0, 1000], not -1",
    "/n 0": "n must lie in [1, 64], not 0",
    "/egag_gamma_min": "egag_gamma_min must be a whole number in [1, 1024], not ''",
    "/egag_gamma_max ∞": ("egag_gamma_max must be a whole number in [1, 1024], not '∞'"),
    "/egag_ema": "egag_ema must be a number in [0, 1), not ''",
    "/egag_ema half": "egag_ema must be a number in [0, 1), not 'half'",
    "/egag_ema 0.1 0.2": "egag_ema must be a number in [0, 1), not '0.1 0.2'",
    "/processor": f"/processor needs a name; {SAMPLERS}",
    "/processor nuclus 1 1": f"unknown sampler 'nuclus' (did you mean 'nucleus'?); {SAMPLERS}",
    "/processor nucleus 1 1 1": (
        "too many values for sampler 'nucleus'; usage: nucleus <temperature> <top_p>"
    ),
    "/processor nucleus 0 1": "sampler 'nucleus': temperature must lie in (0, 10000], not 0",
    "/processor nucleus 1 1.1": "sampler 'nucleus': top_p must lie in (0, 1], not 1.1",
    "/processor topk 1 0": "sampler 'topk': top_k must lie in [1, 2147483647], not 0",
    "/set_ngramstorage": f"/set_ngramstorage needs a name and n, not ''; {STORAGE_USAGE}",
    "/set_ngramstorage basic": (
        f"/set_ngramstorage needs a name and n, not 'basic'; {STORAGE_USAGE}"
    ),
    "/set_ngramstorage basic x": "ngram_order must be a whole number in [2, 64], not 'x'",
    "/set_ngramstorage basic 3 4": (
        f"/set_ngramstorage needs a name and n, not 'basic 3 4'; {STORAGE_USAGE}"
    ),
    "/set_ngramstorage basic 1": "ngram_order must lie in [2, 64], not 1",
    "/set_ngramstorage basics 3": (
        "unknown ngramstorage 'basics' (did you mean 'basic'?); legal: basic, onelevel"
    ),
    "/verifier": (
        "/verifier needs a name; "
        "legal: rejection, rejection_without_residual, block, exact_match, coupled"
    ),
    "/verifier trust": (
        "unknown verifier 'trust'; "
        "legal: rejection, rejection_without_residual, block, exact_match, coupled"
    ),
    "/verifier rejection(": (
        "cannot read the verifier 'rejection('; write name or name(key=value, key=value)"
    ),
    "/policy": f"/policy needs a name; {POLICIES}",
    "/drafting": f"/drafting needs a name; {DRAFTERS}",
    "/drafting sufix": f"unknown drafter 'sufix' (did you mean 'suffix'?); {DRAFTERS}",
    "/drafting hybrid(model, suffix)": (
        "drafter 'hybrid': first must be a drafter that retrieves, not 'model'; "
        "legal: prompt_lookup, suffix, ngram"
    ),
    "/policy fixd": (f"unknown gamma policy 'fixd' (did you mean 'fixed'?); {POLICIES}"),
    "/policy fixed(gamma=0)": "gamma policy 'fixed': gamma must lie in [1, 1024], not 0",
    "/policy fixed(gama=3)": (
        "gamma policy 'fixed' has no parameter 'gama' (did you mean 'gamma'?); legal: gamma"
    ),
    "/system Be brief": f"{NO_TURNS}; foredraft chat --chat begins one",
    "/undo": f"{NO_TURNS}; foredraft chat --chat begins one",
    "/reset": f"{NO_TURNS}; foredraft chat --chat begins one",
    "/compare": "the prompt is empty; give at least one character that is not a space",
    "/save": "/save needs a file name; usage: /save FILE",
    "/overwrite": "/overwrite needs a file name; usage: /overwrite FILE",
    "/save no/such/folder/x": "cannot write 'no/such/folder/x': No such file or directory",
    "/model": f"/model needs a role and a name, not ''; {MODEL_USAGE}",
    "/model target": f"/model needs a role and a name, not 'target'; {MODEL_USAGE}",
    "/model teacher x": f"/model needs a role and a name, not 'teacher x'; {MODEL_USAGE}",
    "/gama 3": "unknown command '/gama' (did you mean '/gamma'?); /help lists all commands",
    "/": "unknown command '/'; /help lists all commands",
    f"/{'x' * 100}": f"unknown command '/{'x' * 36}...'; /help lists all commands",
} | {
    f"{name} maybe": f"{name} takes on, off or nothing (toggles), not 'maybe'" for name in SWITCHES
}


def refusal(line: str, config: DecodingConfig | None = None) -> str:
    """Run a line that must be refused, then one that must not; return the refusal's sentence."""
    shell = open_shell(config=config)
    if line.startswith("/save "):
        shell.run_prompt(PROMPT, shell.config)
    before, already = shell.config, len(printed(shell))
    shell.run([line], echo=False)
    assert shell.config is before
    told = printed(shell)[already:]
    assert told.count("\n") == 1
    assert told.startswith("error: ")
    shell.run(["/seed 7"], echo=False)
    assert printed(shell)[already:] == told + "seed: 7\n"
    return told.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize("line", REFUSALS)
def test_a_refusal_is_one_sentence_and_changes_nothing(line: str) -> None:
    assert refusal(line) == REFUSALS[line]


def test_every_command_that_takes_values_is_refused_somewhere() -> None:
    refused = {line.split(" ")[0] for line in REFUSALS}
    assert refused >= set(COMMANDS) - set(TAKE_NOTHING)


@pytest.mark.parametrize("name", TAKE_NOTHING)
def test_a_command_that_takes_nothing_refuses_values(name: str) -> None:
    assert "'now'" in refusal(f"{name} now")


@pytest.mark.parametrize(
    ("line", "settings", "name", "legal", "value"),
    [
        ("/egag_gamma_min 5", {}, "egag_gamma_min", "[1, 4]", "5"),
        ("/egag_gamma_max 2", {"egag_gamma_min": 3}, "egag_gamma_max", "[3, 1024]", "2"),
        ("/gamma 2", {"egag_gamma_min": 3}, "gamma", "[3, 1024]", "2"),
        ("/gamma 30", {"policy": "heuristic"}, "gamma", "[1, 20]", "30"),
        ("/egag_ema 1", {}, "egag_ema", "[0, 1)", "1.0"),
        ("/egag_ema 1.5", {}, "egag_ema", "[0, 1)", "1.5"),
        ("/egag_ema nan", {}, "egag_ema", "[0, 1)", "nan"),
        ("/processor multinomial 1e999", {}, "temperature", "(0, 10000]", "inf"),
    ],
)
def test_a_refusal_names_what_was_typed_its_range_and_its_value(
    line: str, settings: dict[str, Any], name: str, legal: str, value: str
) -> None:
    sentence = refusal(line, DecodingConfig(**settings))
    assert re.search(rf"\b{name}\b", sentence)
    assert legal in sentence
    assert f"not {value}" in sentence


@pytest.mark.parametrize(
    "line",
    [
        "/processor greedy {[]}",
        f"/processor greedy {'-' * 100_000}1",
        "/verifier rejection(x={[]})",
        "/policy fixed(gamma={[]})",
        "/set_ngramstorage basic ³",
        f"/set_ngramstorage basic {'9' * 5000}",
        "/model target ~no_such_user/model",
        f"/model target {'x' * 5000}",
        "/save a\0b",
        "/save ~no_such_user/file",
    ],
    ids=lambda line: line[:34],
)
def test_nonsense_never_ends_the_shell(line: str) -> None:
    refusal(line)


@pytest.mark.parametrize("name", ["/gamma", "/seed", "/set_ngramstorage", "/policy", "/chat"])
def test_a_refusal_stays_short_whatever_was_typed(name: str) -> None:
    assert len(refusal(f"{name} {'x' * 5000}")) < 300


# --- prompts and lines that are no text, or far too much ------------------------------------------

ONE_METHOD = DecodingConfig(speculative=False, ngram=False)
TOO_LONG = f"""\
> {"la " * 66}la …
error: the prompt has 201 tokens but the model has 200 positions, one of them for a new token; \
shorten the prompt to 199 tokens
> {PROMPT}

== Target AR ==
{STORY}
# tokens/s
"""


def test_a_prompt_longer_than_the_context_is_refused_with_the_numbers() -> None:
    assert len(tokenizer()("la" + " la" * 198)["input_ids"]) == 201
    assert converse("la" + " la" * 198, PROMPT, config=ONE_METHOD) == TOO_LONG


def test_a_prompt_of_a_megabyte_is_refused_in_one_short_line() -> None:
    echo, refusal, rest = converse("la " * 350_000, config=ONE_METHOD).split("\n")
    assert rest == ""
    assert len(echo) < 250
    assert re.fullmatch(
        r"error: the prompt has \d{6} tokens but the model has 200 positions, .*", refusal
    )


ODD = """\
> \ufffd\ufffd
error: the prompt is not text: it holds the character U+DCFF; give valid UTF-8 without control \
characters
> a\ufffdb
error: the prompt is not text: it holds the character U+0000; give valid UTF-8 without control \
characters
> /gamma \ufffd
error: gamma must be a whole number in [1, 1024], not '\\udcff'
> /\ufffd
error: unknown command '/\\udcff'; /help lists all commands
"""


def test_bytes_that_are_no_text_and_zeros_are_refused_legibly() -> None:
    lines = ("\udcff\udcfe", "a\0b", "/gamma \udcff", "/\udcff")
    assert as_bytes(lines).decode() == ODD


def test_a_file_name_that_is_no_text_does_not_end_the_shell(tmp_path: Path) -> None:
    lines = (PROMPT, f"/save {tmp_path}/\udcff", "/seed 7")
    assert as_bytes(lines, ONE_METHOD).decode().endswith("\nseed: 7\n")
