"""Drafts inside vLLM, with vLLM: run with -m vllm in an environment where it is installed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from foredraft.bench.engines import Pair, Table, order
from foredraft.zoo import bundled_path
from tests.bench.test_engines import advice, candidate
from tests.integrations.commands import read_by_vllm
from tests.integrations.session import FILE, decoded, record

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]
PAGE = Path(__file__).parents[2] / "docs" / "en" / "vllm.md"


@pytest.fixture(scope="module")
def fresh(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, list[list[int]], dict[str, float]]:
    """Record a session anew; return its file, what was said, and vLLM's counts."""
    file = tmp_path_factory.mktemp("session") / "session.json"
    return file, *record(file)


def test_vllm_hands_over_what_was_recorded(
    fresh: tuple[Path, list[list[int]], dict[str, float]],
) -> None:
    now, then = (json.loads(file.read_text(encoding="utf-8")) for file in (fresh[0], FILE))
    assert now["handed"] == then["handed"]


def test_greedy_text_is_that_of_plain_decoding(
    fresh: tuple[Path, list[list[int]], dict[str, float]],
) -> None:
    _, said, counts = fresh
    assert counts["vllm:spec_decode_num_accepted_tokens"] > 50
    assert counts["vllm:num_preemptions"] > 0
    assert said == decoded(None)[0]


def commands() -> list[str]:
    """Return the command lines of vLLM that the page shows."""
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line for line in joined.splitlines() if re.match(r"([A-Z_]+=\S+ )*vllm serve", line)]


@pytest.mark.parametrize("command", commands())
def test_vllm_reads_the_commands_of_the_page(command: str) -> None:
    read = read_by_vllm(command)
    assert read.speculative_config.method == "custom_class"
    assert not read.scheduler_config.async_scheduling


@pytest.mark.parametrize("table", [(), ((1, 4, 4), (5, 64, 0))])
@pytest.mark.parametrize("drafting", ["suffix", "ngram", "auto", "prompt_lookup", "model"])
def test_vllm_reads_what_is_advised(drafting: str, table: Table) -> None:
    drafter = str(bundled_path("drafter")) if drafting == "model" else None
    best = candidate(drafting, None if drafting == "auto" else 4)
    told = order("vllm", advice(best, drafter=drafter), Pair("a/model", drafter), table)
    read = read_by_vllm(told.text).speculative_config
    methods = {"prompt_lookup": "ngram", "model": "draft_model"}
    assert read.method == methods.get(drafting, "custom_class")
    assert read.num_speculative_tokens == (8 if drafting == "auto" else 4)


def test_a_command_with_an_option_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="num_speculative_token"):
        read_by_vllm(
            'vllm serve a/model --speculative-config \'{"method": "custom_class", "model": '
            '"foredraft.integrations.vllm.Proposer", "num_speculative_token": 8}\''
        )


@pytest.mark.xfail(reason="vLLM 0.32: what `GREEDY_ONLY` in integrations/vllm.py warns of")
def test_on_a_cpu_each_token_is_given_the_temperature_of_its_request() -> None:
    import torch
    from vllm.platforms import current_platform  # type: ignore[import-not-found]
    from vllm.v1.sample.rejection_sampler import (  # type: ignore[import-not-found]
        expand_batch_to_tokens,
    )

    if current_platform.device_type != "cpu":
        pytest.skip("not a CPU")
    ends = torch.tensor([2, 5])
    found = expand_batch_to_tokens(torch.tensor([0.5, 0.75]), ends, 5)
    assert found.tolist() == [0.5, 0.5, 0.75, 0.75, 0.75]
