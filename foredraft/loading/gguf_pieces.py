"""How a GGUF file's tokenizer cuts text into pieces and merges them.

A file holds the vocabulary, and the merges or the scores of tokens. How text is cut before pieces
are merged is a name in it (`tokenizer.ggml.pre`), or follows from its kind and its architecture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from foredraft.files import Json

# Kinds of tokens; the last two are matched whole: what is no text, and what is.
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
SPACE = "▁"
LLAMA3_CUT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_CUT = LLAMA3_CUT.replace(r"\p{N}{1,3}", r"\p{N}")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
WORD = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*%s"
SIGNS = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN_CUT = WORD.replace("%s", "") + r"|\p{N}" + SIGNS
GPT4O_CUT = WORD.replace("%s", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?") + r"|\p{N}{1,3}" + SIGNS
DIGITS = "digits"  # as GPT-2's, but each digit is a piece of its own
GPT2 = "gpt-2"


class Cut(NamedTuple):
    """How a byte-level tokenizer cuts text.

    Attributes:
        pattern: what a piece is, or `GPT2`, or `DIGITS`.
        keeps_words: whether a piece that is a token is that token, whatever its merges would be.
        begins: whether a text begins with a token of its own where the file does not say.
    """

    pattern: str
    keeps_words: bool = False
    begins: bool = False


# By the names that llama.cpp knows, of the architectures that are read here; the first of several
# names for one cut is the one that is written.
CUTS: dict[str, Cut] = {
    "gpt-2": Cut(GPT2),
    "default": Cut(GPT2),
    "": Cut(GPT2),
    "smollm": Cut(DIGITS),
    **dict.fromkeys(("starcoder", "refact", "command-r", "codeshell", "exaone"), Cut(DIGITS)),
    "minerva-7b": Cut(DIGITS),
    "llama-bpe": Cut(LLAMA3_CUT, keeps_words=True, begins=True),
    **dict.fromkeys(
        ("llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
        Cut(LLAMA3_CUT, keeps_words=True, begins=True),
    ),
    "smaug-bpe": Cut(LLAMA3_CUT),
    "dbrx": Cut(LLAMA3_CUT),
    "qwen2": Cut(QWEN2_CUT),
    **dict.fromkeys(("deepseek-r1-qwen", "kormo", "f2llmv2", "megrez"), Cut(QWEN2_CUT)),
    "tekken": Cut(TEKKEN_CUT, keeps_words=True, begins=True),
    "gpt-4o": Cut(GPT4O_CUT),
    "llama4": Cut(GPT4O_CUT),
}


def name_of_cut(backend: Json) -> str | None:
    """Return the name of how a tokenizer cuts text, given its JSON; `None` if it has none here."""
    found = backend.get("pre_tokenizer") or {}
    steps = found.get("pretokenizers", [found])
    names = [one.get("type") for one in steps]
    if backend["model"].get("type") != "BPE":
        return None
    if names == ["ByteLevel"]:
        return GPT2
    if names == ["Digits", "ByteLevel"] and steps[0]["individual_digits"]:
        return "smollm"
    pattern = steps[0].get("pattern", {}).get("Regex")
    keeps = bool(backend["model"].get("ignore_merges"))
    fitting = [name for name, cut in CUTS.items() if cut[:2] == (pattern, keeps)]
    return fitting[0] if names == ["Split", "ByteLevel"] and fitting else None


def byte_level(
    tokens: Sequence[str], kinds: Sequence[int], merges: Sequence[str], cut: Cut
) -> Tokenizer:
    """Return a tokenizer whose tokens are written in the alphabet of bytes (GPT-2)."""
    alphabet = bytes_to_letters()
    letters = set(alphabet.values())
    vocabulary = {
        # What is matched whole is text as it stands, as is a token already written in letters.
        token
        if kind in (CONTROL, USER_DEFINED) or letters.issuperset(token)
        else "".join(alphabet[byte] for byte in token.encode()): place
        for place, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
    }
    pairs = [_pair(merge) for merge in merges]
    made = Tokenizer(BPE(vocabulary, pairs, fuse_unk=False, ignore_merges=cut.keeps_words))
    is_split = cut.pattern not in (GPT2, DIGITS)
    letters_of_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not is_split)
    first: list[Json] = []
    if is_split:
        first = [pre_tokenizers.Split(Regex(cut.pattern), "isolated")]
    elif cut.pattern == DIGITS:
        first = [pre_tokenizers.Digits(individual_digits=True)]
    made.pre_tokenizer = pre_tokenizers.Sequence([*first, letters_of_bytes])
    made.decoder = decoders.ByteLevel()
    return with_whole_tokens(made, tokens, kinds)


def sentence_pieces(
    tokens: Sequence[str],
    kinds: Sequence[int],
    scores: Sequence[float],
    merges: Sequence[str] | None,
    architecture: str,
    has_prefix: bool,
    unknown: str | None,
) -> Tokenizer:
    """Return a tokenizer of SentencePiece's kind: spaces are `▁`, unknown letters are bytes.

    Gemma's tokens of several spaces are spelled in spaces in a file, and its merges go by the place
    of a token, not by its score. Phi-3 puts a space before every text, whatever it begins with.
    """
    is_gemma = architecture.startswith("gemma")
    if is_gemma:
        spaces = ["" if one.strip(" ") else SPACE * len(one) for one in tokens]
        tokens = [new or one for new, one in zip(spaces, tokens, strict=True)]
        kinds = [NORMAL if new else kind for new, kind in zip(spaces, kinds, strict=True)]
        scores = range(0, -len(tokens), -1)
    vocabulary = {token: place for place, token in enumerate(tokens)}
    pairs = merged_pairs(vocabulary, scores) if merges is None else [_pair(one) for one in merges]
    made = Tokenizer(BPE(vocabulary, pairs, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    back = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if is_gemma:
        made.normalizer = normalizers.Replace(" ", SPACE)
        made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    elif architecture == "phi3" and has_prefix:
        made.normalizer = normalizers.Sequence(
            [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
        )
    else:
        scheme = "first" if has_prefix else "never"
        made.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, scheme, split=False)
    if has_prefix and not is_gemma:
        back.append(decoders.Strip(" ", 1, 0))
    made.decoder = decoders.Sequence(back)
    return with_whole_tokens(made, tokens, kinds)


def with_whole_tokens(made: Tokenizer, tokens: Sequence[str], kinds: Sequence[int]) -> Tokenizer:
    """Add the tokens that are matched whole, before anything is cut or merged."""
    marked = list(zip(tokens, kinds, strict=True))
    whole = {kind: [one for one, its in marked if its == kind] for kind in (CONTROL, USER_DEFINED)}
    made.add_special_tokens(
        [AddedToken(one, normalized=False, special=True) for one in whole[CONTROL]]
    )
    made.add_tokens([AddedToken(one, normalized=False) for one in whole[USER_DEFINED]])
    return made


def merged_pairs(vocabulary: dict[str, int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """Return every pair of tokens that make a third, those of the best scores first."""
    found = [
        (-scores[place], -len(left), -len(right), place, left, right)
        for token, place in vocabulary.items()
        for left, right in ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        if left in vocabulary and right in vocabulary
    ]
    return [(left, right) for *_, left, right in sorted(found)]


def bytes_to_letters() -> dict[int, str]:
    """Return the letter that stands for each byte: its own if it prints, or one above 255."""
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printed += range(ord("®"), ord("ÿ") + 1)
    rest = [byte for byte in range(256) if byte not in printed]
    return {byte: chr(byte) for byte in printed} | {
        byte: chr(256 + place) for place, byte in enumerate(rest)
    }


def _pair(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    return left, right
