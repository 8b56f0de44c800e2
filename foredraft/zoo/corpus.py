"""Folders of text → documents → one stream of token ids.

Knows file formats and the held-out split; knows nothing of models. A document is held out by a hash
of its key (for sentence pairs, of the English sentence), so the split never depends on order, and a
sentence that has several translations falls on one side whole.
"""

from __future__ import annotations

import ast
import functools
import json
import lzma
import random
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt

from foredraft.errors import ConfigError, quoted
from foredraft.files import PATH_LIMIT, Json, reason_of
from foredraft.ranges import Checked, Range, Share
from foredraft.zoo import ZOO_DIR

Tokens = npt.NDArray[np.uint16]
Id = Annotated[int, Range(-(2**63), 2**63 - 1)]  # of a record
HELD_OUT_PERCENT = 2
# What a file that is not of its format raises.
UNLIKE = (LookupError, ValueError, TypeError, AttributeError, SyntaxError, RecursionError)
END_OF_DOCUMENT = "<|endoftext|>"
COMMON_NAMES = (("Tom", "Tom"), ("Mary", "Marie"), ("Mary", "Mary"), ("John", "John"))


@dataclass(frozen=True)
class Source(Checked):
    """One `[[data]]` table of a recipe: where text lies and how it becomes documents."""

    path: str  # file under the data folder, plain or `.xz`
    # `documents` (separated by `<|endoftext|>`), `pairs` (tab-separated sentences), `jsonl`, or
    # `python` (functions with docstrings, see `python_variants`)
    format: str
    # fraction of the training tokens drawn from here, relative to the other sources
    share: Annotated[float, Range(0, 10**6, open_low=True)]
    licence: str  # licence and attribution, copied into the model card
    ours: bool = False  # the file belongs to this package (`zoo/texts`), not to the data folder
    # for `jsonl` and `pairs`, the document as a format string over the record's fields (`{first}`
    # and `{second}` for pairs)
    template: str = ""
    python: bool = False  # for `jsonl`, cut the code in field `code_field` into single functions
    code_field: str = ""  # the field that holds code, when `python` is set
    # fraction of the records written with the chat template, split at the first newline of the
    # template
    chat_share: Share = 0.0
    id_field: str = ""  # field whose integer must lie in `[id_min, id_max]`, if given
    id_min: Id = 0
    id_max: Id = 0
    # longest `first` sentence of a pair, in words; 0 means no limit
    max_words: Annotated[int, Range(0, 10**9)] = 0
    # for `pairs`, fraction of those that name Tom or Mary in which another first name of
    # `zoo/texts/first_names.txt` takes its place, on both sides
    rename_share: Share = 0.0


@dataclass(frozen=True)
class Document:
    """One training text; `key` decides the split, `prompt` is what precedes an answer, if any."""

    key: str
    text: str
    prompt: str = ""

    @property
    def answer(self) -> str:
        """What follows the prompt and its line end."""
        return self.text[len(self.prompt) + 1 :]

    @property
    def held_out(self) -> bool:
        """Whether the document belongs to the evaluation split."""
        return zlib.crc32(self.key.encode()) % 100 < HELD_OUT_PERCENT


def file_of(source: Source, data_dir: Path) -> Path:
    """Return where a source lies.

    Raises:
        ConfigError: it does not exist.
    """
    path = ZOO_DIR / source.path if source.ours else data_dir / source.path
    if not path.is_file():
        raise ConfigError(
            f"training text {_shown(path)} does not exist; give --data the folder that holds it"
        )
    return path


def read_text(path: Path) -> str:
    """Return the file's text with Unix line ends; `.xz` is decompressed.

    Raises:
        ConfigError: the file cannot be read, or is not UTF-8 text.
    """
    try:
        raw = path.read_bytes()
        text = (lzma.decompress(raw) if path.suffix == ".xz" else raw).decode("utf-8")
    except (OSError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"training text {_shown(path)} cannot be read: {reason_of(error)}; give UTF-8 text, "
            "plain or as .xz"
        ) from error
    return text.lstrip("\ufeff").replace("\r\n", "\n")


def _shown(path: Path) -> str:
    return quoted(str(path), PATH_LIMIT)


def documents(source: Source, data_dir: Path) -> Iterator[Document]:
    """Yield every document of a source, both splits, in file order.

    Raises:
        ConfigError: the file is missing or not what its recipe says.
    """
    path = file_of(source, data_dir)
    text = read_text(path)
    try:
        yield from _documents(source, text)
    except UNLIKE as error:
        raise ConfigError(
            f"training text {_shown(path)} is not {quoted(source.format)} with the fields of its "
            f"recipe ({quoted(error, 160)}); give another file, or change its [[data]]"
        ) from error


def _documents(source: Source, text: str) -> Iterator[Document]:
    match source.format:
        case "documents":
            for story in text.split(END_OF_DOCUMENT):
                if story := story.strip():
                    yield Document(key=story[:200], text=story)
        case "pairs":
            yield from _pairs(source, text)
        case "jsonl":
            for line in filter(None, text.split("\n")):
                yield from _record_documents(source, json.loads(line))
        case "python":
            for variant in python_variants(text):
                yield Document(key=variant.split("(")[0], text=variant)
        case other:
            raise ConfigError(
                f"unknown data format {other!r}; legal formats: documents, pairs, jsonl, python"
            )


def _pairs(source: Source, text: str) -> Iterator[Document]:
    for line in text.split("\n"):
        fields = line.split("\t")
        if len(fields) < 2 or (source.max_words and len(fields[0].split()) > source.max_words):
            continue
        prompt, _, answer = source.template.partition("\n")
        key = fields[0].strip()
        record = _renamed(key, fields[1].strip(), source.rename_share)
        prompt = prompt.format(**record)
        yield Document(key, f"{prompt}\n{answer.format(**record)}", prompt)


def _renamed(first: str, second: str, share: float) -> dict[str, str]:
    """Return a pair, its common names perhaps replaced; the sentences themselves decide."""
    rng = random.Random(first + second)
    for ours, theirs in COMMON_NAMES:
        found = re.search(rf"\b{ours}\b", first) and re.search(rf"\b{theirs}\b", second)
        if found and rng.random() < share:
            name = rng.choice(_first_names())
            first = re.sub(rf"\b{ours}\b", name, first)
            second = re.sub(rf"\b{theirs}\b", name, second)
    return {"first": first, "second": second}


@functools.cache
def _first_names() -> list[str]:
    return (ZOO_DIR / "texts" / "first_names.txt").read_text(encoding="utf-8").split()


def _record_documents(source: Source, record: dict[str, Json]) -> Iterator[Document]:
    if source.id_field and not source.id_min <= int(record[source.id_field]) <= source.id_max:
        return
    if source.python:
        for function in python_functions(record[source.code_field]):
            yield Document(key=function[:200], text=function)
        return
    flat = {k: _flatten(v) for k, v in record.items()}
    prompt, _, answer = source.template.partition("\n")
    text = f"{prompt}\n{answer}".format(**flat) if answer else prompt.format(**flat)
    if text.strip():
        yield Document(text[:200], text.strip(), prompt.format(**flat) if answer else "")


def _flatten(value: object) -> str:
    """Lists of paragraphs or of (speaker, utterance) turns become lines."""
    if not isinstance(value, list):
        return str(value).replace("\r\n", "\n").expandtabs(4).strip()
    return "\n".join(": ".join(map(str, v)) if isinstance(v, list) else str(v) for v in value)


def python_functions(code: str, *, max_chars: int = 1200) -> list[str]:
    """Return the top-level functions of a module, each docstring cut to its first line.

    A docstring whose first line holds quotes or backslashes stays as it is.
    """
    try:
        tree = ast.parse(code.expandtabs(4))
    except SyntaxError:
        return []
    lines = code.expandtabs(4).split("\n")
    found = [_with_short_docstring(n, lines) for n in tree.body if isinstance(n, ast.FunctionDef)]
    return [f for f in found if 40 <= len(f) <= max_chars]


def _with_short_docstring(node: ast.FunctionDef, lines: list[str]) -> str:
    end = node.end_lineno or node.lineno
    docstring, first = ast.get_docstring(node) or "", node.body[0]
    summary = docstring.split("\n")[0]
    if not summary or first.end_lineno == end or set(summary) & {'"', "\\"}:
        return "\n".join(lines[node.lineno - 1 : end])
    head, rest = lines[node.lineno - 1 : first.lineno - 1], lines[first.end_lineno : end]
    short = f'{" " * first.col_offset}"""{summary}"""'
    return "\n".join([*head, short, *rest])


def python_variants(code: str) -> list[str]:
    """Return each function whole, without annotations, and without its docstring too."""
    found = []
    for node in ast.parse(code).body:
        found.append(ast.unparse(node))
        assert isinstance(node, ast.FunctionDef)
        node.returns = None
        for argument in node.args.args:
            argument.annotation = None
        found.append(ast.unparse(node))
        node.body = node.body[1:]  # the docstring
        found.append(ast.unparse(node))
    return found


def split(source: Source, data_dir: Path, *, held_out: bool) -> list[Document]:
    """Return one split of a source."""
    return [d for d in documents(source, data_dir) if d.held_out == held_out]


def token_stream(
    tokens_by_source: list[list[Tokens]], shares: list[float], num_tokens: int, seed: int
) -> Tokens:
    """Mix tokenised documents into one stream.

    Each source is shuffled anew at every pass over it; the next document always comes from the
    source furthest below its share, so shares hold for tokens at every point of the stream.

    Returns:
        Token ids, shape `[num_tokens]`.
    """
    rng = random.Random(seed)
    queues: list[list[Tokens]] = [[] for _ in shares]
    taken = [0.0] * len(shares)
    stream, filled = np.empty(num_tokens, dtype=np.uint16), 0
    while filled < num_tokens:
        i = min(range(len(shares)), key=lambda j: taken[j] / shares[j])
        if not queues[i]:
            queues[i] = rng.sample(tokens_by_source[i], len(tokens_by_source[i]))
        document = queues[i].pop()[: num_tokens - filled]
        stream[filled : filled + len(document)] = document
        filled += len(document)
        taken[i] += len(document)
    return stream


def sample_texts(items: Iterable[Document], limit_chars: int, seed: int) -> list[str]:
    """Return a random sample of texts of about `limit_chars` characters in all."""
    texts = [d.text for d in items]
    random.Random(seed).shuffle(texts)
    chosen, used = [], 0
    for text in texts:
        if used >= limit_chars:
            break
        chosen.append(text)
        used += len(text)
    return chosen
