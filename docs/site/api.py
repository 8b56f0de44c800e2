"""The public functions and classes as pages show them: read from signatures and docstrings."""

from __future__ import annotations

import enum
import inspect
import re
from abc import ABC
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cached_property
from typing import Any

import foredraft
from docs.site.docstrings import Told, told
from docs.site.examples import EXAMPLES
from docs.site.language import Made, Say, cell, table
from docs.site.signatures import parameters, returned, signature, typed
from foredraft.conversation import Reading
from foredraft.core import DraftStop
from foredraft.decoding import Difference
from foredraft.generation import Chunk, Generation
from foredraft.loading import LoadedModel
from foredraft.models.base import Drafted
from foredraft.models.features import Ends
from foredraft.ownership import Owned
from foredraft.ranges import Checked, hints_of
from foredraft.results import Result

PUBLIC = {name: getattr(foredraft, name) for name in foredraft.__all__}
FUNCTIONS = {name: thing for name, thing in PUBLIC.items() if not inspect.isclass(thing)}
CLASSES = {name: thing for name, thing in PUBLIC.items() if inspect.isclass(thing)}
# Not exported, since nobody makes one; but who calls a method gets one.
GIVEN: dict[str, type] = {
    cls.__name__: cls
    for cls in (Chunk, Difference, DraftStop, Drafted, Generation, LoadedModel, Reading, Result)
}
UNMADE = {"Completion", "Context", "Conversation", "Output", "StepRecord", "Summary", *GIVEN}
PLUMBING = (Owned, Ends, Checked, ABC, object)  # bases that say nothing to a user
TOLD_ELSEWHERE = {  # class → the page and heading with its attributes, English and Chinese
    "DecodingConfig": "settings",
    "StepRecord": "statistics",
    "Summary": "statistics",
}
INTERNAL = {  # public among the package's own parts only
    **{"Context": {"check_open", "draw", "memory", "reopen", "watch"}},
    **{"DecodingConfig": {"controls", "drafting_spec", "policy_spec", "is_structured"}},
    "Draft": {"followed_by"},
    "Engine": {"networks", "speculation", "stream_tokens"},
    "Generation": {"begin", "fork", "networks", "of", "parts", "request", "stream", "take"},
    "LoadOptions": {"runtime_for"},
    "Network": {"check", "check_prompt", "draw", "pass_threads", "take_back", "weights"},
    "Sampler": {"choices", "drawing", "rule"},
}
INTERNAL["DecodingConfig"] |= {"with_later_seed", "with_seed"}
HEADS = {"embedding", "last_norm", "output_rows", "states_of"}  # what is told to heads
INTERNAL |= {"DecoderOnlyModel": HEADS, "EncoderDecoderModel": {"forbids"}}


class Page:
    """What is written about one class.

    Args:
        name: by which it is imported.
        cls: the class.
        say: a sentence → the same in the language of the page.
    """

    def __init__(self, name: str, cls: type, say: Say) -> None:
        self.name, self.cls, self.say, self.told = name, cls, say, told(cls)

    @cached_property
    def bases(self) -> list[type]:
        """The class and what it inherits from, up to what has a section of its own."""
        shown = [kind for kind in self.cls.__mro__ if kind.__module__.startswith("foredraft")]
        own = [one for one in shown if one is self.cls or one not in PUBLIC.values()]
        return [one for one in own if one not in PLUMBING]

    @property
    def parent(self) -> str:
        """The public class that it extends; empty: there is none."""
        others = (name for name, one in CLASSES.items() if one in self.cls.__mro__[1:])
        return next(others, "")

    def members(self) -> Iterator[tuple[str, Any]]:
        """Yield the methods and properties that a user asks for, those of the class first."""
        seen = set(INTERNAL.get(self.name, ()))
        if self.parent:
            seen |= {name for name, _ in Page(self.parent, CLASSES[self.parent], str).members()}
            seen |= INTERNAL.get(self.parent, set())
        for kind in self.bases:
            for name, one in vars(kind).items():
                is_called = callable(one) or isinstance(one, classmethod | staticmethod | property)
                if not name.startswith("_") and is_called and name not in seen:
                    seen.add(name)
                    yield name, one

    def lines(self) -> list[str]:
        """Return the lines of its section."""
        lines = [f"### `{self.name}`", "", self._sentences()]
        if self.parent and not issubclass(self.cls, Exception):
            link = f"[`{self.parent}`](#{self.parent.lower()}){self.say('.')}"
            lines[-1] += f"{self.say(' ')}{self.say('It is a')} {link}"
        lines += self._constructor() + self._attributes()
        for name, one in self.members():
            if not isinstance(one, property):
                lines += ["", *self._method(name, getattr(self.cls, name))]
        return [*lines, ""]

    def _sentences(self) -> str:
        return "\n\n".join(self.say(words) for words in (self.told.summary, *self.told.more))

    def _constructor(self) -> list[str]:
        cls = self.cls
        if self.name in UNMADE or inspect.isabstract(cls) or issubclass(cls, enum.Enum | Exception):
            return []
        shown = ["", "```py", signature(self.name, cls), "```"]
        meanings = self.told.attributes if is_dataclass(cls) else self.told.args
        if self.name not in TOLD_ELSEWHERE:
            shown += _parameters(cls, meanings, self.say)
        return shown + raised(self.told, self.say)

    def _attributes(self) -> list[str]:
        lines = []
        if self.name in TOLD_ELSEWHERE:
            heading = self.say(f"#{TOLD_ELSEWHERE[self.name]}")
            link = f"[api-options.md](api-options.md{heading}){self.say('.')}"
            lines = ["", f"{self.say('Its attributes:')} {link}"]
        in_constructor = is_dataclass(self.cls) and self.name not in UNMADE
        is_told = in_constructor or self.name in TOLD_ELSEWHERE
        hidden, hints = INTERNAL.get(self.name, set()), hints_of(self.cls) | self._values()
        named = {} if is_told else self.told.attributes
        rows = [
            [f"`{name}`", typed(hints[name]), cell(self.say(words))]
            for name, words in named.items()
            if name not in hidden
        ]
        for name, one in self.members():
            if isinstance(one, property):
                kind = f"`{returned(one.fget)}`".replace("|", "\\|")
                rows.append([f"`{name}`", kind, cell(self.say(told(one).summary))])
        heads = ["attribute", "value" if self._values() else "type", "meaning"]
        return [*lines, "", *table(heads, rows, self.say)] if rows else lines

    def _values(self) -> dict[str, Any]:
        """Return the members of an enumeration with their values; none of another class."""
        members = getattr(self.cls, "__members__", {})
        return {name: repr(one.value) for name, one in members.items()}

    def _method(self, name: str, called: Any) -> list[str]:
        is_class_method = inspect.ismethod(called)
        owner = self.name if is_class_method else _example_name(self.name)
        its = told(called)
        shown = signature(f"{owner}.{name}", called, with_types=not its.args)
        sentences = self.say(" ").join(self.say(words) for words in (its.summary, *its.more))
        lines = ["```py", shown, "```", "", sentences]
        types = {name: kind for name, kind, _ in parameters(called)}
        if its.args:
            lines.append("")
        for given, words in its.args.items():
            kind = types[given].replace("\\|", "|")
            lines.append(f"- `{given}` ({kind}){self.say(': ')}{self.say(words)}")
        if its.returns:
            lines += ["", f"{self.say('Returns: ')}{self.say(its.returns)}"]
        return lines + raised(its, self.say)


def _example_name(name: str) -> str:
    """Return how an object of a class is called in signatures: `engine` for `Engine`."""
    usual = {"DecodingConfig": "config", "GreedyProcessor": "sampler", "INgramStorage": "storage"}
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    return usual.get(name, words.rpartition("_")[2])


def _parameters(called: Any, meanings: dict[str, str], say: Say) -> list[str]:
    """Return a table of the parameters that are described."""
    rows = [
        [f"`{name}`", kind, default.replace("|", "\\|"), cell(say(meanings[name]))]
        for name, kind, default in parameters(called)
        if name in meanings
    ]
    heads = ["parameter", "type", "default", "meaning"]
    return ["", *table(heads, rows, say)] if rows else []


def raised(its: Told, say: Say) -> list[str]:
    """Return what is raised, and when."""
    if not its.raises:
        return []
    starts = {name: f"`{name}`{say(': ')}" if name else "" for name in its.raises}
    every = [starts[name] + say(words) for name, words in its.raises.items()]
    return ["", f"{say('Raises: ')}{say(' ').join(every)}"]


def functions(say: Say) -> str:
    """Return a section for each public function, with an example that runs."""
    lines = []
    for name, function in FUNCTIONS.items():
        its = told(function)
        lines += [
            f"### `{name}`",
            "",
            "\n\n".join(say(words) for words in (its.summary, *its.more)),
        ]
        lines += ["", "```py", signature(name, function), "```"]
        lines += _parameters(function, its.args, say)
        if len(its.args) < len(parameters(function)):
            namesake = name.removesuffix("_encoder_decoder")
            link = f"[`{namesake}`](#{namesake}){say('.')}"
            lines += ["", f"{say('All other parameters as for')} {link}"]
        kind = f"`{returned(function)}`{say('.')}{say(' ')}"
        lines += ["", f"{say('Returns: ')}{kind}{say(its.returns)}"]
        lines += raised(its, say)
        lines += ["", "```python", EXAMPLES[name].strip(), "```", ""]
    return "\n".join(lines).rstrip()


def classes(say: Say) -> str:
    """Return a section for each public class."""
    return _sections(CLASSES, say)


def given(say: Say) -> str:
    """Return a section for each class whose objects are given, not made."""
    return _sections(GIVEN, say)


def _sections(every: dict[str, type], say: Say) -> str:
    lines = [line for name, cls in every.items() for line in Page(name, cls, say).lines()]
    return "\n".join(lines).rstrip()


def names(say: Say) -> str:
    """Return every public name with its first sentence."""
    rows = []
    for name, thing in PUBLIC.items():
        page, kind = ("api-classes.md", "class") if name in CLASSES else ("", "function")
        link = f"[`{name}`]({page}#{name.lower()})"
        rows.append([link, say(kind), cell(say(told(thing).summary))])
    return "\n".join(table(["name", "kind", "what it is"], rows, say))


def errors(say: Say) -> str:
    """Return every error with when it comes and what to do."""
    rows = []
    for kind in _below(foredraft.ForedraftError):
        its = told(kind)
        base = kind.__bases__[0].__name__
        remedy = say(" ").join(say(words) for words in its.more)
        rows.append([f"`{kind.__name__}`", f"`{base}`", cell(say(its.summary)), cell(remedy)])
    return "\n".join(table(["error", "kind of", "when", "what to do"], rows, say))


def _below(kind: type[Exception]) -> Iterator[type[Exception]]:
    for one in kind.__subclasses__():
        if one.__module__ == "foredraft.errors":
            yield one
            yield from _below(one)


MADE: dict[str, Made] = {
    "names": names,
    "functions": functions,
    "classes": classes,
    "given": given,
    "errors": errors,
}
