"""Every argument of every public function works or is refused in one sentence that names it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DynamicCache

import foredraft
from foredraft.config import DecodingConfig
from foredraft.conversation import Conversation
from foredraft.engine import Engine
from foredraft.errors import ForedraftError, ModelError, RequestError
from foredraft.method import Method
from foredraft.models.encoder_decoder import EncoderDecoderModel
from tests.tiny import VOCAB, build, noisy
from tests.toy_engine import PROMPT, toy_engine

ODD: dict[str, Any] = {
    "None": None,
    "int64": np.int64(3),
    "float32": np.float32(0.5),
    "bool_": np.bool_(True),
    "tensor": torch.tensor(3),
    "float tensor": torch.tensor(0.5),
    "bool tensor": torch.tensor(True),
    "row": torch.tensor([[1, 2]]),
    "array": np.array([1, 2]),
    "True": True,
    "text": "3",
    "empty text": "",
    "bytes": b"x",
    "list": [],
    "dict": {},
    "object": object(),
    "class": object,
    "nan": float("nan"),
    "inf": float("inf"),
    "-1": -1,
    "0": 0,
    "0.0": 0.0,
    "huge": 10**30,
    "many digits": 10**5000,
    "complex": 1j,
    "floats": [1.5],
    "strings": ["a"],
    "nested": [[1, 2]],
    "deep": [[[1]], "a"],
    "set": {1},
    "module": torch.nn.Linear(2, 2),
}
IDS = [5, 6, 7, 5, 6]
SHORT = {"max_gen_len": 3}


def cache() -> DynamicCache:
    held = DynamicCache()
    held.update(torch.zeros(1, 1, 4, 2), torch.zeros(1, 1, 4, 2), 0)
    return held


def storage() -> foredraft.NGramStorage:
    return foredraft.NGramStorage(3, VOCAB)


TARGET, DRAFTER = build("llama"), noisy("llama")
PAIR, OTHER = build("bart"), noisy("bart")
Call = tuple[Callable[..., Any], dict[str, Any]]  # a function, and arguments that work
NAMESAKES = {
    f"{name}_encoder_decoder": name
    for name in (
        "autoregressive_generate",
        "beam_search_generate",
        "speculative_generate",
        "ngram_assisted_speculative_generate",
    )
}


def calls() -> dict[str, Call]:
    """Return every public function and class with arguments that work."""
    engine = toy_engine()
    config = DecodingConfig(length=3, seed=1)
    done = [engine.generate(PROMPT, config, method=m) for m in ("target", "ngram")]
    plain: dict[str, Any] = {"inputs": IDS, **SHORT}
    networks = {"speculative_generate": (DRAFTER, OTHER)}
    found: dict[str, Call] = {}
    for long, short in NAMESAKES.items():
        one = "target" if "speculative" in short else "model"
        own: dict[str, Any] = {} if "ngram" not in short else {"ngramstorage": storage()}
        drafters = networks.get(short, (None, None))
        for name, network, drafter in ((short, TARGET, drafters[0]), (long, PAIR, drafters[1])):
            more = {} if drafter is None else {"drafter": drafter}
            found[name] = getattr(foredraft, name), plain | own | more | {one: network}
    table = {(): [0.5, 0.5]}
    return found | {
        "max_fn": (foredraft.max_fn, {"x": torch.tensor([0.5, -0.5])}),
        "prune_cache": (
            lambda **given: foredraft.prune_cache(**({"cache": cache()} | given)),
            {"num_tokens_to_discard": 1},
        ),
        "summarize": (foredraft.summarize, {"records": done[0].records}),
        "DecodingConfig": (DecodingConfig, {}),
        "LoadOptions": (foredraft.LoadOptions, {}),
        "TableModel": (foredraft.TableModel, {"table": table}),
        "DecoderOnlyModel": (foredraft.DecoderOnlyModel, {"model": TARGET}),
        "EncoderDecoderModel": (EncoderDecoderModel, {"model": PAIR}),
        **{
            name: (getattr(foredraft, name), {})
            for name in foredraft.__all__
            if name.endswith("Processor")
        },
        **{
            name: (getattr(foredraft, name), {"n": 3, "vocab_size": VOCAB})
            for name in ("NGramStorage", "OneLevelNGramStorage")
        },
        "Engine": (Engine, {"target": engine.target, "drafter": engine.drafter}),
        "Engine.load": (Engine.load, {"target": "nowhere/at.all"}),
        "Engine.stream": (engine.stream, {"prompt": PROMPT, "config": config}),
        "Engine.stream_tokens": (
            engine.stream_tokens,
            {"tokens": [5, 6], "method": Method.of(config, "ngram")},
        ),
        "Engine.generate": (engine.generate, {"prompt": PROMPT, "config": config}),
        "Engine.continuations": (engine.continuations, {"prompt": PROMPT, "config": config}),
        "Engine.generate_many": (
            engine.generate_many,
            {"prompts": [PROMPT, PROMPT], "config": config},
        ),
        "Engine.stream_many": (
            engine.stream_many,
            {"prompts": [PROMPT, PROMPT], "config": config},
        ),
        "Engine.compare": (engine.compare, {"prompt": PROMPT, "config": config}),
        "Engine.results": (
            engine.results,
            {"completions": done, "prompt": PROMPT, "config": config},
        ),
        "Engine.speculation": (engine.speculation, {"method": "ngram", "config": config}),
        "Engine.conversation": (engine.conversation, {"system": "Be brief."}),
        "Conversation.say": (
            engine.conversation().say,
            {"prompt": PROMPT, "config": config, "method": "target"},
        ),
        "Engine.encode": (engine.encode, {"prompt": PROMPT}),
        "Engine.decode": (engine.decode, {"tokens": [5, 6]}),
    }


CALLS = calls()
RECORDS = {"Completion", "Draft", "FinishReason", "StepRecord", "Summary", "Verdict"}  # returned
RECORDS |= {"Context", "Conversation", "Feed", "Output"}
TO_INHERIT = {"ForedraftError", "INgramStorage", "Network", "Sampler"}  # take nothing


def cases() -> Iterator[tuple[str, str]]:
    for name in CALLS:
        function = getattr(foredraft, name, None) or CALLS[name][0]
        for parameter in sorted(inspect.signature(function).parameters):
            yield name, parameter


def public(kind: type) -> set[str]:
    return {n for n, m in inspect.getmembers(kind, callable) if not n.startswith("_")}


def test_the_calls_are_all_that_the_package_exports() -> None:
    exported = set(foredraft.__all__) - RECORDS - TO_INHERIT
    assert exported == {name for name in CALLS if "." not in name}
    turns = {f"Conversation.{n}" for n in public(Conversation) - {"undo", "reset"}}
    engine = {f"Engine.{n}" for n in public(Engine) - {"warm_up"}}
    assert engine | turns == {n for n in CALLS if "." in n}


@pytest.mark.parametrize("name", CALLS)
def test_the_arguments_that_work_do_work(name: str) -> None:
    function, given = CALLS[name]
    if name != "Engine.load":
        function(**given)


@pytest.mark.parametrize(("name", "parameter"), list(cases()))
def test_an_odd_value_works_or_is_refused_in_a_sentence_that_names_the_parameter(
    name: str, parameter: str
) -> None:
    function, given = CALLS[name]
    for word, value in ODD.items():
        try:
            with warnings.catch_warnings(action="ignore"):
                function(**given | {parameter: value})
        except ForedraftError as error:
            said = str(error)
            assert "\n" not in said, word
            assert len(said) < 400, word
            words = {parameter, parameter.removesuffix("s"), *ALIASES.get(parameter, ())}
            assert any(w in said for w in words), (word, said)
        except Exception as error:
            pytest.fail(f"{name}({parameter}={word}): {type(error).__name__}: {error}")


# What a sentence may call a parameter: a part by its kind, a folder by what it should hold.
ALIASES = {
    "target": ("model", "'3'"),
    "drafter": ("model",),
    "ngramstorage": ("storage",),
    "inputs": ("token", "prompt"),
    "completions": ("records",),
    "drafting": ("drafter",),
    "options": ("cannot fetch",),  # taken: then it is the model that there is not
    "drafter_options": ("cannot fetch",),
    "egag_ema_beta": ("ema",),
}


def test_what_a_user_would_expect_works() -> None:
    ids = foredraft.autoregressive_generate(IDS, TARGET, max_gen_len=np.int64(6), eos_tokens_id=[])
    for same in (np.array(IDS), torch.tensor(IDS), tuple(IDS), [np.int64(t) for t in IDS]):
        options: dict[str, Any] = {"max_gen_len": 6, "eos_tokens_id": None}
        assert foredraft.autoregressive_generate(same, TARGET, **options) == ids
    for end in (np.int64(ids[2]), [np.int32(ids[2])], np.array([ids[2]]), {ids[2]}):
        cut = foredraft.autoregressive_generate(IDS, TARGET, max_gen_len=6, eos_tokens_id=end)
        assert cut == ids[: ids.index(ids[2]) + 1]
    assert DecodingConfig(length=np.int64(3)).to_dict()["length"] == 3
    assert type(foredraft.NucleusProcessor(np.float32(0.5)).temperature) is float


@pytest.mark.parametrize("prompt", [[5, 6], torch.tensor([5, 6]), None, b"text", 3])
def test_a_prompt_that_is_no_text_is_refused_with_what_takes_ids(prompt: Any) -> None:
    with pytest.raises(RequestError, match=r"the prompt must be text, not .*speculative_generate"):
        toy_engine().generate(prompt)


def test_no_drafter_is_refused_with_what_needs_none() -> None:
    with pytest.raises(ModelError, match=r"drafter must be .*, not None.*autoregressive_generate"):
        foredraft.speculative_generate(IDS, None, TARGET)


def test_a_batch_of_one_is_refused_with_how_to_take_its_row() -> None:
    with pytest.raises(RequestError, match=r"inputs\[0\]"):
        foredraft.autoregressive_generate(torch.tensor([IDS]), TARGET)  # type: ignore[arg-type]


def test_what_fails_in_a_tokenizer_is_one_sentence() -> None:
    class Broken:
        def decode(self, tokens: Any) -> str:
            raise RuntimeError("first line\nsecond")

    with pytest.raises(
        ModelError, match="the tokenizer failed with RuntimeError 'first line second'"
    ):
        foredraft.speculative_generate(IDS, DRAFTER, TARGET, Broken(), debug=True)
