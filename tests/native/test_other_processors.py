"""The products on processors that are not this one, under QEMU, and by every compiler there is."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from foredraft.native import compiler, passes, structures
from foredraft.native.compiler import FLAGS
from foredraft.native.fused import FusedModel
from foredraft.native.structures import SOURCE
from tests.native.test_blocks import source_of
from tests.native.test_fused import check_bits
from tests.native.test_native import network

PRODUCTS = Path(__file__).with_name("products.c")
CROSS = {
    "this one": (["cc", "-march=native"], []),
    "this one, clang": (["clang", "-march=native"], []),
    "plain x86": (["cc"], []),
    "ARM": (["aarch64-linux-gnu-gcc", "-static"], ["qemu-aarch64"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CROSS)
def test_every_kind_is_right(name: str, tmp_path: Path) -> None:
    (cc, *flags), runner = CROSS[name]
    for needed in (cc, *runner):
        if not shutil.which(needed):
            pytest.skip(f"there is no {needed} here")
    built = tmp_path / "products"
    sources = [str(path) for path in (*sorted(SOURCE.glob("*.c")), PRODUCTS)]
    command = [cc, *FLAGS, *flags, f"-I{SOURCE}", *sources, "-lm", "-o", str(built)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    run = subprocess.run([*runner, str(built)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
    assert len(run.stdout.splitlines()) == 8


def compilers() -> list[str]:
    """Return every GCC and Clang of this machine, by name."""
    names = {
        entry.name
        for folder in os.get_exec_path()
        if Path(folder).is_dir()
        for entry in os.scandir(folder)
    }
    return sorted(name for name in names if re.fullmatch(r"(gcc|clang)(-\d+)?", name))


@pytest.mark.slow
@pytest.mark.parametrize("level", ["-O1", "-O2", "-O3"])
@pytest.mark.parametrize("name", compilers())
def test_the_bits_do_not_rest_on_the_compiler(
    name: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GCC 13 once fused a product with a sum for some numbers of tokens and not for others."""
    monkeypatch.setattr(compiler, "COMPILERS", (name,))
    found = structures.with_types(compiler.load_library(SOURCE, level))
    monkeypatch.setattr(passes, "library", lambda: found)
    for member in ("llama", "qwen3"):
        check_bits(FusedModel(network(member)), random.Random(member), 90)
    for kind in ("Q4_1", "Q6_K"):
        for single in (False, True):
            check_bits(FusedModel(source_of(kind), single=single), random.Random(kind), 60)
