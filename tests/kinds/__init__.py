"""Kinds of faults that were found once: a file per row of the list, and what keeps each away."""
