"""Flags: they come from the config, reach the loader, and a mistake is one line."""

from __future__ import annotations

import dataclasses
import io
import sys
from pathlib import Path
from typing import Any

import pytest

from foredraft.cli.arguments import STRUCTURED_LENGTH, SWITCHES, add_decoding_flags, decoding_config
from foredraft.cli.main import main
from foredraft.cli.parser import Parser
from foredraft.config import DecodingConfig
from foredraft.engine import Engine
from foredraft.loading import LoadOptions
from tests.cli.conftest import Run
from tests.toy_engine import PROMPT

GENERATE = ("generate", "--prompt", PROMPT)

OTHER = {
    "sampler": "nucleus(temperature=0.5, top_p=0.9)",
    "verifier": "exact_match",
    "policy": "heuristic",
    "drafting": "hybrid(suffix, model)",
    "ngramstorage": "onelevel",
    "json_schema": '{"type": "string"}',
    "regex": "a+",
    "grammar": '{"grammars": [{"lark_grammar": "start: /a/"}]}',
    "prediction": "{ JSON may stand for itself",
}
FLAGGED = [f for f in dataclasses.fields(DecodingConfig) if f.name not in SWITCHES]


def _given(field: dataclasses.Field[Any]) -> tuple[list[str], Any]:
    """Return the words that give a setting another value, and that value."""
    flag = f"--{field.name.replace('_', '-')}"
    match str(field.type):
        case "bool":
            return [flag if not field.default else f"--no-{flag[2:]}"], not field.default
        case "tuple[str, ...]" if field.name == "logit_bias":
            return [flag, "7=1", flag, "8=-2.5"], ("7=1", "8=-2.5")
        case "tuple[str, ...]":
            return [flag, "a", flag, "b c"], ("a", "b c")
        case "str | None":
            return [flag, OTHER[field.name]], OTHER[field.name]
        case "Ema":
            return [flag, "0.5"], 0.5
        case "str":
            return [flag, OTHER[field.name]], OTHER[field.name]
        case _:
            return [flag, "3" if field.default != 3 else "2"], 3 if field.default != 3 else 2


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return "none" if default in (None, ()) else str(default)


@pytest.mark.parametrize("field", FLAGGED, ids=lambda f: f.name)
def test_every_setting_is_a_flag_with_its_default_in_the_help(
    field: dataclasses.Field[Any],
) -> None:
    parser = Parser(prog="foredraft generate")
    add_decoding_flags(parser)
    words, value = _given(field)
    given = decoding_config(parser.parse_args(words))
    length = {"length": STRUCTURED_LENGTH} if given.is_structured else {}
    assert given == DecodingConfig(seed=42).replace(**{field.name: value}, **length)
    assert decoding_config(parser.parse_args([])) == DecodingConfig(seed=42)
    text = " ".join(parser.format_help().split())
    assert f"{field.metadata['help']} [{_shown(field.metadata.get('flag', field.default))}]" in text


@pytest.mark.parametrize("command", ["generate", "chat", "train", "models"])
def test_every_subcommand_explains_itself(run: Run, command: str) -> None:
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: foredraft {command} ")
    assert command in run("--help")[1]


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ((), "COMMAND"),
        (("generat",), "'generat'"),
        (("generate",), "--prompt"),
        ((*GENERATE, "--nonsense"), "--nonsense"),
        ((*GENERATE, "--method", "greedy"), "'greedy'"),
        ((*GENERATE, "--json", "--text-only"), "--text-only"),
        ((*GENERATE, "--gamma", "x"), "'x'"),
        ((*GENERATE, "--gamma", "0"), "argument --gamma: the value must lie in [1, 1024], not 0"),
        ((*GENERATE, "--sampler", "nonsense"), "'nonsense'; legal: greedy, "),
        ((*GENERATE, "--sampler", "topk(top_k=0)"), "top_k must lie in [1, 2147483647], not 0"),
        ((*GENERATE, "--sampler", "topk("), "'topk('"),
        (
            (*GENERATE, "--ngram-order", "1"),
            "argument --ngram-order: the value must lie in [2, 64], not 1",
        ),
        (("generate", "--prompt", " "), "the prompt is empty"),
        (("generate", "--prompt", "la " * 300), "the prompt has "),
        (("train", "nonsense", "--data", "."), "'nonsense'"),
    ],
    ids=lambda value: " ".join(value)[-24:] if isinstance(value, tuple) else "",
)
@pytest.mark.usefixtures("loaded")
def test_a_mistake_is_one_line_on_standard_error_and_exit_code_2(
    run: Run, argv: tuple[str, ...], named: str
) -> None:
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "error: " in err
    assert named in err


def test_a_missing_model_is_one_line_with_its_whole_name_and_exit_code_2(
    run: Run, tmp_path: Path
) -> None:
    code, out, err = run(*GENERATE, "--target", str(tmp_path / "no model"))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith(f"error: no model folder '{tmp_path / 'no model'}'; give 'bundled', ")


@pytest.mark.usefixtures("loaded")
def test_control_c_ends_with_exit_code_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "generate", interrupted)
    assert run(*GENERATE, "--text-only") == (130, "", "")


class LeftReader(io.StringIO):
    """A pipe whose reader has left, found out at the flush."""

    def flush(self) -> None:
        raise BrokenPipeError


def test_a_reader_that_has_left_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", LeftReader())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with pytest.raises(SystemExit) as end:
        main(["models"])
    assert end.value.code == 0
    sys.stdout.close()  # whatever has taken the pipe's place


def test_model_flags_reach_the_loader(run: Run, loaded: list[tuple[Any, ...]]) -> None:
    flags = "--target t --drafter d --device cpu --dtype bfloat16 --drafter-dtype float32"
    code, _, err = run(*GENERATE, *flags.split(), "--trust-remote-code")
    assert (code, err) == (0, "")
    target = LoadOptions("cpu", "bfloat16", trust_remote_code=True)
    assert loaded == [("t", "d", target, dataclasses.replace(target, dtype="float32"))]
