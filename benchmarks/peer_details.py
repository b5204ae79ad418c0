"""Single findings about the samplers of diffusers: what is left of the noise, what is counted and
told, and where a step ends (docs/peers.md)."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import torch
from peer_names import peers

import flowsolve

#: LMS of order four, without a start.
AB4 = flowsolve.solvers.Multistep(flowsolve.solvers.Polynomial(4))


def details() -> list[str]:
    random = torch.Generator().manual_seed(3)
    start = torch.randn(64, 2, dtype=torch.float64, generator=random)
    mixture, point = peers.mixture(peers.TABLE), flowsolve.exact.Dirac(peers.TABLE, [0.0, 0.0])
    lines = ["| what | where | measured |", "| --- | --- | --- |"]

    def row(what: str, where: str, measured: str) -> None:
        lines.append(f"| {what} | {where} | {measured} |")
        print(lines[-1], file=sys.stderr)

    def theirs(name: str, n: int, options: Any, **step: Any) -> tuple[Any, Any]:
        return peers.theirs(
            f"{name}Scheduler", n, start, {**peers.TABLE_OPTIONS, **options}, model=mixture, **step
        )

    def error(x: torch.Tensor, first: float) -> float:
        # A hair before the clean level: x̂0 has no derivative in σ̄ there that DOP853 could use.
        times = [first, -0.99999]
        return peers.rms(
            x
            - flowsolve.solve(
                mixture, solver="scipy:DOP853", rtol=1e-11, atol=1e-11, grid=times, start=start
            ).x
        )

    from_noise, noise = (
        torch.randn(*shape, 4096, 2, dtype=torch.float64, generator=random) for shape in ((), (60,))
    )
    for name, options, step, shown in (
        ("DEISMultistep", {}, {}, ""),
        ("SASolver", {"tau_func": lambda t: 0.0}, {}, ""),
        (
            "DDIM",
            {"clip_sample": False, "set_alpha_to_one": False},
            {},
            ", `set_alpha_to_one=False`",
        ),
        ("PNDM", {}, {}, ""),
        ("EulerDiscrete", {"use_karras_sigmas": True}, {"s_churn": 10.0}, ", Karras, `s_churn=10`"),
    ):
        options = {**peers.TABLE_OPTIONS, **options}
        run, _ = peers.theirs(
            f"{name}Scheduler", 20, from_noise, options, model=point, noise=noise, **step
        )
        row(
            "noise left, 20 steps",
            name + shown,
            f"{peers.rms(run.end) / peers.TABLE.level(0.0).sigma:.2f} of the table's least",
        )
    for name, options, shown in (
        ("HeunDiscrete", {}, "HeunDiscrete"),
        ("KDPM2Discrete", {}, "KDPM2Discrete"),
        ("PNDM", {}, "PNDM"),
        ("PNDM", {"skip_prk_steps": True}, "PNDM, `skip_prk_steps`"),
    ):
        row("evaluations in 20 steps", shown, str(len(theirs(name, 20, options)[0].states)))
    for spacing, n in (("leading", 20), ("trailing", 30), ("linspace", 20)):
        run, scheduler = theirs("DDIM", n, {"clip_sample": False, "timestep_spacing": spacing})
        times = scheduler.timesteps.tolist()
        gap = max(t - 1000 // n - s for t, s in itertools.pairwise(times))
        same = peers.ours("ddim", [*times, -1.0], start)
        ours, his = (f"{error(x, float(times[0])):.3f}" for x in (same.end, run.end))
        row(
            "indices from a step's end to the next question",
            f"DDIM, {spacing}, {n} steps",
            f"{gap}; error {his}, flowsolve's {ours}",
        )
    for grid in ("karras", "exponential"):
        name, n = "DPMSolverMultistep", 50
        flag = {f"use_{grid}_sigmas": True}
        cls = peers.scheduler_class(f"{name}Scheduler")
        with peers.float64(cls):
            scheduler = cls(**peers.TABLE_OPTIONS, **flag)
            scheduler.set_timesteps(20)
            meant = peers.levels_of(scheduler, peers.TABLE)
            told = max(
                abs(peers.TABLE.level(float(t)).sigma / v.sigma - 1.0)
                for t, v in zip(scheduler.timesteps, meant, strict=True)
            )
        runs = [theirs(name, n, flag, told=as_told)[0].end for as_told in (True, False)]
        a, b = (f"{error(x, 999.0):.1e}" for x in runs)
        row(
            "error of σ̄ in the time the network is told",
            f"{name}, {grid}",
            f"{100 * told:.1f} %; error at {n} steps {a}, without {b}",
        )
    flow = peers.scheduler_class("FlowMatchEulerDiscreteScheduler")(shift=3.0)
    flow.set_timesteps(20)
    row(
        "last noisy level",
        "FlowMatchEulerDiscrete, `shift=3`",
        f"{float(flow.sigmas[-2]):.4f}; shifted once {0.003 / 1.002:.4f}",
    )
    sigmas = (
        peers.scheduler_class("EulerDiscreteScheduler")(**peers.TABLE_OPTIONS)
        .sigmas.flip(0)[1:]
        .tolist()
    )
    worst = max(abs(s / peers.TABLE.level(i).sigma - 1.0) for i, s in enumerate(sigmas))
    row("relative error of σ̄ in the float32 table", "all with sigmas", f"{worst:.0e}")
    for name, options, solver, n in (
        ("PNDM", {"skip_prk_steps": True, "set_alpha_to_one": True}, "plms", 20),
        ("LMSDiscrete", {}, AB4, 20),
        ("LMSDiscrete", {"use_karras_sigmas": True}, AB4, 20),
    ):
        run, scheduler = theirs(name, n, options)
        times = peers.grid_of(scheduler, peers.TABLE)
        a, b = (
            f"{error(x, times[0]):.4f}" for x in (run.end, peers.ours(solver, times, start).end)
        )
        shown = f"{name}, {n} steps{', Karras' if 'use_karras_sigmas' in options else ''}"
        row("last step by the polynomial", shown, f"error {a}; by the hold, flowsolve's, {b}")
    return lines
