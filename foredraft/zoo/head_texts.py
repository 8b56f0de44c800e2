"""What a head learns from: its target's own answers, and what the target's layers made of them.

A head is judged on its target's text, so it learns from nothing else. Each file holds some texts
whole; a second call goes on behind the last one.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from foredraft.decoding import Request, Speculation
from foredraft.decoding.speculative import shared_step
from foredraft.errors import ConfigError, ContextOverflow, foreign, quoted
from foredraft.files import PATH_LIMIT, write_whole, writing
from foredraft.models import Network
from foredraft.sampling import GreedySampler, NucleusSampler, Rng
from foredraft.sampling.base import Sampler

T = TypeVar("T")
TEXTS_A_FILE = 128
RUNNING = 8  # texts that share a pass: of more, a pass of a CPU without matrix tiles gains nothing
# In turn: what is drafted most is greedy text; what is drawn shows the head more of the language.
SAMPLERS: tuple[Sampler, ...] = (GreedySampler(), NucleusSampler(temperature=0.9, top_p=0.95))
ENDING = ".safetensors"


@dataclass(frozen=True)
class Text:
    """One prompt with its answer.

    Attributes:
        tokens: both, shape `[time]`.
        begin: where the answer begins.
        states: what the target's layers made of all tokens but the last, `[time − 1, width]`.
    """

    tokens: Tensor
    begin: int
    states: Tensor

    def to(self, device: torch.device) -> Text:
        """Return the text on a device."""
        return Text(self.tokens.to(device), self.begin, self.states.to(device))


class Answers(Protocol):
    """How a network answers prompts; see `answers`."""

    def __call__(
        self,
        prompts: Sequence[list[int]],
        layers: Sequence[int],
        *,
        length: int,
        ends: Sequence[int],
        seed: int,
    ) -> Iterator[Text]: ...


def collect(
    folder: Path,
    answer: Answers,
    prompts: Callable[[int], Iterator[list[int]]],
    layers: Sequence[int],
    *,
    num_tokens: int,
    length: int,
    ends: Sequence[int],
    report: Callable[[int], None],
    texts_a_file: int = TEXTS_A_FILE,
) -> None:
    """Let a network answer prompts until its answers have `num_tokens` in all, or a few more.

    Text that the target has no room for, and answers of less than two tokens, are left out.

    Args:
        folder: where the files lie.
        answer: of the target.
        prompts: number of a file → its prompts, which are always the same.
        layers: of the target, whose states are kept.
        num_tokens: of the answers.
        length: most tokens of an answer.
        ends: tokens that end one.
        report: told the tokens there are, after each file.
        texts_a_file: prompts that are answered before something is written.
    """
    done = sum(count_of(file) for file in files_of(folder))
    report(done)
    for number in itertools.count():
        file = folder / f"texts-{number:05}{ENDING}"
        if file.is_file():
            continue
        if done >= num_tokens and number > 1:  # one is to learn from, one to measure on
            return
        given = list(itertools.islice(prompts(number), texts_a_file))
        texts = list(answer(given, layers, length=length, ends=ends, seed=number))
        if not texts:
            raise ConfigError(
                f"of {len(given)} prompts none was answered by two tokens; raise texts.length (now "
                f"{length}), or lower texts.prompt_length below the target's positions"
            )
        done += write(file, texts)
        report(done)


def answers(
    network: Network,
    prompts: Sequence[list[int]],
    layers: Sequence[int],
    *,
    length: int,
    ends: Sequence[int],
    seed: int,
) -> Iterator[Text]:
    """Yield prompts with a network's answers, each as it ends; what it has no room for is left."""
    settings = {"max_new_tokens": length, "eos_token_ids": ends}
    waiting = _begun(network, prompts, layers, seed, settings)
    running = list(itertools.islice(waiting, RUNNING))
    while running:
        shared_step(running)
        ended = [(parts, one) for parts, one in running if one.finished]
        for parts, request in ended:
            running.remove((parts, request))
            if len(request.output) > 1:
                yield _text_of(request)
            request.context.close()
        running += itertools.islice(waiting, len(ended))


def _begun(
    network: Network,
    prompts: Sequence[list[int]],
    layers: Sequence[int],
    seed: int,
    settings: dict[str, Any],
) -> Iterator[tuple[Speculation, Request]]:
    """Yield a request for each prompt that fits, when it is asked for."""
    for place, prompt in enumerate(prompts):
        with suppress(ContextOverflow):
            context = network.open(prompt)
            context.watch(layers)
            request = Request(context, Rng(seed * TEXTS_A_FILE + place), **settings)
            yield Speculation.plain(network, SAMPLERS[place % len(SAMPLERS)]), request


def _text_of(request: Request) -> Text:
    features = request.context.features
    assert features is not None
    states = features.between(0, request.length - 1)
    begin = request.length - len(request.output)
    return Text(torch.tensor(request.tokens, dtype=torch.int32), begin, states.bfloat16().cpu())


def write(file: Path, texts: Sequence[Text]) -> int:
    """Write texts into a file, whole or not at all; return the tokens of their answers."""
    ends = torch.tensor([len(text.tokens) for text in texts]).cumsum(0)
    begins = torch.tensor([text.begin for text in texts])
    held = {
        "tokens": torch.cat([text.tokens for text in texts]),
        "states": torch.cat([text.states for text in texts]),
        "ends": ends,
        "begins": begins,
    }
    with writing(file, "what is written stays; make room, then the same command continues"):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, safetensors.torch.save(held))
    return _count(held["tokens"], begins)


def files_of(folder: Path) -> list[Path]:
    """Return the files of texts in a folder."""
    return sorted(folder.glob(f"texts-*{ENDING}"))


def count_of(file: Path) -> int:
    """Return the tokens of the answers in a file."""
    with _opened(file) as held:
        return _count(held.get_tensor("tokens"), held.get_tensor("begins"))


def read(file: Path) -> list[Text]:
    """Return the texts of a file."""
    with _opened(file) as held:
        tokens, states = held.get_tensor("tokens"), held.get_tensor("states")
        ends, begins = held.get_tensor("ends").tolist(), held.get_tensor("begins").tolist()
    texts, first = list[Text](), 0
    for number, (end, begin) in enumerate(zip(ends, begins, strict=True)):
        # Of every text the states are one fewer than the tokens.
        rows = states[first - number : end - number - 1]
        texts.append(Text(tokens[first:end], begin, rows))
        first = end
    return texts


def reader_for(device: torch.device, files: Sequence[Path]) -> Callable[[Path], list[Text]]:
    """Return what reads files: beside CUDA's passes a disk is slow, so texts stay on the device.

    A million tokens with 1,152 numbers each are 2.3 GB; what needs more than half of the memory
    that is free is read again at each pass over it.
    """
    if device.type != "cuda":
        return read
    if 2 * sum(file.stat().st_size for file in files) > torch.cuda.mem_get_info(device)[0]:
        return read
    return functools.cache(lambda file: [text.to(device) for text in read(file)])


def _count(tokens: Tensor, begins: Tensor) -> int:
    return len(tokens) - int(begins.sum())


def _opened(file: Path) -> safe_open:
    with foreign(f"reading {quoted(str(file), PATH_LIMIT)}", "delete it", ConfigError):
        return safe_open(file, "pt")


def mixed(sources: Sequence[Sequence[T]], shares: Sequence[float], seed: int) -> Iterator[T]:
    """Yield prompts without end; the next is always of the source furthest below its share.

    Each source is shuffled anew at every pass over it.
    """
    rng = random.Random(seed)
    queues: list[list[T]] = [[] for _ in shares]
    taken = [0] * len(shares)
    while True:
        i = min(range(len(shares)), key=lambda j: taken[j] / shares[j])
        if not queues[i]:
            queues[i] = rng.sample(sources[i], len(sources[i]))
        taken[i] += 1
        yield queues[i].pop()
