"""Plans: traced once, folded for the model, equal where the methods are."""

import pytest
import torch
from mpmath import mp, mpf
from problems import F64, PROCESSES, elementwise, mixture

import flowsolve
from flowsolve.coordinates import DATA, NOISE, VELOCITY
from flowsolve.denoiser import PREDICTIONS
from flowsolve.flow import drive
from flowsolve.plans import Combine, Plan
from flowsolve.processes import LAMBDA
from flowsolve.run import _LiveDoor, _Record, layout
from flowsolve.solvers import DDIM
from flowsolve.solvers.multistep import weights

SOLVERS = ["ddim", "ddpm", "ddpm_large", "heun", "rk4", "ab2", "ab4"]


@pytest.mark.parametrize("predicts", PREDICTIONS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_plan_does_what_the_steps_do(solver, predicts):
    """The same legs driven on tensors, one evaluation and one step at a time."""
    process = PROCESSES["vp"]
    model = flowsolve.Denoiser(elementwise, process, predicts, (3,), dtype=F64)
    start, z = torch.randn(2, 3, dtype=F64), torch.randn(20, 2, 3, dtype=F64)
    for nfe in (1, 2, 13):
        solution = flowsolve.solve(model, solver=solver, nfe=nfe, start=start, noise=z, keep=("path", "x0"))
        run = layout(flowsolve.solvers.resolve(solver, {}), process, None, nfe, (None, None))
        record = _Record(frozenset({"path", "x0"}), None, None)
        with torch.no_grad():
            x = drive(run.legs, _LiveDoor(model, record, lambda k: z[k], None, start, run.levels[0]), start)
        torch.testing.assert_close(solution.x, x, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(solution.path[1:], torch.stack(record.path), rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(solution.x0_path, torch.stack(record.x0), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("predicts", PREDICTIONS)
def test_the_end_is_the_last_x0_whatever_is_predicted(predicts):
    """A DDIM loop written by hand, with the prediction taken apart by hand."""
    process = PROCESSES["vp"]
    model = flowsolve.Denoiser(elementwise, process, predicts, (3,), dtype=F64)
    x = torch.randn(2, 3, dtype=F64)
    solution = flowsolve.solve(model, solver="ddim", nfe=5, start=x)
    for s, t in zip(solution.grid, solution.grid[1:], strict=False):
        x0, eps = model(x, s)
        torch.testing.assert_close(s.A @ x0 + s.R @ eps, x, rtol=1e-9, atol=1e-11)
        x = t.A @ x0 + t.R @ eps
    torch.testing.assert_close(solution.x, x, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(solution.x, x0, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("process", PROCESSES)
def test_ddim_is_one_plan_in_all_coordinates(process):
    model = mixture(PROCESSES[process])
    results = [flowsolve.sample(model, solver=DDIM(coordinates=c), nfe=8, n=4, seed=0) for c in (NOISE, DATA, VELOCITY)]
    for other in results[1:]:
        torch.testing.assert_close(results[0], other, rtol=0, atol=1e-11)


def test_a_ddim_step_is_two_terms():
    run = layout(DDIM(), PROCESSES["vp"], None, 20, (None, None))
    assert isinstance(run.plan, Plan) and run.plan.nfe == 20 and run.plan.draws == 0
    assert all(len(i.terms) <= 2 for i in run.plan.program if isinstance(i, Combine))
    assert layout(DDIM(), PROCESSES["vp"], None, 20, (None, None)) is run, "laid out once"


def test_start_is_not_modified():
    model = flowsolve.Denoiser(elementwise, PROCESSES["vp"], "eps", (3,))
    start = torch.randn(2, 3)
    kept = start.clone()
    for solver in SOLVERS:
        flowsolve.solve(model, solver=solver, nfe=7, start=start)
    assert torch.equal(start, kept)


@pytest.mark.parametrize("process", PROCESSES)
def test_a_prediction_is_the_same_in_all_coordinates(process):
    process = PROCESSES[process]
    level = process.at("sigma", 0.7)
    x0, eps = torch.randn(5, dtype=F64), torch.randn(5, dtype=F64)
    x = level.A @ x0 + level.R @ eps
    for a in (NOISE, DATA, VELOCITY):
        for b in (NOISE, DATA, VELOCITY):
            on_x, on_p = a.convert(b, level)
            converted = on_x @ x + on_p @ (a.p_of[0] * x0 + a.p_of[1] * eps)
            torch.testing.assert_close(converted, b.p_of[0] * x0 + b.p_of[1] * eps, rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_exponential_adams_weights_against_mpmath(order):
    """C_j = R_t ∫ ℓ_j(λ) d(e^λ) for scattered nodes, by adaptive quadrature in 30 digits."""
    process = PROCESSES["vp"]
    nodes = [process.at("sigma", s) for s in (1.0, 1.7, 2.0, 4.5)[:order]]
    t = process.at("sigma", 0.4)
    got = weights(process, DATA, LAMBDA, nodes, nodes[0], t)
    with mp.workdps(30):
        places = [mpf(n.lam) for n in nodes]
        for j, c in enumerate(got):

            def integrand(u, j=j):
                return mp.exp(u) * mp.fprod((u - p) / (places[j] - p) for k, p in enumerate(places) if k != j)

            exact = mpf(t.R.value) * mp.quad(integrand, [places[0], mpf(t.lam)])
            assert c.value == pytest.approx(float(exact), rel=1e-11, abs=1e-13)


def test_flow_euler_is_ddim():
    model = flowsolve.Denoiser(elementwise, PROCESSES["rectified_flow"], "velocity", (3,), dtype=F64)
    a, b = (flowsolve.sample(model, solver=solver, nfe=9, n=2, seed=0) for solver in ("flow_euler", "ddim"))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("process", [flowsolve.VP(beta_max=19.0), flowsolve.CLD(gamma=0.05), flowsolve.Blurring((3, 8), sigma_max=3.0)])
def test_what_is_kept_from_inference_mode_takes_gradients(process):
    """Coefficients are made once; a tensor made in inference mode may not be in a graph later."""
    model = flowsolve.Denoiser(lambda x, t: torch.tanh(x), process, "x0", (2, 3, 8))
    start = torch.randn(2, *model.state_shape, dtype=torch.float64, requires_grad=True)
    with torch.inference_mode():
        plain = flowsolve.sample(model, solver="ab3", nfe=5, start=start)
    x = flowsolve.sample(model, solver="ab3", nfe=5, start=start, differentiable=True)
    (gradient,) = torch.autograd.grad(x.sum(), start)
    assert torch.equal(x, plain) and gradient.isfinite().all() and gradient.any()
