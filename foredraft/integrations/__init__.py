"""Our drafts inside other people's engines; each module is a leaf that one engine loads by name."""
