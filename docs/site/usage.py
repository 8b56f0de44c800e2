"""Tables for users: columns of CSV files, and what computes which models. Read from the code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from foredraft.bench.rows import COLUMNS
from foredraft.bench.shell_runs import SHELL_COLUMNS
from foredraft.loading.gguf_families import ARCHITECTURES
from foredraft.models.cache import ONE_TOKEN_A_PASS
from foredraft.native.t5_weights import SEQ2SEQ_FAMILY
from foredraft.native.weights import FAMILY, PLAIN


class Words(NamedTuple):
    """The same thing said in both languages."""

    zh: str
    en: str

    def of(self, language: str) -> str:
        """Return it in one of them."""
        return self.zh if language == "zh" else self.en


MEANINGS = {  # column of a CSV file → what it holds
    "order": Words("在运行次序中的位置", "place in the order in which the rows were run"),
    "cell": Words("单元的全名：标签与条件", "full name of the cell: label and condition"),
    "label": Words("方法和变化的设置", "the method and the settings that vary"),
    "condition": Words("对普通解码也有影响的设置", "settings that change plain decoding too"),
    "method": Words("方法或实验的名字", "name of the method, or of the experiment"),
    "prompt": Words("提示词", "the prompt"),
    "prompt_id": Words("提示词的编号", "name of the prompt"),
    "kind": Words("提示词的种类", "kind of prompt"),
    "seed": Words("随机种子", "random seed"),
    "status": Words("`ok`，或不计入统计的 `failed`", "`ok`, or `failed`, which counts for nothing"),
    "error": Words("失败的原因", "why it failed"),
    "throughput_tokens_per_second": Words(
        "输出 token 数 ÷ 整次生成的秒数，读提示词的时间在内",
        "emitted tokens ÷ seconds of the whole generation, reading the prompt included",
    ),
    "latency_seconds": Words("整次生成的秒数", "seconds of the whole generation"),
    "tokens_per_second": Words(
        "第一轮以后的速度，不含读提示词", "speed after the first step, which reads the prompt"
    ),
    "acceptance_rate": Words("接受的 ÷ 起草的 token 数", "accepted ÷ drafted tokens"),
    "conditional_acceptance_rate": Words(
        "接受数 ÷（接受数 + 首次拒绝数）：被验证到的 token 的接受率",
        "accepted ÷ (accepted + first rejections): the rate among tokens that were judged",
    ),
    "mean_acceptance_length": Words("每轮输出的 token 数 τ", "emitted tokens per step, τ"),
    "mean_gamma": Words("起草的轮中草稿的平均长度", "mean draft length of the steps that drafted"),
    "mean_normalized_entropy": Words(
        "EGAG 量得的 $H / \\ln V$ 的平均", "mean $H / \\ln V$, where EGAG measured it"
    ),
    "draft_cost_ratio": Words(
        "成本比 c：一次草稿调用 ÷ 一次目标调用", "c: a draft call ÷ a call of the target"
    ),
    "num_steps": Words("轮数", "draft–verify rounds"),
    "num_draft_calls": Words("草稿模型的调用次数", "calls of the draft model"),
    "num_drafted_tokens": Words("起草的 token 数", "drafted tokens"),
    "num_accepted_tokens": Words("其中接受的", "those of them that were accepted"),
    "num_emitted_tokens": Words(
        "输出的 token 数，结束 token 在内", "tokens of the output, an end token included"
    ),
    "drafted_by_position": Words("起草到第 i 位的轮数", "steps that drafted position i"),
    "kept_by_position": Words("接受到第 i 位的轮数", "steps that accepted it"),
    "finish_reason": Words("为何结束：`eos`、`length` 等", "why it ended: `eos`, `length`, …"),
    "matches_baseline": Words(
        "贪心时与 Target AR 的文本相同吗：`yes`、`no`，或只差舍入的 `near-tie`",
        "greedy: is the text that of Target AR? `yes`, `no`, or `near-tie`, a matter of rounding",
    ),
    "target_logprob_per_token": Words(
        "采样时，温度 1 的目标模型给每个输出 token 的平均 $\\ln p$",
        "sampled: mean $\\ln p$ of an emitted token under the target at temperature 1",
    ),
    "peak_cpu_bytes": Words("生成期间进程的内存峰值", "peak memory of the process meanwhile"),
    "peak_cuda_bytes": Words(
        "生成期间 PyTorch 在设备上的内存峰值", "peak memory of PyTorch on the device"
    ),
    "text_hash": Words(
        "文本 SHA-256 的前十六位：相同即文本相同",
        "first sixteen digits of the text's SHA-256: equal where the texts are",
    ),
    "device": Words("在哪里运行", "where it ran"),
    "shared_device": Words(
        "同时有别的工作进程，此时计时不可靠", "others ran there too, so its times mean little"
    ),
    "trace": Words("第一个种子每轮的 `γ:熵`", "`gamma:entropy` of every step, of the first seed"),
}
HEADS = Words("| 列 | 含义 |", "| column | meaning |")

NAMES = {  # model_type of transformers → models that people know
    "llama": "Llama 2, 3.x, SmolLM2, TinyLlama",
    "mistral": "Mistral 7B",
    "qwen2": "Qwen 2, Qwen 2.5",
    "qwen3": "Qwen 3 (0.6B … 32B)",
    "smollm3": "SmolLM3",
    "gemma3_text": "Gemma 3 (1B, 270M)",
    "phi3": "Phi-3 (4k)",
    "t5": "T5, T5 v1.1, FLAN-T5",
    "mt5": "mT5",
}
YES, NO = Words("是", "yes"), Words("否", "no")
COMPILED = Words("编译的 C", "compiled C")
GRAPHS = Words("CUDA 图", "CUDA graphs")
MODULE = Words("transformers 模块", "transformers module")
DECODER = Words("解码器：编译的 C", "decoder: compiled C")
OTHER_SEQ2SEQ = Words(
    "BART、mBART、Marian、M2M100、Pegasus、LED、Switch Transformers、Whisper",
    "BART, mBART, Marian, M2M100, Pegasus, LED, Switch Transformers, Whisper",
)
OTHER_CAUSAL = Words(
    "其他只有注意力层的因果语言模型：GPT-2、GPT-NeoX、OPT、StableLM、Gemma 2 等",
    "other causal models of attention layers: GPT-2, GPT-NeoX, OPT, StableLM, Gemma 2, …",
)
REFUSED = Words("拒绝", "refused")
RECURRENT = Words(
    "循环层或状态层的模型（Mamba、RWKV 等）：其记忆不能回滚",
    "models with recurrent or stateful layers (Mamba, RWKV, …): their memory cannot be rolled back",
)
ONE_TOKEN = Words(
    "每次前向只能读一个 token 的模型", "models that read one token in a forward pass beside a cache"
)
ENCODERS = Words("只有编码器的模型（BERT 等）", "encoders alone (BERT, …)")


def columns(names: Sequence[str]) -> Callable[[str], str]:
    """Return what makes a table of columns and their meanings in a language."""

    def table(language: str) -> str:
        rows = [f"| `{name}` | {MEANINGS[name].of(language)} |" for name in names]
        return "\n".join([HEADS.of(language), "|---|---|", *rows])

    return table


def compatibility(language: str) -> str:
    """Return a table of model families: what computes them on a CPU and on CUDA, and from GGUF."""
    heads = Words("| 模型 | CPU | CUDA | GGUF 文件 |", "| models | CPU | CUDA | GGUF files |")
    in_files = {one.model_type for one in ARCHITECTURES.values()}
    lines = [heads.of(language), "|---|---|---|---|"]

    def row(models: str, *cells: Words) -> None:
        lines.append(f"| {' | '.join([models, *(cell.of(language) for cell in cells)])} |")

    for kind in FAMILY:
        gguf = YES if kind in in_files else NO
        row(f"{NAMES[kind]} (`{kind}`)", COMPILED, GRAPHS if kind in PLAIN else MODULE, gguf)
    for kind in SEQ2SEQ_FAMILY:
        row(f"{NAMES[kind]} (`{kind}`)", DECODER, MODULE, NO)
    for others in (OTHER_SEQ2SEQ, OTHER_CAUSAL):
        row(others.of(language), MODULE, MODULE, NO)
    odd = ", ".join(f"`{name}`" for name in ONE_TOKEN_A_PASS)
    for none in (RECURRENT, ONE_TOKEN, ENCODERS):
        told = Words(f"（{odd}）", f" ({odd})").of(language) if none is ONE_TOKEN else ""
        row(none.of(language) + told, REFUSED, REFUSED, REFUSED)
    return "\n".join(lines)


BLOCKS: Mapping[str, Callable[[str], str]] = {
    "shell-columns": columns(SHELL_COLUMNS),
    "run-columns": columns(COLUMNS),
    "compatibility": compatibility,
}
