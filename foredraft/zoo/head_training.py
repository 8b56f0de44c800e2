"""The training of a head: it learns what its target would say, also behind its own guesses.

Li et al. (2025), EAGLE-3: the head is unrolled a few steps on its own states (training-time test),
each row of a text by itself, so that it meets in training what it meets when it drafts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from foredraft.errors import ConfigError, ModelError
from foredraft.models import Network
from foredraft.models.features import stacked
from foredraft.models.head_module import HeadModule, Keys
from foredraft.zoo.head_texts import Text, read

FILES_TOGETHER = 6  # files whose texts are mixed
ACCEPTANCE_WEIGHT = 4.0  # of 1 − acceptance beside a cross-entropy: so both pull about as hard
CHECKED, NEAR = 24, 0.05  # tokens of a target that are looked at, and how near their logits lie
ROUGHLY = 64  # texts whose lengths differ by less share a batch as well as any


@dataclass(frozen=True)
class Lesson:
    """A batch: rows of texts, each a token with what the target had made of the text before it.

    Attributes:
        tokens: shape `[batch, time]`.
        told: the target's states before each, `[batch, time, width]`.
        last: the target's last state after each, `[batch, time, hidden]`.
        counts: whether what follows a row belongs to an answer, `[batch, time]`.
    """

    tokens: Tensor
    told: Tensor
    last: Tensor
    counts: Tensor

    def to(self, device: torch.device) -> Lesson:
        """Return the batch on a device."""
        parts = (self.tokens, self.told, self.last, self.counts)
        return Lesson(*(part.to(device) for part in parts))


@dataclass(frozen=True)
class Kept:
    """How the states of a text lie.

    Attributes:
        size: of a state.
        told: places of those that the head reads among the layers that were kept; the last layer
            is the last of these.
    """

    size: int
    told: tuple[int, ...]

    def of(self, states: Tensor) -> Tensor:
        """Return what a head is told of states `[…, layers · size]`, `[…, width]`."""
        parts = states.split(self.size, dim=-1)
        return stacked([parts[place] for place in self.told])


def lesson_of(texts: Sequence[Text], kept: Kept) -> Lesson:
    """Return texts as a batch, the shorter ones filled up with rows that count for nothing."""
    ids = pad_sequence([text.tokens for text in texts], batch_first=True).long()
    states = pad_sequence([text.states for text in texts], batch_first=True).float()
    places = torch.arange(ids.shape[1] - 2, device=ids.device)
    begins, ends = (
        torch.tensor(bounds, device=ids.device)[:, None] - 2
        for bounds in ([text.begin for text in texts], [len(text.tokens) for text in texts])
    )
    is_row = places < ends
    told = kept.of(states[:, :-1]) * is_row[..., None]
    return Lesson(ids[:, 1:-1], told, states[:, 1:, -kept.size :], is_row & (places >= begins))


def lessons(
    files: Sequence[Path],
    tokens_a_step: int,
    longest: int,
    kept: Kept,
    seed: int,
    read: Callable[[Path], list[Text]] = read,
) -> Iterator[Lesson]:
    """Yield batches without end, in an order that the seed decides; every text once an epoch.

    Args:
        files: of texts.
        tokens_a_step: rows of a batch, about.
        longest: tokens of a text that are learnt from.
        kept: how states lie in them.
        seed: of the order.
        read: file → its texts.
    """
    rng, any_fits = random.Random(seed), True
    while any_fits:
        any_fits = False
        order = rng.sample(list(files), len(files))
        for first in range(0, len(order), FILES_TOGETHER):
            together = order[first : first + FILES_TOGETHER]
            texts = [_cut(text, longest) for file in together for text in read(file)]
            texts = [text for text in texts if len(text.tokens) > max(text.begin, 2)]
            texts.sort(key=lambda text: len(text.tokens) // ROUGHLY + rng.random())
            batches = list(_batches(texts, tokens_a_step))
            any_fits = any_fits or bool(batches)
            for batch in rng.sample(batches, len(batches)):
                yield lesson_of(batch, kept)
    raise ConfigError(
        f"no answer begins before token {longest} of its text; raise training.longest, or lower "
        "texts.prompt_length"
    )


def _cut(text: Text, longest: int) -> Text:
    return Text(text.tokens[:longest], text.begin, text.states[: longest - 1])


def _batches(texts: Sequence[Text], tokens_a_step: int) -> Iterator[list[Text]]:
    batch = list[Text]()
    for text in texts:
        if batch and (len(batch) + 1) * len(text.tokens) > tokens_a_step:
            yield batch
            batch = []
        batch.append(text)
    if batch:
        yield batch


def unrolled(module: HeadModule, words: Tensor, told: Tensor, steps: int) -> Iterator[Tensor]:
    """Yield the states of rows that the target has told of, then of guesses behind each of them.

    In step k a row stands for the token k places on, behind k of its own guesses: it attends to
    what was told up to its row, and to its own guesses.

    Args:
        module: the head.
        words: embeddings of the tokens, `[batch, time, hidden]`.
        told: as in `Lesson`.
        steps: how many, ≥ 1.

    Returns:
        For k = 0 … steps − 1 the states `[batch, time − k, hidden]`.
    """
    layer, time = module.layer, words.shape[1]
    positions = torch.arange(1, time + 1, device=words.device)[None]
    states, past = module.fc(told), list[Keys]()
    same = torch.eye(time, dtype=torch.bool, device=words.device)
    told_before = torch.ones_like(same).tril()
    for step in range(steps):
        rows = time - step
        turns = module.turns(states, positions[:, step:])
        residual, query, (key, value) = layer.asked(words[:, step:], states[:, :rows], turns)
        past.append((key, value))
        keys, values = (
            torch.cat([one[:, :, :rows] for one in part], 2) for part in zip(*past, strict=True)
        )
        seen = torch.cat((told_before[:rows, :rows], *[same[:rows, :rows]] * step), 1)
        read_ = F.scaled_dot_product_attention(query, keys, values, attn_mask=seen, enable_gqa=True)
        states = layer.answered(residual, read_)
        yield states


@dataclass(frozen=True)
class Learnt:
    """What a batch has shown; nothing here has waited for a device yet.

    Attributes:
        loss: to be minimised.
        cross_entropy: of the head's distribution to the target's over its tokens, nats a token,
            `[steps]`.
        agreement: rows whose likeliest token is the target's, and rows, of those where all rows
            before agreed, `[steps, 2]`: their ratio is conditional acceptance.
    """

    loss: Tensor
    cross_entropy: Tensor
    agreement: Tensor


@dataclass(frozen=True)
class Teacher:
    """What of the target a head learns from.

    Attributes:
        embedding: shape `[vocab, hidden]`.
        gain: of the target's last norm, `[hidden]`.
        epsilon: of it.
    """

    embedding: Tensor
    gain: Tensor
    epsilon: float

    def logits(self, last: Tensor, output: Tensor) -> Tensor:
        """Return the target's logits after its last states, of the rows of an output layer."""
        normed = F.rms_norm(last, last.shape[-1:], self.gain, self.epsilon)
        return F.linear(normed, output)


@torch.inference_mode()
def check_teaches(network: Network) -> None:
    """Raise unless a target's logits are its output layer's product with its last state, normed.

    Raises:
        ModelError: they are not (a scale, a cap, a norm of another kind), so that a head would
            learn another distribution than the target's.
    """
    gain, epsilon = network.last_norm()
    context = network.open([0])
    features = context.watch([network.num_watchable])
    count = min(CHECKED, network.vocab_size, network.max_length - 1)
    logits = context.extend(list(range(count)), count).float()
    output = network.output_rows(torch.arange(count))
    ours = Teacher(output, gain, epsilon).logits(features.between(0, len(logits)).float(), output)
    context.close()
    far = (ours - logits[:, :count]).abs().max() / logits.abs().max()
    if not float(far) < NEAR:
        raise ModelError(
            f"the logits of {type(network).__name__} are not what its output layer makes of its "
            "last state after a norm, so that no head can be trained for it here; choose a target "
            "of the Llama family"
        )


def learn(
    module: HeadModule, teacher: Teacher, lesson: Lesson, steps: int, acceptance: float = 0.0
) -> Learnt:
    """Return the loss of a batch, the mean over steps.

    It is the cross-entropy to the target's distribution p, or in part 1 − Σ min(p, q): the total
    variation, by which Leviathan et al. (2023) measure how often a draft is rejected, and Zhou et
    al. (2024), DistillSpec, train. A head too small to match p then matches what p has most of.

    Args:
        module: the head.
        teacher: its target.
        lesson: the batch.
        steps: that it is unrolled.
        acceptance: share of the second part, 0 … 1.
    """
    words, agreed = teacher.embedding[lesson.tokens], lesson.counts
    # Where rows count is asked first: the answer waits for a device, what comes after does not.
    places = [lesson.counts[:, step:].nonzero(as_tuple=True) for step in range(steps)]
    entropies, refusals, agreement = list[Tensor](), list[Tensor](), list[Tensor]()
    for step, states in enumerate(unrolled(module, words, lesson.told, steps)):
        rows = places[step]
        with torch.no_grad():
            goal = teacher.logits(lesson.last[:, step:][rows], module.output).float()
            chances = goal.softmax(-1)
        logits = module.logits(states[rows]).float()
        logs = logits.log_softmax(-1)
        entropies.append(-(chances * logs).sum(-1).mean())
        if acceptance:
            refusals.append(1 - torch.minimum(chances, logs.exp()).sum(-1).mean())
        with torch.no_grad():
            agreed = agreed[:, : states.shape[1]] & lesson.counts[:, step:]
            alike = torch.zeros_like(agreed)
            alike[rows] = logits.argmax(-1) == goal.argmax(-1)
            agreement.append(torch.stack(((alike & agreed).sum(), agreed.sum())))
            agreed = agreed & alike
    cross_entropy = torch.stack(entropies)
    loss = cross_entropy.mean()
    if acceptance:
        refusal = ACCEPTANCE_WEIGHT * torch.stack(refusals).mean()
        loss = torch.lerp(loss, refusal, acceptance)
    return Learnt(loss, cross_entropy.detach(), torch.stack(agreement))
