"""Threads, pools of processes and asyncio give what one run after another gives, to the bit."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from problems import elementwise
from torch import Tensor

import flowsolve

#: Fixed steps, a history and a corrector, noise, steps of each sample's own.
SOLVERS = ("ddim", "unipc3", "ddpm", "adaptive")
WORKERS = 16
FORKS = pytest.param(
    "fork",
    marks=pytest.mark.skipif(
        "fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork"
    ),
)


def nowhere(x: Tensor, t: Tensor) -> Tensor:
    """A network that breaks down, for the second sample."""
    return torch.where(torch.arange(len(x)).view(-1, 1) == 1, torch.nan, elementwise(x, t))


MODEL = flowsolve.Denoiser(elementwise, flowsolve.VP(), "eps", (3,))
BROKEN = flowsolve.Denoiser(nowhere, flowsolve.VP(), "eps", (3,))


def run(solver: Any, seed: int) -> Tensor:
    return flowsolve.sample(MODEL, solver=solver, nfe=_budget(solver), n=3, seed=seed)


def _budget(solver: Any) -> int | None:
    return {"adaptive": 10_000}.get(solver, 9) if isinstance(solver, str) else None


def work() -> list[tuple[str, int]]:
    return [(SOLVERS[k % len(SOLVERS)], k // len(SOLVERS)) for k in range(WORKERS)]


def forget() -> None:
    """Empty every cache of the library, as in a process that has just begun."""
    flowsolve.clear_cache()
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "flowsolve":
            for value in list(vars(module).values()):
                getattr(value, "cache_clear", lambda: None)()


def at_once(function: Callable[..., Tensor], work: list[tuple[Any, int]]) -> list[Tensor]:
    """The results of a thread for each piece of work, which begin together."""
    barrier = threading.Barrier(len(work))

    def begin(*arguments: Any) -> Tensor:
        barrier.wait(timeout=30)
        return function(*arguments)

    with ThreadPoolExecutor(len(work)) as pool:
        futures = [pool.submit(begin, *arguments) for arguments in work]
        return [future.result(timeout=60) for future in futures]


def equal(results: list[Tensor], serial: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(results, serial, strict=True))


@pytest.mark.parametrize("attempt", range(3))
def test_threads_on_cold_caches(attempt: int) -> None:
    forget()
    serial = [run(*arguments) for arguments in work()]
    assert not equal(serial[:4], serial[4:8]), "the seeds differ, so the samples must"
    forget()
    assert equal(at_once(run, work()), serial)


@pytest.mark.parametrize("solver", [name for name in SOLVERS if name != "adaptive"])
def test_threads_on_one_plan_that_is_new(solver: str) -> None:
    serial = [run(solver, seed) for seed in range(WORKERS)]
    forget()
    plan = flowsolve.plan(solver, MODEL.process, nfe=9)
    assert equal(at_once(run, [(plan, seed) for seed in range(WORKERS)]), serial)


def test_asyncio() -> None:
    async def together() -> list[Tensor]:
        return await asyncio.gather(*(asyncio.to_thread(run, *each) for each in work()))

    serial = [run(*arguments) for arguments in work()]
    forget()
    assert equal(asyncio.run(together()), serial)


@contextmanager
def pool(method: str) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context(method)
    size = 1 if method == "spawn" else 2  # each that is spawned imports torch
    with ProcessPoolExecutor(size, context, torch.set_num_threads, (1,)) as executor:
        yield executor


@pytest.mark.late
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["spawn", FORKS])
def test_processes(method: str) -> None:
    """What goes there (solvers, plans, models) and what comes back (samples, solutions, what is
    raised) is what it was."""
    plan, ddim = flowsolve.plan("unipc3", MODEL.process, nfe=9), flowsolve.solvers.DDIM(eta=1.0)
    tasks: list[tuple[Any, int]] = [*work()[:8], (plan, 0), (plan, 1)]
    whole = {"solver": ddim, "nfe": 4, "n": 2, "seed": 0, "keep": ("path", "x0")}
    with pool(method) as executor:
        futures = [executor.submit(run, *arguments) for arguments in tasks]
        solved = executor.submit(flowsolve.solve, MODEL, **whole)
        broken = executor.submit(flowsolve.sample, BROKEN, nfe=3, n=3, seed=0)
        capped = executor.submit(
            flowsolve.sample, MODEL, solver="adaptive", rtol=1e-9, atol=1e-9, nfe=20, seed=0
        )
        assert equal([f.result(timeout=60) for f in futures], [run(*each) for each in tasks])
        there, here = solved.result(timeout=60), flowsolve.solve(MODEL, **whole)
        assert there.grid == here.grid and (there.nfe, there.seed) == (here.nfe, here.seed)
        assert torch.equal(there.path, here.path) and torch.equal(there.x0_path, here.x0_path)
        with pytest.raises(flowsolve.NonFiniteError, match="evaluation 1, level t=") as raised:
            broken.result(timeout=60)
        assert raised.value.samples == [1] and raised.value.x.shape == (3, 3)
        with pytest.raises(flowsolve.BudgetExceeded, match="evaluations were spent") as over:
            capped.result(timeout=60)
        assert over.value.nfe <= 20 and over.value.x.shape == (1, 3) and over.value.level.t > 0
        assert torch.equal(executor.submit(run, "ddim", 0).result(timeout=60), run("ddim", 0))
