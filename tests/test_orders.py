"""Orders of convergence, measured through ``solve(nfe=...)`` as a user calls it.

The error is the L2 error of the endpoint on a Gaussian mixture against DOP853, from σ̄ = 2 to σ̄ = 0.4, over one to four
doublings of the evaluations. The grids: uniform in the solver's own variable, and Karras. The table in README.md is what
``python tests/test_orders.py`` prints; a test holds the two together.
"""

import math
import sys
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from problems import DETERMINISTIC, PROCESSES, mixture, mixture_run, rms

import flowsolve
from flowsolve.run import layout

GRIDS = ("own", "karras")
#: The grid that is uniform in a variable.
OWN = {"sigma": "sigma", "lambda": "logsnr", "t": "uniform", "flow_time": flowsolve.grids.Shifted(1.0)}
README = Path(__file__).parents[1] / "README.md"
#: Doublings of nfe, chosen so that the finest error stays above rounding and the coarsest is asymptotic. Four on VP; one on EDM and
#: rectified flow, where most plans are the same numbers in x̄; two with remainders.
BUDGETS = (96, 192, 384, 768, 1536)
STAGED = [row.name for row in flowsolve.solvers() if row.name in DETERMINISTIC and row.solver.evaluations > 1]
COLUMNS = [(process, grid) for process in ("vp", "edm", "rectified_flow") for grid in GRIDS]


#: Rows whose weights are those of equal steps: on a smooth grid of unequal ones they are of order two.
CONSTANT_STEP = [row.name for row in flowsolve.solvers() if getattr(row.solver, "weights", None) == "constant_step"]


def expected(solver: str, grid: str) -> int:
    order = dict((row.name, row.solver.order) for row in flowsolve.solvers())[solver]
    return min(order, 2) if solver in CONSTANT_STEP and grid != "own" else order


@lru_cache(maxsize=1024)
def slope(solver: str, process: str, grid: str, odd: int) -> float:
    """The mean slope; ``odd`` is added to each of two doublings' budgets, to leave remainders to multi-stage methods."""
    model, start, end, span = mixture_run(PROCESSES[process], 2.0, 0.4)
    errors: list[float] = []
    variable = dict((row.name, row.solver.variable) for row in flowsolve.solvers())[solver].name
    budgets = BUDGETS[:3] if odd else BUDGETS if process == "vp" else BUDGETS[1:3]
    for nfe in budgets:
        solution = flowsolve.solve(
            model, solver=solver, nfe=nfe + odd, grid=OWN[variable] if grid == "own" else grid, span=span, start=start
        )
        errors.append(rms(solution.x - end))
    layout.cache_clear()  # plans of thousands of steps are millions of objects, which the garbage collector goes through again and again
    return math.log2(errors[0] / errors[-1]) / (len(budgets) - 1)


@pytest.mark.parametrize(("process", "grid"), COLUMNS)
@pytest.mark.parametrize("solver", DETERMINISTIC)
def test_order(solver, process, grid):
    order = expected(solver, grid)
    assert order - 0.25 < slope(solver, process, grid, 0) < order + 0.25


@pytest.mark.parametrize("odd", [1, 2])
@pytest.mark.parametrize("solver", STAGED)
def test_order_with_a_remainder(solver, odd):
    """Evaluations that make no whole step cost no order; they may raise it, where the leading error happens to be small."""
    order = expected(solver, "karras")
    assert order - 0.25 < slope(solver, "vp", "karras", odd) < order + 1.0


@pytest.mark.parametrize("solver", DETERMINISTIC)
def test_order_from_pure_noise(solver):
    """σ̄ starts at infinity: on a grid uniform in time the higher orders come down to two, as the docs say, and none is lost below.

    Weights of equal steps are wrong there at any number of steps, the levels in σ̄ being as unequal as they can be.
    """
    order = 1 if solver in CONSTANT_STEP else min(expected(solver, "own"), 2)
    process, errors = PROCESSES["rectified_flow"], []
    _, _, _, (_, quiet) = mixture_run(process, 3.0, 0.3)
    model, start = mixture(process), torch.randn(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    end = flowsolve.solve(model, solver="scipy:DOP853", rtol=1e-11, atol=1e-11, grid=[1.0, quiet], start=start).x
    for nfe in (64, 128, 256):
        errors.append(rms(flowsolve.solve(model, solver=solver, nfe=nfe, grid="uniform", span=(1.0, quiet), start=start).x - end))
    assert math.log2(errors[0] / errors[-1]) / 2 > order - 0.35


def test_local_order_of_ddim():
    """One step's error is (√ᾱ_t/2) Δσ̄² dε/dσ̄ to leading order: the slope is two."""
    errors = []
    for k in range(4):
        h = 0.2 / 2**k
        model, start, end, span = mixture_run(PROCESSES["vp"], 1.0, 1.0 - h)
        errors.append(rms(flowsolve.solve(model, solver="ddim", grid=list(span), start=start).x - end))
    assert math.log2(errors[0] / errors[-1]) / 3 == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize(("solver", "order"), [("torchdiffeq:euler", 1), ("torchdiffeq:midpoint", 2), ("torchdiffeq:rk4", 4)])
def test_order_of_fixed_bridges(solver, order):
    model, start, end, span = mixture_run(PROCESSES["edm"], 2.0, 0.4)
    errors = [rms(flowsolve.solve(model, solver=solver, nfe=nfe, grid="sigma", span=span, start=start).x - end) for nfe in (96, 192, 384)]
    assert math.log2(errors[0] / errors[-1]) / 2 == pytest.approx(order, abs=0.25)


def test_gaussian_closed_form():
    from flowsolve import exact

    for process in PROCESSES.values():
        model = exact.Gaussian(process, [0.3, -0.2], [[0.5, 0.2], [0.2, 0.3]])
        s, t = process.at("sigma", 5.0), process.at("sigma", 0.05)
        start = model.draw(8, level=s)
        end = model.flow(start, s, t)
        for solver, tolerance in (("scipy:DOP853", 1e-8), ("dopri8", 1e-8)):
            x = flowsolve.solve(model, solver=solver, rtol=1e-10, atol=1e-10, grid=[s.t, t.t], start=start).x
            assert (x - end).abs().max() < tolerance
        fine, coarse = (
            rms(flowsolve.solve(model, solver="ddim", nfe=n, span=(s.t, t.t), grid="logsnr", start=start).x - end) for n in (400, 200)
        )
        assert coarse / fine == pytest.approx(2.0, abs=0.1)


def table() -> str:
    """The README's table."""
    names = {"vp": "VP", "edm": "EDM", "rectified_flow": "flow", "own": "uniform", "karras": "Karras"}
    head = ["solver", "order", *(f"{names[process]}, {names[grid]}" for process, grid in COLUMNS)]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    orders = {row.name: row.solver.order for row in flowsolve.solvers()}
    for solver in DETERMINISTIC:
        measured = [f"{slope(solver, process, grid, 0):.2f}" for process, grid in COLUMNS]
        lines.append(f"| {' | '.join((f'`{solver}`', str(orders[solver]), *measured))} |")
    return "\n".join(lines)


def test_readme_table_is_what_is_measured():
    def parse(text: str) -> list[list[str]]:
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()]

    shown = parse(README.read_text().split("<!-- orders:begin -->")[1].split("<!-- orders:end -->")[0])
    measured = parse(table())
    assert [row[:2] for row in shown] == [row[:2] for row in measured] and shown[0] == measured[0]
    for a, b in zip(shown[2:], measured[2:], strict=True):
        assert [float(c) for c in a[2:]] == pytest.approx([float(c) for c in b[2:]], abs=0.02)  # last digit: rounding of sums


if __name__ == "__main__":
    text = README.read_text()
    before, rest = text.split("<!-- orders:begin -->")
    after = rest.split("<!-- orders:end -->")[1]
    README.write_text(f"{before}<!-- orders:begin -->\n{table()}\n<!-- orders:end -->{after}")
    print(table(), file=sys.stderr)
