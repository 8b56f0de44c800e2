"""The table of slash commands: complete, explained, and offered for completion."""

from __future__ import annotations

import dataclasses
import re

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from foredraft.cli.arguments import add_decoding_flags
from foredraft.cli.commands import COMMANDS
from foredraft.cli.parser import Parser
from foredraft.cli.prompt import CommandCompleter
from foredraft.config import METHODS, DecodingConfig
from foredraft.drafting import DRAFTERS, STORAGES
from foredraft.gamma import GAMMA_POLICIES
from foredraft.sampling import SAMPLERS
from foredraft.verification import VERIFIERS
from tests.cli.transcript import open_shell, printed

PROMISED = [
    "/speculative",
    "/target",
    "/drafter",
    "/ngram",
    "/egag",
    "/egag_gamma_min",
    "/egag_gamma_max",
    "/egag_ema",
    "/length",
    "/gamma",
    "/processor",
    "/debug",
    "/cache",
    "/chat",
    "/clear",
    "/top_k_filler",
    "/set_ngramstorage",
    "/reset_in_between",
    "/help",
    "/quit",
    "/seed",
    "/verifier",
    "/policy",
    "/drafting",
    "/stats",
    "/save",
    "/compare",
    "/model",
]
SETTINGS = [f.name for f in dataclasses.fields(DecodingConfig)]


def completions(typed: str) -> list[str]:
    completer = CommandCompleter(COMMANDS)
    found = completer.get_completions(Document(typed), CompleteEvent())
    return [typed[: len(typed) + c.start_position] + c.text for c in found]


def test_every_promised_command_exists() -> None:
    assert set(PROMISED) <= set(COMMANDS)


def test_every_command_says_in_one_line_what_it_means() -> None:
    for name, command in COMMANDS.items():
        assert name == command.name
        assert name.startswith("/")
        assert command.help.strip()
        assert "\n" not in command.help


def test_help_lists_every_command_with_its_current_value() -> None:
    shell = open_shell(config=DecodingConfig(length=77, cache=False, sampler="topk(top_k=5)"))
    shell.run(["/help"], echo=False)
    lines = printed(shell).splitlines()
    shown = {line.split()[0]: line for line in lines if line.startswith("/")}
    assert list(shown) == list(COMMANDS)
    for line, command in zip(shown.values(), COMMANDS.values(), strict=True):
        if command.value is not None:
            assert f" {command.value(shell)} " in f"{line} "
    assert " 77 " in shown["/length"]
    assert " off " in shown["/cache"]
    assert " topk(top_k=5)" in shown["/processor"]


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_is_within_reach_of_a_command_or_a_flag(setting: str) -> None:
    parser = Parser(prog="foredraft generate")
    add_decoding_flags(parser)
    flags = re.findall(r"--[a-z-]+", parser.format_help())
    assert f"/{setting}" in COMMANDS or f"--{setting.replace('_', '-')}" in flags


def test_a_command_shows_the_value_that_it_has_set() -> None:
    shell = open_shell()
    lines = [
        *(f"/{method}" for method in METHODS),
        *("/gamma 7", "/egag_ema 0.5", "/seed 3", "/top_k_filler 2", "/cache", "/length 9"),
        *("/set_ngramstorage onelevel 4", "/verifier exact_match", "/policy heuristic(gamma=2)"),
        "/drafting hybrid(suffix, model)",
        *("/processor topknucleus 0.5 7 0.8", "/egag_gamma_max 9", "/egag_gamma_min 2"),
    ]
    shell.run(lines, echo=False)
    assert shell.config == DecodingConfig(
        speculative=False,
        ngram=False,
        target=False,
        drafter=True,
        gamma=7,
        egag_ema=0.5,
        seed=3,
        top_k_filler=2,
        cache=False,
        length=9,
        ngramstorage="onelevel",
        ngram_order=4,
        verifier="exact_match",
        policy="heuristic(gamma=2)",
        drafting="hybrid(suffix, model)",
        sampler="topknucleus(temperature=0.5, top_k=7, top_p=0.8)",
        egag_gamma_max=9,
        egag_gamma_min=2,
    )
    for line, told in zip(lines, printed(shell).splitlines(), strict=True):
        name = line.split()[0]
        value = COMMANDS[name].value
        assert value is not None
        assert told == f"{name[1:]}: {value(shell)}"


def test_naming_a_policy_switches_egag_off() -> None:
    shell = open_shell(config=DecodingConfig(egag=True))
    shell.run(["/policy confidence(threshold=0.5)"], echo=False)
    assert not shell.config.egag
    assert shell.config.policy_spec() == "confidence(threshold=0.5)"


def test_completion_offers_the_commands_that_begin_so() -> None:
    assert completions("/") == list(COMMANDS)
    assert completions("/eg") == ["/egag", "/egag_gamma_min", "/egag_gamma_max", "/egag_ema"]
    assert completions("/quit") == ["/quit"]
    assert completions("/x") == []


def test_completion_offers_the_words_that_a_command_knows() -> None:
    for command, words in (
        ("/processor", SAMPLERS.names),
        ("/policy", GAMMA_POLICIES.names),
        ("/verifier", VERIFIERS.names),
        ("/drafting", DRAFTERS.names),
        ("/set_ngramstorage", list(STORAGES)),
        ("/model", ["target", "drafter"]),
        ("/cache", ["on", "off"]),
    ):
        assert completions(f"{command} ") == [f"{command} {word}" for word in words]
    assert completions("/processor top") == ["/processor topk", "/processor topknucleus"]


def test_completion_leaves_prompts_and_later_values_alone() -> None:
    for typed in ("", "Once upon", "a /eg", "/processor nucleus 0", "/nonsense o", "/gamma 1"):
        assert completions(typed) == []
