"""A model folder's config and tokenizer → the metadata of a GGUF file.

The reverse of `gguf_config`, for what can be said in such a file without llama.cpp's own converter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import gguf
from gguf.constants import RopeScalingType, TokenType
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from foredraft.errors import ModelError, foreign, quoted
from foredraft.files import Json
from foredraft.loading.documents import shown
from foredraft.loading.folder import ModelFolder
from foredraft.loading.gguf_config import LLAMA3, llama3_factors
from foredraft.loading.gguf_families import ARCHITECTURES, ROPE_FACTORS, Architecture
from foredraft.loading.gguf_pieces import name_of_cut
from foredraft.loading.gguf_weights import HEADS

ARCHITECTURE_NAMES = {
    **{"llama": "llama", "mistral": "llama", "smollm3": "smollm3"},
    **{"qwen2": "qwen2", "qwen3": "qwen3", "gemma3_text": "gemma3", "phi3": "phi3"},
}
CONVERT = "convert it with llama.cpp (convert_hf_to_gguf.py), and quantise the file it makes"
GAIN = re.compile(r".*norm\.weight")


def name_in_gguf(architecture: Architecture, name: str) -> str:
    """Return what a file calls a tensor of a network.

    Raises:
        ModelError: it has no name for it.
    """
    found = architecture.name_in_file(name)
    if found is None:
        raise ModelError(f"no GGUF file has a name for {quoted(name, 100)}; {CONVERT}")
    return found


def tensor_in_gguf(
    architecture: Architecture, config: PreTrainedConfig, name: str, tensor: Tensor
) -> Tensor:
    """Return a tensor in the order and the convention of a file."""
    if architecture.gains_hold_one and GAIN.fullmatch(name):
        return tensor.float() + 1
    heads = HEADS.get(name.split(".")[-2])
    if not (architecture.neighbours and heads):
        return tensor
    halves: Tensor = tensor.unflatten(0, (getattr(config, heads), 2, -1))
    return halves.transpose(1, 2).flatten(0, 2)


class Described:
    """A folder's model as a GGUF file describes it.

    Raises:
        ModelError: no such file can: the architecture, or the tokenizer, has no name there.
    """

    def __init__(self, folder: ModelFolder) -> None:
        kind = str(folder.config.model_type)
        if kind not in ARCHITECTURE_NAMES:
            raise ModelError(
                f"{folder.place}: model_type {quoted(kind)} is not written here; legal: "
                f"{', '.join(ARCHITECTURE_NAMES)}; {CONVERT}"
            )
        self.folder, self.config, self.name = folder, folder.config, ARCHITECTURE_NAMES[kind]
        self.architecture = ARCHITECTURES[self.name]
        with foreign(f"reading the tokenizer of {shown(folder.path)}", CONVERT):
            self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                folder.path, local_files_only=True
            )
            self._backend: Json = json.loads(self.tokenizer.backend_tokenizer.to_str())
        self._pre = self._pre_tokenizer()

    def add_to(self, writer: gguf.GGUFWriter) -> None:
        """Add it all to the metadata of a file."""
        config, head_dim = self.config, self._head_dim
        writer.add_name(self.folder.path.resolve().name)
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_vocab_size(config.vocab_size)
        window = getattr(config, "sliding_window", None)
        layers = getattr(config, "layer_types", None) or ()
        if window and (self.name == "phi3" or "sliding_attention" in layers or not layers):
            writer.add_sliding_window(window)
        if self.name == "gemma3":
            writer.add_sliding_window_pattern([one == "sliding_attention" for one in layers])
        self._add_rope(writer, head_dim)
        self._add_tokenizer(writer)

    def _add_rope(self, writer: gguf.GGUFWriter, head_dim: int) -> None:
        rope: Json = self.config.rope_parameters
        if "full_attention" in rope:
            writer.add_rope_freq_base_swa(rope["sliding_attention"]["rope_theta"])
            rope = rope["full_attention"]
        writer.add_rope_freq_base(rope["rope_theta"])
        writer.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1.0)))
        kind = rope.get("rope_type", "default")
        if kind in ("linear", "yarn"):
            writer.add_rope_scaling_type(RopeScalingType(kind))
            writer.add_rope_scaling_factor(rope["factor"])
        if kind == "yarn":
            writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        elif kind not in ("default", "linear", "llama3"):
            raise ModelError(
                f"{self.folder.place}: rope_type {quoted(kind)} is not written here; legal: "
                f"default, linear, yarn, llama3; {CONVERT}"
            )

    def factors(self) -> dict[str, Tensor]:
        """Return the tensor that says how Llama 3's frequencies are divided, if they are.

        Raises:
            ModelError: they are not divided as Llama 3's.
        """
        rope: Json = self.config.rope_parameters
        if rope.get("rope_type") != "llama3":
            return {}
        odd = {name: rope[name] for name, value in LLAMA3.items() if rope[name] != value}
        if odd:
            raise ModelError(
                f"{self.folder.place}: rope_parameters {quoted(odd)} differ from Llama 3's "
                f"({quoted(LLAMA3, 200)}), which are written here; {CONVERT}"
            )
        half, theta = self._head_dim // 2, float(rope["rope_theta"])
        return {ROPE_FACTORS: llama3_factors(half, theta, float(rope["factor"]))}

    @property
    def _head_dim(self) -> int:
        config = self.config
        own = getattr(config, "head_dim", None)
        return int(own or config.hidden_size // config.num_attention_heads)

    def _add_tokenizer(self, writer: gguf.GGUFWriter) -> None:
        tokens, kinds = zip(*self._tokens(), strict=True)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self._pre)
        writer.add_token_list(tokens)
        writer.add_token_types(kinds)
        merges = [one if isinstance(one, str) else " ".join(one) for one in self._model["merges"]]
        writer.add_token_merges(merges)
        tokenizer = self.tokenizer
        ends = self.folder.end_tokens(tokenizer.eos_token_id)
        own = tokenizer.eos_token_id if tokenizer.eos_token_id in ends else next(iter(ends), None)
        turns = [end for end in ends if end != own]
        found: tuple[tuple[Callable[[Json], None], Json], ...] = (
            (writer.add_bos_token_id, tokenizer.bos_token_id),
            (writer.add_eos_token_id, own),
            (writer.add_unk_token_id, tokenizer.unk_token_id),
            (writer.add_pad_token_id, tokenizer.pad_token_id),
            (writer.add_eot_token_id, turns[0] if turns else None),
            (writer.add_eom_token_id, turns[1] if len(turns) > 1 else None),
            (writer.add_chat_template, tokenizer.chat_template),
        )
        for add, value in found:
            # A tokenizer's class may add a token that the network has no row for.
            if value is not None and (isinstance(value, str) or value < self.config.vocab_size):
                add(value)
        plain = tokenizer.encode("a", add_special_tokens=False)
        around = tokenizer.encode("a")
        writer.add_add_bos_token(around != plain and around[0] == tokenizer.bos_token_id)
        writer.add_add_eos_token(around != plain and around[-1] == tokenizer.eos_token_id)

    def _tokens(self) -> Iterator[tuple[str, int]]:
        """Yield text and kind of every token of the network; those without a text get one."""
        texts = {place: text for text, place in self.tokenizer.get_vocab().items()}
        added = {one["id"]: one["special"] for one in self._backend.get("added_tokens") or ()}
        kinds = {True: TokenType.CONTROL, False: TokenType.USER_DEFINED}
        for place in range(self.config.vocab_size):
            kind = kinds[added[place]] if place in added else TokenType.NORMAL
            yield (texts[place], kind) if place in texts else (f"[PAD{place}]", TokenType.UNUSED)

    @property
    def _model(self) -> Json:
        return self._backend["model"]

    def _pre_tokenizer(self) -> str:
        """Return what llama.cpp calls the way in which text is cut before tokens are merged.

        Raises:
            ModelError: it has no name for it that is known here.
        """
        name = name_of_cut(self._backend)
        if name is not None:
            return name
        found = self._backend.get("pre_tokenizer") or {}
        names = [one.get("type") for one in found.get("pretokenizers", [found])]
        kind = f"{self._model.get('type')} with {', '.join(map(str, names))}"
        raise ModelError(
            f"the tokenizer of {shown(self.folder.path)} ({quoted(kind, 100)}) has no name in a "
            f"GGUF file that is known here; {CONVERT}"
        )
