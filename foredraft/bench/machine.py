"""The machine a run was made on: device, memory, versions, commit — for the manifest."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import torch

from foredraft.engine import Engine
from foredraft.files import Json, read_lines
from foredraft.loading import LoadedModel
from foredraft.models import Network

PACKAGES = ("foredraft", "torch", "transformers", "tokenizers", "numpy", "matplotlib", "ray")
CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
CPU_INFO = Path("/proc/cpuinfo")
PACKAGE_DIR = Path(__file__).parents[1]
FACTS = (  # of a machine and a setting: what is said beside figures
    *("processor", "flags", "cuda", "threads", "device", "torch", "transformers", "commit"),
    *("prompts", "rounds", "seeds", "length"),
)
Model = dict[str, str | None]  # what a manifest says of a model
WIDE = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16", "i8mm")


def synchronize() -> None:
    """Wait until every CUDA device is done; a clock read before that measures nothing."""
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            torch.cuda.synchronize(index)


class PeakMemory:
    """The most memory held since this was made.

    Of the process: Linux resets its own high-water mark; elsewhere there is no such mark, and the
    figure is None rather than one of another time.
    """

    def __init__(self) -> None:
        self._is_reset = False
        with suppress(OSError):
            CLEAR_REFS.write_text("5")
            self._is_reset = True
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def peaks(self) -> tuple[int | None, int | None]:
        """Return the bytes of the process, and of PyTorch on its CUDA device."""
        cuda = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
        return (memory_mark("VmHWM") if self._is_reset else None), cuda


def memory_mark(name: str) -> int | None:
    """Return one of Linux's marks of this process, in bytes: `VmRSS` now, `VmHWM` at most."""
    try:
        lines = STATUS.read_text().split("\n")
    except OSError:
        return None
    marks = [int(line.split()[1]) * 1024 for line in lines if line.startswith(name)]
    return marks[0] if marks else None


def device_name(engine: Engine) -> str:
    """Return the name of the target's device."""
    device = torch.device(getattr(engine.target.model, "device", "cpu"))
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    names = _told_of_processor("model name")
    return names[0] if names else platform.processor() or platform.machine()


def flags() -> str:
    """Return which of the instructions that decide speed here the processor has."""
    lines = _told_of_processor("flags", "Features") or [""]  # of x86, of ARM
    words = lines[0].split()
    return " ".join(flag for flag in WIDE if flag in words)


def _told_of_processor(*names: str) -> list[str]:
    """Return what Linux tells of each core under one of the names; nothing elsewhere."""
    try:
        lines = [line.partition(":") for line in read_lines(CPU_INFO)]
    except OSError:
        return []
    return [value.strip() for name, _, value in lines if name.strip() in names]


def describe_machine() -> dict[str, Json]:
    """Return hardware, threads, load and versions."""
    return {
        "processor": processor(),
        "flags": flags(),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": load_average(),
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def load_average() -> list[float] | None:
    """Return the system's load over 1, 5 and 15 minutes, where it tells."""
    return list(os.getloadavg()) if hasattr(os, "getloadavg") else None


def place(found: dict[str, Json]) -> str:
    """Return in words where and how results were made: their `machine` and their `setting`."""
    machine = found.get("machine", {})
    facts = machine | machine.get("versions", {}) | found.get("setting", {})
    return ", ".join(f"{name} {facts[name]}" for name in FACTS if facts.get(name))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the checkout's commit, marked where files differ from it; None outside a checkout."""
    try:
        where = _git("rev-parse", "--show-toplevel")
        if Path(where) != PACKAGE_DIR.parent:
            return None  # installed somewhere inside another project's checkout
        changed = _git("status", "--porcelain", "--untracked-files=no")
        return _git("rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*words: str) -> str:
    command = ["git", "-C", str(PACKAGE_DIR), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def describe_model(loaded: LoadedModel) -> Model:
    """Return a model's name, precision, runtime, and a hash of its weights as they lie in it."""
    return {
        "name": loaded.name,
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "runtime": type(loaded.model).__name__,
        "sha256": weights_hash(loaded.model),
    }


def weights_hash(model: Network) -> str | None:
    """Return the SHA-256 of every weight as it lies in memory: shape, precision, bytes.

    None where weights are not known or do not show their bytes (quantized by torchao).
    """
    digest, known = hashlib.sha256(), False
    for tensor in model.weights():
        known = True
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        data = tensor.detach().cpu().contiguous().flatten()
        try:
            digest.update(data.view(torch.uint8).numpy().tobytes())
        except (RuntimeError, TypeError):
            return None
    return digest.hexdigest() if known else None
