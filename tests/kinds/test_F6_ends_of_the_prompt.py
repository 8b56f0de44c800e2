"""A prompt has one begin token and no end token behind it, and a note says what was changed."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import pytest
from tokenizers import Tokenizer, processors
from transformers import PreTrainedTokenizerFast

from foredraft.cli.main import main
from foredraft.cli.surroundings import notes_on_standard_error
from foredraft.config import METHODS, DecodingConfig
from foredraft.engine import Engine
from foredraft.loading import LoadedModel
from foredraft.text import PromptNote, encode_prompt
from foredraft.zoo.tokenizer import BOS, EOS, train_tokenizer
from tests.toy_engine import PROMPT, STORY, token, toy_drafter, toy_engine, toy_target
from tests.toy_engine import tokenizer as toy_tokenizer

LINES = ["A lamp in the hall is lit."]
ID = {BOS: 2, EOS: 1}


@cache
def tokenizer(form: str, **named: Any) -> Any:
    """Return a tokenizer that puts tokens round a text: `form` is e.g. `<|bos|> $A <|eos|>`."""
    made = train_tokenizer(LINES * 3, 300)
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=form, special_tokens=list(ID.items())
    )
    for name, value in named.items():
        setattr(made, name, value)
    return made


def encoded(form: str, prompt: str, **options: Any) -> tuple[list[int], list[str]]:
    """Return a prompt's tokens, and what was said of them."""
    named = options.pop("named", {})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tokens = encode_prompt(tokenizer(form, **named), prompt, **options)
    assert all(w.category is PromptNote for w in caught)
    return tokens, [str(w.message) for w in caught]


def plain(text: str) -> list[int]:
    found: list[int] = tokenizer("$A")(text, add_special_tokens=False)["input_ids"]
    return found


HALL = plain("the hall")
BEGIN, END = [ID[BOS]], [ID[EOS]]
CASES: dict[str, tuple[str, str, list[int], int]] = {  # form, prompt, tokens, notes
    "begin": (f"{BOS} $A", "the hall", BEGIN + HALL, 0),
    "nothing": ("$A", "the hall", HALL, 0),
    "end appended": (f"$A {EOS}", "the hall", HALL, 1),
    "both": (f"{BOS} $A {EOS}", "the hall", BEGIN + HALL, 1),
    "end appended twice": (f"$A {EOS} {EOS}", "the hall", HALL, 1),
    "end typed": ("$A", f"the hall{EOS}", HALL, 1),
    "end typed and appended": (f"$A {EOS}", f"the hall{EOS}", HALL, 1),
    "begin typed": ("$A", f"{BOS}the hall", BEGIN + HALL, 0),
    "begin typed and added": (f"{BOS} $A", f"{BOS}the hall", BEGIN + HALL, 1),
    "begin typed twice": (f"{BOS} $A", f"{BOS}{BOS}the hall", BEGIN + HALL, 1),
    "everything": (f"{BOS} $A {EOS}", f"{BOS}the hall{EOS}", BEGIN + HALL, 2),
    "end inside": ("$A", f"the hall{EOS}the hall", HALL + END + HALL, 0),
    "end alone": ("$A", EOS, END, 0),
    "begin alone": (f"{BOS} $A", BOS, BEGIN, 1),
}


@pytest.mark.parametrize(("form", "prompt", "tokens", "notes"), CASES.values(), ids=CASES)
def test_one_begin_token_and_no_end_token(
    form: str, prompt: str, tokens: list[int], notes: int
) -> None:
    found, said = encoded(form, prompt)
    assert found == tokens
    assert len(said) == notes
    assert all(("begin token" in note) or ("end token" in note) for note in said)


@pytest.mark.parametrize("prompt", ["the hall", f"the hall{EOS}"])
def test_an_encoder_keeps_its_end_token(prompt: str) -> None:
    found, said = encoded(f"$A {EOS}", prompt, keeps_end=True)
    assert found[-1:] == END
    assert said == []


def test_an_end_token_of_the_model_alone_goes_if_the_tokenizer_appended_it() -> None:
    named = {"eos_token": "<|pad|>"}
    assert encoded(f"$A {EOS}", "the hall", named=named, end_tokens=(ID[EOS],))[0] == HALL
    typed = encoded("$A", f"the hall{EOS}", named=named, end_tokens=(ID[EOS],))
    assert typed == (HALL + END, [])  # as that of a turn is typed


def test_an_end_token_that_is_the_begin_token_too_may_be_typed() -> None:
    named = {"bos_token": EOS}
    assert encoded("$A", f"the hall{EOS}", named=named) == (HALL + END, [])
    assert encoded(f"$A {EOS}", "the hall", named=named)[0] == HALL


TEMPLATES: dict[str, tuple[str, list[int], int]] = {
    "begin": ("{{ bos_token }}{{ messages[0].content }}", BEGIN + HALL, 0),
    "no begin": ("{{ messages[0].content }}", HALL, 0),
    "begin twice": ("{{ bos_token }}{{ bos_token }}{{ messages[0].content }}", BEGIN + HALL, 1),
    "its own end": ("{{ messages[0].content }}{{ eos_token }}", HALL + END, 0),
}


@pytest.mark.parametrize("form", ["$A", f"{BOS} $A", f"{BOS} $A {EOS}"])
@pytest.mark.parametrize(("template", "tokens", "notes"), TEMPLATES.values(), ids=TEMPLATES)
def test_chat_templates_likewise_but_for_the_end_that_they_write(
    form: str, template: str, tokens: list[int], notes: int
) -> None:
    found, said = encoded(form, "the hall", chat=True, named={"chat_template": template})
    assert (found, len(said)) == (tokens, notes)


def test_a_tokenizer_that_always_adds_its_tokens_gets_no_second_ones() -> None:
    class Always:
        """Puts its tokens round whatever it reads, as some do that come with a model."""

        chat_template = "{{ bos_token }}{{ messages[0].content }}"

        def __init__(self) -> None:
            self.inner = tokenizer(f"{BOS} $A {EOS}", chat_template=self.chat_template)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def __call__(self, text: str, **options: Any) -> Any:
            return self.inner(text)

    with pytest.warns(PromptNote):
        assert encode_prompt(Always(), "the hall", chat=True) == BEGIN + HALL


def appending() -> Engine:
    """Return the toy engine with a tokenizer that appends its end token to every prompt."""
    backend = Tokenizer.from_str(toy_tokenizer().backend_tokenizer.to_str())
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}", special_tokens=[(BOS, token(BOS)), (EOS, token(EOS))]
    )
    own = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=BOS, eos_token=EOS)
    models = (("toy-target", toy_target()), ("toy-drafter", toy_drafter()))
    return Engine(*(LoadedModel(name, model, own, (token(EOS),)) for name, model in models))


@pytest.mark.parametrize("method", METHODS[:3])
def test_the_story_is_the_same(method: str) -> None:
    config = DecodingConfig(length=40)
    with pytest.warns(PromptNote, match="end token '<|eos|>'"):
        assert appending().generate(PROMPT, config, method=method).text == STORY
    with pytest.warns(PromptNote, match="2 begin tokens"):
        assert toy_engine().generate(f"{BOS}{PROMPT}", config, method=method).text == STORY


def test_a_command_says_it_once_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    engine = toy_engine()
    with notes_on_standard_error():
        for _ in range(3):
            engine.encode(f"{BOS}{PROMPT}")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("note: the prompt began with 2 begin tokens")


def test_the_command_line_shows_notes(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", "--method", "target", "--text-only", "--length", "3"]
    main([*words, "--device", "cpu", "--prompt", f"{BOS}Once upon a time"])
    said = capsys.readouterr().err
    assert said.count("begin tokens") == 1
    lines = [line for line in said.split("\n") if "no C compiler" not in line]
    assert lines[0].startswith("note: ")
