"""A forked process goes on with one thread, and whatever lock was held is free: it never hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from foredraft.errors import ModelError
from foredraft.loading.runtime import can_fuse
from foredraft.threads import check_device_survives

ROOT = Path(__file__).parents[2]
SECONDS = 300  # a process that hangs does so for ever
can_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no process")
BEGIN = """
import os, sys, threading, time, warnings
import torch
from tests.kinds.test_F1_one_owner import CONFIG, PROMPTS, RUNTIMES, Engine, pair
from foredraft import threads
from foredraft.threads import usable_threads
warnings.simplefilter("ignore")  # of forking beside threads, which is what is tried
threads.os.sched_getaffinity = lambda _: {0, 1}
threads.BYTES_A_THREAD = 1  # else models this small take one thread
torch.set_num_threads(2)
engine = Engine(*pair(sys.argv[1]))
expected = engine.generate(PROMPTS[0], CONFIG).tokens
# torch's threads are made by a product that is worth them
big = torch.ones(700, 700) @ torch.ones(700, 700)

def in_child(work):
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def generate():
    assert (usable_threads(), torch.get_num_threads()) == (1, 1)
    assert engine.generate(PROMPTS[0], CONFIG).tokens == expected
    assert (torch.ones(700, 700) @ torch.ones(700, 700)).equal(big)
    torch.set_num_threads(2)  # of ours, one is used all the same
    if sys.argv[1] == "compiled":
        assert engine.generate(PROMPTS[0], CONFIG).tokens == expected
"""
CASES = {
    "after a generation": "assert in_child(generate) == 0",
    "after a fork": "assert in_child(lambda: sys.exit(in_child(generate))) in (0, 1)\n"
    "assert in_child(generate) == 0",
    "in a stream": """
stream = engine.stream(PROMPTS[0], CONFIG)
chunks = iter(stream)
next(chunks)
def go_on():
    assert stream.completion.tokens == expected
    generate()
assert in_child(go_on) == 0
assert stream.completion.tokens == expected
""",
    "while another thread holds the models": """
inside, leave = threading.Event(), threading.Event()
def hold():
    from foredraft.ownership import held
    with held(*engine.networks):
        inside.set()
        leave.wait()
thread = threading.Thread(target=hold)
thread.start()
inside.wait()
assert in_child(generate) == 0
leave.set()
thread.join()
""",
    "by multiprocessing": """
import multiprocessing
process = multiprocessing.get_context("fork").Process(target=generate)
process.start()
process.join()
assert process.exitcode == 0
""",
    "a new model in the child": """
def load():
    fresh = Engine(*pair(sys.argv[1]))
    threads.use_threads(2, were_asked_for=True)
    assert torch.get_num_threads() == 1
    assert fresh.generate(PROMPTS[0], CONFIG).tokens == expected
assert in_child(load) == 0
""",
}
END = """
assert (usable_threads(), torch.get_num_threads()) == (2, 2), "the parent keeps its threads"
assert engine.generate(PROMPTS[0], CONFIG).tokens == expected
print("done")
"""


def run(runtime: str, text: str) -> str:
    """Run a script that forks; a child that hangs ends with it."""
    environment = os.environ | {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    process = subprocess.Popen(
        [sys.executable, "-c", text, runtime],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        return process.communicate(timeout=SECONDS)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        return f"it hangs: {process.communicate()[0]}"


@pytest.mark.slow
@can_fork
@pytest.mark.parametrize("runtime", ["compiled", "torch", "transformers"])
def test_a_forked_process_gives_the_same_text(runtime: str) -> None:
    if runtime == "compiled" and not can_fuse():
        pytest.skip("no C compiler here")
    assert run(runtime, BEGIN + "\n".join(CASES.values()) + END).endswith("done\n")


@pytest.mark.slow
@can_fork
def test_a_process_that_had_no_model_leaves_its_child_all_threads() -> None:
    text = """
import os
import foredraft
from foredraft import threads
threads.os.sched_getaffinity = lambda _: {0, 1}
threads.BYTES_A_THREAD = 1  # else models this small take one thread
threads._quota = lambda: 2.0
child = os.fork()
if child == 0:
    os._exit(threads.usable_threads())
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run("torch", text) == "2\n"


def test_a_model_on_a_gpu_names_spawn(monkeypatch: pytest.MonkeyPatch) -> None:
    check_device_survives(torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    check_device_survives(torch.device("cpu"))
    with pytest.raises(ModelError, match=r"cuda:1 cannot be used in a forked process; .*spawn"):
        check_device_survives(torch.device("cuda:1"))
