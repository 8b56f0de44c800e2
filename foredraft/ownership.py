"""Whoever computes is alone: what has scratch or counts of its own has one lock.

Knows threads; knows no network. C that is entered twice on one network's scratch writes where it
should not, so every pass takes the network's lock, and a whole generation keeps it.
"""

from __future__ import annotations

import functools
import itertools
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
_places = itertools.count()
_every: weakref.WeakSet[Owner] = weakref.WeakSet()


class Owner:
    """Who may use something: one thread at a time.

    Attributes:
        place: in the one order in which several are locked, so that no two threads wait for each
            other.
        lock: held while it is used; the thread that holds it may take it again.
    """

    def __init__(self) -> None:
        self.place = next(_places)
        self.lock = threading.RLock()
        _every.add(self)

    def __reduce__(self) -> tuple[type[Owner], tuple[()]]:
        return Owner, ()  # a copy is another thing


class Owned:
    """Something whose state one thread may change at a time.

    What wraps another shares the owner of what it wraps.
    """

    # Made when it is first asked for: subclasses need no `super().__init__()`, and a `__new__` that
    # takes anything would hide what a class takes from `inspect.signature` of Python 3.11.2.
    @property
    def owner(self) -> Owner:
        """Who may use the state."""
        made: Owner | None = self.__dict__.get("_owner")
        return made or self.__dict__.setdefault("_owner", Owner())  # of two threads one makes it

    @owner.setter
    def owner(self, owner: Owner) -> None:
        self.__dict__["_owner"] = owner


def holding(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function, run with the locks of all its arguments that have one."""

    @functools.wraps(function)
    def locked(*args: P.args, **kwargs: P.kwargs) -> R:
        with held(*(v for v in (*args, *kwargs.values()) if isinstance(v, Owned))):
            return function(*args, **kwargs)

    return locked


@contextmanager
def held(*things: Owned) -> Iterator[None]:
    """Hold the locks of several things; another thread waits."""
    with _locked(_in_order(things)):
        yield


def anything_owned() -> bool:
    """Whether this process has made a network, and may have computed with it."""
    return bool(_every)


def _in_order(things: Iterable[Owned]) -> list[Owner]:
    owners = {thing.owner.place: thing.owner for thing in things}
    return [owners[place] for place in sorted(owners)]


def _locked(owners: Iterable[Owner]) -> ExitStack:
    with ExitStack() as stack:
        for owner in owners:
            stack.enter_context(owner.lock)
        return stack.pop_all()


def _renew() -> None:
    """In a forked process: nobody is left who could give back a lock that was held."""
    for owner in list(_every):
        owner.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
