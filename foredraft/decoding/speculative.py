"""The speculative loop: draft, verify, accept — for every drafter, policy and verifier there is.

Leviathan et al. (2023), algorithm 1, with a memory that forgets: a context always holds everything
but the last token, so each pass is fed exactly what it has not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

from foredraft.choices import Choices
from foredraft.core import Draft, DraftStop, PositionLogprobs, StepOutcome, StepRecord, Verdict
from foredraft.costs import Meter
from foredraft.decoding.logprobs import logprobs_of
from foredraft.decoding.request import NO_TOKEN, Request
from foredraft.drafting.base import Beginning, Drafter
from foredraft.errors import ConfigError
from foredraft.gamma.base import GammaPolicy
from foredraft.logits import check_decides
from foredraft.models.base import Context, Feed, Network, Output
from foredraft.sampling.base import Sampler
from foredraft.verification.base import Verifier

MODEL = "the model"  # that decodes alone
TARGET = "the target"  # that verifies
NOTHING = Draft([])


@dataclass(frozen=True)
class Speculation:
    """The parts of the loop.

    Attributes:
        target: the network whose distribution is preserved.
        drafter: proposes; None decodes plainly.
        policy: decides how many; None where nothing is proposed, like the verifier.
        verifier: accepts or rejects.
        sampler: decides the distributions, for drafter and target alike.
        first_target: let the target decode the first token alone; the prompt is then paid for
            before any draft, and the drafter may learn from its logits.
        clock: seconds now; another one replays a run at costs that are given.
        meter: told of every step; drafter and policy ask it.
    """

    target: Network
    drafter: Drafter | None
    policy: GammaPolicy | None
    verifier: Verifier | None
    sampler: Sampler
    first_target: bool = True
    clock: Callable[[], float] = perf_counter
    meter: Meter = field(default_factory=Meter)

    @property
    def is_coupled(self) -> bool:
        """Whether all draws at one position must share their noise."""
        return self.verifier is not None and self.verifier.is_coupled

    @classmethod
    def plain(cls, target: Network, sampler: Sampler) -> Speculation:
        """Return the parts of plain decoding: nothing is proposed."""
        return cls(target, None, None, None, sampler)


def speculative_steps(parts: Speculation, request: Request) -> Iterator[StepRecord]:
    """Decode one request until it is finished; yield one record a step.

    Args:
        parts: what to decode with.
        request: of a context of `parts.target`.

    Raises:
        ConfigError: verifier and source of randomness do not fit.
    """
    begin(parts, request)
    while not request.finished:
        yield step(parts, [request])[0]


def autoregressive_steps(request: Request, sampler: Sampler) -> Iterator[StepRecord]:
    """Decode one request plainly: steps in which nothing is proposed, a token each.

    Args:
        request: with a `KeyedRng` it gets the text of coupled speculation.
        sampler: decides the distribution drawn from.
    """
    return speculative_steps(Speculation.plain(request.context.network, sampler), request)


def begin(parts: Speculation, request: Request) -> None:
    """Give a request the drafter and the policy of its own text.

    A drafter that it has already goes on with its text, and keeps what it has read of it.

    Raises:
        ConfigError: verifier and source of randomness do not fit; the output would be biased, or
            not coupled.
    """
    if parts.drafter is None or parts.policy is None:
        return
    if parts.is_coupled != request.rng.is_keyed:
        raise ConfigError(
            f"{type(parts.verifier).__name__} cannot be used with {type(request.rng).__name__}; "
            "make the source of randomness with rng_for(seed, keyed=verifier.is_coupled)"
        )
    request.drafter = request.drafter or parts.drafter.for_text(parts.meter)
    request.policy = parts.policy.for_text(parts.meter, request.ends)
    parts.meter.begin_text()
    watch(parts, request.context)
    request.drafter.start(beginning_of(request))
    request.policy.start()
    request.is_plain, request.rest = parts.first_target, request.drafter.rest


def beginning_of(request: Request) -> Beginning:
    """Return what a drafter is told of a request's text."""
    context, controls = request.context, request.controls
    return Beginning(context.prompt, request.rng, controls, request.prediction, context)


def watch(parts: Speculation, context: Context) -> None:
    """Let the target tell, from its next token on, what a drafter wants to read of it."""
    layers = parts.drafter.watched() if parts.drafter is not None else ()
    if layers:
        context.watch(layers)
    elif parts.drafter is not None:
        context.features = None


def step(parts: Speculation, requests: Sequence[Request]) -> list[StepRecord]:
    """Draft for every request, verify all drafts in one pass, and let each accept its own.

    Args:
        parts: what to decode with.
        requests: at least one, begun and not finished; each grows by at least one token.
    """
    return shared_step([(parts, request) for request in requests])


def shared_step(texts: Sequence[tuple[Speculation, Request]]) -> list[StepRecord]:
    """Make the step of several requests, each with parts of its own.

    Args:
        texts: as for `step`; their parts have one target, and its clock.
    """
    drafts, seconds, rows = list[Draft](), list[float](), len(texts) - 1
    target, clock = texts[0][0].target, texts[0][0].clock
    meters = {id(parts.meter): parts.meter for parts, _ in texts}.values()
    for parts, request in texts:
        parts.meter.texts, parts.meter.company = len(texts), rows
        start = clock()
        drafts.append(_draft(parts, request))
        seconds.append(clock() - start)
        rows += len(drafts[-1].tokens)
    for meter in meters:
        meter.company = len(texts) - 1  # what is weighed from now on is a step to come
    start = clock()
    feeds = [request.feed(draft.tokens) for (_, request), draft in zip(texts, drafts, strict=True)]
    outputs = target.forward(feeds)
    share = (clock() - start) / sum(len(feed.tokens) for feed in feeds)  # of a row
    outcomes, records = list[StepOutcome](), list[StepRecord]()
    for (parts, request), draft, feed, output, drafting in zip(
        texts, drafts, feeds, outputs, seconds, strict=True
    ):
        times = drafting, share * len(feed.tokens)
        records.append(_accept(parts, request, draft, feed, output, times, outcomes))
        start += request.check_seconds
    resting = len(texts) - len(outcomes)  # nobody drafts for them, or not in this step
    read = sum(len(feed.tokens) for feed in feeds) - sum(one.num_fed for one in outcomes)
    if len(texts) > 1 and outcomes and read == resting:  # else one of them read its prompt
        for meter in meters:
            meter.update_shared(outcomes, clock() - start, resting)
    return records


def _accept(
    parts: Speculation,
    request: Request,
    draft: Draft,
    feed: Feed,
    output: Output,
    seconds: tuple[float, float],
    outcomes: list[StepOutcome],
) -> StepRecord:
    """Judge a draft and commit what stands of it; everybody who learns is told.

    Args:
        parts: what to decode with.
        request: grows.
        draft: as proposed.
        feed: what the target was fed.
        output: of the target, `drafted + 1` rows.
        seconds: that drafting took, and this request's share of the pass.
        outcomes: of this step's texts so far; this one is added.
    """
    start = parts.clock() - seconds[1]
    bent = _bent(request, draft, output)
    verdict, choices = _judged(parts, request, draft, output, bent)
    emitted = request.commit([*draft.tokens[: verdict.num_accepted], verdict.next_token])
    start += request.check_seconds
    request.forget_rejected()
    told = logprobs_of(output.logits, bent.logits, emitted, request.num_logprobs)
    if request.drafter is None or request.policy is None or request.rest:
        taken = parts.clock() - start
        return _plain_record(parts, request, emitted, taken, len(feed.tokens), told)
    outcome = StepOutcome(
        draft,
        verdict,
        choices,
        num_emitted=len(emitted),
        num_fed=len(feed.tokens),
        draft_seconds=seconds[0],
        verify_seconds=parts.clock() - start,
        accepts_overlap=parts.verifier is not None and parts.verifier.accepts_overlap,
        is_shared=parts.meter.texts > 1,
    )
    outcomes.append(outcome)
    measured = request.policy.normalized_entropy, request.policy.raw_gamma  # of this step still
    if emitted:
        _learn(parts, request, outcome, bent)
    return StepRecord(
        draft.tokens,
        min(verdict.num_accepted, len(emitted)),
        emitted,
        seconds[0],
        parts.clock() - start,
        num_draft_calls=draft.num_calls,
        normalized_entropy=measured[0],
        raw_gamma=measured[1],
        stopped=draft.stopped,
        num_threads=parts.target.pass_threads,
        num_predicted=draft.num_predicted,
        logprobs=told,
    )


def _learn(parts: Speculation, request: Request, outcome: StepOutcome, bent: Output) -> None:
    """Tell everybody who learns of a step in which the text has grown."""
    assert request.drafter is not None
    assert request.policy is not None
    request.drafter.observe(request.tokens, outcome.num_emitted, bent.logits)
    for learner in (parts.meter, request.drafter, request.policy):
        learner.update(outcome)
    request.is_plain, request.rest = False, request.drafter.rest


def _plain_record(
    parts: Speculation,
    request: Request,
    emitted: list[int],
    seconds: float,
    num_fed: int,
    told: Sequence[PositionLogprobs],
) -> StepRecord:
    """Return the record of a step in which nobody was asked for a draft."""
    stopped = None
    if request.rest:
        request.rest -= 1
        request.is_plain = False
        stopped = DraftStop.POLICY
        if parts.meter.texts == 1 and num_fed == 1:  # no prompt was read
            parts.meter.rests.append(seconds)
    threads = parts.target.pass_threads
    return StepRecord(
        [], 0, emitted, 0.0, seconds, stopped=stopped, num_threads=threads, logprobs=told
    )


def _bent(request: Request, draft: Draft, output: Output) -> Output:
    """Return what the controls make of a pass: row i follows the first i drafted tokens."""
    if request.controls is None:
        return output
    return Output(request.controls.applied(output.logits, draft.tokens))


def _judged(
    parts: Speculation, request: Request, draft: Draft, output: Output, bent: Output
) -> tuple[Verdict, Choices]:
    """Return the verdict, and what the target draws from, `drafted + 1` rows.

    Where the controls let no token follow what is kept, the next one is `NO_TOKEN`.

    Args:
        parts: verifier and sampler.
        request: whose text it is.
        draft: `drafted` tokens.
        output: the target's, `drafted + 1` rows.
        bent: the same after the controls.

    Raises:
        ModelError: the row that decides the next token holds no number. Rows behind it, which
            answer what the text does not say, are allowed to be anything.
    """
    rng, position = request.rng, request.length
    choices, decided = parts.sampler.choices(bent.logits, bent.likeliest)
    if parts.verifier is None or not draft.tokens:  # by every rule the target's own draw
        verdict = Verdict(0, choices.draw(0, rng, position))
    else:
        verdict = parts.verifier.judge(draft, choices, rng, position)
    if verdict.num_accepted >= decided:
        who = MODEL if parts.verifier is None else TARGET
        check_decides(output.logits[decided : decided + 1], who, parts.target.dtype)
        return Verdict(decided, NO_TOKEN), choices  # it is the controls that let nothing follow
    return verdict, choices


def _draft(parts: Speculation, request: Request) -> Draft:
    """Ask the drafter for as many tokens as the policy wants and the request has room for."""
    drafter, policy = request.drafter, request.policy
    if drafter is None or policy is None or request.rest:
        return NOTHING
    if request.is_plain:
        return Draft([], stopped=DraftStop.FIRST_TARGET)
    # One token always comes from the target, so a draft never needs the last place.
    budget, room = policy.budget, request.room - 1
    gamma = min(budget, room)
    if gamma <= 0:
        return Draft([], stopped=DraftStop.POLICY if budget <= 0 else DraftStop.ROOM)
    draft = drafter.propose(request.tokens, gamma, policy)
    if draft.stopped is not None:
        return draft
    at_bound = DraftStop.GAMMA if budget <= room else DraftStop.ROOM
    return replace(draft, stopped=at_bound if len(draft.tokens) == gamma else DraftStop.UNKNOWN)
