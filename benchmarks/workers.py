"""Two processes for what is counted and not timed: errors of runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, Protocol, TypeVar

import torch
from report import Report

T = TypeVar("T")


class Submit(Protocol):
    def __call__(self, f: Callable[..., T], /, *args: Any) -> Future[T]: ...


def _at_once(f: Callable[..., T], /, *args: Any) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(f(*args))
    return future


@contextmanager
def workers(report: Report) -> Iterator[Submit]:
    """A function that hands work to other processes; in small runs it does the work itself."""
    if not report.full:
        yield _at_once
        return
    count = min(2, os.cpu_count() or 1)
    pool = ProcessPoolExecutor(count, get_context("spawn"), torch.set_num_threads, (1,))
    try:
        yield pool.submit
    finally:
        pool.shutdown(cancel_futures=True)


def gather(report: Report, what: str, futures: Sequence[Future[T]]) -> list[T]:
    """The results in order, with progress lines."""
    report.doing(what)
    for done, _ in enumerate(as_completed(futures), 1):
        report.doing(f"{what}: {done} of {len(futures)} parts", counting=True)
    return [future.result() for future in futures]
