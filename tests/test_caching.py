"""What is kept for the next run: so many bytes, the oldest forgotten first, cleared by one call."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import flowsolve
from flowsolve import caching, processes
from flowsolve.run import layout


@pytest.fixture(autouse=True)
def forgotten():
    flowsolve.clear_cache()
    yield
    flowsolve.clear_cache()


def held():
    """The bytes that are kept, weighed one by one."""
    return sum(size for _, size in caching._KEPT.values())


PLANS = {
    "numbers": ("unipc3", flowsolve.VP(), 300),
    "matrices": ("ddim", flowsolve.CLD(), 40),
    "transform": ("unipc3", flowsolve.Blurring(32), 20),
}


@pytest.mark.parametrize("kind", PLANS)
def test_a_plan_is_weighed(kind):
    """To a factor of two what Python says that was allocated for it and stays."""
    solver, process, nfe = PLANS[kind]
    flowsolve.plan(solver, process, nfe=nfe)  # imports, tables and what else is made once
    caching._KEPT.clear()
    gc.collect()
    tracemalloc.start()
    plan = flowsolve.plan(solver, process, nfe=nfe)
    gc.collect()
    allocated = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert 0.5 * allocated < caching.weigh(plan) < 2.0 * allocated


def test_a_plan_is_kept_and_forgotten():
    a = flowsolve.plan("unipc3", flowsolve.VP(), nfe=7)
    assert flowsolve.plan("unipc3", flowsolve.VP(), nfe=7) is a
    flowsolve.clear_cache()
    assert held() == caching._Total.bytes == 0
    b = flowsolve.plan("unipc3", flowsolve.VP(), nfe=7)
    assert b is not a and b == a
    assert held() == caching._Total.bytes > 0


def test_the_least_recently_used_goes_first(monkeypatch):
    def plan(nfe):
        return flowsolve.plan("ddim", flowsolve.VP(), nfe=nfe)

    first = plan(50)
    monkeypatch.setattr(caching, "LIMIT", int(3.5 * held()))
    second, third = plan(51), plan(52)
    assert plan(50) is first  # used now, so that the second is the oldest
    plan(53)
    assert plan(50) is first and plan(52) is third
    assert plan(51) is not second
    assert held() == caching._Total.bytes <= caching.LIMIT


def test_one_that_is_larger_than_all_is_kept_alone(monkeypatch):
    monkeypatch.setattr(caching, "LIMIT", 1000)
    for nfe in (10, 11):
        plan = flowsolve.plan("ddim", flowsolve.VP(), nfe=nfe)
        assert flowsolve.plan("ddim", flowsolve.VP(), nfe=nfe) is plan
        assert len(caching._KEPT) == 1


def test_a_refusal_is_not_kept():
    for _ in range(2):
        with pytest.raises(ValueError, match="not quieter than its start"):
            flowsolve.plan("rk4", flowsolve.VP(), nfe=2, span=(0.5, 0.7))
    assert not caching._KEPT


@pytest.mark.late
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no way to see what is resident")
def test_a_long_run_keeps_its_memory(monkeypatch, request):
    """Runs on ever other processes, grids and budgets: what is kept stays below the limit, and so
    does what the process has grown by since the first of them."""
    count = 10_000 if request.config.getoption("--full") else 200
    monkeypatch.setattr(caching, "LIMIT", 4 * 2**20)
    draw = random.Random(0)

    def resident():
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def run():
        process = draw.choice(
            [
                flowsolve.VP(0.1, draw.uniform(5.0, 25.0)),
                flowsolve.EDM(sigma_max=draw.uniform(40.0, 120.0)),
                flowsolve.RectifiedFlow(),
                flowsolve.VP.discrete(np.linspace(1e-4, draw.uniform(0.01, 0.03), 100)),
                flowsolve.Blurring(4, draw.uniform(5.0, 20.0)),
            ]
        )
        grid = draw.choice([None, "uniform"] + ["karras", "logsnr"] * process.scalar)
        shape = (1, 4, 4) if not process.scalar else (2,)
        model = flowsolve.Denoiser(lambda x, t: 0.1 * x, process, "x0", shape)
        solver = draw.choice(["ddim", "ab2", "dpmpp2m"])
        flowsolve.sample(model, solver=solver, nfe=draw.randint(4, 40), grid=grid, seed=0)
        assert held() == caching._Total.bytes <= caching.LIMIT

    for _ in range(100):
        run()
    before = resident()
    for _ in range(count):
        run()
    # What is kept, and as much again for what an allocator does not give back.
    assert resident() - before < 2 * caching.LIMIT + 2**23


def test_a_cached_matrix_is_no_inference_tensor():
    with torch.inference_mode():
        x = flowsolve.Blurring(4).prior(flowsolve.Blurring(4).start) @ torch.ones(1, 1, 4, 4)
        assert x.is_inference()
    y = torch.ones(1, 1, 4, 4, requires_grad=True)
    (flowsolve.Blurring(4).prior(flowsolve.Blurring(4).start) @ y).sum().backward()
    assert y.grad is not None


@pytest.mark.late
def test_every_module_is_reachable():
    """After ``import flowsolve`` alone, in a process of its own."""
    code = (
        "import flowsolve, pkgutil\n"
        "for m in pkgutil.iter_modules(flowsolve.__path__):\n"
        "    if m.name != '__main__': assert getattr(flowsolve, m.name) is not None\n"
        "print(flowsolve.training.train.__name__, flowsolve.models.__name__)\n"
        "try: flowsolve.trainig\n"
        "except AttributeError as error: print(error)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split("\n")[0] == "train flowsolve.models"
    assert "no attribute 'trainig'" in result.stdout


def test_layouts_are_those_of_a_function():
    assert layout.__name__ == "layout" and layout.__doc__
    assert processes.VP is flowsolve.VP


def test_two_threads_at_once_are_counted_once():
    """Both compute, the first result is kept, and both get it."""
    both = threading.Barrier(2, timeout=10)

    @caching.kept
    def together(n):
        both.wait()
        return [n] * 1000

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(together, [5, 5])
    assert one is other
    assert held() == caching._Total.bytes > 0


def test_what_is_held_as_a_key_is_weighed(tmp_path):
    """A check keeps the plan that it was of, though its own result is nothing."""
    flowsolve.plan("ddim", flowsolve.VP(), nfe=50).save(tmp_path / "plan")
    plan = flowsolve.Plan.load(tmp_path / "plan")
    flowsolve.clear_cache()
    plan.check(flowsolve.VP())
    assert held() > 0.9 * caching.weigh(plan.program)
