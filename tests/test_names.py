"""Names from other tools stand for a solver and a grid."""

import pytest
import torch
from problems import PROCESSES, elementwise

import flowsolve
from flowsolve.solvers import aliases as names


@pytest.mark.parametrize(
    ("name", "solver", "grid"),
    [
        ("DPM++ 2M Karras", "dpmpp2m", "karras"),
        ("dpm++ 2m karras", "dpmpp2m", "karras"),
        ("DPM++ 2M", "dpmpp2m", None),
        ("Euler a", "ddpm", None),
        ("DPM++ 2M SDE Exponential", "dpmpp2m_sde", "logsnr"),
        ("UniPC SGM Uniform", "unipc2", "trailing"),
        ("DPM fast", "dpm3", "logsnr"),
        ("DPMSolverMultistepScheduler", "dpmpp2m", "dpm_linspace"),
        ("PNDMScheduler", "pndm", "leading"),
    ],
)
def test_a_name_is_a_solver_and_a_grid(name, solver, grid):
    for process in ("vp", "discrete", "edm"):
        model = flowsolve.Denoiser(elementwise, PROCESSES[process], "eps", (3,))
        arguments = {"nfe": 9, "n": 2, "seed": 0}
        expected = flowsolve.solve(model, solver=solver, grid=grid, **arguments)
        got = flowsolve.solve(model, solver=name, **arguments)
        assert torch.equal(got.x, expected.x) and got.grid == expected.grid
        own = flowsolve.solve(model, solver=name, grid="sigma", **arguments)
        assert own.grid == flowsolve.solve(model, solver=solver, grid="sigma", **arguments).grid, (
            "the caller's grid comes first"
        )


@pytest.mark.parametrize("name", [*names.LABELS, *names.CLASSES, *names.FUNCTIONS])
def test_every_name_runs(name):
    model = flowsolve.Denoiser(elementwise, PROCESSES["discrete"], "eps", (3,))
    budget = {} if name == "DPM adaptive" else {"nfe": 8}
    assert torch.isfinite(flowsolve.sample(model, solver=name, seed=0, **budget)).all()


def test_names_have_options_and_are_in_the_table():
    model = flowsolve.Denoiser(elementwise, PROCESSES["vp"], "eps", (3,))
    a, b = (flowsolve.sample(model, solver=s, eta=0.4, nfe=6, seed=0) for s in ("Euler a", "ddim"))
    assert torch.equal(a, b)
    elsewhere = {name for row in flowsolve.solver_table() for name in row.elsewhere}
    for name, meant in (
        *names.LABELS.items(),
        *names.FUNCTIONS.items(),
        *((name, pair[0]) for name, pair in names.CLASSES.items()),
    ):
        assert name in elsewhere or not isinstance(meant, str), name
    row = next(row for row in flowsolve.solver_table() if row.name == "dpmpp2m")
    assert {"DPM++ 2M", "dpmpp_2m", "DPMSolverMultistepScheduler"} <= set(row.elsewhere)


@pytest.mark.parametrize("width", [80, 120, 1000])
def test_the_table_fits_the_terminal(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    table = flowsolve.solver_table()
    lines = str(table).splitlines()
    assert len(lines) == len(table) + 1 and max(map(len, lines)) <= width
    for row, line in zip(table, lines[1:], strict=True):
        assert line.split()[:2] == [row.name, str(row.solver.order)]
        assert width < 1000 or (row.source in line and all(name in line for name in row.elsewhere))


def test_a_slip_gets_the_nearest_name():
    for slip, near in (
        ("dpm++ 2m karas", "DPM++ 2M Karras"),
        ("Euler b", "Euler a"),
        ("UniPCMultistepSchedular", "UniPCMultistepScheduler"),
    ):
        with pytest.raises(ValueError, match="Did you mean") as caught:
            flowsolve.solvers.find_solver(slip)[0]
        assert f"Did you mean {near!r}?" in str(caught.value)
