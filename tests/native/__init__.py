"""The Llama family by itself: the same numbers, quicker."""
