"""Every registered drafter inside every other that takes one; the registry makes the list."""

from __future__ import annotations

import itertools

from foredraft.drafting import DRAFTERS

RETRIEVING = [name for name in DRAFTERS.names if DRAFTERS.get(name).retrieves]
NESTED = [
    *(f"hybrid({r}, {d})" for r, d in itertools.product(RETRIEVING, DRAFTERS.names)),
    *(
        f"bandit({a}, {b}, hold=1, exploration=3.0)"
        for a, b in itertools.combinations(DRAFTERS.names, 2)
    ),
    *(f"hybrid({r}, bandit(model, ngram, hold=1))" for r in RETRIEVING),
    "hybrid(suffix, hybrid(ngram, model))",
    "bandit(bandit(model, suffix, hold=1), hybrid(suffix, model), hold=1, exploration=3.0)",
]
