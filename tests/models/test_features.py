"""What a network tells of its layers, and what a head makes of it, in every runtime."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from foredraft.errors import RequestError
from foredraft.loading import fit_target
from foredraft.loading.runtime import can_fuse
from foredraft.models import Network
from foredraft.native.fused import FusedModel
from foredraft.native.network import NativeModel
from tests.drafting.test_head import every_runtime, target_of
from tests.heads import head_for, told
from tests.tiny import build, random_tokens


@every_runtime
@pytest.mark.parametrize("layers", [(2,), (0,), (1, 0, 2)])
def test_features_are_the_states_that_transformers_has(
    runtime: str, layers: tuple[int, ...]
) -> None:
    network = build("llama")
    target, source = target_of(runtime), random.Random(2)
    tokens = random_tokens(source, 90)
    context = target.open(tokens)
    features = context.watch(layers)
    while context.length < len(tokens):
        first = context.length
        context.extend(tokens[first : first + source.randint(1, 30)])
        context.rollback_to(max(context.length - source.randint(0, 3), first + 1))
    states: list[Tensor] = []
    inner = network.model
    hooks = [
        inner.layers[0].register_forward_pre_hook(lambda _, given: states.append(given[0])),
        *[
            layer.register_forward_hook(
                lambda _, __, made: states.append(made if isinstance(made, Tensor) else made[0])
            )
            for layer in inner.layers
        ],
    ]
    with torch.inference_mode():
        network(torch.tensor([tokens]))
    for hook in hooks:
        hook.remove()
    expected = torch.cat([states[layer][0] for layer in layers], dim=-1)
    found = features.between(0, len(tokens))
    assert (features.begin, features.end) == (0, len(tokens))
    assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(not can_fuse(), reason="no C compiler here")
@pytest.mark.parametrize("norms_first", [False, True])
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("sizes", [{}, {"head_dim": 10, "num_key_value_heads": 1}])
def test_the_compiled_head_is_the_readable_one(
    kind: str, norms_first: bool, sizes: dict[str, int]
) -> None:
    compiled, native = target_of("compiled"), target_of("native")
    tokens = random_tokens(random.Random(1), 150)  # more than a pass has rows
    rows, drafts = list[Tensor](), list[list[int]]()
    for target in (compiled, native):
        head = head_for(target, kind, norm_before_residual=norms_first, **sizes)
        read, features = told(target, head, tokens)
        drafts.append(read.draft(tokens[1:], 5).tokens)
        read.rollback_to(1)
        head.tell(read, features.between(0, 149))
        rows.append(read.extend(tokens[1:], 4))
        read.rollback_to(40)
        head.tell(read, features.between(39, 60))
        rows.append(read.extend([*tokens[40:61], 7, 9], 3))  # two of them nobody has told of
    assert drafts[0] == drafts[1]
    for ours, theirs in zip(rows[:2], rows[2:], strict=True):
        finite = ours.isfinite()
        assert torch.equal(finite, theirs.isfinite())
        assert int(finite[0].sum()) == 24
        assert torch.allclose(ours[finite], theirs[finite], atol=2e-4, rtol=1e-4)
    assert type(head).__name__ == "TorchHead"


@pytest.mark.parametrize("runtime", [NativeModel, *([FusedModel] if can_fuse() else [])])
def test_states_are_taken_down_in_inference_mode_and_out_of_it(runtime: type[Network]) -> None:
    tokens = random_tokens(random.Random(2), 6)
    context = runtime(build("llama")).open(tokens)  # type: ignore[call-arg]
    features = context.watch((1,))
    with torch.inference_mode():
        context.extend(tokens[:3])
    context.extend(tokens[3:5])
    assert (features.begin, features.end) == (0, 5)


@pytest.mark.parametrize("layers", [(), (-1,), (3,), (0, 99)])
def test_layers_that_there_are_not_are_refused(layers: Sequence[int]) -> None:
    context = target_of("native").open([1, 2])
    with pytest.raises(RequestError, match="legal: at least one, each 0 … 2"):
        context.watch(layers)
    assert context.features is None


def test_a_network_that_tells_nothing_says_so() -> None:
    context = fit_target(build("t5")).open([1, 2])
    with pytest.raises(RequestError, match="tells nothing of its layers"):
        context.watch((1,))
