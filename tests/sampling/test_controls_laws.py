"""The laws under controls, by enumeration: what comes out is plain decoding's, bent row by row.

Every outcome of the real loop is visited with its probability: the text, and why it ended. The
reference multiplies the softmax of logits that are bent naively, each by the whole prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from foredraft.core import Draft, FinishReason
from foredraft.decoding import Request, Speculation, autoregressive_steps, speculative_steps
from foredraft.drafting import (
    DRAFTERS,
    Drafter,
    DraftModelDrafter,
    DraftParts,
    FirstDrafter,
    ForcedDrafter,
    PredictionDrafter,
)
from foredraft.drafting.base import Beginning
from foredraft.gamma import FixedGamma, GammaPolicy
from foredraft.models import TableModel
from foredraft.sampling import (
    SAMPLERS,
    Control,
    ControlledText,
    Controls,
    MultinomialSampler,
    Rng,
    Sampler,
    rng_for,
)
from foredraft.sampling.penalties import (
    BadWords,
    CountPenalty,
    LogitBias,
    MinNewTokens,
    NoRepeatNgrams,
    Repetition,
)
from foredraft.sampling.processors import Processors
from foredraft.sampling.structure import Structure
from foredraft.verification import VERIFIERS, Verifier
from tests.blocks import SAMPLER_SPECS, STOPPING_RULES
from tests.doubles import ScriptedDrafter, random_table
from tests.enumeration import enumerate_outcomes, total_variation
from tests.sampling.naive_controls import (
    END,
    NAIVE,
    Outcome,
    controlled_law,
    known_controls,
    later_is_less,
    structure,
)

EXACT = 1e-12
PROMPT = [1, 1]
LENGTH = 3
PLAIN = MultinomialSampler()
LOSSLESS = [v for v in map(VERIFIERS.create, VERIFIERS.names) if v.is_lossless]
every_verifier = pytest.mark.parametrize("verifier", LOSSLESS, ids=VERIFIERS.spec)
# Tables of so many tokens: a structure leaves few of its four.
NARROW, WIDE = 3, 4
pytestmark = pytest.mark.filterwarnings("ignore:logits processors are called:RuntimeWarning")

ALONE: dict[str, Control] = {
    "bias": LogitBias(((1, 1.5), (2, -0.5), (1, 0.25))),
    "repetition": Repetition(1.7),
    "encouraged": Repetition(0.6),
    "presence": CountPenalty(presence=0.9),
    "frequency": CountPenalty(presence=-0.3, frequency=0.8),
    "ngrams": NoRepeatNgrams(2),
    "once": NoRepeatNgrams(1),
    "bad_words": BadWords(sequences=((2, 1, 1), (0,), (1, 2, 2))),
    "min_new_tokens": MinNewTokens(2),
    "structure": structure("a(b|ab)b?"),
    "forced": structure("abab|b"),
    "processors": Processors(later_is_less),
}
STACKS: dict[str, tuple[Control, ...]] = {
    "penalties": (
        LogitBias(((2, 0.7),)),
        Repetition(1.4),
        CountPenalty(0.3, 0.4),
        NoRepeatNgrams(3),
        MinNewTokens(2),
    ),
    "structured": (structure("(a|b){4}"), Repetition(1.3), CountPenalty(0.2, 0.5)),
    "exhausted": (NoRepeatNgrams(2), BadWords(sequences=((END,),))),
    "endless": (structure("a(b|ab)b?"), NoRepeatNgrams(3), BadWords(sequences=((2, 0), (3, 0)))),
    "forbidden": (structure("abab|b"), BadWords(sequences=((3,),))),
    "processed": (Processors(later_is_less), Repetition(1.5), NoRepeatNgrams(3)),
}
CASES: dict[str, tuple[Control, ...]] = {name: (one,) for name, one in ALONE.items()} | STACKS
every_case = pytest.mark.parametrize("case", CASES)
some_cases = pytest.mark.parametrize("case", ["penalties", "endless", "forbidden"])


class Uncontrolled(Drafter):
    """Draws from the draft model as if there were no controls: soft q with mass they forbid."""

    def __init__(self, inner: Drafter) -> None:
        self.inner = inner

    def start(self, text: Beginning) -> None:
        self.inner.start(Beginning(text.prompt, text.rng))

    def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        return self.inner.propose(tokens, gamma, policy)


def vocab_of(case: str) -> int:
    is_structured = any(isinstance(one, Structure) for one in CASES[case])
    return WIDE if is_structured or case == "once" else NARROW


def neural(vocab: int, sampler: Sampler) -> Drafter:
    return DraftModelDrafter(TableModel(random_table(vocab, seed=42)), sampler)


DRAFTING: dict[str, Callable[[int, Sampler], Drafter]] = {
    "model": neural,  # its rows are bent, too
    "unbent": lambda vocab, sampler: Uncontrolled(neural(vocab, sampler)),
    "one-hot": lambda vocab, sampler: ScriptedDrafter([1, 1, 2, 1]),
    "astray": lambda vocab, sampler: ScriptedDrafter([0, 2, 2, 2]),  # an end first, then nonsense
}


def text_of(vocab: int) -> ControlledText:
    return ControlledText(PROMPT, frozenset({END}), vocab)


def request_of(
    target: TableModel, controls: Sequence[Control], rng: Rng, length: int = LENGTH
) -> Request:
    text = text_of(target.vocab_size)
    return Request(
        target.open(PROMPT),
        rng,
        max_new_tokens=length,
        eos_token_ids=text.ends,
        controls=Controls(controls, text),
        prediction=[1, 2, 1, 1],
    )


def outcome_of(parts: Speculation, request: Request) -> Outcome:
    for _ in speculative_steps(parts, request):
        pass
    assert request.finish_reason is not None
    return tuple(request.output), request.finish_reason


def bias_of(
    verifier: Verifier,
    case: str,
    drafting: Callable[[int, Sampler], Drafter] | None,
    *,
    sampler: Sampler = PLAIN,
    gamma: int = 2,
    policy: Callable[[int], GammaPolicy] = FixedGamma,
    length: int = LENGTH,
) -> float:
    """Return the total variation between what the loop says and the law."""
    vocab, controls = vocab_of(case), CASES[case]
    target = TableModel(random_table(vocab, seed=41))

    def run(rng: Rng) -> Outcome:
        request = request_of(target, controls, rng, length)
        if drafting is None:
            return outcome_of(Speculation.plain(target, sampler), request)
        drafter = drafting(vocab, sampler)
        parts = Speculation(target, drafter, policy(gamma), verifier, sampler, first_target=False)
        return outcome_of(parts, request)

    found = enumerate_outcomes(run, keyed=drafting is not None and verifier.is_coupled)
    return total_variation(found, controlled_law(target, sampler, controls, text_of(vocab), length))


def test_every_control_has_a_law_here() -> None:
    tried = {type(one) for one in ALONE.values()}
    assert tried == known_controls() == set(NAIVE)


@every_case
def test_plain_decoding_says_what_is_bent_row_by_row(case: str) -> None:
    assert bias_of(LOSSLESS[0], case, None) < EXACT


@every_verifier
@pytest.mark.parametrize(
    "drafting",
    ["model", "one-hot", *(pytest.param(d, marks=pytest.mark.slow) for d in ("unbent", "astray"))],
)
@every_case
def test_the_loop_says_what_plain_decoding_says(
    case: str, drafting: str, verifier: Verifier
) -> None:
    assert bias_of(verifier, case, DRAFTING[drafting]) < EXACT


@pytest.mark.parametrize("drafting", ["unbent", "astray"])
@every_verifier
@some_cases
def test_so_it_does_whatever_is_drafted(case: str, verifier: Verifier, drafting: str) -> None:
    assert bias_of(verifier, case, DRAFTING[drafting]) < EXACT


@every_verifier
@pytest.mark.parametrize("sampler", SAMPLER_SPECS)
@some_cases
def test_so_it_does_with_filters_and_temperature(
    case: str, sampler: str, verifier: Verifier
) -> None:
    rule = SAMPLERS.create(sampler)
    for drafting in ("model", "one-hot"):
        assert bias_of(verifier, case, DRAFTING[drafting], sampler=rule) < EXACT, drafting


@pytest.mark.parametrize("stopping", STOPPING_RULES)
@some_cases
def test_so_it_does_wherever_a_draft_is_cut(case: str, stopping: str) -> None:
    policy = STOPPING_RULES[stopping]
    assert bias_of(VERIFIERS.create("block"), case, neural, policy=policy) < EXACT


@pytest.mark.parametrize("name", DRAFTERS.names)
@some_cases
def test_so_it_does_whoever_drafts(case: str, name: str) -> None:
    def built(vocab: int, sampler: Sampler) -> Drafter:
        parts = DraftParts(vocab, neural(vocab, sampler))
        return DRAFTERS.create(name).build(parts)

    def first(vocab: int, sampler: Sampler) -> Drafter:
        return FirstDrafter([ForcedDrafter(), PredictionDrafter()], built(vocab, sampler))

    for drafting in (built, first):
        assert bias_of(VERIFIERS.create("rejection"), case, drafting) < EXACT


@every_case
@pytest.mark.parametrize("drafting", DRAFTING)
def test_with_coupled_noise_the_seed_gives_plain_decodings_text(case: str, drafting: str) -> None:
    vocab, said = vocab_of(case), set()
    target = TableModel(random_table(vocab, seed=41))
    for seed in range(12):
        plain = request_of(target, CASES[case], rng_for(seed, keyed=True), 7)
        list(autoregressive_steps(plain, PLAIN))
        drafter = DRAFTING[drafting](vocab, PLAIN)
        verifier = VERIFIERS.create("coupled")
        for gamma in (1, 3, 6):
            parts = Speculation(target, drafter, FixedGamma(gamma), verifier, PLAIN)
            request = request_of(target, CASES[case], rng_for(seed, keyed=True), 7)
            assert outcome_of(parts, request) == (tuple(plain.output), plain.finish_reason)
        said.add(tuple(plain.output))
    assert len(said) > 1


def test_the_cases_end_in_every_way_there_is() -> None:
    reasons = set()
    for case, controls in CASES.items():
        vocab = vocab_of(case)
        target = TableModel(random_table(vocab, seed=41))
        law = controlled_law(target, PLAIN, controls, text_of(vocab), LENGTH)
        assert sum(law.values()) == pytest.approx(1, abs=EXACT)
        reasons |= {reason for _, reason in law}
    assert reasons == {
        FinishReason.EOS,
        FinishReason.LENGTH,
        FinishReason.BLOCKED,
        FinishReason.UNSATISFIED,
    }


# --- the laws can fail ----------------------------------------------------------------------------

Applied = Callable[[Controls, torch.Tensor, Sequence[int], int], torch.Tensor]
apply = Controls.applied


def standing(self: Controls, logits: torch.Tensor, drafted: Sequence[int] = (), first: int = 0):  # type: ignore[no-untyped-def]
    """Bend every row by the text that stands, as if nothing had been drafted."""
    return torch.cat([apply(self, row[None]) for row in logits])


def one_late(self: Controls, logits: torch.Tensor, drafted: Sequence[int] = (), first: int = 0):  # type: ignore[no-untyped-def]
    """Bend row i by the first i − 1 drafted tokens."""
    rows = range(first, first + len(logits))
    return torch.cat(
        [
            apply(self, row[None], drafted, max(i - 1, 0))
            for i, row in zip(rows, logits, strict=True)
        ]
    )


def never_back(self: Controls, drafted: Sequence[int]) -> None:
    """Follow a draft, and never give one up."""
    for token in drafted[len(self._ahead) :]:
        self._ahead.append(token)
        for tracker in self._trackers:
            tracker.push(token)


MISTAKES = {"applied": (standing, one_late), "_follow": (never_back,)}
STATEFUL = [name for name in CASES if name != "bias"]


@pytest.mark.parametrize(
    ("method", "mistake"), [(name, one) for name, several in MISTAKES.items() for one in several]
)
def test_rows_that_follow_the_wrong_prefix_break_the_law(
    method: str, mistake: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Controls, method, mistake)
    rejection = VERIFIERS.create("rejection")
    for case in STATEFUL:
        biases = (bias_of(rejection, case, DRAFTING[name]) for name in ("one-hot", "unbent"))
        assert any(bias > 1e-6 for bias in biases), case
