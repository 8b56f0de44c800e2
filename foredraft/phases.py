"""Phases: what takes long says what it is at, and whoever shows it listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_listener: ContextVar[Callable[[str], object] | None] = ContextVar("listener", default=None)


def begins(phase: str) -> None:
    """Say what is done from now on, e.g. `reading the weights`; where nobody listens, nothing."""
    listener = _listener.get()
    if listener is not None:
        listener(phase)


@contextmanager
def listening(listener: Callable[[str], object]) -> Iterator[None]:
    """Tell a function of every phase that begins meanwhile in this thread."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)
