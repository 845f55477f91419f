"""Whether what is pickled goes to another machine, and must take along the files that it reads."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_elsewhere = ContextVar("elsewhere", default=False)


def elsewhere() -> bool:
    """Whether what is pickled now is read on another machine."""
    return _elsewhere.get()


@contextmanager
def to_another_machine() -> Iterator[None]:
    """What is pickled in this context is read on another machine."""
    token = _elsewhere.set(True)
    try:
        yield
    finally:
        _elsewhere.reset(token)
