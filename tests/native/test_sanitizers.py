"""The compiled pass under the sanitizers: nothing is read or written beside what it was given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.test_fused import LACKS, needs_a_compiler

ROOT = Path(__file__).parents[2]
CHECKS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1")
WALK = """
import random, sys
import torch
from foredraft.choices import Dense
from foredraft.core import Draft
from foredraft.models import Feed
from foredraft.drafting import STORAGES
from foredraft.native import fused, retrieval, sampling, structures
from foredraft.native.compiler import load_library
from tests.native.test_blocks import QUANTISED, Quantised, network
from tests.native.test_cousins import COUSINS
from tests.native.test_cousins import network as cousin
from foredraft.sampling import Rng
from foredraft.verification import VERIFIERS
from tests.native import test_retrieval
from tests.native.test_fused import rounded, wide
from tests.native.test_seq2seq import by_c
from tests.native.test_seq2seq import network as decoder
from tests.sampling.test_compiled import KINDS, logits_like, random_sampler
from tests.tiny import random_tokens

functions = structures.with_types(load_library(structures.SOURCE, *sys.argv[1:]))
fused.library = sampling.functions = retrieval.functions = lambda: functions
retrieval.calls.cache_clear()
for letters in (1, 2, 7, 200):
    test_retrieval.test_an_automaton_finds_and_copies_what_its_readable_form_does(letters)
for kind in STORAGES:
    for n in (2, 5, 64):
        test_retrieval.test_counts_answer_as_their_readable_form_does(kind, n)
test_retrieval.test_much_is_forgotten_in_bounded_memory_and_nothing_else()

def walk(model):
    source = random.Random(0)
    model.threads = 3
    one, other = (model.open(random_tokens(source, 70)) for _ in range(2))
    one.extend([*one.begin, *[5] * 70], keep=70)
    for count in (1, 5, 17):
        model.forward([Feed(other, random_tokens(source, count)), Feed(one, [3, 4], 2)])
        other.draft([1, 2], 3)
        sampler = random_sampler(source, 20)
        other.draw([1, 2], 3, sampler.drawing([source.random() for _ in range(3)]))
        other.rollback_to(count // 2)

for made in (wide(), rounded(wide()), *map(cousin, COUSINS)):
    walk(fused.FusedModel(made))
for kind in QUANTISED:
    for single in (False, True):
        walk(fused.FusedModel(Quantised(network(), lambda name: kind), single=single))
for member in ("odd_sizes", "one_head", "v1_1"):
    walk(by_c(decoder(member)))

def sample(source, kind, vocab):
    sampler = random_sampler(source, vocab)
    logits = logits_like(kind, source, 4, vocab)
    for name in ("rejection", "exact_match", "block"):
        choices, _ = sampler.choices(logits)
        tokens = [source.randrange(vocab) for _ in range(3)]
        for drawn_from in (None, Dense(logits[:3].softmax(-1).contiguous())):
            VERIFIERS.create(name).judge(Draft(tokens, drawn_from), choices, Rng(0), 0)
            choices.overlaps(Draft(tokens, drawn_from).choices, 3)
        choices.probs

source = random.Random(1)
for vocab in (1, 2, 15, 16, 17, 255, 257, 600, 5000):
    for kind in KINDS:
        for _ in range(8):
            sample(source, kind, vocab)
print("walked")
"""


def library_of(name: str) -> str:
    """Return where the compiler keeps a library of its own."""
    command = ["gcc", f"-print-file-name={name}"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(found).is_absolute():
        pytest.skip(f"the compiler has no {name}")
    return found


@pytest.mark.slow
@needs_a_compiler
@pytest.mark.parametrize("processor", LACKS)
def test_odd_shapes_under_the_sanitizers(processor: str, tmp_path: Path) -> None:
    if os.environ.get("CC") or not Path("/usr/bin/gcc").exists():
        pytest.skip("the sanitizers' libraries are looked up with gcc")
    quiet = {"ASAN_OPTIONS": "detect_leaks=0", "XDG_CACHE_HOME": str(tmp_path)}
    preloaded = " ".join(library_of(f"lib{name}.so") for name in ("asan", "ubsan"))
    run = subprocess.run(
        [sys.executable, "-c", WALK, *LACKS[processor], *CHECKS],
        cwd=ROOT,
        env=os.environ | quiet | {"LD_PRELOAD": preloaded},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout == "walked\n"
