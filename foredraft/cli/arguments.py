"""Flags, derived from the dataclasses they set: a default or a help text exists once.

Knows argparse; runs nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
from functools import partial
from pathlib import Path

from foredraft.cli.parser import Number
from foredraft.config import DecodingConfig
from foredraft.files import read_text
from foredraft.loading.device import DEVICE_CHOICES
from foredraft.loading.loader import AUTO_DRAFTER, BUNDLED, BUNDLED_FOLDERS, NO_DRAFTER
from foredraft.loading.options import ACTIVATIONS_CHOICES, DTYPE_CHOICES, LoadOptions
from foredraft.loading.quantized import QUANTIZE_CHOICES
from foredraft.loading.runtime import RUNTIME_CHOICES
from foredraft.ranges import hints_of

STRUCTURED_LENGTH = 1024  # tokens of a text that must obey a structure, where nothing was said
SWITCHES = ("speculative", "ngram", "target", "drafter", "debug")  # `--method`, `--trace` instead


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Add what decides which models are loaded, and how."""
    group = parser.add_argument_group("models")
    add = group.add_argument
    names = ", ".join(BUNDLED_FOLDERS)
    add(
        "--target",
        default=BUNDLED,
        help=f"{names}, a folder, a .gguf file or a hub name [%(default)s]",
    )
    add(
        "--drafter",  # no default: one that nobody asked for is left out where it does not fit
        help=f"the same, for the draft model, or the folder of a head, or {NO_DRAFTER}; {BUNDLED} "
        f"is the one of the target's kind, {AUTO_DRAFTER} what comes with this package for the "
        f"target, a head of it or {BUNDLED} [{AUTO_DRAFTER}]",
    )
    devices = ", ".join(DEVICE_CHOICES)
    add("--device", default="auto", help=f"{devices} or cuda:N [%(default)s]")
    precision = "precision of weights and arithmetic [%(default)s]"
    add("--dtype", default="auto", choices=DTYPE_CHOICES, help=precision)
    fewer = "weights of fewer bits [%(default)s]"
    add("--quantize", default="none", choices=QUANTIZE_CHOICES, help=fewer)
    rounded = "what quantised weights are multiplied with [%(default)s]"
    add("--activations", default="int8", choices=ACTIVATIONS_CHOICES, help=rounded)
    add("--drafter-device", help="device of the draft model, if another")
    add("--drafter-dtype", choices=DTYPE_CHOICES, help="dtype of the draft model, if another")
    computes = "what computes the passes [%(default)s]"
    add("--runtime", default="auto", choices=RUNTIME_CHOICES, help=computes)
    add("--invariant", action="store_true", help="logits that do not depend on the pass's size")
    add("--check-runtime", action="store_true", help="compare native and transformers logits first")
    add("--compile", action="store_true", help="let torch.compile make the native kernels, on CUDA")
    threads = Number(hints_of(LoadOptions)["threads"])
    add("--threads", type=threads, default=0, metavar="N", help="CPU threads [0: as many as help]")
    add("--trust-remote-code", action="store_true", help="run code that comes with a model")
    add_import_flag(parser)


def add_import_flag(parser: argparse.ArgumentParser) -> None:
    """Add what brings drafters, policies, … of one's own; before any spec is read."""
    shown = "import a module or a .py file, which may register components; may be repeated"
    parser.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="MODULE", help=shown
    )


def load_options(args: argparse.Namespace) -> tuple[LoadOptions, LoadOptions]:
    """Return the options of target and drafter."""
    names = [field.name for field in dataclasses.fields(LoadOptions)]
    target = LoadOptions(**{name: getattr(args, name) for name in names})
    return target, dataclasses.replace(
        target,
        device=args.drafter_device or args.device,
        dtype=args.drafter_dtype or args.dtype,
    )


def is_drafter_free(args: argparse.Namespace) -> bool:
    """Whether nobody has named a draft model, so that one that does not fit is left out."""
    return args.drafter in (None, AUTO_DRAFTER)


def drafter_name(args: argparse.Namespace, *, is_needed: bool) -> str | None:
    """Return the draft model to load; what no method needs is loaded if it was asked for."""
    if args.drafter is None and not is_needed:
        return None
    if is_drafter_free(args):
        return BUNDLED
    return None if args.drafter == NO_DRAFTER else args.drafter


def add_decoding_flags(parser: argparse.ArgumentParser, names: tuple[str, ...] = ()) -> None:
    """Add a flag for each setting of `DecodingConfig`, or for the named ones."""
    group = parser.add_argument_group("decoding")
    for field in dataclasses.fields(DecodingConfig):
        if field.name in SWITCHES or (names and field.name not in names):
            continue
        flag = f"--{field.name.replace('_', '-')}"
        shown = f"{field.metadata['help']} [{_shown(field.metadata.get('flag', field.default))}]"
        # SUPPRESS: only flags that were given reach the config, which keeps its own defaults.
        add = partial(group.add_argument, flag, help=shown, default=argparse.SUPPRESS)
        hint = hints_of(DecodingConfig)[field.name]
        if hint is bool:
            add(action=argparse.BooleanOptionalAction)
        elif hint == tuple[str, ...]:
            add(action="append", metavar="TEXT")
        elif field.metadata.get("reads_file"):
            add(type=str, metavar="FILE")
        else:
            add(type=str if hint in (str, str | None) else Number(hint), metavar="V")


def decoding_config(args: argparse.Namespace, **fixed: object) -> DecodingConfig:
    """Return the config that the given flags make.

    Raises:
        ConfigError: a value is out of range.
    """
    settings = [f for f in dataclasses.fields(DecodingConfig) if f.name not in SWITCHES]
    usual = {f.name: f.metadata["flag"] for f in settings if "flag" in f.metadata}
    given = usual | {f.name: getattr(args, f.name) for f in settings if f.name in args}
    hints = hints_of(DecodingConfig)
    for field in settings:
        if field.name in given and hints[field.name] == tuple[str, ...]:
            given[field.name] = tuple(given[field.name])
        elif field.name in given and field.metadata.get("reads_file"):
            given[field.name] = text_of(given[field.name])
    config = DecodingConfig().replace(**given, **fixed)
    if config.is_structured and "length" not in given and "length" not in fixed:
        return config.replace(length=STRUCTURED_LENGTH)  # it ends by itself, and is no good before
    return config


def text_of(named: str) -> str:
    """Return the text of a file that a flag or a command names; JSON may stand for itself."""
    return named if named.lstrip().startswith("{") else read_text(Path(named).expanduser())


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return "none" if default in (None, ()) else str(default)
