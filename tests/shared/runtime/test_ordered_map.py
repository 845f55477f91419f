"""`ordered_map`: the order of its results, and how many threads it has."""

import math
import os
import threading
from pathlib import Path

import pytest

from stages.shared.runtime.ordered_map import ordered_map, quota


def test_results_are_in_the_order_of_the_items():
    first = threading.Event()

    def work(item: int) -> int:
        # The first ends after the last that can be under way with it.
        if item == 0:
            assert len(os.sched_getaffinity(0)) == 1 or first.wait(60)
        else:
            first.set()
        return -item

    assert list(ordered_map(work, range(20))) == [-item for item in range(20)]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this machine has a single core")
@pytest.mark.parametrize("threads", ["1", "4,2"])
def test_what_libraries_of_arithmetic_are_told_is_not_about_it(threads: str, monkeypatch):
    """Batch systems set it, and nested lists are OpenMP's."""
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    both = threading.Barrier(2, timeout=60)
    assert sorted(ordered_map(lambda item: both.wait(), range(2))) == [0, 1]


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("200000 100000", 2), ("150000 100000", 2), ("max 100000", math.inf), (None, math.inf)],
)
def test_a_container_has_the_cores_of_its_quota(limit: str | None, cores: float, tmp_path: Path):
    path = tmp_path / "cpu.max"
    if limit:
        path.write_text(f"{limit}\n")
    assert quota(path) == cores


def test_a_share_of_the_cores_is_kept(monkeypatch):
    monkeypatch.setenv("STAGE_THREADS", "1")
    assert len(set(ordered_map(lambda item: threading.get_ident(), range(20)))) == 1
