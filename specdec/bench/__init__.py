"""Is it faster here? Measuring, replaying and comparing, for one's own models and hardware."""
