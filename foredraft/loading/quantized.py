"""Weights that a checkpoint holds quantised, or is to be: honoured where it can be, or refused."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from transformers import TorchAoConfig

from foredraft.doors import one_of
from foredraft.errors import ConfigError, ModelError, quoted, unfit
from foredraft.files import Document, Json
from foredraft.loading.documents import shown
from foredraft.loading.headers import Stored

# Where one of these packages is installed, transformers computes with what it reads.
PACKAGES = {
    "gptq": ("gptqmodel", "auto_gptq"),
    "awq": ("gptqmodel", "awq"),
    "bitsandbytes": ("bitsandbytes",),
    "compressed-tensors": ("compressed_tensors",),
    "torchao": ("torchao",),
    "quanto": ("optimum.quanto",),
    "hqq": ("hqq",),
    "aqlm": ("aqlm",),
    "auto-round": ("auto_round",),
}
QUANTIZE_CHOICES = ("none", "int8", "int4")  # what weights are rounded to while they are loaded
FIELDS = ("quantization_config", "compression_config")
FILES = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
SCALES = re.compile(
    r".*(weight_scale(_inv|_2)?|input_scale|_scales|\.scales|\.qweight|\.qzeros|\.g_idx|\.SCB"
    r"|_blocks|\.absmax|\.quant_state\..*|weight_packed|weight_zero_point|\.quant_map)"
)
PACKED = ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64")
UNQUANTISED = (
    "give the unquantised model (on the hub usually the same name without the ending), which "
    "--quantize int8 can round while it loads"
)


def check_quantization(folder: Path, config: Document, tensors: Mapping[str, Stored]) -> bool:
    """Return whether the weights are quantised, in a way that transformers can compute here.

    Raises:
        ModelError: naming the kind, or the tensor that betrays one.
    """
    place = shown(folder / "config.json")
    stated = list(_stated(config))
    for name, found in stated:
        _check_stated(f"{place}: {name}", found)
    if not stated:
        _check_unstated(folder, place, tensors)
    return bool(stated)


def _stated(config: Document) -> Iterator[tuple[str, Json]]:
    """Yield what a config, or one inside it, says of the quantisation, by the field's name."""
    inside = {f"{k}.": v for k, v in config.items() if isinstance(v, dict) and k not in FIELDS}
    for prefix, part in {"": config, **inside}.items():
        for field in FIELDS:
            if part.get(field) is not None:
                yield prefix + field, part[field]


def _check_stated(name: str, found: Json) -> None:
    if not isinstance(found, dict):
        raise unfit(name, "an object", found, UNQUANTISED)
    method = found.get("quant_method")
    if method is None and (found.get("load_in_4bit") or found.get("load_in_8bit")):
        method = "bitsandbytes"
    if not isinstance(method, str) or not method:
        raise ModelError(
            f"{name} says that the weights are quantised, and its quant_method is "
            f"{quoted(method)}, which says not how; {UNQUANTISED}"
        )
    packages = PACKAGES.get(method, ())
    if not any(map(_is_installed, packages)):
        needs = f", which needs the package {packages[0]}" if packages else ""
        raise ModelError(
            f"{name}: the weights are quantised by {quoted(method)}{needs} and cannot be computed "
            f"here; {UNQUANTISED}"
        )


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _check_unstated(folder: Path, place: str, tensors: Mapping[str, Stored]) -> None:
    """Raise if the weights are quantised though the config does not say so."""
    silent = f"and {place} has no quantization_config that says how; {UNQUANTISED}"
    for name, tensor in tensors.items():
        narrow = tensor.dtype.startswith(("F8", "F6", "F4"))
        packed = tensor.dtype in PACKED and name.endswith((".weight", "_weight", ".bias"))
        if narrow or packed or SCALES.fullmatch(name):
            raise ModelError(
                f"{shown(tensor.file)}: {quoted(name, 100)} ({tensor.dtype}) is part of quantised "
                f"weights, {silent}"
            )
    for file in FILES:
        if (folder / file).exists():
            raise ModelError(
                f"{shown(folder / file)} says that the weights are quantised, {silent}"
            )


def torchao_config(name: str, device: torch.device) -> TorchAoConfig | None:
    """Return what lets torchao round a module's weights; None where they stay as they are.

    Raises:
        ConfigError: an unknown name, a kind that torchao does not compute here, or no torchao.
    """
    if one_of("quantization", name, QUANTIZE_CHOICES) == "none":
        return None
    if name != "int8":
        raise ConfigError(
            f"--quantize {name} is computed by the native runtime on a CPU only, not on "
            f"{device.type} or by transformers; use --quantize int8, or none"
        )
    if importlib.util.find_spec("torchao") is None:
        raise ConfigError("--quantize int8 needs torchao; install it with: uv sync --extra int8")
    from torchao.quantization import Int8WeightOnlyConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


def check_unquantised(name: str, place: str) -> None:
    """Raise `ConfigError` if a module of a GGUF file is to be rounded, which nobody here does."""
    if name != "none":
        raise ConfigError(
            f"--quantize {name}: {place} can be rounded by the native runtime on a CPU only; leave "
            "it out"
        )
