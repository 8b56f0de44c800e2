"""What cannot be a control is refused in one sentence: the value, what is legal, what to do."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import foredraft
from foredraft.config import DecodingConfig
from foredraft.errors import ConfigError, ForedraftError
from foredraft.loading.loader import load_tokenizer
from foredraft.sampling import ControlledText, Controls
from foredraft.sampling.penalties import (
    BadWords,
    CountPenalty,
    LogitBias,
    MinNewTokens,
    NoRepeatNgrams,
    Repetition,
)
from foredraft.sampling.structure import Structure
from tests.sampling.naive_controls import letters
from tests.tiny import build
from tests.toy_engine import PROMPT, toy_engine

ANY: Any = None


def config(**settings: Any) -> Callable[[], object]:
    return lambda: DecodingConfig(**settings)


def begun(control: Any, tokenizer: Any = None, vocab_size: int = 8) -> Callable[[], object]:
    return lambda: Controls([control()], ControlledText([1], frozenset({0}), vocab_size, tokenizer))


def called(controls: Any) -> Callable[[], object]:
    return lambda: foredraft.autoregressive_generate([5, 6], build("llama"), controls=controls)


def spells_nothing() -> Any:
    return SimpleNamespace(encode=lambda text, add_special_tokens: [])


class Slow:
    """A tokenizer without a fast backend."""

    eos_token_id = 0

    def __len__(self) -> int:
        return 8


def odd(cls: Any, **parameters: Any) -> Callable[[], object]:
    return lambda: cls(**parameters)


TWO = {"json_schema": "{}", "regex": "a"}
REFUSALS: dict[str, tuple[Callable[[], object], str]] = {
    "two structures": (config(**TWO), "json_schema and regex exclude each other; leave one out"),
    "three": (
        config(**TWO, grammar="start: /a/"),
        "json_schema and regex and grammar exclude each other; leave one out",
    ),
    "no JSON": (
        config(json_schema="{'type': 1}"),
        "json_schema is no JSON: Expecting property name .*; correct \"{'type': 1}\"",
    ),
    "nested too deep": (config(json_schema="[" * 10**5), "json_schema is no JSON: .*; correct "),
    "no object": (config(json_schema="[1]"), "json_schema must be a JSON object, not '\\[1\\]'"),
    "true": (config(json_schema="true"), "json_schema must be a JSON object, not 'true'; {} is"),
    "no text": (config(json_schema={"type": "string"}), "json_schema must be text, not "),
    "unsupported": (
        config(json_schema='{"not": {"type": "string"}}'),
        "json_schema .* cannot be obeyed: .*not.*; correct it",
    ),
    "unsatisfiable": (
        config(json_schema='{"type": "integer", "minimum": 3, "maximum": 2}'),
        "json_schema .* cannot be obeyed: .*; correct it",
    ),
    "regex": (config(regex="(a"), "regex '\\(a' cannot be obeyed: .*; correct it"),
    "regex that looks around": (config(regex="a(?=b)"), "regex .* cannot be obeyed: .*; correct"),
    "grammar": (config(grammar="start: nowhere"), "grammar .* cannot be obeyed: .*; correct it"),
    "kind": (odd(Structure, kind="xml", source="a"), "kind must be one of .*, not 'xml'"),
    "bias that is far": (
        begun(lambda: LogitBias(((8, 1.0),))),
        "logit_bias names the token 8, and the model has 0 … 7; leave it out",
    ),
    "bias without a number": (
        config(logit_bias=("7",)),
        "logit_bias '7': logit_bias must be a number in .*; write id=bias, e.g. 42=-5.5",
    ),
    "bias of nobody": (config(logit_bias=("-1=2",)), "logit_bias '-1=2': .*must lie in \\[0, "),
    "bias too large": (config(logit_bias=("1=1e9",)), "logit_bias '1=1e9': .*must lie in "),
    "bias of NaN": (config(logit_bias=("1=nan",)), "logit_bias '1=nan': .*must lie in .*nan"),
    "bias as an object": (odd(LogitBias, biases=5), "biases must .*pairs.*, not 5"),
    "bias of ones": (odd(LogitBias, biases=((1,),)), "biases must .*pairs.*, not "),
    "bias of text": (odd(LogitBias, biases=("7=1",)), "biases must .*pairs.*, not "),
    "words of nothing": (
        begun(lambda: BadWords(("x",)), spells_nothing()),
        "bad_words must hold texts of a token or more, not \\('x',\\)",
    ),
    "words without a tokenizer": (
        begun(lambda: BadWords(("x",))),
        "bad_words are texts and need a tokenizer; give sequences of ids",
    ),
    "word": (config(bad_words="abc"), "bad_words must be a tuple of strings, not 'abc'"),
    "empty word": (config(bad_words=("",)), "bad_words must not hold an empty string"),
    "sequences of nothing": (
        begun(lambda: BadWords(sequences=((),))),
        "bad_words must hold texts of a token or more",
    ),
    "sequences of text": (odd(BadWords, sequences=(("a",),)), "sequences must .*, not "),
    "flat sequences": (odd(BadWords, sequences=(1, 2)), "sequences must .*, not "),
    "penalty": (odd(Repetition, penalty=0), r"penalty must lie in \[0\.01, 100\], not 0"),
    "count": (odd(CountPenalty, presence=101), "presence must lie in \\[-100, 100\\], not 101"),
    "size": (odd(NoRepeatNgrams, size=0), "size must lie in \\[1, 1024\\], not 0"),
    "tokens": (odd(MinNewTokens, count=-1), "count must lie in \\[0, 1000000000\\], not -1"),
    "tokenizer": (
        called(Structure("regex", "a")),
        "regex needs the target's tokenizer; give Structure\\(…, tokenizer=…\\)",
    ),
    "slow tokenizer": (
        begun(lambda: Structure("regex", "a"), Slow()),
        "llguidance failed with .*; it takes fast tokenizers; choose another model",
    ),
    "controls of text": (called("regex"), "controls must be a list, not 'regex'; give Control"),
    "number": (called(3), "controls must be a list, not 3; give Control"),
    "list of numbers": (
        called([Repetition(1.2), 3]),
        "controls must be Control objects or a LogitsProcessorList, not 3",
    ),
    "class": (called(Repetition), "controls must .*Repetition.*"),
    "list of classes": (called([NoRepeatNgrams]), "controls must .*NoRepeatNgrams.*"),
    "n": (config(n=0), "n must lie in \\[1, 64\\], not 0"),
    "logprobs": (config(logprobs=-1), "logprobs must lie in \\[0, 1000\\], not -1"),
    "prediction": (config(prediction=5), "prediction must be text, not 5"),
}


@pytest.mark.filterwarnings("ignore:logits processors are called:RuntimeWarning")
@pytest.mark.parametrize("name", REFUSALS)
def test_it_is_refused_in_one_sentence(name: str) -> None:
    call, said = REFUSALS[name]
    with pytest.raises(ForedraftError) as refusal:
        call()
    message = str(refusal.value)
    assert re.match(said, message), message
    assert "\n" not in message
    assert len(message) < 500


def test_a_structure_without_its_library_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    monkeypatch.setitem(sys.modules, "llguidance.hf", None)
    with pytest.raises(ConfigError, match=r"^a structure needs llguidance; install it: pip "):
        DecodingConfig(regex="never asked for (before){3}")
    assert DecodingConfig(repetition_penalty=1.2).controls, "everything else goes on"


def test_a_bias_that_the_model_lacks_is_refused_before_anything_is_computed() -> None:
    engine = toy_engine()
    with pytest.raises(ConfigError, match=r"^logit_bias names the token 99999, and the model has"):
        engine.stream(PROMPT, DecodingConfig(logit_bias=("99999=1",)))


def test_what_is_legal_is_not_refused() -> None:
    assert DecodingConfig(json_schema="{}").controls
    assert not DecodingConfig(repetition_penalty=1, no_repeat_ngram_size=0).controls
    controls = Controls(
        [LogitBias(), BadWords(), MinNewTokens(), Structure("regex", "a|b", letters())],
        ControlledText([], frozenset({0}), 4),
    )
    assert controls.applied(torch.zeros(1, 4))[0].tolist().count(0) == 2


def test_a_prediction_that_is_no_text_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"^prediction '\\ud800' is not text: it holds U\+D800"):
        DecodingConfig(prediction="\ud800")


def test_white_space_is_forbidden_as_it_is_and_takes_no_space_with_it() -> None:
    tokenizer = load_tokenizer("bundled")
    space = tokenizer.encode(" ", add_special_tokens=False)
    text = ControlledText([], frozenset(), len(tokenizer), tokenizer)
    logits = torch.zeros(1, len(tokenizer))
    bent = Controls([BadWords(("\n",))], text).applied(logits)[0]
    assert bent[space].isfinite().all()
    assert bent[tokenizer.encode("\n", add_special_tokens=False)].isinf().all()
