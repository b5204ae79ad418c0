"""What an evaluation costs beyond the network: time per evaluation, against the least arithmetic a
step can do.

The network returns a tensor that is ready, so a run is all overhead; what calling it costs is
measured on its own and subtracted. The floor is one ``x.mul(a).add_(eps, alpha=b)`` on states of
the same shape, which is a DDIM step and nothing else. Runs, network calls and the floor take turns
(timing.py). One thread, float32.

A multistep method combines more than two tensors. Its own floor is the same chain with as many
terms as its plan's combinations have. Where diffusers is installed, its schedulers' ``step`` takes
part in the same turns.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import inside
import pictures
import pytest
import torch
from report import Report
from timing import ROUNDS, Spread, spread, take_turns

import flowsolve

SHAPES = {"16x3x32x32": (16, 3, 32, 32), "1x4x64x64": (1, 4, 64, 64)}
SOLVERS = ("ddim", "ddpm", "heun", "ab2", "ab3", "ab4", "rk4", "etd3", "unipc3", "auto")
#: Measured with the other predictions too.
BY_PREDICTION = ("ddim", "ddpm", "heun", "ab2", "ab3", "ab4", "rk4")
PREDICTIONS = ("eps", "v", "x0")
ORDER_THREE = ("ab3", "etd3", "unipc3")
#: The most a step should cost, in floors, on the larger state.
TARGETS = {"ddim": 1.6, **dict.fromkeys(ORDER_THREE, 2.5), "auto": 3.0}
#: The most that methods of order three should cost, in floors of their own combination: on a state
#: of 200 KB, and on one of 64 KB, where the interpreter's share is larger.
OWN_TARGETS = {"16x3x32x32": 2.0, "1x4x64x64": 2.5}
PEERS = ("DDIMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler")

Job = tuple[str, str]
Jobs = dict[Job, Callable[[], Any]]


def normal(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def our_runs(shape: tuple[int, ...], nfe: int, full: bool) -> Jobs:
    """Runs by solver and prediction."""
    x, ready = normal(shape, 1), 0.1 * normal(shape, 0)
    models = {
        p: flowsolve.Denoiser(lambda x, time: ready, flowsolve.VP(), p, shape[1:])
        for p in PREDICTIONS
    }

    def run(solver: str, predicts: str) -> Callable[[], Any]:
        return lambda: flowsolve.solve(
            models[predicts], solver=solver, nfe=nfe, start=x, noise=lambda k: x
        )

    names = dict.fromkeys((*SOLVERS, *inside.fixed_steps())) if full else SOLVERS
    jobs = {(name, "eps"): run(name, "eps") for name in names}
    if full:
        jobs |= {(s, p): run(s, p) for s in BY_PREDICTION for p in PREDICTIONS[1:]}
    return jobs


def floors(shape: tuple[int, ...], nfe: int) -> Jobs:
    """The network's calls, a DDIM step's arithmetic, and that of methods of order three."""
    x, ready, times = normal(shape, 1), 0.1 * normal(shape, 0), torch.zeros(shape[0])

    def chain(terms: int) -> Callable[[], None]:
        others = [normal(shape, k) for k in range(2, terms + 1)]

        def work() -> None:
            y = x
            for _ in range(nfe):
                y = y.mul(0.99)
                for other in others:
                    y.add_(other, alpha=0.01)

        return work

    def network(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return ready

    def calls() -> None:
        for _ in range(nfe):
            network(x, times)

    jobs: Jobs = {("floor", ""): chain(2), ("network", ""): calls}
    return jobs | {("floor", s): chain(inside.terms_of(s, nfe)) for s in ORDER_THREE}


def peer_runs(shape: tuple[int, ...], nfe: int) -> Jobs:
    """Loops over schedulers of diffusers, with the same ready tensor for the network's answer."""
    if importlib.util.find_spec("diffusers") is None:
        return {}
    import diffusers

    x, ready = normal(shape, 1), normal(shape, 2)

    def loop(scheduler: Any) -> Callable[[], None]:
        def work() -> None:
            scheduler.set_timesteps(nfe)
            y = x
            for t in scheduler.timesteps:
                y = scheduler.step(ready, t, y, return_dict=False)[0]

        return work

    return {
        (name, "peer"): loop(getattr(diffusers, name)(beta_schedule="scaled_linear"))
        for name in PEERS
    }


def measure(name: str, full: bool, report: Report) -> dict[str, Any]:
    """Overheads in floors and in the methods' own; µs per evaluation with the network's calls."""
    shape = SHAPES[name]
    nfe, rounds, turns = (120, ROUNDS, 6) if full else (12, 1, 1)
    runs = our_runs(shape, nfe, full)
    spent = {job: run().nfe for job, run in runs.items()}
    jobs = {**floors(shape, nfe), **runs, **peer_runs(shape, nfe)}
    found = []
    for k in range(rounds):
        report.doing(f"{name}: round {k + 1} of {rounds}")
        best = take_turns(jobs, turns)
        found.append({job: s / spent.get(job, nfe) for job, s in best.items()})

    def over(job: Job, floor: Job) -> Spread:
        return spread((by[job] - by["network", ""]) / by[floor] for by in found)

    def microseconds(job: Job) -> Spread:
        return spread(1e6 * by[job] for by in found)

    apart = {job: microseconds(job) for job in jobs}
    return {
        "us_floor": apart["floor", ""],
        "us_network": apart["network", ""],
        "overhead_in_floors": {
            s: {p: over((s, p), ("floor", "")) for p in PREDICTIONS if (s, p) in runs}
            for s in SOLVERS
        },
        "overhead_in_own_floors": {s: over((s, "eps"), ("floor", s)) for s in ORDER_THREE},
        "us_per_evaluation": {
            job: t
            for (job, kind), t in sorted(apart.items(), key=lambda item: item[1].median)
            if kind in ("eps", "peer")
        },
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # diffusers' own, with NumPy 2
@pytest.mark.filterwarnings("ignore:entries of the samples")  # the network says what it likes
def test_overhead(full: bool, report: Report) -> None:
    """The overhead of an evaluation, in units of one x.mul(a).add_(eps, alpha=b)."""
    result: dict[str, Any] = {}
    for shape in SHAPES:
        result[shape] = table = measure(shape, full, report)
        for s in TARGETS:
            most = TARGETS[s] if shape == "16x3x32x32" else None
            report.row(f"overhead, {s}, {shape}", table["overhead_in_floors"][s]["eps"], most)
        for s in ORDER_THREE:
            own = table["overhead_in_own_floors"][s]
            report.row(f"overhead in own floors, {s}, {shape}", own, OWN_TARGETS[shape])
        times = table["us_per_evaluation"]
        if "DDIMScheduler" in times:
            for name in ("ddim", "DDIMScheduler"):
                report.row(f"evaluation, {name}, {shape}", times[name], unit="µs")
    report.save("overhead.json", result)
    if full:
        by = {
            shape: {s: row["eps"] for s, row in table["overhead_in_floors"].items()}
            for shape, table in result.items()
        }
        pictures.overhead(by, TARGETS, report.file("overhead.png"))
