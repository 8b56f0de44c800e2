"""The reference is whole: each public name, parameter and flag is described, in both languages."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from docs.site.api import CLASSES, FUNCTIONS, GIVEN, INTERNAL, PUBLIC, Page
from docs.site.docstrings import Told, told
from docs.site.examples import EXAMPLES
from docs.site.flags import explained, parsers, shown
from docs.site.language import chinese, speaker, spoken, untranslated
from docs.site.markdown import headings
from docs.site.reference import MADE
from docs.site.signatures import parameters, signature
from foredraft import errors
from tests.documents import read

PAGES = read()
SAID = spoken(MADE)
SENTENCE = "most tokens to generate."


def test_every_sentence_is_translated_and_no_translation_is_left_over() -> None:
    assert untranslated(SAID, chinese()) == []


@pytest.mark.parametrize(
    ("said", "known"),
    [
        pytest.param({"most tokens to make."}, {}, id="changed-in-the-program"),
        pytest.param(set(), {"most tokens to make.": "最多多少个。"}, id="left-over"),
        pytest.param(set(), {SENTENCE: "at most so many"}, id="not-chinese"),
    ],
)
def test_one_sentence_too_few_or_too_many_is_noticed(said: set[str], known: dict[str, str]) -> None:
    assert untranslated(SAID | said, chinese() | known)
    assert untranslated(SAID - {SENTENCE}, chinese())


def test_a_sentence_is_said_in_the_language_of_its_page() -> None:
    assert speaker("en")(SENTENCE) == SENTENCE
    assert speaker("zh")(SENTENCE) == chinese()[SENTENCE]


@pytest.mark.parametrize("folder", ["docs/", "docs/en/"])
def test_every_public_name_has_a_section_and_every_function_an_example(folder: str) -> None:
    pages = ("api-reference.md", "api-classes.md")
    sections = {words.strip("`") for page in pages for _, words in headings(PAGES[folder + page])}
    assert PUBLIC.keys() <= sections
    assert GIVEN.keys() <= sections
    assert EXAMPLES.keys() == FUNCTIONS.keys()


def called() -> Iterator[tuple[str, Any]]:
    """Yield every function and method that the reference shows."""
    yield from FUNCTIONS.items()
    for name, cls in (CLASSES | GIVEN).items():
        for method, one in Page(name, cls, str).members():
            if not isinstance(one, property):
                yield f"{name}.{method}", getattr(cls, method)


CALLED = dict(called())


@pytest.mark.parametrize("name", CALLED)
def test_what_a_docstring_describes_exists(name: str) -> None:
    its, names = told(CALLED[name]), {row[0] for row in parameters(CALLED[name])}
    assert its.summary
    assert its.args.keys() <= names
    raised = its.raises.keys() - {""}
    assert all(hasattr(errors, error) for error in raised)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_describes_every_parameter_what_it_returns_and_what_it_raises(name: str) -> None:
    described = told(FUNCTIONS[name])
    namesake = FUNCTIONS[name.removesuffix("_encoder_decoder")]
    described.args |= told(namesake).args
    assert {row[0] for row in parameters(FUNCTIONS[name])} == described.args.keys()
    assert described.returns
    assert described.raises


@pytest.mark.parametrize("name", CLASSES | GIVEN)
def test_a_class_describes_every_parameter(name: str) -> None:
    cls = (CLASSES | GIVEN)[name]
    its = told(cls)
    if name == "DecodingConfig" or inspect.isabstract(cls) or not (its.args or its.attributes):
        return  # its settings have their help texts; nobody makes the others
    described = its.args.keys() | its.attributes.keys()
    if its.args or hasattr(cls, "__dataclass_fields__"):
        assert {row[0] for row in parameters(cls)} - INTERNAL.get(name, set()) <= described


def test_what_the_reference_leaves_out_exists() -> None:
    for name, left_out in INTERNAL.items():
        cls = (CLASSES | GIVEN)[name]
        known = set(dir(cls)) | inspect.get_annotations(cls).keys() | told(cls).attributes.keys()
        assert left_out <= known, name


@pytest.mark.parametrize(("command", "parser"), [pytest.param(c, p, id=c) for c, p in parsers()])
def test_every_flag_says_what_it_means(command: str, parser: Any) -> None:
    for action in shown(parser):
        assert explained(parser, action)["words"], (command, action.option_strings)


def test_a_docstring_is_read_section_by_section() -> None:
    def documented() -> None:
        """Do one thing.

        More
        about it.

        Args:
            one: of two
                lines.

        Returns:
            Nothing.

        Raises:
            ConfigError: never.
            Errors as for others.
        """

    raises = {"ConfigError": "never.", "": "Errors as for others."}
    args = {"one": "of two lines."}
    whole = Told("Do one thing.", ["More about it."], args, {}, "Nothing.", raises)
    assert told(documented) == whole


def test_a_signature_shows_defaults_and_what_must_be_named() -> None:
    def short(one: int, *, two: str | None = None) -> list[int]:
        return [one]

    assert signature("f", short) == "f(one, *, two=None) -> list[int]"
    shown = "f(one: int, *, two: str | None = None) -> list[int]"
    assert signature("f", short, with_types=True) == shown
