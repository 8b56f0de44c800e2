"""Decision: what `auto` has decided last, for how long it holds, and what is tried beside it.

Knows numbers only. Beside a quick pass deciding takes time that a draft could take, so that a
decision holds for several steps, and a text that ends leaves the rest of them to the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

from foredraft.costs import Meter

# What a decision takes beside a pass, in which both empty each other's caches, and the share of the
# time that decisions may take.
DECIDING_SECONDS, DECIDING_SHARE = 4e-4, 0.01
PATIENCE = 2  # decisions for plain decoding, one after another, before they come half as often
# Steps of a decision in which the next shorter or longer draft is made, for it may be the best; and
# of how many decisions one has such steps.
BESIDE, TRIED_EVERY = 2, 3


@dataclass
class Decision:
    """The newest one.

    Attributes:
        end: number of the first step that it does not hold for.
        length: of drafts by the model; 0 is plain decoding.
        prompt_length: of the text that it was made in: a model that drafts had so much to read.
        drafts_pay: whether drafts of the model would pay where there is little to be read.
        beside: by how many tokens drafts were longer in the newest steps that tried it.
        untried: decisions since then.
        in_vain: decisions for plain decoding, one after another.
    """

    end: int = 0
    length: int = 0
    prompt_length: int = 0
    drafts_pay: bool = False
    beside: int = 1
    untried: int = 0
    in_vain: int = 0

    def make(self, length: int, prompt_length: int, meter: Meter, *, drafts_pay: bool) -> None:
        """Decide on a length in a text, for as many steps as that may last."""
        self.in_vain = self.in_vain + 1 if not length else 0
        self.end, self.length = meter.steps + self.most_steps(length, meter), length
        self.prompt_length, self.drafts_pay = prompt_length, drafts_pay

    def most_steps(self, length: int, meter: Meter) -> int:
        """Return for how many steps one for a length holds at most: deciding takes its share.

        Half of that share where nothing has paid for several decisions.
        """
        step = meter.pass_seconds(length, after_calls=length > 0) + meter.draft_seconds(length)
        seconds = step / meter.texts  # each of them decides
        share = DECIDING_SHARE / (2 if self.in_vain > PATIENCE else 1)
        return int(DECIDING_SECONDS / (share * seconds)) if seconds > 0 else 0

    def suits(self, prompt_length: int) -> bool:
        """Whether a text has not much more to be read than the one that it was made in."""
        return prompt_length < 2 * self.prompt_length

    def trials(self, steps: int) -> int:
        """Return in how many steps, of those that it holds for, `beside` is tried.

        What is not drafted is not measured, and would be thought as dear as it was at first.
        """
        self.untried += 1
        if self.untried < TRIED_EVERY or steps <= 2 * BESIDE:
            return 0
        self.untried, self.beside = 0, -self.beside
        return BESIDE
