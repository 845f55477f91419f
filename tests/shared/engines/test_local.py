"""Shards on this machine: several at once, in their order, and none that nobody waits for."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import Literal
from unittest.mock import Mock

import psutil
import pytest

from stages.shared.engines import engine, local
from stages.shared.engines.engine import ShardTask, Tick
from stages.shared.engines.local import Processes
from stages.shared.manifest import Part
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.ordered_map import shared_cores

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


IN_PROCESSES = Processes(imports=("stages.shared.manifest",), threads=3)


def whose(number: int, folder: Path, tick: Tick) -> Made:
    """Write down which process this is, where it works and how many threads it may have."""
    (folder / f"{number}").write_text(f"{os.getpid()} {Path.cwd()} {shared_cores()}")
    tick(2)
    tick(3)
    return Made(files={}, number=number)


def fail(error: BaseException, folder: Path, tick: Tick) -> Made:
    raise error


def end(folder: Path, tick: Tick) -> Made:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def go_on_and_on(folder: Path, tick: Tick) -> Made:
    (folder / "new").write_text(str(os.getpid()))
    (folder / "new").rename(folder / "process")
    while True:
        time.sleep(0.01)
        tick(1)


def test_each_shard_has_a_process_of_its_own(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ticks: list[int] = []
    with local.running(2, IN_PROCESSES) as engine:
        waiting = [
            engine.start(ShardTask(str(n), 5, partial(whose, n)), tmp_path, ticks.append)
            for n in range(3)
        ]
        assert [wait().number for wait in waiting] == [0, 1, 2]
    assert sorted(ticks) == [2, 2, 2, 3, 3, 3]
    told = [(tmp_path / str(n)).read_text().split() for n in range(3)]
    assert len({process for process, *_ in told} | {str(os.getpid())}) == 4
    assert {tuple(rest) for _, *rest in told} == {(str(tmp_path), "3")}


@pytest.mark.parametrize("error", [UserError("no such mask"), ZeroDivisionError("a bug")])
def test_what_a_process_raises_is_raised_here(error: Exception, tmp_path: Path):
    with local.running(2, IN_PROCESSES) as engine:
        wait = engine.start(ShardTask("a", 1, partial(fail, error)), tmp_path, lambda _: None)
        with pytest.raises(type(error), match=str(error)) as raised:
            wait()
    notes = "".join(getattr(raised.value, "__notes__", []))
    # Where a bug is, is seen in the traceback of the process.
    assert ("raise error" in notes) == (not isinstance(error, UserError))


def raise_what_holds_a_lock(folder: Path, tick: Tick) -> Made:
    error = ZeroDivisionError("a bug")
    error.lock = Lock()  # type: ignore[attr-defined]
    raise error


class TwoWordsError(Exception):
    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


def raise_what_takes_two(folder: Path, tick: Tick) -> Made:
    raise TwoWordsError("a bug", "another")


@pytest.mark.parametrize("make_none", [raise_what_holds_a_lock, raise_what_takes_two])
def test_an_exception_that_cannot_be_sent_is_told_by_its_traceback(make_none, tmp_path: Path):
    with local.running(2, IN_PROCESSES) as engine:
        wait = engine.start(ShardTask("a", 1, make_none), tmp_path, lambda _: None)
        with pytest.raises(RuntimeError, match=f"in {make_none.__name__}(.|\n)*a bug"):
            wait()


def test_a_process_that_dies_is_told_with_its_shard(tmp_path: Path):
    with local.running(2, IN_PROCESSES) as engine:
        wait = engine.start(ShardTask("train-00007", 1, end), tmp_path, lambda _: None)
        with pytest.raises(UserError, match=r"train-00007 ended with the exit code -9; if memory"):
            wait()


def test_a_process_that_nobody_waits_for_any_more_is_ended(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), local.running(2, IN_PROCESSES) as engine:
        engine.start(ShardTask("a", 1, go_on_and_on), tmp_path, lambda _: None)
        limit = time.monotonic() + WAIT_SECONDS
        while not (tmp_path / "process").exists() and time.monotonic() < limit:
            Event().wait(0.01)
        raise KeyboardInterrupt
    with suppress(psutil.NoSuchProcess):
        assert psutil.Process(int((tmp_path / "process").read_text())).wait(WAIT_SECONDS)


def test_no_more_shards_are_under_way_than_their_pictures_have_room(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(engine, "MOST_CARRIED", 10)
    begun: list[int] = []

    def tasks() -> Iterator[ShardTask[Made]]:
        for number in range(6):
            begun.append(number)
            make = partial(whose, number)
            yield ShardTask(str(number), 1, make, carries=6)

    staging = Mock(**{"finished.return_value": None})
    with local.running(4) as chosen:
        found = engine.parts(tasks(), Made, chosen, staging, tmp_path, lambda _: None)
        assert next(found).number == 0
        # Two of them are more than there is room for.
        assert begun == [0, 1]
        assert [part.number for part in found] == [1, 2, 3, 4, 5]
