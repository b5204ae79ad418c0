"""What diffusers and azula do, measured: the tables of docs/peers.md.

    python benchmarks/peer_orders.py            prints them and writes them into the page, in some minutes
    python benchmarks/peer_orders.py details    one of orders, weak, details

Each sampler runs through its own public face in float64 (tests/peers.py). Orders: the L2 error of the endpoint on a mixture of
three Gaussians against DOP853, from σ̄ = 2 to 0.4 over 48, 96 and 192 steps, on a grid uniform in the time of VP() and on
Karras's; a second time with the first steps exact, so that the order is the formula's and not the start's. Weak orders: the
error of the variance of Gaussian data, which is known without sampling because a run is linear in its noises.
"""

from __future__ import annotations

import importlib
import itertools
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import flowsolve

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
peers: Any = importlib.import_module("peers")
azula: Any = importlib.import_module("azula.sample")
PAGE = ROOT / "docs" / "peers.md"

NS = (48, 96, 192)
GRIDS = ("time", "karras")
TO_QUIETEST = {"final_sigmas_type": "sigma_min"}
NOISE_FREE = {"tau_func": lambda t: 0.0, "lower_order_final": False}
DPMPP, SINGLE, UNIPC = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler"
MULTISTEP = ("zAB", "vAB", "zEAB", "xEAB", "REAB")
#: Shown as, class, options, claimed order, steps to be made exact the second time (0: it starts by itself).
SAMPLERS: tuple[tuple[str, Any, dict[str, Any], int, int], ...] = (
    ("DDIM", "DDIMScheduler", {"clip_sample": False}, 1, 0),
    ("EulerDiscrete", "EulerDiscreteScheduler", {}, 1, 0),
    ("HeunDiscrete", "HeunDiscreteScheduler", {}, 2, 0),
    ("KDPM2Discrete", "KDPM2DiscreteScheduler", {}, 2, 0),
    ("LMSDiscrete", "LMSDiscreteScheduler", {}, 4, 3),
    ("PNDM", "PNDMScheduler", {}, 4, 0),
    ("PNDM, `skip_prk_steps`", "PNDMScheduler", {"skip_prk_steps": True}, 4, 0),
    ("IPNDM", "IPNDMScheduler", {}, 4, 3),
    ("DPMSolverMultistep 2", DPMPP, TO_QUIETEST, 2, 1),
    ("DPMSolverMultistep 3", DPMPP, {**TO_QUIETEST, "solver_order": 3}, 3, 2),
    ("DPMSolverMultistep 3, `dpmsolver`", DPMPP, {**TO_QUIETEST, "solver_order": 3, "algorithm_type": "dpmsolver"}, 3, 2),
    ("DPMSolverSinglestep 2", SINGLE, TO_QUIETEST, 2, 0),
    ("DPMSolverSinglestep 3", SINGLE, {**TO_QUIETEST, "solver_order": 3}, 3, 0),
    ("DEISMultistep 2", "DEISMultistepScheduler", {}, 2, 1),
    ("DEISMultistep 3", "DEISMultistepScheduler", {"solver_order": 3}, 3, 2),
    *((f"UniPCMultistep {p}", UNIPC, {**TO_QUIETEST, "solver_order": p, "lower_order_final": False}, p + 1, p - 1) for p in (1, 2, 3)),
    ("SASolver 2, 2, τ = 0", "SASolverScheduler", {**NOISE_FREE, "predictor_order": 2, "corrector_order": 2}, 2, 1),
    ("SASolver 3, 4, τ = 0", "SASolverScheduler", {**NOISE_FREE, "predictor_order": 3, "corrector_order": 4}, 4, 2),
    ("azula Euler", azula.EulerSampler, {}, 1, 0),
    ("azula Heun", azula.HeunSampler, {}, 2, 0),
    *((f"azula {s} {k}", getattr(azula, f"{s}Sampler"), {"order": k}, k, k - 1) for s in MULTISTEP for k in (2, 3, 4)),
)


def orders() -> list[str]:
    lines = ["| sampler | claimed | its own start: time | Karras | exact start: time | Karras |", "| --- | --- | --- | --- | --- | --- |"]
    for shown, sampler, options, claimed, first in SAMPLERS:
        cells = [f"{peers.order(sampler, options, grid, k, NS):.2f}" for k in ((0, first) if first else (0,)) for grid in GRIDS]
        lines.append(f"| {' | '.join([shown, str(claimed), *cells, *['–'] * (4 - len(cells))])} |")
        print(lines[-1], file=sys.stderr)
    return lines


def their_variance(sampler: Any, options: dict[str, Any], grid: str, n: int) -> float:
    cls = peers.scheduler_class(sampler) if isinstance(sampler, str) else sampler

    def respond(start: torch.Tensor, noise: list[torch.Tensor], levels: Sequence[Any], model: Any) -> torch.Tensor:
        return peers.run_on(cls, options, levels, start, model=model, noise=noise)

    return peers.variance_error(respond, grid, n)


def our_variance(solver: str, grid: str, n: int) -> float:
    def respond(start: torch.Tensor, noise: list[torch.Tensor], levels: Sequence[Any], model: Any) -> torch.Tensor:
        return flowsolve.solve(model(peers.PROCESS), solver=solver, grid=[v.t for v in levels], start=start, noise=noise).x

    return peers.variance_error(respond, grid, n, draws=2)


def weak_orders() -> list[str]:
    sde = {**TO_QUIETEST, "algorithm_type": "sde-dpmsolver++"}
    third = peers.repaired(
        peers.scheduler_class(DPMPP), "multistep_dpm_solver_third_order_update", ("(2.0 * h) ** 2 - 0.5", "(2.0 * h) ** 2 + 0.5")
    )
    sa = {"tau_func": lambda t: 1.0, "lower_order_final": False}
    rows = [
        ("DPMSolverMultistep 1", DPMPP, {**sde, "solver_order": 1}, "ddpm"),
        ("DPMSolverMultistep 2", DPMPP, sde, "dpmpp2m_sde"),
        ("DPMSolverMultistep 3", DPMPP, {**sde, "solver_order": 3}, "dpmpp3m_sde"),
        ("the same, sign mended", third, {**sde, "solver_order": 3}, "dpmpp3m_sde"),
        ("DPMSolverSinglestep 2", SINGLE, sde, "dpmpp_sde"),
        ("DPMSolverSinglestep 3, `heun`", SINGLE, {**sde, "solver_order": 3, "solver_type": "heun"}, "dpmpp_sde"),
        ("SASolver 2, 2", "SASolverScheduler", {**sa, "predictor_order": 2, "corrector_order": 2}, "sa"),
        ("SASolver 3, 4", "SASolverScheduler", {**sa, "predictor_order": 3, "corrector_order": 4}, "sa"),
    ]
    lines = ["| sampler | order: time | Karras | error at 96 | flowsolve's | order: time | Karras | error at 96 |", f"|{' --- |' * 8}"]
    for shown, sampler, options, solver in rows:
        cells = []
        for measure in (lambda g, n, s=sampler, o=options: their_variance(s, o, g, n), lambda g, n, s=solver: our_variance(s, g, n)):
            errors = {grid: [measure(grid, n) for n in (24, 48, 96)] for grid in GRIDS}
            cells.append([*(f"{peers.slope(errors[g]):.2f}" for g in GRIDS), f"{errors['karras'][-1]:.0e}"])
        lines.append(f"| {' | '.join([shown, *cells[0], f'`{solver}`', *cells[1]])} |")
        print(lines[-1], file=sys.stderr)
    return lines


def details() -> list[str]:
    random = torch.Generator().manual_seed(3)
    start = torch.randn(64, 2, dtype=torch.float64, generator=random)
    mixture, point = peers.mixture(peers.TABLE), flowsolve.exact.Dirac(peers.TABLE, [0.0, 0.0])
    lines = ["| what | where | measured |", "| --- | --- | --- |"]

    def row(what: str, where: str, measured: str) -> None:
        lines.append(f"| {what} | {where} | {measured} |")
        print(lines[-1], file=sys.stderr)

    def theirs(name: str, n: int, options: Any, **step: Any) -> tuple[Any, Any]:
        return peers.theirs(f"{name}Scheduler", n, start, {**peers.TABLE_OPTIONS, **options}, model=mixture, **step)

    def error(x: torch.Tensor, first: float) -> float:
        # A hair before the clean level: x̂0 has no derivative in σ̄ there that DOP853 could use.
        times = [first, -0.99999]
        return peers.rms(x - flowsolve.solve(mixture, solver="scipy:DOP853", rtol=1e-11, atol=1e-11, grid=times, start=start).x)

    from_noise, noise = (torch.randn(*shape, 4096, 2, dtype=torch.float64, generator=random) for shape in ((), (60,)))
    for name, options, step, shown in (
        ("DEISMultistep", {}, {}, ""),
        ("SASolver", {"tau_func": lambda t: 0.0}, {}, ""),
        ("DDIM", {"clip_sample": False, "set_alpha_to_one": False}, {}, ", `set_alpha_to_one=False`"),
        ("PNDM", {}, {}, ""),
        ("EulerDiscrete", {"use_karras_sigmas": True}, {"s_churn": 10.0}, ", Karras, `s_churn=10`"),
    ):
        options = {**peers.TABLE_OPTIONS, **options}
        run, _ = peers.theirs(f"{name}Scheduler", 20, from_noise, options, model=point, noise=noise, **step)
        row("noise left, 20 steps", name + shown, f"{peers.rms(run.end) / peers.TABLE.level(0.0).sigma:.2f} of the table's least")
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
        row("indices from a step's end to the next question", f"DDIM, {spacing}, {n} steps", f"{gap}; error {his}, flowsolve's {ours}")
    for grid in ("karras", "exponential"):
        name, n = "DPMSolverMultistep", 50
        flag = {f"use_{grid}_sigmas": True}
        cls = peers.scheduler_class(f"{name}Scheduler")
        with peers.float64(cls):
            scheduler = cls(**peers.TABLE_OPTIONS, **flag)
            scheduler.set_timesteps(20)
            meant = peers.levels_of(scheduler, peers.TABLE)
            told = max(abs(peers.TABLE.level(float(t)).sigma / v.sigma - 1.0) for t, v in zip(scheduler.timesteps, meant, strict=True))
        runs = [theirs(name, n, flag, told=as_told)[0].end for as_told in (True, False)]
        a, b = (f"{error(x, 999.0):.1e}" for x in runs)
        row("error of σ̄ in the time the network is told", f"{name}, {grid}", f"{100 * told:.1f} %; error at {n} steps {a}, without {b}")
    flow = peers.scheduler_class("FlowMatchEulerDiscreteScheduler")(shift=3.0)
    flow.set_timesteps(20)
    row("last noisy level", "FlowMatchEulerDiscrete, `shift=3`", f"{float(flow.sigmas[-2]):.4f}; shifted once {0.003 / 1.002:.4f}")
    sigmas = peers.scheduler_class("EulerDiscreteScheduler")(**peers.TABLE_OPTIONS).sigmas.flip(0)[1:].tolist()
    worst = max(abs(s / peers.TABLE.level(i).sigma - 1.0) for i, s in enumerate(sigmas))
    row("relative error of σ̄ in the float32 table", "all with sigmas", f"{worst:.0e}")
    for name, options, solver, n in (
        ("PNDM", {"skip_prk_steps": True, "set_alpha_to_one": True}, "plms", 20),
        ("LMSDiscrete", {}, flowsolve.solvers.Multistep(4), 20),
        ("LMSDiscrete", {"use_karras_sigmas": True}, flowsolve.solvers.Multistep(4), 20),
    ):
        run, scheduler = theirs(name, n, options)
        times = peers.grid_of(scheduler, peers.TABLE)
        a, b = (f"{error(x, times[0]):.4f}" for x in (run.end, peers.ours(solver, times, start).end))
        shown = f"{name}, {n} steps{', Karras' if 'use_karras_sigmas' in options else ''}"
        row("last step by the polynomial", shown, f"error {a}; by the hold, flowsolve's, {b}")
    return lines


def main() -> None:
    warnings.simplefilter("ignore")
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    text = PAGE.read_text(encoding="utf-8")
    for name, table in (("orders", orders), ("weak", weak_orders), ("details", details)):
        if name not in (sys.argv[1:] or [name]):
            continue
        before, rest = text.split(f"<!-- {name}:begin -->")
        after = rest.split(f"<!-- {name}:end -->")[1]
        text = "\n".join((f"{before}<!-- {name}:begin -->", "", *table(), "", f"<!-- {name}:end -->{after}"))
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
