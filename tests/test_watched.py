"""Runs that are watched: what a callback is told after each step, and where it may stop a run."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from problems import F64, PROCESSES, Tanh, elementwise, mixture

import flowsolve
from flowsolve import exact

ADAMS = "torchdiffeq:explicit_adams"
ADAPTIVE = ["dopri5", "scipy:RK45", "adaptive", ADAMS]
TOLERANCES = {"rtol": 1e-4, "atol": 1e-4}


def watched(model, **arguments):
    """A run, and what its callback was told."""
    told = []
    return flowsolve.solve(model, callback=told.append, **arguments), told


@pytest.mark.parametrize("grid", [None, [1.0, 0.6, 0.1, 0.0]])
@pytest.mark.parametrize("solver", ADAPTIVE)
def test_adaptive_runs_tell_of_every_accepted_step_and_stop_there(solver, grid):
    """Going on from where a run was stopped, each sample from its own level, gives its end."""
    process = PROCESSES["rectified_flow"]
    model = exact.Gaussian(process, torch.tensor([1.0, -2.0], dtype=F64), 0.3)
    start = torch.randn(3, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    kept = {"solver": solver, "grid": grid, "start": start, "keep": "path", **TOLERANCES}
    whole, told = watched(model, **kept)
    assert [state.step for state in told] == list(range(1, len(told) + 1))
    assert all(a.nfe <= b.nfe and a.level.t >= b.level.t for a, b in pairwise(told))
    assert len(told) > len(whole.grid) and told[-1].level.clean and not whole.stopped
    if grid is not None:
        assert [level.t for level in whole.grid] == grid and len(whole.path) == 4
    for step in (1, len(told) // 2, len(told) - 1):
        part = flowsolve.solve(model, callback=lambda state, k=step: state.step == k, **kept)
        assert part.stopped and part.nfe == told[step - 1].nfe < whole.nfe
        assert torch.equal(part.x, told[step - 1].x) and torch.equal(part.path[-1], part.x)
        assert len(part.path) == len(part.grid) and part.grid[-1].t == told[step - 1].level.t
        each = part.grid[-1].each
        for i, level in enumerate(each if len(each) > 1 else each * 3):
            if level.clean or solver == ADAMS:  # which does not keep to a tolerance
                continue
            rest = flowsolve.sample(
                model,
                solver="dopri5",
                start=part.x[i : i + 1],
                span=(level.t, None),
                rtol=1e-8,
                atol=1e-8,
            )
            assert (rest - whole.x[i]).abs().max() < 3e-3


def test_every_sample_tells_its_own_level():
    _, told = watched(
        mixture(PROCESSES["vp"]), solver="adaptive", n=5, seed=0, rtol=1e-3, atol=1e-3
    )
    levels = [state.level for state in told if len(state.level.each) > 1]
    assert any(len({level.t for level in one.each}) > 2 for one in levels)
    assert all(len(one.each) == 5 for one in levels)


@pytest.mark.parametrize("answer", [True, np.True_, 1, torch.tensor(True), torch.ones(1), "stop"])
@pytest.mark.parametrize("solver", ["ddim", "torchdiffeq:rk4", "dopri5", "adaptive"])
def test_whatever_is_true_stops(solver, answer):
    model = mixture(PROCESSES["edm"])
    part = flowsolve.solve(model, solver=solver, n=2, seed=0, callback=lambda state: answer)
    assert part.stopped and part.nfe < 20
    for no in (None, False, 0, np.False_, torch.zeros(1)):
        assert not flowsolve.solve(model, nfe=3, n=2, seed=0, callback=lambda s, no=no: no).stopped


def test_what_is_neither_true_nor_false_is_refused():
    model = mixture(PROCESSES["edm"])
    for answer in (torch.ones(2), np.ones(2)):
        with pytest.raises(
            TypeError, match=r"callback returned .*: expected something that is true"
        ):
            flowsolve.solve(model, nfe=3, n=2, seed=0, callback=lambda state, a=answer: a)


@pytest.mark.parametrize("solver", ["ddim", "auto", "ddpm", "rk4", "torchdiffeq:rk4", *ADAPTIVE])
def test_a_callback_is_given_a_copy(solver):
    def spoil(state):
        state.x.fill_(float("nan"))

    for model in (
        mixture(PROCESSES["vp"]),
        flowsolve.digits(process="blurring") if solver in ("ddim", "rk4") else None,
    ):
        if model is None:
            continue
        kept = {"solver": solver, "n": 2, "seed": 0, "keep": "path"}
        plain, spoilt = (flowsolve.solve(model, callback=f, **kept) for f in (None, spoil))
        assert torch.equal(plain.x, spoilt.x) and torch.equal(plain.path, spoilt.path)


@pytest.mark.late
@pytest.mark.parametrize("solver", ["dopri5", "adaptive"])
def test_a_run_that_gets_nowhere_ends_by_itself(solver):
    """The cap is of runs that name none."""
    calls = []

    def rough(x, t):
        calls.append(len(x))
        return torch.sin(2e5 * x)

    model = flowsolve.Denoiser(rough, PROCESSES["rectified_flow"], "velocity", (1,))
    for nfe in (None, 60):
        calls.clear()
        with pytest.raises(flowsolve.BudgetExceeded) as caught:
            flowsolve.sample(model, solver=solver, n=4, seed=0, nfe=nfe)
        error = caught.value
        assert error.nfe == len(calls) == (nfe or 5000)
        assert error.x.isfinite().all() and 0.0 < error.level.t <= 1.0
        assert f"nfe={error.nfe} evaluations were spent at level" in str(error)
        assert "Give a larger nfe= (without one it is 5000) or larger rtol= and atol=" in str(error)


@pytest.mark.parametrize("nfe", [10_001, 10**7, 2**70])
def test_budgets_that_would_be_laid_out_for_minutes_are_refused(nfe):
    model = flowsolve.Denoiser(elementwise, PROCESSES["vp"], "eps", (2,))
    for solver in ("ddim", "auto", "torchdiffeq:rk4"):
        with pytest.raises(ValueError, match=f"nfe={nfe}: expected at most 10000"):
            flowsolve.sample(model, solver=solver, nfe=nfe)
    with pytest.raises(ValueError, match="grid: 10002 times; expected at most 10001"):
        flowsolve.sample(model, grid=[k / 10001 for k in range(10001, -1, -1)])
    assert flowsolve.sample(model, solver="dopri5", nfe=nfe).shape == (1, 2)  # there it is a cap


@pytest.mark.parametrize("solver", ["dopri5", "adaptive", "torchdiffeq:explicit_adams"])
def test_gradients_of_a_run_that_was_stopped(solver):
    torch.manual_seed(0)
    model = flowsolve.Denoiser(
        Tanh(torch.nn.Linear(2, 2).double()).eval(), PROCESSES["edm"], "eps", (2,)
    )
    start = torch.randn(1, 2, dtype=F64, requires_grad=True)
    kept = {"solver": solver, "span": (2.0, 0.1), "rtol": 1e-9, "atol": 1e-9}
    part = flowsolve.solve(
        model, start=start, callback=lambda state: state.step == 3, differentiable=True, **kept
    )
    (gradient,) = torch.autograd.grad(part.x.square().sum(), start)
    level = part.grid[-1]
    assert part.stopped
    grid = torch.linspace(2.0, level.t, 9).tolist()
    x = flowsolve.solve(
        model, solver="rk4", start=start, grid=[*grid[:-1], level.t], differentiable=True
    ).x
    (other,) = torch.autograd.grad(x.square().sum(), start)
    torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-5)
