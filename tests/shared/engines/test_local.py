"""Shards on this machine: several at once, in their order, and none that nobody waits for."""

from functools import partial
from pathlib import Path
from threading import Event
from typing import Literal

import pytest

from stages.shared.engines import local
from stages.shared.engines.engine import ShardTask, Tick
from stages.shared.manifest import Part

WAIT_SECONDS = 60


class Made(Part):
    schema_version: Literal[1] = 1
    number: int


def make(number: int, before: Event, made: Event, folder: Path, tick: Tick) -> Made:
    """Wait for another shard, then be made."""
    assert before.wait(WAIT_SECONDS)
    tick(1)
    made.set()
    return Made(files={}, number=number)


def test_shards_are_made_at_the_same_time():
    """Each of two waits for the other: one after the other they would never end."""
    first, second = Event(), Event()

    def one(folder: Path, tick: Tick) -> Made:
        first.set()
        return make(1, second, Event(), folder, tick)

    def other(folder: Path, tick: Tick) -> Made:
        second.set()
        return make(2, first, Event(), folder, tick)

    with local.running(at_once=2) as engine:
        assert engine.ahead == 1
        waiting = [
            engine.start(ShardTask(str(task), 1, task), Path(), lambda _: None)
            for task in (one, other)
        ]
        assert [wait().number for wait in waiting] == [1, 2]


def test_what_nobody_waits_for_any_more_ends_at_its_next_batch():
    started, go_on, made = Event(), Event(), Event()

    def task(folder: Path, tick: Tick) -> Made:
        started.set()
        return make(1, go_on, made, folder, tick)

    with pytest.raises(KeyboardInterrupt), local.running(at_once=2) as engine:
        engine.start(ShardTask("one", 1, task), Path(), lambda _: None)
        engine.start(ShardTask("two", 1, partial(make, 2, go_on, Event())), Path(), lambda _: None)
        assert started.wait(WAIT_SECONDS)
        engine.stopped.set()
        go_on.set()
        raise KeyboardInterrupt
    assert not made.is_set()


def test_one_at_a_time_nothing_is_begun_before_it_is_waited_for():
    begun = Event()

    def task(folder: Path, tick: Tick) -> Made:
        begun.set()
        return Made(files={}, number=1)

    with local.running() as engine:
        wait = engine.start(ShardTask("one", 1, task), Path(), lambda _: None)
        assert not begun.is_set()
        assert wait().number == 1
