"""Accept, reject, and what comes next."""
