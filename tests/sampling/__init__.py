"""Logits to distribution to token."""
