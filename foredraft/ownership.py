"""Whoever computes is alone: a memory has one lock, and the newest sequence in it is its owner.

Knows threads; knows no model. A model's memory holds one sequence, and C that is entered twice on
one memory writes where it should not. So every call of a model takes the memory's lock, a whole
generation keeps it, and a sequence that was begun over is told so instead of going on in another's.
"""

from __future__ import annotations

import functools
import itertools
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Concatenate, ParamSpec, TypeVar

from foredraft.errors import RequestError

P = ParamSpec("P")
R = TypeVar("R")
_places = itertools.count()
_every: weakref.WeakSet[Owner] = weakref.WeakSet()


class Owner:
    """Who may use one memory: one thread at a time, and of all sequences the newest.

    Attributes:
        place: in the one order in which several are locked, so that no two threads wait for each
            other.
        lock: held while the memory is used; the thread that holds it may take it again.
        sequence: number of the newest sequence.
    """

    def __init__(self) -> None:
        self.place = next(_places)
        self.lock = threading.RLock()
        self.sequence = 0
        self._mine = threading.local()  # the sequence that each thread last began
        _every.add(self)

    def __reduce__(self) -> tuple[type[Owner], tuple[()]]:
        return Owner, ()  # a copy of a memory is another memory

    def begin(self) -> None:
        """Begin a sequence; the one before it is over. Call it with the lock held."""
        self.sequence += 1
        self.adopt()

    def adopt(self) -> None:
        """Let this thread go on with the newest sequence, whoever has begun it."""
        self._mine.sequence = self.sequence

    def check(self) -> None:
        """Raise `RequestError` if this thread's sequence was begun over by another thread."""
        if getattr(self._mine, "sequence", self.sequence) != self.sequence:
            raise RequestError(
                "another thread has begun a sequence in this model's memory, which holds one; "
                "begin again, or give each thread a model of its own"
            )


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


Thing = TypeVar("Thing", bound=Owned)


def alone(method: Callable[Concatenate[Thing, P], R]) -> Callable[Concatenate[Thing, P], R]:
    """Return the method, run with the lock of its object; `start` begins a sequence there."""
    begins = method.__name__ == "start"

    @functools.wraps(method)
    def locked(self: Thing, /, *args: P.args, **kwargs: P.kwargs) -> R:
        owner = self.owner
        with owner.lock:
            if begins:
                owner.begin()
            else:
                owner.check()
            return method(self, *args, **kwargs)

    return locked


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


class Turn:
    """A generation's claim to its models, one step at a time: `with turn:` around each.

    Between its steps anybody may use the models; then the claim is lost.

    Args:
        things: the models; their locks are held, and a generation begins in each.
    """

    def __init__(self, things: Iterable[Owned]) -> None:
        self._owners = _in_order(things)
        for owner in self._owners:
            owner.begin()
        self._sequences = [owner.sequence for owner in self._owners]
        self._held = ExitStack()

    def __enter__(self) -> None:
        with _locked(self._owners) as stack:
            if [owner.sequence for owner in self._owners] != self._sequences:
                raise RequestError(
                    "a newer generation has taken over this engine's models; finish one before "
                    "beginning the next, or load a second engine"
                )
            for owner in self._owners:
                owner.adopt()
            self._held = stack.pop_all()

    def __exit__(self, *error: object) -> None:
        self._sequences = [owner.sequence for owner in self._owners]
        self._held.close()


def anything_owned() -> bool:
    """Whether this process has made a model, and may have computed with it."""
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
