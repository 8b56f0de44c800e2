"""Rotary embeddings as a config states them: what is legal, and how many positions they reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from foredraft.errors import ModelError, quoted, unfit
from foredraft.files import Document, Json

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

FIELDS = ("rope_parameters", "rope_scaling")
KINDS = ("default", *ROPE_INIT_FUNCTIONS)
OLD_KINDS = ("su", "mrope")  # which config classes rewrite: Phi-3, Qwen2-VL
NEEDED = {
    **{kind: ("factor",) for kind in ("linear", "dynamic", "yarn")},
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "longrope": ("short_factor", "long_factor"),
}
LEAST = {  # 0 stands for any number above it
    **{"factor": 1.0, "original_max_position_embeddings": 1.0, "rope_theta": 0.0},
    **{"beta_fast": 0.0, "beta_slow": 0.0, "attention_factor": 0.0},
    **{"low_freq_factor": 0.0, "high_freq_factor": 0.0},
}
LARGE = 1e30  # larger than any setting
REMEDY = "correct it after the model's card"


def check_rotary(place: str, config: Document, kind: type | None) -> None:
    """Raise unless a config's rotary embeddings are ones that transformers computes.

    Raises:
        ModelError: naming the field and what is legal.
    """
    for name in ("rope_theta", "rotary_emb_base", "rope_local_base_freq", "partial_rotary_factor"):
        _check_number(place + name, config.get(name), 0.0)
    for name in FIELDS:
        found = config.get(name)
        if found is None or found == {}:
            continue
        if not isinstance(found, dict):
            raise unfit(place + name, "an object with rope_type, or null", found, REMEDY)
        for inside, one in _all(found).items():
            _check_one(f"{place}{name}{inside}", one, kind)


def _all(found: Document) -> dict[str, Document]:
    """Return one set of parameters, or those of each type of layer, by what follows their name."""
    inside: dict[str, Document] = {
        f".{name}": one for name, one in found.items() if isinstance(one, dict)
    }
    return inside or {"": found}


def _check_one(name: str, found: Document, kind: type | None) -> None:
    rope = found.get("rope_type", found.get("type", "default"))
    known = isinstance(rope, str) and (
        rope in KINDS or rope in OLD_KINDS or hasattr(kind, f"_validate_{rope}_rope_parameters")
    )
    if not known:
        raise ModelError(
            f"{name}.rope_type {quoted(rope)} is unknown; legal: {', '.join(KINDS)}; {REMEDY}"
        )
    for needed in NEEDED.get(rope, ()):
        if found.get(needed) is None and not (rope == "yarn" and "factor" in found):
            raise ModelError(f"{name}.{needed} is missing, and {rope} needs it; {REMEDY}")
    for field, least in LEAST.items():
        _check_number(f"{name}.{field}", found.get(field), least)
    if rope == "llama3" and not found["low_freq_factor"] < found["high_freq_factor"]:
        raise ModelError(
            f"{name}.low_freq_factor {found['low_freq_factor']} must be below high_freq_factor "
            f"{found['high_freq_factor']}; {REMEDY}"
        )
    for field in ("short_factor", "long_factor"):
        factors = found.get(field)
        if factors is not None and (not isinstance(factors, list) or None in factors):
            raise unfit(f"{name}.{field}", "a list of numbers", factors, REMEDY)
        for factor in factors or ():
            _check_number(f"{name}.{field}", factor, 0.0)


def _check_number(name: str, value: Json, least: float) -> None:
    """Raise unless a value is none, or a number of at least this; above it, if this is 0."""
    sound = type(value) in (int, float) and least <= value < LARGE and value != 0
    if value is not None and not sound:
        legal = f"at least {least:g}" if least else "above 0"
        raise unfit(name, f"a number {legal}", value, REMEDY)


def reach(config: PreTrainedConfig, stated: int) -> int:
    """Return how many positions rotary embeddings reach with their scaling, all computed alike.

    A kind that changes with the length of the text (`longrope`, `dynamic`) is held to the positions
    before the change: what is cached before it would be wrong after it.

    Args:
        config: of transformers.
        stated: `max_position_embeddings`, or what stands for it. Where the config also names the
            positions before scaling and they are fewer, it has counted the scaling already.
    """
    parameters = getattr(config, "rope_parameters", None) or {}
    return min(
        (_reach_of(one, config, stated) for one in _all(parameters).values()), default=stated
    )


def _reach_of(one: Document, config: PreTrainedConfig, stated: int) -> int:
    own = one.get("original_max_position_embeddings")
    own = int(own or getattr(config, "original_max_position_embeddings", None) or stated)
    kind = one.get("rope_type", "default")
    if kind == "longrope":
        return min(stated, own)
    if kind in ("linear", "yarn", "llama3") and own >= stated:
        return int(max(1.0, float(one.get("factor") or 1.0)) * stated)
    return stated
