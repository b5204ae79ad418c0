"""How the benchmarks time: processor time, jobs that take turns, medians of rounds with their
spread.

A machine is always busy with something else. That can only add to a time, so within a round a job
is represented by the least that it took; what is left of the disturbance is the spread over rounds.
Nothing that is timed is asserted.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import torch

ROUNDS = 5
K = TypeVar("K", bound=Hashable)


class Spread(NamedTuple):
    """Of the rounds' values."""

    median: float
    least: float
    most: float


def spread(values: Iterable[float]) -> Spread:
    found = list(values)
    return Spread(statistics.median(found), min(found), max(found))


def timed(work: Callable[[], Any]) -> float:
    """Processor time of this thread, in seconds: on an idle machine the same as the time on the
    clock."""
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


def take_turns(jobs: Mapping[K, Callable[[], Any]], turns: int) -> dict[K, float]:
    """One round: the least seconds that each job took in its turns. In a turn it runs once untimed:
    what the job before has left to the caches and the allocator is not its own."""
    best = dict.fromkeys(jobs, math.inf)
    for _ in range(turns):
        for job, work in jobs.items():
            work()
            best[job] = min(best[job], timed(work))
    return best


def python_loop() -> None:
    """A fixed piece of interpreted arithmetic, the unit for work that is the interpreter's, so that
    a target means the same on a slower machine."""
    terms = {k: 1.0 + 0.001 * k for k in range(20)}
    for _ in range(1000):
        terms = {k: math.exp(-c) * c + 0.5 for k, c in terms.items()}


def on_device(work: Callable[[], Any]) -> float:
    """Seconds on the CUDA device's own clock."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return 1e-3 * begin.elapsed_time(end)
