"""What a step of a scheduler costs in diffusers' loop: FlowsolveScheduler beside diffusers' own, in
turns. The network's answer is ready; set_timesteps, once a run, is measured apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from report import Report
from timing import ROUNDS, spread, take_turns

#: States of a latent picture, alone and in a batch.
SHAPES = {"1x4x64x64": (1, 4, 64, 64), "4x16x64x64": (4, 16, 64, 64)}
SOLVERS = ("ddim", "dpmpp2m", "unipc3", "auto")
PEERS = ("DDIMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler")
#: The most that a step should cost, in steps of DPMSolverMultistepScheduler.
TARGET = 0.5


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers
def test_scheduler_step(full: bool, report: Report) -> None:
    """A step of FlowsolveScheduler in steps of DPMSolverMultistepScheduler."""
    diffusers = pytest.importorskip("diffusers")
    integration = pytest.importorskip("flowsolve.integrations.diffusers")
    n, rounds, turns = (30, ROUNDS, 5) if full else (4, 1, 1)
    result: dict[str, Any] = {}
    for shape, size in SHAPES.items():
        report.doing(shape)
        x = torch.randn(size, generator=torch.Generator().manual_seed(0))
        made: dict[str, Any] = {name: getattr(diffusers, name)() for name in PEERS}
        base = made["DPMSolverMultistepScheduler"]
        made |= {s: integration.FlowsolveScheduler.of(base, s) for s in SOLVERS}
        jobs: dict[str, Callable[[], Any]] = {}
        for name, scheduler in made.items():
            jobs[name] = _loop(scheduler, n, x)
            jobs[f"{name}: set_timesteps"] = lambda s=scheduler: s.set_timesteps(n)
        found = [take_turns(jobs, turns) for _ in range(rounds)]
        steps = [
            {s: (f[s] - f[f"{s}: set_timesteps"]) / n for s in made} for f in found
        ]  # fmt: skip
        table = {
            s: {
                "us_per_step": 1e6 * spread(f[s] for f in steps).median,
                "ratio": spread(f[s] / f["DPMSolverMultistepScheduler"] for f in steps),
                "us_set_timesteps": 1e6 * spread(f[f"{s}: set_timesteps"] for f in found).median,
            }
            for s in made
        }
        result[shape] = table
        for s in SOLVERS:
            report.row(f"a step of FlowsolveScheduler, {s}, {shape}", table[s]["ratio"], TARGET)
    report.save("scheduler_step.json", result)


def _loop(scheduler: Any, n: int, x: torch.Tensor) -> Callable[[], Any]:
    ready = 0.1 * x

    def run() -> torch.Tensor:
        scheduler.set_timesteps(n)
        y = x
        for t in scheduler.timesteps:
            y = scheduler.step(ready, t, y, return_dict=False)[0]
        return y

    return run
