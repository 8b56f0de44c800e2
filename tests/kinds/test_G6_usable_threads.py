"""Never more threads than the process may use: pinned, in a container, or asked for too many."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from foredraft import threads
from foredraft.loading import LoadOptions, load
from foredraft.loading.runtime import can_fuse
from foredraft.native import passes
from foredraft.native.fused import FusedModel
from foredraft.threads import fit_threads, quotas, threads_for, usable_threads, use_threads
from tests.texts import first_pass
from tests.tiny import build

needs_a_compiler = pytest.mark.skipif(not can_fuse(), reason="no C compiler here")
can_pin = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system pins no process"
)


@pytest.fixture(autouse=True)
def threads_of_torch() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a process that may use two processors of a machine with 64."""
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: {3, 9}, raising=False)
    monkeypatch.setattr(threads, "_quota", lambda: float("inf"))
    monkeypatch.setattr(threads, "_all_threads", 64)


@can_pin
def test_a_pinned_process_uses_the_processors_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_quota", lambda: float("inf"))
    before = os.sched_getaffinity(0)
    assert usable_threads() == len(before)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_threads() == 1
        with pytest.warns(RuntimeWarning, match=r"threads is 8 but this process may use 1, so"):
            use_threads(8, were_asked_for=True)
        assert torch.get_num_threads() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("asked", [3, 8, 4096])
def test_too_many_that_are_asked_for_are_not_used_and_a_word_says_so(asked: int) -> None:
    with pytest.warns(RuntimeWarning, match=rf"threads is {asked} but .* set it to 1 … 2"):
        use_threads(asked, were_asked_for=True)
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("asked", [1, 2])
def test_what_may_be_used_is_used_without_a_word(asked: int) -> None:
    use_threads(asked, were_asked_for=True)
    assert torch.get_num_threads() == asked


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(("worth", "given"), [(0, 1), (1, 1), (2, 2), (100, 2)])
def test_a_program_gives_torch_what_a_model_is_worth_or_those_there_are(
    worth: int, given: int
) -> None:
    torch.set_num_threads(1)
    fit_threads(worth)
    assert torch.get_num_threads() == given


def test_a_networks_worth_grows_with_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build("llama")
    num_bytes = 4 * sum(p.numel() for p in network.parameters())
    assert threads_for(network) == 1
    monkeypatch.setattr(threads, "BYTES_A_THREAD", num_bytes // 3)
    assert threads_for(network) in (3, 4)


@pytest.mark.parametrize("runtime", ["auto", "transformers"])
def test_threads_that_are_asked_for_while_loading_are_given(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "usable_threads", lambda: 64)
    options = LoadOptions(device="cpu", runtime=runtime, threads=3)
    loaded = load("bundled", "drafter", options)
    assert (torch.get_num_threads(), loaded.threads) == (3, 0)
    if isinstance(loaded.model, FusedModel):
        assert loaded.model.threads == 3  # its weights are worth two


@needs_a_compiler
@pytest.mark.parametrize("asked", [1, 2, 8, 100])
def test_a_compiled_pass_uses_no_more_whatever_torch_was_told(
    asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "usable_threads", lambda: 2)
    monkeypatch.setattr(threads, "BYTES_A_THREAD", 1)
    # On a machine that does other things a pace may give less: here only the limit matters.
    monkeypatch.setattr(passes.Pace, "choose", lambda self, most: most)
    torch.set_num_threads(asked)
    model = FusedModel(build("llama"))
    for use in USES:
        use(model.open([3, 4]))
        assert model._passes._pass.threads == min(asked, 2)
    model.threads = 1  # worth no more
    first_pass(model, [3, 4])
    assert model._passes._pass.threads == 1
    model.threads = 100
    monkeypatch.setattr(passes, "usable_threads", lambda: 1)  # pinned meanwhile
    first_pass(model, [3, 4])
    assert model._passes._pass.threads == 1


USES: list[Callable[[Any], object]] = [
    lambda text: text.extend([3, 4]),
    lambda text: text.extend([3, 4] * 70),
    lambda text: text.draft([3, 4], 3),
    lambda text: (text.extend([3, 4]), text.fork().extend([5])),
]

GROUPS: dict[str, tuple[dict[str, str], list[float]]] = {
    "version 2, as the root": ({"proc/self/cgroup": "0::/\n", "cpu.max": "200000 100000\n"}, [2.0]),
    "version 2, no limit": ({"proc/self/cgroup": "0::/\n", "cpu.max": "max 100000\n"}, []),
    "version 2, half a processor": ({"proc/self/cgroup": "0::/", "cpu.max": "50000 100000"}, [0.5]),
    "version 2, the group above": (
        {
            "proc/self/cgroup": "0::/user/session\n",
            "user/cpu.max": "300000 100000\n",
            "user/session/cpu.max": "max 100000\n",
        },
        [3.0],
    ),
    "version 2, both": (
        {
            "proc/self/cgroup": "0::/user/session\n",
            "user/cpu.max": "300000 100000\n",
            "user/session/cpu.max": "400000 100000\n",
        },
        [4.0, 3.0],
    ),
    "version 1": (
        {
            "proc/self/cgroup": "5:memory:/m\n4:cpu,cpuacct:/docker/a\n3:cpuset:/\n",
            "cpu,cpuacct/docker/a/cpu.cfs_quota_us": "150000\n",
            "cpu,cpuacct/docker/a/cpu.cfs_period_us": "100000\n",
        },
        [1.5],
    ),
    "version 1, no limit": (
        {
            "proc/self/cgroup": "1:cpu:/\n",
            "cpu/cpu.cfs_quota_us": "-1\n",
            "cpu/cpu.cfs_period_us": "100000\n",
        },
        [],
    ),
    "version 1, a container that sees the host's path": (
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/docker/a\n",
            "cpu,cpuacct/cpu.cfs_quota_us": "400000\n",
            "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
        [4.0],
    ),
    "nonsense": ({"proc/self/cgroup": "0::/\nx\n\n:::\n", "cpu.max": "much\n"}, []),
    "a period of zero": ({"proc/self/cgroup": "0::/\n", "cpu.max": "100 0\n"}, []),
    "no groups": ({}, []),
    "outside": ({"proc/self/cgroup": "0::/../../other\n"}, []),
}


@pytest.mark.parametrize("case", GROUPS)
def test_a_containers_share_is_read(case: str, tmp_path: Path) -> None:
    files, expected = GROUPS[case]
    for name, text in files.items():
        file = tmp_path / (name if name.startswith("proc") else f"sys/fs/cgroup/{name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert list(dict.fromkeys(quotas(tmp_path))) == expected


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 1), (1.0, 1), (1.5, 1), (2.0, 2), (3.9, 3), (9.0, 4)]
)
def test_a_share_is_rounded_to_threads_that_can_all_run(
    share: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(threads, "_quota", lambda: share)
    assert usable_threads() == expected
