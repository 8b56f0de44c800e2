"""Is it faster here? Measuring, replaying and comparing, for one's own models and hardware."""

from foredraft.bench.padded import padded_network, padded_target

__all__ = ["padded_network", "padded_target"]
