"""Two rules at once: one decides, the other bounds it."""

from __future__ import annotations

from collections.abc import Sequence

from foredraft.gamma.base import GammaPolicy, Signal


class Within(GammaPolicy):
    """Drafts as long as both rules go on; both hear of every token.

    Args:
        rule: decides.
        bound: is not passed.
    """

    def __init__(self, rule: GammaPolicy, bound: GammaPolicy) -> None:
        self.rule, self.bound = rule, bound
        self.ends = bound.ends  # type: ignore[misc]

    @property
    def stops_for_cost(self) -> bool:
        return self.rule.stops_for_cost

    @property
    def budget(self) -> int:
        return min(self.rule.budget, self.bound.budget)

    def stride(self, num_drafted: int) -> int:
        return min(self.rule.stride(num_drafted), self.bound.stride(num_drafted))

    def admits(
        self, margins: Sequence[float], num_drafted: int, num_calls: int
    ) -> tuple[int, bool] | None:
        bounded = self.bound.admits(margins, num_drafted, num_calls)
        if bounded is None:
            return None
        found = self.rule.admits(margins[: bounded[0]], num_drafted, num_calls)
        return None if found is None else (found[0], found[1] and bounded[1])

    def before_token(self, signal: Signal, num_drafted: int) -> bool:
        goes_on = self.bound.before_token(signal, num_drafted)
        return self.rule.before_token(signal, num_drafted) and goes_on

    def after_token(self, token: int, signal: Signal, num_drafted: int) -> bool:
        goes_on = self.bound.after_token(token, signal, num_drafted)
        return self.rule.after_token(token, signal, num_drafted) and goes_on
