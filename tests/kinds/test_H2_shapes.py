"""C trusts nothing of a config: shapes are compared with the weights before any pass."""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from foredraft.errors import ForedraftError, ModelError
from foredraft.loading.runtime import Runtime, can_fuse
from foredraft.models import Context, Network
from foredraft.native import structures
from foredraft.native.fused import FusedModel
from foredraft.native.graphs import StaticModel
from foredraft.native.network import NativeModel
from foredraft.native.shapes import COUNTS
from foredraft.native.weights import PLAIN
from tests.tiny import build

needs_a_compiler = pytest.mark.skipif(not can_fuse(), reason="no C compiler here")
RUNTIMES: dict[str, Callable[[Any], Network]] = {
    "compiled": FusedModel,
    "torch": NativeModel,
    "static": StaticModel,
    "auto": Runtime("auto").adapt,
    "native": Runtime("native").adapt,
}
runtimes = pytest.mark.parametrize(
    "runtime", [pytest.param("compiled", marks=needs_a_compiler), *list(RUNTIMES)[1:]]
)


def network(member: str = "llama") -> Any:
    """Return a network that may be spoiled."""
    return copy.deepcopy(build(spelt(member)))


def spelt(member: str) -> str:
    """Return how tests call a network that torch computes too, or the compiled pass alone."""
    return f"{member}:native" if member in PLAIN else member


def check_is_refused(spoiled: Any, runtime: str, *words: str) -> None:
    """Raise unless a runtime names the value, what is legal and the remedy, in one sentence."""
    with pytest.raises(ModelError) as caught:
        RUNTIMES[runtime](spoiled)
    said = str(caught.value)
    for word in (*words, "legal", ";"):
        assert word in said, said
    assert "\n" not in said
    assert any(remedy in said for remedy in ("correct config.json", "--runtime transformers"))


# --- what the config says -------------------------------------------------------------------------

SAYS: dict[str, dict[str, Any]] = {
    "more key heads than heads": {"num_key_value_heads": 16},
    "heads are no multiple": {"num_key_value_heads": 3},
    "fewer key heads": {"num_key_value_heads": 1},
    "as many key heads": {"num_key_value_heads": 4},
    "more heads": {"num_attention_heads": 8},
    "fewer heads": {"num_attention_heads": 2},
    "more layers": {"num_hidden_layers": 3},
    "fewer layers": {"num_hidden_layers": 1},
    "wider": {"hidden_size": 64},
    "narrower": {"hidden_size": 16},
    "wider inside": {"intermediate_size": 128},
    "narrower inside": {"intermediate_size": 63},
    "more tokens": {"vocab_size": 65},
    "fewer tokens": {"vocab_size": 63},
    "huge": {"intermediate_size": 1 << 62},
    "epsilon is no number": {"rms_norm_eps": float("nan")},
    "epsilon is infinite": {"rms_norm_eps": float("inf")},
    "epsilon is negative": {"rms_norm_eps": -1e-6},
    "epsilon is text": {"rms_norm_eps": "1e-6"},
    "epsilon is missing": {"rms_norm_eps": None},
}
for count in COUNTS:
    for wrong in (0, -1, -4, 2.0, 4.5, True, None, "4", [4], float("nan")):
        SAYS[f"{count} = {wrong!r}"] = {count: wrong}


@runtimes
@pytest.mark.parametrize("case", SAYS)
def test_a_config_that_is_not_that_of_the_weights(case: str, runtime: str) -> None:
    spoiled = network()
    [(name, value)] = SAYS[case].items()
    spoiled.config.__dict__[name] = value  # as it stands in a file that nobody checks
    check_is_refused(spoiled, runtime)


@runtimes
@pytest.mark.parametrize("member", PLAIN)
def test_a_network_built_with_more_key_heads_than_heads(member: str, runtime: str) -> None:
    odd = build(f"{member}:native", num_attention_heads=4, num_key_value_heads=16)
    check_is_refused(odd, runtime, "num_key_value_heads", "16", "[1, 2, 4]")


@runtimes
@pytest.mark.parametrize("kv_heads", [3, 5])
def test_a_network_whose_heads_are_no_multiple(kv_heads: int, runtime: str) -> None:
    odd = build("qwen3:native", num_attention_heads=4, num_key_value_heads=kv_heads)
    check_is_refused(odd, runtime, "num_key_value_heads", str(kv_heads), "[1, 2, 4]")


@runtimes
@pytest.mark.parametrize("head_dim", [0, 1, 7, -8, 8.0, None])
def test_an_odd_size_of_heads(head_dim: Any, runtime: str) -> None:
    spoiled = network("qwen3")
    for layer in spoiled.model.layers:
        layer.self_attn.head_dim = head_dim
    check_is_refused(spoiled, runtime, "head_dim", repr(head_dim))


# --- what the weights are -------------------------------------------------------------------------


def parameters_of(member: str) -> list[str]:
    return [name for name, _ in build(spelt(member), attention_bias=True).named_parameters()]


def place_of(root: Any, name: str) -> tuple[Any, str]:
    *modules, last = name.split(".")
    return root.get_submodule(".".join(modules)), last


HARMS: dict[str, Callable[[torch.Tensor], torch.Tensor | None]] = {
    "one row less": lambda weight: weight[:-1],
    "one column less": lambda weight: weight[..., :-1],
    "gone": lambda weight: None,
    "bytes": lambda weight: weight.to(torch.float8_e4m3fn),
}
CASES = [
    (member, name, how)
    for member in ("qwen3", "qwen2", "llama", "gemma3", "phi3")
    for name in parameters_of(member)
    for how in HARMS
    if ".1." not in name and not (name.endswith("bias") and how == "gone")
]


@pytest.mark.parametrize(("member", "name", "how"), CASES)
def test_every_weight_is_looked_at(member: str, name: str, how: str) -> None:
    spoiled = copy.deepcopy(build(spelt(member), attention_bias=True))
    module, last = place_of(spoiled, name)
    changed = HARMS[how](getattr(module, last).detach())
    kept = changed if changed is None else nn.Parameter(changed.contiguous(), requires_grad=False)
    module.register_parameter(last, kept)
    kinds = ["compiled"] * can_fuse() + ["torch"] * (member in PLAIN)
    for runtime in kinds:
        check_is_refused(spoiled, runtime, name)


@runtimes
def test_weights_that_are_elsewhere(runtime: str) -> None:
    spoiled = network()
    spoiled.model.layers[1].mlp.up_proj.to("meta")
    check_is_refused(spoiled, runtime, "model.layers.1.mlp.up_proj.weight", "meta")


@runtimes
@pytest.mark.parametrize("tied", [False, True])
def test_a_head_that_is_not_as_large_as_the_embedding(tied: bool, runtime: str) -> None:
    spoiled = copy.deepcopy(build("llama:native", tie_word_embeddings=tied))
    spoiled.lm_head = nn.Linear(32, 70, bias=False)
    check_is_refused(spoiled, runtime, "lm_head.weight", "[70, 32]", "[64, 32]")


ROTATIONS: dict[str, Callable[[Any], Any]] = {
    "too few": lambda rotary: rotary.inv_freq[:-1],
    "too many": lambda rotary: torch.cat((rotary.inv_freq, rotary.inv_freq)),
    "none": lambda rotary: rotary.inv_freq[:0],
    "no numbers": lambda rotary: rotary.inv_freq * float("nan"),
    "infinite": lambda rotary: rotary.inv_freq * float("inf"),
}


@runtimes
@pytest.mark.parametrize("case", ROTATIONS)
def test_rotations_of_another_size(case: str, runtime: str) -> None:
    spoiled = network()
    spoiled.model.rotary_emb.inv_freq = ROTATIONS[case](spoiled.model.rotary_emb)
    check_is_refused(spoiled, runtime, "rotary")


@runtimes
def test_a_scale_of_rotations_that_is_no_number(runtime: str) -> None:
    spoiled = network()
    spoiled.model.rotary_emb.attention_scaling = float("nan")
    check_is_refused(spoiled, runtime, "attention_factor", "nan")


# --- what a caller says ---------------------------------------------------------------------------

CALLS: dict[str, Callable[[Context], object]] = {
    "more rows than tokens": lambda text: text.extend([1, 2], keep=3),
    "a token that there is not": lambda text: text.extend([1, 64], keep=1),
    "a negative token": lambda text: text.extend([-1], keep=1),
    "a huge token": lambda text: text.extend([1 << 40], keep=1),
    "back to the future": lambda text: text.rollback_to(5),
    "back before the begin": lambda text: text.rollback_to(-1),
}


@needs_a_compiler
@pytest.mark.parametrize("call", CALLS)
def test_c_is_never_asked_for_what_is_not_there(call: str) -> None:
    model = FusedModel(build("llama"))
    text = model.open([3, 4, 5])
    text.extend([3, 4, 5])
    with pytest.raises(ForedraftError, match=r"legal|outside"):
        CALLS[call](text)
    assert text.length == 3


@needs_a_compiler
def test_memory_that_runs_out_leaves_no_room_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = FusedModel(build("llama"))
    text = model.open([3, 4, 5])
    text.extend([3, 4, 5])
    right = text.extend(list(range(5, 60)))

    def full(length: int) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(model._passes, "_turns", [full])
        with pytest.raises(MemoryError):
            text.extend(list(range(60)) * 5)
    text = model.open([3])
    text.extend([3, 4, 5])
    assert torch.equal(text.extend(list(range(5, 60))), right)


# --- the structures -------------------------------------------------------------------------------

STRUCTURES = ("_Matrix", "_Layer", "_Network", "Feed", "Pass")


@needs_a_compiler
@pytest.mark.parametrize("change", ["one more", "one less", "another order", "a wider one"])
@pytest.mark.parametrize("name", STRUCTURES)
def test_a_structure_written_down_otherwise_in_c_is_noticed(
    name: str, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = list(getattr(structures, name)._fields_)
    changed = {
        "one more": [*fields, ("new", ctypes.c_int64)],
        "one less": fields[:-1],
        "another order": [fields[1], fields[0], *fields[2:]],
        "a wider one": [(fields[0][0], ctypes.c_int64 * 2), *fields[1:]],
    }[change]
    kind = type(name.removeprefix("_"), (ctypes.Structure,), {"_fields_": changed})
    structures.with_types(structures.library())
    monkeypatch.setattr(structures, name, kind)
    with pytest.raises(ModelError, match=f"disagree about {name.removeprefix('_')}"):
        structures.with_types(structures.library())


def test_the_bits_do_not_rest_on_a_compilers_default() -> None:
    from foredraft.native.compiler import FLAGS

    assert "-ffp-contract=off" in FLAGS
