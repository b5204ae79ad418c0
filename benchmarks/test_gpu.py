"""What an evaluation costs on a GPU beyond the network, in units of one
``x.mul(a).add_(eps, alpha=b)``, on the device's own clock; and that a run never waits for it.

Left out where there is no GPU. The results name the device that they were measured on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from report import Report
from timing import ROUNDS, Spread, on_device, spread

import flowsolve

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

SHAPES = {"16x3x32x32": (16, 3, 32, 32), "64x3x256x256": (64, 3, 256, 256)}
SOLVERS = ("ddim", "ddpm", "ab3", "etd3", "unipc3", "auto")


def ratios(shape: tuple[int, ...], nfe: int, rounds: int) -> dict[str, Spread]:
    """Overhead of each solver in floors, medians of rounds that take turns."""
    x, ready = (torch.randn(shape, device="cuda") for _ in range(2))
    model = flowsolve.Denoiser(lambda x, time: ready, flowsolve.VP(), "eps", shape[1:])

    def floor() -> None:
        y = x
        for _ in range(nfe):
            y = y.mul(0.99).add_(ready, alpha=0.01)

    def run(solver: str) -> Callable[[], Any]:
        return lambda: flowsolve.solve(
            model, solver=solver, nfe=nfe, start=x, noise=lambda k: ready
        )

    runs = {solver: run(solver) for solver in SOLVERS}
    for work in (floor, *runs.values()):
        work()  # warm
    found: dict[str, list[float]] = {solver: [] for solver in SOLVERS}
    for _ in range(rounds):
        unit = min(on_device(floor) for _ in range(3))
        for solver, work in runs.items():
            found[solver].append(min(on_device(work) for _ in range(3)) / unit)
    return {solver: spread(values) for solver, values in found.items()}


def test_overhead_on_a_gpu(full: bool, report: Report) -> None:
    nfe, rounds = (100, ROUNDS) if full else (8, 1)
    result: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    for name, shape in SHAPES.items():
        report.doing(f"{name} on {result['device']}")
        result[name] = table = ratios(shape, nfe, rounds)
        for solver, measured in table.items():
            report.row(f"overhead on a GPU, {solver}, {name}", measured)
    report.save("gpu.json", result)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_run_does_not_wait_for_the_device(solver: str, dtype: torch.dtype) -> None:
    """Not once between its first evaluation and its last, with a network in half precision
    neither; torch raises if it would."""
    shape, last = SHAPES["16x3x32x32"], 11
    ready = torch.randn(shape, device="cuda", dtype=dtype)
    calls = []

    def net(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        torch.cuda.set_sync_debug_mode("error" if len(calls) % (last + 1) else "default")
        return ready

    model = flowsolve.Denoiser(net, flowsolve.VP(), "eps", shape[1:], dtype=dtype)
    start, z = torch.randn(shape, device="cuda"), ready.float()
    try:
        x = flowsolve.sample(model, solver=solver, nfe=last + 1, start=start, noise=lambda k: z)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(calls) == last + 1 and torch.isfinite(x).all()
