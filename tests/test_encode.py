"""Up and down are one grid and one budget."""

import math

import pytest
import torch
from problems import (
    DETERMINISTIC,
    F64,
    MATRIX_PROCESSES,
    PROCESSES,
    STOCHASTIC,
    WORKING,
    elementwise,
    matrix_mixture,
    mixture,
    rms,
)

import flowsolve
from flowsolve import exact
from flowsolve.checks import check_layout
from flowsolve.processes import Process
from flowsolve.run import Layout

VP = flowsolve.VP()


def upward(process: Process, solver: str, nfe: int | None, grid=None, span=(None, None)) -> Layout:
    return check_layout(process, solver, nfe, grid, span, {}, upward=True)


class Recorder(torch.nn.Module):
    """Which states it is asked at, and at which times."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[float, torch.Tensor]] = []

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.seen.append((float(t[0]), x.clone()))
        return elementwise(x, t)


def recorded(process: Process) -> tuple[Recorder, flowsolve.Denoiser]:
    net = Recorder().eval()
    return net, flowsolve.Denoiser(net, process, "eps", (3,), dtype=F64, time="t")


@pytest.mark.sweep(keep=24)
@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("solver", [*DETERMINISTIC, "auto"])
def test_as_many_evaluations_on_the_same_levels(solver, process):
    process = PROCESSES[process]
    for nfe in (2, 3, 5, 10, 11, 13, 20, 41, 60):
        run, down = upward(process, solver, nfe), flowsolve.plan(solver, process, nfe=nfe)
        assert run.levels == down.levels[::-1]
        assert run.plan is not None and run.plan.nfe == nfe == down.nfe


@pytest.mark.sweep(keep=14)
@pytest.mark.parametrize(("name", "solver"), [w for w in WORKING if w[1] in DETERMINISTIC])
def test_where_a_and_r_are_matrices(name, solver):
    for nfe in (2, 11):
        run = upward(MATRIX_PROCESSES[name], solver, nfe)
        assert run.plan is not None and run.plan.nfe == nfe
        assert run.levels == flowsolve.plan(solver, MATRIX_PROCESSES[name], nfe=nfe).levels[::-1]


@pytest.mark.parametrize("solver", ["ddim", "heun", "ab3", "rk4", "auto", "res3s"])
def test_the_network_is_asked_so_often_and_never_twice_at_one_point(solver):
    net, model = recorded(VP)
    x = torch.randn(2, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    for nfe in (4, 11, 20):
        net.seen = []
        flowsolve.encode(model, x, solver=solver, nfe=nfe)
        assert len(net.seen) == nfe
        assert len({(t, y.numpy().tobytes()) for t, y in net.seen}) == nfe
        quiet = flowsolve.plan(solver, model, nfe=nfe).levels[-2]
        t, first = net.seen[0]
        assert t == quiet.t and torch.equal(first, quiet.A @ x)


def test_explicit_grids_and_spans():
    times = [0.9, 0.5, 0.2, 0.05, 0.0]
    for solver, nfe in (("ddim", 4), ("heun", 7), ("rk4", 13)):
        run = upward(VP, solver, None, grid=times)
        assert [level.t for level in run.levels] == times[::-1]
        assert run.plan is not None and run.plan.nfe == flowsolve.plan(solver, VP, grid=times).nfe
        assert run.plan.nfe == nfe
        noisy = upward(VP, solver, None, grid=times[:-1])
        assert noisy.plan is not None and noisy.plan.nfe == nfe - 1
    less = upward(VP, "heun", 6, grid=times)
    assert less.plan is not None and less.plan.nfe == 6
    with pytest.raises(ValueError, match="costs 7 evaluations"):
        upward(VP, "heun", 3, grid=times)
    run = upward(VP, "heun", 12, span=(0.9, 0.1))
    assert run.plan is not None and run.plan.nfe == 12
    assert (run.levels[0].t, run.levels[-1].t) == (0.1, 0.9)


@pytest.mark.parametrize("name", ["vp", "rectified_flow", "edm", "cld", "blurring"])
def test_one_ddim_step_up_from_the_data(name):
    """x_q = A x0 + R ε̂(A x0, q), and then ε̂ is held: by hand."""
    process = {**PROCESSES, **MATRIX_PROCESSES}[name]
    model = mixture(process) if process.scalar else matrix_mixture(name)
    x = model.draw(4, seed=1)
    (top, quiet, _) = levels = flowsolve.plan("ddim", process, nfe=2).levels
    assert levels[-1].clean
    x0 = process.state(x)
    x_q = quiet.A @ x0 + quiet.R @ model(quiet.A @ x0, quiet).eps
    there = model(x_q, quiet)
    z = top.A @ there.x0 + top.R @ there.eps
    torch.testing.assert_close(
        flowsolve.encode(model, x, solver="ddim", nfe=2), z, rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("name", ["vp", "edm", "cosine"])
def test_the_missing_noise_is_no_floor(name):
    """With data as narrow as .1 the noise of the quietest level is what a start on it would miss,
    rms σ_q; one evaluation there finds it."""
    process = PROCESSES[name]
    model = exact.Gaussian(process, [1.0, -0.5], 0.01)
    x = model.draw(32, seed=0)
    for nfe, least in ((40, 3e-2), (80, 1e-2)):
        z = flowsolve.encode(model, x, nfe=nfe)
        back = flowsolve.sample(model, nfe=nfe, start=z)
        assert rms(back - x) < least * 0.1


def test_digits_come_back():
    """auto at n is better than ddim at 8n evaluations, and ddim the better the more it has: held
    out digits, mean square in [−1, 1]."""
    pytest.importorskip("sklearn")
    from flowsolve.models.data import data

    x = data().held_out[:4]
    model = flowsolve.digits().given(label=data().held_out_labels[:4])

    def lost(solver, nfe):
        z = flowsolve.encode(model, x, solver=solver, nfe=nfe)
        return rms(flowsolve.sample(model, solver=solver, nfe=nfe, start=z) - x) ** 2

    ddim = [lost("ddim", nfe) for nfe in (10, 20, 80)]
    assert ddim[0] > ddim[1] > ddim[2]
    assert lost("auto", 10) < ddim[2] and lost("auto", 20) < 1e-5


@pytest.mark.parametrize("solver", STOCHASTIC)
def test_who_draws_noise_is_told_so(solver):
    model = flowsolve.Denoiser(elementwise, VP, "eps", (3,))
    with pytest.raises(ValueError, match=r"draws noise; encoding needs a deterministic solver"):
        flowsolve.encode(model, torch.randn(2, 3), solver=solver, nfe=5)


def test_one_evaluation_is_ddim_s_step_from_the_data_alone():
    process = flowsolve.RectifiedFlow()
    model = exact.Gaussian(process, [0.0, 0.0], 0.5)
    x = model.draw(3, seed=0)
    assert upward(process, "ddim", 1).levels == (process.clean, process.start)
    z = flowsolve.encode(model, x, solver="ddim", nfe=1)  # at pure noise the data say nothing
    torch.testing.assert_close(z, torch.zeros_like(z))
    assert math.isfinite(rms(z))
