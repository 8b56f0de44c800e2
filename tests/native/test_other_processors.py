"""The products on processors that are not this one: compiled for them, and run under QEMU."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from foredraft.native.compiler import FLAGS
from foredraft.native.structures import SOURCE

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
    (compiler, *flags), runner = CROSS[name]
    for needed in (compiler, *runner):
        if not shutil.which(needed):
            pytest.skip(f"there is no {needed} here")
    built = tmp_path / "products"
    sources = [str(path) for path in (*sorted(SOURCE.glob("*.c")), PRODUCTS)]
    command = [compiler, *FLAGS, *flags, f"-I{SOURCE}", *sources, "-lm", "-o", str(built)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    run = subprocess.run([*runner, str(built)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
    assert len(run.stdout.splitlines()) == 8
