"""`runtime` of the documented functions: which one runs, and that what is kept is never stale."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import foredraft
from foredraft.adapters import CONVERTED, is_unaltered
from foredraft.errors import ConfigError, ModelError
from foredraft.inputs import begin
from foredraft.loading.runtime import RUNTIME_CHOICES, is_native
from foredraft.models import DecoderOnlyModel, EncoderDecoderModel, Network, TableModel
from foredraft.native.seq2seq import CompiledSeq2Seq, NativeSeq2Seq
from foredraft.sampling import Rng
from tests.readers import prompt_of
from tests.tiny import VOCAB, build, full_logits, noisy

PROMPT = [5, 6, 7, 5, 6]
OPTIONS: dict[str, Any] = {"max_gen_len": 24, "eos_tokens_id": ()}


def adapter_of(model: Any, runtime: str) -> Network:
    return begin(PROMPT, model, Rng(0), 4, (), True, runtime).context.network


def fresh(name: str = "llama") -> Any:
    """Return a module that nobody else holds."""
    return copy.deepcopy(build(name))


def storage() -> foredraft.NGramStorage:
    return foredraft.NGramStorage(3, VOCAB)


def texts(name: str, **options: Any) -> list[list[int]]:
    """Return what each function says, target and drafter of an architecture."""
    target, drafter, options = build(name), noisy(name), OPTIONS | options
    return [
        foredraft.autoregressive_generate(PROMPT, target, **options),
        foredraft.speculative_generate(PROMPT, drafter, target, **options)[0],
        foredraft.speculative_generate(PROMPT, target, target, **options)[0],
        foredraft.ngram_assisted_speculative_generate(PROMPT, storage(), target, **options)[0],
        foredraft.beam_search_generate(PROMPT, target, **options),
    ]


# --- which one runs -------------------------------------------------------------------------------


@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no_cache"])
@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "qwen3", "gpt2"])
def test_every_runtime_says_the_same_greedily(name: str, use_cache: bool) -> None:
    expected = texts(name, use_cache=use_cache)
    assert texts(name, use_cache=use_cache, runtime="transformers") == expected
    assert texts(name, use_cache=use_cache, runtime="auto") == expected
    assert is_native(adapter_of(build(name), "auto")) == (name != "gpt2")


def test_the_native_runtime_runs_where_it_is_asked_for_and_nowhere_else() -> None:
    assert type(adapter_of(build("llama"), "transformers")) is DecoderOnlyModel
    assert is_native(adapter_of(build("llama"), "native"))
    with pytest.raises(ModelError, match="does not know GPT2LMHeadModel"):
        foredraft.autoregressive_generate(PROMPT, build("gpt2"), runtime="native")


def test_an_unknown_runtime_is_refused() -> None:
    with pytest.raises(ConfigError, match=f"unknown runtime 'nativ'.*{RUNTIME_CHOICES[0]}"):
        foredraft.autoregressive_generate(PROMPT, build("llama"), runtime="nativ")


@pytest.mark.parametrize("runtime", ["auto", "native"])
def test_an_adapter_keeps_the_runtime_it_has(runtime: str) -> None:
    model = TableModel({(): [1 / VOCAB] * VOCAB})
    for drafter, target, name in (
        (build("llama"), model, "target"),
        (model, build("llama"), "drafter"),
    ):
        refused = rf"'{runtime}' is for modules.* {name} is an adapter \(TableModel\).*leave runtim"
        with pytest.raises(ConfigError, match=refused):
            foredraft.speculative_generate(PROMPT, drafter, target, runtime=runtime)


@pytest.mark.parametrize("start", [None, 9])
@pytest.mark.parametrize("name", ["t5", "bart"])
def test_what_has_an_encoder_says_the_same_whatever_computes_it(
    name: str, start: int | None
) -> None:
    prompt: Any = prompt_of(name)
    options: dict[str, Any] = OPTIONS | {"decoder_start_token_id": start}
    call = foredraft.speculative_generate_encoder_decoder
    expected = call(prompt, noisy(name), build(name), **options)
    assert call(prompt, noisy(name), build(name), runtime="auto", **options) == expected
    assert is_native(adapter_of(build(name), "auto")) == (name == "t5")
    if name == "t5":
        assert call(prompt, noisy(name), build(name), runtime="native", **options) == expected
        return
    with pytest.raises(ModelError, match="does not know BartForConditionalGeneration"):
        call(prompt, noisy(name), build(name), runtime="native", **options)


def test_a_decoder_is_laid_out_once_and_anew_after_a_change() -> None:
    model: Any = fresh("t5")
    first, again = (adapter_of(model, "auto") for _ in range(2))
    assert isinstance(first, CompiledSeq2Seq | NativeSeq2Seq)
    assert isinstance(again, CompiledSeq2Seq | NativeSeq2Seq)
    assert again.decoder is first.decoder
    with torch.no_grad():
        model.decoder.block[0].layer[0].SelfAttention.q.weight[3].mul_(-20)
    changed = adapter_of(model, "auto")
    assert isinstance(changed, CompiledSeq2Seq | NativeSeq2Seq)
    assert changed.decoder is not first.decoder
    model.decoder.block[0].register_forward_hook(lambda *_: None)
    assert type(adapter_of(model, "auto")) is EncoderDecoderModel
    with pytest.raises(ModelError, match="holds hooks or parts of others"):
        adapter_of(model, "native")


# --- what is kept ---------------------------------------------------------------------------------


def test_a_module_is_converted_once() -> None:
    model = fresh()
    first = adapter_of(model, "auto")
    full_logits(model, PROMPT)  # reading changes nothing
    model(torch.tensor([PROMPT]), output_hidden_states=True)  # leaves hooks of transformers' own
    assert adapter_of(model, "native") is first
    assert adapter_of(copy.deepcopy(model), "auto") is not first


@torch.no_grad()
def _in_place(model: Any) -> None:
    model.model.layers[0].mlp.up_proj.weight[3].mul_(-20)


def _optimiser(model: Any) -> None:
    model(torch.tensor([PROMPT]), labels=torch.tensor([PROMPT])).loss.backward()
    torch.optim.AdamW(model.parameters(), lr=0.5).step()


def _state_dict(model: Any) -> None:
    model.load_state_dict(build("llama", 3).state_dict())


def _assigned(model: Any) -> None:
    model.load_state_dict(fresh_state(), assign=True)


def fresh_state() -> dict[str, Any]:
    return {name: weight.clone() for name, weight in build("llama", 3).state_dict().items()}


def _new_parameter(model: Any) -> None:
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().roll(5, 0))


def _past_the_counters(model: Any) -> None:
    weight = model.model.layers[1].self_attn.o_proj.weight
    weight.data += 2 * torch.outer(torch.ones(32), torch.arange(32) / 32)  # as a LoRA is merged


def _rounded(model: Any) -> None:
    for weight in model.parameters():
        weight.data = (4 * weight.data).round() / 4


CHANGES: list[Callable[[Any], None]] = [
    *(_in_place, _optimiser, _state_dict, _assigned, _new_parameter),
    *(_past_the_counters, _rounded),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changed_weights_are_converted_anew(change: Callable[[Any], None]) -> None:
    model = fresh()
    options = OPTIONS | {"max_gen_len": 40}
    before = foredraft.autoregressive_generate(PROMPT, model, runtime="native", **options)
    change(model)
    expected = foredraft.autoregressive_generate(PROMPT, model, **options)
    assert expected != before
    assert foredraft.autoregressive_generate(PROMPT, model, runtime="native", **options) == expected


def test_weights_whose_changes_nobody_counts_are_converted_at_every_call() -> None:
    with torch.inference_mode():
        model = fresh()
        for name, weight in fresh_state().items():
            owner, _, last = name.rpartition(".")
            setattr(model.get_submodule(owner), last, nn.Parameter(weight, requires_grad=False))
    assert adapter_of(model, "native") is not adapter_of(model, "native")


def test_what_was_made_of_a_module_goes_with_it() -> None:
    model = fresh()
    kept = weakref.ref(adapter_of(model, "auto"))
    gc.collect()
    assert kept() is not None
    del model
    gc.collect()
    assert kept() is None
    assert all(model is not None for model in CONVERTED._newest)


# --- modules that somebody has altered ------------------------------------------------------------


class Added(nn.Module):
    """A part as PEFT puts it in: it shows the weight of what it wraps, and adds to its output."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner, self.extra = inner, nn.Parameter(torch.randn(inner.weight.shape))

    @property
    def weight(self) -> Any:
        return self.inner.weight

    bias = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.inner(x) + x @ self.extra.t()
        return y


def _with_a_part(model: Any) -> None:
    model.model.layers[0].self_attn.o_proj = Added(model.model.layers[0].self_attn.o_proj)


def _with_a_hook(model: Any) -> None:
    model.model.layers[0].register_forward_hook(lambda part, given, said: said * -1.5)


def _with_another_forward(model: Any) -> None:
    head = model.lm_head
    head.forward = lambda x: -nn.functional.linear(x, head.weight)


@pytest.mark.parametrize("alter", [_with_a_part, _with_a_hook, _with_another_forward])
def test_an_altered_module_is_computed_as_it_is(alter: Callable[[Any], None]) -> None:
    model = fresh()
    assert is_unaltered(model)
    before = foredraft.autoregressive_generate(PROMPT, model, runtime="auto", **OPTIONS)
    torch.manual_seed(0)
    alter(model)
    expected = foredraft.autoregressive_generate(PROMPT, model, **OPTIONS)
    assert expected != before
    assert foredraft.autoregressive_generate(PROMPT, model, runtime="auto", **OPTIONS) == expected
    with pytest.raises(ModelError, match="holds hooks or parts of others; use the runtime auto"):
        foredraft.autoregressive_generate(PROMPT, model, runtime="native", **OPTIONS)
