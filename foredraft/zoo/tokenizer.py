"""The bundled tokenizer: a byte-level BPE with a chat template.

Byte-level, so that any text encodes and decodes without loss; digits stand
alone, so that arithmetic is visible to a small model.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from foredraft.errors import ConfigError, foreign, quoted
from foredraft.files import PATH_LIMIT

PAD, EOS, BOS, USER, ASSISTANT = "<|pad|>", "<|eos|>", "<|bos|>", "<|user|>", "<|assistant|>"
SPECIAL_TOKENS = [PAD, EOS, BOS, USER, ASSISTANT]  # ids 0–4, in this order

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<|assistant|>{{ message['content'] }}{{ eos_token }}"
    "{% else %}<|user|>{{ message['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def chat_document(prompt: str, answer: str) -> str:
    """Return a training document in the form the chat template gives."""
    return f"{USER}{prompt}{ASSISTANT}{answer}"


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, *, for_pairs: bool = False
) -> PreTrainedTokenizerFast:
    """Train the tokenizer on texts; it has `vocab_size` tokens in all.

    For pairs, of an encoder–decoder model, what is encoded gets the end token behind it, and
    typographic spaces and apostrophes are read as plain ones. Otherwise what is encoded gets the
    begin token in front, as documents have in training, and nothing is changed.
    """
    bpe = Tokenizer(models.BPE())
    if for_pairs:
        bpe.normalizer = normalizers.Sequence(
            [
                normalizers.NFC(),
                normalizers.Replace("’", "'"),
                normalizers.Replace(Regex(r"\s+"), " "),
                normalizers.Replace(Regex(r" (?=[?!:;»])"), ""),
                normalizers.Replace("« ", "«"),
            ]
        )
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=for_pairs),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    if for_pairs:  # the space in front of the first word is not part of the text
        bpe.decoder = decoders.Sequence([bpe.decoder, decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}" if for_pairs else f"{BOS} $A",
        special_tokens=[(token, SPECIAL_TOKENS.index(token)) for token in (EOS, BOS)],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=EOS,
        bos_token=BOS,
        additional_special_tokens=[USER, ASSISTANT],
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    if not for_pairs:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def ids_of(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Return a text's tokens, with what the tokenizer puts around them."""
    ids: list[int] = tokenizer(text)["input_ids"]
    return ids


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Return the tokenizer in a folder.

    Raises:
        ConfigError: there is none that can be read, or it names no end token or no padding.
    """
    shown = quoted(str(folder), PATH_LIMIT)
    with foreign(f"reading the tokenizer in {shown}", "give another one", ConfigError):
        tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    for name in ("eos_token", "pad_token"):
        if getattr(tokenizer, name) is None:
            raise ConfigError(f"the tokenizer in {shown} names no {name}; give another one")
    return tokenizer
