"""The tables of the chapters: measured again, with the problems of the chapters' figures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tables import ROOT, agrees, all_agree, lines_of, rows_of, text_of
from test_latents import rms

import flowsolve
from flowsolve.coordinates import FLOW
from flowsolve.processes import FLOW_TIME
from flowsolve.solvers import Multistep, Polynomial

F64 = torch.float64


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "figures"))


def ends(process: flowsolve.Process, *sigmas: float) -> list[flowsolve.Level]:
    return [process.at("sigma", sigma) for sigma in sigmas]


def between(levels: list[flowsolve.Level], start: torch.Tensor) -> dict[str, Any]:
    """A run from one level to another, in equal steps of log σ̄."""
    return {"grid": "logsnr", "span": (levels[0].t, levels[1].t), "start": start}


@pytest.mark.late
@pytest.mark.usefixtures("figures")
def test_one_step_of_order_one_two_and_three() -> None:
    import learn_order as figure

    weights = ([1.0], [1.5, -0.5], [23 / 12, -16 / 12, 5 / 12])  # of Adams and Bashforth

    def steps(h: float) -> tuple[list[float], float]:
        """How far x̄ is moved from σ̄ = 1.2 by h, by one, two and three points, and in truth."""
        eps = figure.predictions((1.2 + 2 * h, 1.2 + h, 1.2)).flip(0).tolist()
        levels = ends(figure.PROCESS, figure.NOISY, 1.2, 1.2 - h)
        start = torch.tensor([[figure.START]], dtype=F64) * levels[0].A.value
        path = figure.exact(start, levels)
        x = [float(state) / level.A.value for state, level in zip(path, levels, strict=True)]
        slopes = [sum(a * b for a, b in zip(w, eps, strict=False)) for w in weights]
        return [-h * slope for slope in slopes], x[2] - x[1]

    moved, truth = steps(0.4)
    assert (
        f"moves by −{-truth:.3f}. DDIM moves it by −{-moved[0]:.3f}, `ab2` by −{-moved[1]:.3f}, "
        f"and `ab3` by −{-moved[2]:.3f}."
    ) in text_of("learn/order.md")
    for h, cells in rows_of("learn/order.md", "| run | `ddim` | `ab2` | `ab3` |").items():
        moved, truth = steps(float(h))
        assert all_agree(cells, [abs(each - truth) for each in moved])


@pytest.mark.usefixtures("figures")
def test_runs_on_two_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    """In chapter 8 by order; in chapter 9 by coordinates, with the same start and levels."""
    import learn_order as figure

    in_flow = Multistep(Polynomial(2, FLOW, FLOW_TIME))
    monkeypatch.setattr(figure, "SOLVERS", ["ddim", "ab2", "ab3", "etd2", in_flow])
    monkeypatch.setattr(figure, "BUDGETS", (4, 8, 16, 20, 32, 160))
    found = {solver: dict(zip(figure.BUDGETS, errors, strict=True))
             for solver, errors in figure.errors().items()}  # fmt: skip
    few, more = ([found[name][n] for name in ("ddim", "ab2", "ab3")] for n in (4, 20))
    assert (
        f"the errors are {few[0]:.3f}, {few[1]:.3f} and {few[2]:.3f}. "
        f"With 20 they are {more[0]:.3f}, {more[1]:.4f} and {more[2]:.4f}."
    ) in text_of("learn/order.md")
    assert found["ddim"][160] / found["ab3"][160] == pytest.approx(300, rel=0.1)
    rows = lines_of("learn/coordinates.md", "| polynomial of | drawn in |")
    for (*_, eight, sixteen, many), solver in zip(
        rows, ("ddim", "ab2", "etd2", in_flow), strict=True
    ):
        assert all_agree([eight, sixteen, many], [found[solver][n] for n in (8, 16, 32)])


@pytest.mark.late
def test_runs_of_the_shipped_network() -> None:
    """A path for each label; chapters 7 and 8."""
    model = flowsolve.digits(torch.arange(10))
    levels = ends(model.process, 20.0, 0.02)
    z = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    run = between(levels, levels[0].R.value * z)
    truth = flowsolve.sample(model, solver="etd3", nfe=400, **run)
    rows = rows_of("learn/order.md", "| evaluations | 5 | 10 | 20 | 40 |")
    for solver, cells in rows.items():
        found = [
            rms(flowsolve.sample(model, solver=solver.strip("`"), nfe=nfe, **run) - truth)
            for nfe in (5, 10, 20, 40)
        ]
        assert all_agree(cells, found), solver
        if solver == "`ddim`":
            row = rows_of("learn/few.md", "| evaluations | 5 | 10 | 20 | 40 |")["digits' network"]
            assert all_agree(row, found)


@pytest.mark.usefixtures("figures")
def test_few_steps_for_three_laws() -> None:
    import learn_few as figure

    rows = rows_of("learn/few.md", "| evaluations | 5 | 10 | 20 | 40 |")
    for name, row in (
        ("one point", "one point"),
        ("a Gaussian", "a Gaussian"),
        ("two narrow Gaussians", "two clusters"),
    ):
        model, levels = figure.LAWS[name], ends(figure.PROCESS, 20.0, 0.02)
        run = between(levels, model.draw(1000, level=levels[0], seed=0))
        truth = flowsolve.sample(model, solver="ab4", nfe=1000, **run)
        found = [
            rms(flowsolve.sample(model, solver="ddim", nfe=nfe, **run) - truth)
            for nfe in (5, 10, 20, 40)
        ]
        assert max(found) < 1e-12 if rows[row] == ["0"] * 4 else all_agree(rows[row], found)


@pytest.mark.usefixtures("figures")
def test_one_step_down_to_half_the_noise() -> None:
    import learn_few as figure

    model = figure.LAWS["two narrow Gaussians"]
    head = "| from → to | 20 → 10 | 4 → 2 | 1 → 0.5 | 0.25 → 0.125 | 0.1 → 0.05 |"
    length, change, error = rows_of("learn/few.md", head).values()
    for k, high in enumerate((20.0, 4.0, 1.0, 0.25, 0.1)):
        levels = ends(figure.PROCESS, high, high / 2)
        start = model.draw(2000, level=levels[0], seed=0)
        run = between(levels, start)
        truth = flowsolve.sample(model, solver="rk4", nfe=200, **run)
        step = flowsolve.sample(model, solver="ddim", nfe=1, **run)
        moved = rms(model(truth, levels[1]).eps - model(start, levels[0]).eps)
        assert float(length[k]) == high / 2 and agrees(change[k], moved)
        assert agrees(error[k], rms(step - truth) / levels[1].A.value)


def test_errors_on_matrices_are_those_of_their_page() -> None:
    """Chapter 11 has some rows and columns of a table that tests/test_gddim_page.py holds."""
    full = rows_of("gddim.md", "| rms error of the positions after |")
    rows = lines_of("learn/matrices.md", "| rms error of the positions after |")
    for (_, *cells), name in zip(rows, ("Cholesky factor", "heun", "ddim", "unipc3"), strict=True):
        assert [float(cell) for cell in cells] == [float(full[name][k]) for k in (0, 2)]
