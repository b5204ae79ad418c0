"""Orders of convergence, measured through ``solve(nfe=...)`` as a user calls it.

The error is the L2 error of the endpoint on a Gaussian mixture against DOP853, from σ̄ = 2 to σ̄ =
0.4, over one to four doublings of the evaluations. The grids: uniform in the solver's own variable,
and Karras. The table in README.md is what ``python tests/test_orders.py`` prints; each slope that
is measured here is compared with it.
"""

import math
import sys
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from problems import DETERMINISTIC, F64, PROCESSES, SOLVERS, mixture, mixture_run, rms

import flowsolve
from flowsolve import exact

GRIDS = ("own", "karras")
#: The grid that is uniform in a variable.
OWN = {
    "sigma": "sigma",
    "lambda": "logsnr",
    "t": "uniform",
    "flow_time": flowsolve.grids.Shifted(1.0),
}
README = Path(__file__).parents[1] / "README.md"
#: Doublings of nfe, chosen so that the finest error stays above rounding and the coarsest is
#: asymptotic. Four on VP; one on EDM and rectified flow, where most plans are the same numbers in
#: x̄; two with remainders.
BUDGETS = (96, 192, 384, 768, 1536)
STAGED = [name for name in DETERMINISTIC if SOLVERS[name].evaluations > 1]
HEAD = {
    "vp": "VP",
    "edm": "EDM",
    "rectified_flow": "flow",
    "own": "uniform",
    "karras": "Karras",
}
COLUMNS = [(process, grid) for process in ("vp", "edm", "rectified_flow") for grid in GRIDS]


#: Rows whose weights are those of equal steps: on a smooth grid of unequal ones they are of order
#: two.
CONSTANT_STEP = [
    name
    for name, rule in SOLVERS.items()
    if getattr(getattr(rule, "predictor", None), "weights", None) == "constant_step"
]


def expected(solver: str, grid: str) -> int:
    order = SOLVERS[solver].order
    return min(order, 2) if solver in CONSTANT_STEP and grid != "own" else order


@lru_cache(maxsize=1024)
def slope(solver: str, process: str, grid: str, odd: int) -> float:
    """The mean slope; ``odd`` is added to each of two doublings' budgets, to leave remainders to
    multi-stage methods."""
    model, start, end, span = mixture_run(PROCESSES[process], 2.0, 0.4)
    errors: list[float] = []
    variable = SOLVERS[solver].variable.name
    budgets = BUDGETS[:3] if odd else BUDGETS if process == "vp" else BUDGETS[1:3]
    for nfe in budgets:
        solution = flowsolve.solve(
            model,
            solver=solver,
            nfe=nfe + odd,
            grid=OWN.get(variable, "uniform") if grid == "own" else grid,
            span=span,
            start=start,
        )
        errors.append(rms(solution.x - end))
    # Plans of thousands of steps are millions of objects, which the garbage collector goes through
    # again and again.
    flowsolve.clear_cache()
    return math.log2(errors[0] / errors[-1]) / (len(budgets) - 1)


@pytest.mark.sweep(keep=12)
@pytest.mark.parametrize(("process", "grid"), COLUMNS)
@pytest.mark.parametrize("solver", DETERMINISTIC)
def test_order(solver, process, grid):
    order, measured = expected(solver, grid), slope(solver, process, grid, 0)
    assert order - 0.25 < measured < order + 0.25
    for row in shown()[2:]:
        if row[0] == f"`{solver}`":
            cell = float(row[2 + COLUMNS.index((process, grid))])
            assert cell == pytest.approx(measured, abs=0.02)  # the last digit: rounding of sums


@pytest.mark.sweep(keep=8)
@pytest.mark.parametrize("odd", [1, 2])
@pytest.mark.parametrize("solver", STAGED)
def test_order_with_a_remainder(solver, odd):
    """Evaluations that make no whole step cost no order; they may raise it, where the leading error
    happens to be small."""
    order = expected(solver, "karras")
    assert order - 0.25 < slope(solver, "vp", "karras", odd) < order + 1.0


@lru_cache(maxsize=1)
def pure_noise_run():
    """The mixture, starts at σ̄ = ∞ on rectified flow, the ODE's ends at σ̄ = 0.3, and the span."""
    process = PROCESSES["rectified_flow"]
    model, span = mixture(process), (1.0, process.at("sigma", 0.3).t)
    start = torch.randn(16, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    tight = {"solver": "scipy:DOP853", "rtol": 1e-11, "atol": 1e-11, "grid": list(span)}
    return model, start, flowsolve.solve(model, start=start, **tight).x, span


@pytest.mark.sweep(keep=0.4)
@pytest.mark.parametrize("solver", DETERMINISTIC)
def test_order_from_pure_noise(solver):
    """σ̄ starts at infinity: on a grid uniform in time the higher orders come down to two, as the
    docs say, and none is lost below.

    Weights of equal steps are wrong there at any number of steps, the levels in σ̄ being as unequal
    as they can be.
    """
    order = 1 if solver in CONSTANT_STEP else min(expected(solver, "own"), 2)
    model, start, end, span = pure_noise_run()
    run = {"grid": "uniform", "span": span, "start": start}
    errors = [
        rms(flowsolve.solve(model, solver=solver, nfe=nfe, **run).x - end) for nfe in (64, 128, 256)
    ]
    assert math.log2(errors[0] / errors[-1]) / 2 > order - 0.35


def test_local_order_of_ddim():
    """One step's error is (√ᾱ_t/2) Δσ̄² dε/dσ̄ to leading order: the slope is two."""
    errors = []
    for k in range(4):
        h = 0.2 / 2**k
        model, start, end, span = mixture_run(PROCESSES["vp"], 1.0, 1.0 - h)
        errors.append(
            rms(flowsolve.solve(model, solver="ddim", grid=list(span), start=start).x - end)
        )
    assert math.log2(errors[0] / errors[-1]) / 3 == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize(
    ("solver", "order"),
    [("torchdiffeq:euler", 1), ("torchdiffeq:midpoint", 2), ("torchdiffeq:rk4", 4)],
)
def test_order_of_fixed_bridges(solver, order):
    model, start, end, span = mixture_run(PROCESSES["edm"], 2.0, 0.4)
    errors = [
        rms(
            flowsolve.solve(model, solver=solver, nfe=nfe, grid="sigma", span=span, start=start).x
            - end
        )
        for nfe in (96, 192, 384)
    ]
    assert math.log2(errors[0] / errors[-1]) / 2 == pytest.approx(order, abs=0.25)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("process", PROCESSES)
def test_gaussian_closed_form(process):
    process = PROCESSES[process]
    model = exact.Gaussian(process, [0.3, -0.2], [[0.5, 0.2], [0.2, 0.3]])
    s, t = process.at("sigma", 5.0), process.at("sigma", 0.05)
    start = model.draw(8, level=s)
    end = model.flow(start, s, t)
    for solver in ("scipy:DOP853", "dopri8"):
        x = flowsolve.solve(
            model, solver=solver, rtol=1e-10, atol=1e-10, grid=[s.t, t.t], start=start
        ).x
        assert (x - end).abs().max() < 1e-8
    run = {"solver": "ddim", "span": (s.t, t.t), "grid": "logsnr", "start": start}
    fine, coarse = (rms(flowsolve.solve(model, nfe=n, **run).x - end) for n in (400, 200))
    assert coarse / fine == pytest.approx(2.0, abs=0.1)


def table() -> str:
    """The README's table."""
    head = ["solver", "order", *(f"{HEAD[process]}, {HEAD[grid]}" for process, grid in COLUMNS)]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    for solver in DETERMINISTIC:
        measured = [f"{slope(solver, process, grid, 0):.2f}" for process, grid in COLUMNS]
        lines.append(f"| {' | '.join((f'`{solver}`', str(SOLVERS[solver].order), *measured))} |")
    return "\n".join(lines)


@lru_cache(maxsize=1)
def shown() -> list[list[str]]:
    """The cells of the table in the README."""
    text = README.read_text().split("<!-- orders:begin -->")[1].split("<!-- orders:end -->")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()
    ]


@pytest.mark.slow
def test_readme_table_has_every_row():
    """Its numbers are looked at where they are measured; a new row is there after ``python
    tests/test_orders.py``."""
    head = ["solver", "order", *(f"{HEAD[process]}, {HEAD[grid]}" for process, grid in COLUMNS)]
    assert shown()[0] == head
    rows = [[f"`{name}`", str(SOLVERS[name].order)] for name in DETERMINISTIC]
    assert [row[:2] for row in shown()[2:]] == rows


if __name__ == "__main__":
    text = README.read_text()
    before, rest = text.split("<!-- orders:begin -->")
    after = rest.split("<!-- orders:end -->")[1]
    README.write_text(f"{before}<!-- orders:begin -->\n{table()}\n<!-- orders:end -->{after}")
    print(table(), file=sys.stderr)
