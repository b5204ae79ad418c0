"""Results that stay what they are: the ends of runs of every solver, and plan files, from before
the package was laid out anew.

``before/ends.npz`` has an end for each (process, solver, grid) that worked then: what has become
refused fails here. ``before/*.json`` are plan files of then.
"""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from problems import F64, elementwise

import flowsolve
from flowsolve.plans import files
from flowsolve.solvers import find_solver

HERE = Path(__file__).parent / "before"
with np.load(HERE / "ends.npz") as _file:
    _columns = (_file["nfe"], _file["ends"])
    ENDS = dict(zip(_file["names"].tolist(), zip(*_columns, strict=True), strict=True))
PROCESSES = {
    "vp": (flowsolve.VP(), "eps", (3,)),
    "edm": (flowsolve.EDM(), "x0", (3,)),
    "rectified_flow": (flowsolve.RectifiedFlow(), "velocity", (3,)),
    "discrete": (flowsolve.VP.discrete(flowsolve.tables.linear()), "v", (3,)),
    "cld": (flowsolve.CLD(), "eps", (2,)),
    "blurring": (flowsolve.Blurring((2, 3)), "eps", (2, 3)),
}
#: Noisy times of the explicit grid; those of the others are quadratic.
TIMES = {
    "discrete": [999.0, 640.0, 360.0, 160.0, 40.0],
    "cld": [1.0, 0.7, 0.4, 0.2, 0.05],
    "blurring": [0.996, 0.7, 0.4, 0.2, 0.05],
}
BUDGETS = {"quadratic": 9, "uniform": 20}


@cache
def setting(name: str) -> tuple[flowsolve.Denoiser, torch.Tensor, list[float]]:
    process, predicts, shape = PROCESSES[name]
    model = flowsolve.Denoiser(elementwise, process, predicts, shape, dtype=F64)
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(2, *model.state_shape, dtype=F64, generator=generator)
    low, high = process.t_min, process.t_max
    times = (low + (high - low) * np.linspace(1, 0, 6)[:-1] ** 2).tolist()
    size = process.prior(process.start).mean_square ** 0.5
    return model, noise * size, TIMES.get(name, times)


def drawn_then(k: int, start: torch.Tensor) -> torch.Tensor:
    """The noise of those runs, which had seed 11: NumPy's normal numbers, in float32."""
    numbers = (
        np.random.Generator(np.random.Philox(key=[11, i], counter=[0, 0, 0, k + 1]))
        for i in range(len(start))
    )
    drawn = [g.standard_normal(tuple(start.shape[1:]), dtype=np.float32) for g in numbers]
    return torch.from_numpy(np.stack(drawn)).to(start)


@pytest.mark.sweep(keep=120)
@pytest.mark.filterwarnings("ignore:Functional iteration did not converge")  # implicit_adams
@pytest.mark.parametrize("case", ENDS)
def test_ends_are_what_they_were(case):
    name, solver, grid = case.split("/")
    model, start, times = setting(name)
    if grid != "explicit":
        how = {"grid": grid, "nfe": BUDGETS[grid]}
    elif find_solver(solver)[0].evaluations is None:
        how = {"grid": [times[2], times[4]]}
    else:
        how = {"grid": [*times, model.process.t_clean]}
    if "adams" in solver:
        how["substeps"] = 30
    draw = partial(drawn_then, start=start)
    solution = flowsolve.solve(model, solver=solver, start=start, noise=draw, **how)
    nfe, end = ENDS[case]
    got, room = solution.x.numpy().ravel(), 1e-10
    if find_solver(solver)[0].evaluations is None:
        room = 0.01  # a rounding, another on another machine, can turn a step's acceptance
    else:
        assert solution.nfe == nfe
    np.testing.assert_allclose(got, end[: got.size], rtol=0, atol=room * np.nanmax(np.abs(end)))


@pytest.mark.parametrize("path", sorted(HERE.glob("*.json")), ids=lambda path: path.stem)
def test_plan_files_of_before_load_to_the_bit(path):
    """Every number; what was called velocity coordinates is called flow."""
    text = path.read_text(encoding="utf-8")
    assert files.dumps(files.loads(text)) == text.replace('"velocity"', '"flow"')
    process = {"flow": "rectified_flow"}.get(path.stem.split("_")[0], path.stem.split("_")[0])
    plan, (model, start, _) = flowsolve.Plan.load(path), setting(process)
    assert flowsolve.sample(model, solver=plan, start=start, seed=0).isfinite().all()
    _, solver = path.stem.split("_")
    grid = "uniform" if solver == "vpc2" or "discrete" in path.stem else None
    assert plan == flowsolve.plan(solver, model.process, nfe=plan.nfe, grid=grid)
