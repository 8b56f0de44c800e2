"""Method: what a config says of one way to decode, parsed once, at the door.

Behind it nothing is text: drafter, policy, verifier and sampler are objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foredraft.config import DecodingConfig, check_method
from foredraft.drafting import DRAFTERS, DraftSource
from foredraft.gamma import GAMMA_POLICIES, GammaPolicy
from foredraft.sampling import SAMPLERS, Control, Rng, Sampler, rng_for
from foredraft.verification import VERIFIERS, Verifier


@dataclass(frozen=True)
class Method:
    """One way to decode.

    Attributes:
        name: `speculative`, `ngram`, `target` or `drafter`.
        config: what it was read from; limits and switches stand there.
        source: what drafts are made with; None decodes plainly.
        policy: how long drafts are.
        verifier: accepts or rejects.
        sampler: decides the distributions.
        controls: bend them before, in order.
    """

    name: str
    config: DecodingConfig
    source: DraftSource | None
    policy: GammaPolicy
    verifier: Verifier
    sampler: Sampler
    controls: tuple[Control, ...] = ()

    @classmethod
    def of(cls, config: DecodingConfig, name: str, controls: Sequence[Control] = ()) -> Method:
        """Read a config.

        Args:
            config: how to decode.
            name: of the method.
            controls: that bend the distributions after those of the config.

        Raises:
            ConfigError: no such method.
        """
        check_method(name)
        spec = config.drafting_spec(name)
        return cls(
            name,
            config,
            None if spec is None else DRAFTERS.create(spec),
            GAMMA_POLICIES.create(config.policy_spec(name), gamma=config.gamma),
            verifier_named(config.verifier),
            SAMPLERS.create(config.sampler),
            (*config.controls, *controls),
        )

    @property
    def rng(self) -> Rng:
        """A new source of randomness, by the config's seed."""
        return rng_for(self.config.seed or 0, keyed=self.verifier.is_coupled)

    @property
    def is_deterministic(self) -> bool:
        """Whether the text must be that of plain decoding: greedy, or noise by seed and place."""
        return self.sampler.is_greedy or self.verifier.is_coupled


def verifier_named(spec: str) -> Verifier:
    """Return the accept/reject rule of a spec string."""
    return VERIFIERS.create(spec)
