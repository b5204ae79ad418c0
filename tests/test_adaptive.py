"""torchdiffeq and scipy on dx̄ = ε̂ dσ̄."""

import pytest
import torch
from problems import F64, PROCESSES, Tanh, elementwise, mixture, mixture_run, rms

import flowsolve
from flowsolve import exact

TORCHDIFFEQ = ["dopri5", "dopri8", "bosh3", "adaptive_heun", "fehlberg2"]
SCIPY = ["scipy:RK23", "scipy:RK45", "scipy:DOP853", "scipy:LSODA", "scipy:Radau", "scipy:BDF"]


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("solver", [*TORCHDIFFEQ, *SCIPY])
def test_error_follows_the_tolerance(solver):
    """Global error within three orders of magnitude of the local tolerance, where that is small,
    and falling with it."""
    model, start, end, span = mixture_run(PROCESSES["vp"], 3.0, 0.1)
    errors, spent = [], []
    for tolerance in (1e-5, 1e-7):
        solution = flowsolve.solve(
            model, solver=solver, rtol=tolerance, atol=tolerance, grid=list(span), start=start
        )
        errors.append(rms(solution.x - end))
        spent.append(solution.nfe)
        assert errors[-1] < 1000 * tolerance
    assert errors[1] < errors[0] / 5 and spent[1] > spent[0]


@pytest.mark.parametrize("solver", [*TORCHDIFFEQ, *SCIPY])
@pytest.mark.parametrize("process", ["rectified_flow", "edm", "ve", "zero_terminal_snr"])
def test_from_pure_noise_to_clean_data(solver, process):
    point = torch.tensor([0.3, -1.2], dtype=F64)
    model = exact.Dirac(PROCESSES[process], point)
    solution = flowsolve.solve(model, solver=solver, n=2, seed=0)
    torch.testing.assert_close(solution.x, point.expand(2, 2), rtol=0, atol=1e-3)
    assert solution.grid[-1].clean and solution.grid[-2].t == pytest.approx(
        PROCESSES[process].t_min
    )


@pytest.mark.parametrize("solver", ["dopri5", "bosh3", "scipy:RK45", "scipy:BDF"])
def test_budget_exceeded_carries_what_was_reached(solver):
    model = mixture(PROCESSES["vp"])
    with pytest.raises(
        flowsolve.BudgetExceeded, match="nfe=30 evaluations were spent at level t=0"
    ) as caught:
        flowsolve.solve(model, solver=solver, rtol=1e-8, atol=1e-8, nfe=30, n=3, seed=0)
    error = caught.value
    assert error.nfe == 30 and error.x.shape == (3, 2) and torch.isfinite(error.x).all()
    assert 0 < error.level.t < 1
    # The state is a point of the run: going on from it gives the run's result.
    whole = flowsolve.sample(model, solver="scipy:DOP853", rtol=1e-9, atol=1e-9, n=3, seed=0)
    rest = flowsolve.sample(
        model,
        solver="scipy:DOP853",
        rtol=1e-9,
        atol=1e-9,
        start=error.x,
        span=(error.level.t, None),
    )
    assert rms(whole - rest) < 1e-4


def test_path_on_the_callers_times():
    model, start, _, _ = mixture_run(PROCESSES["vp"], 3.0, 0.1)
    process = PROCESSES["vp"]
    times = [process.at("sigma", c).t for c in (3.0, 1.0, 0.3, 0.1)]
    solution = flowsolve.solve(
        model, solver="dopri5", rtol=1e-9, atol=1e-9, grid=times, start=start, keep="path"
    )
    assert (
        solution.path.shape == (4, *start.shape) and [level.t for level in solution.grid] == times
    )
    other = flowsolve.solve(
        model, solver="scipy:DOP853", rtol=1e-10, atol=1e-10, grid=times[:3], start=start
    ).x
    assert rms(solution.path[2] - other) < 1e-6
    with pytest.raises(ValueError, match="chooses its own steps"):
        flowsolve.solve(model, solver="dopri5", grid="karras", start=start)


def test_gradients_through_the_adjoint():
    net = torch.nn.Linear(2, 2).double()
    model = flowsolve.Denoiser(Tanh(net).eval(), PROCESSES["edm"], "eps", (2,))
    start = torch.randn(3, 2, dtype=F64, requires_grad=True)
    gradients = []
    for solver, options in (("dopri5", {"rtol": 1e-10, "atol": 1e-10}), ("rk4", {"nfe": 400})):
        net.zero_grad()
        x = flowsolve.solve(
            model,
            solver=solver,
            start=start,
            span=(2.0, 0.1),
            grid=None,
            differentiable=True,
            **options,
        ).x
        (g,) = torch.autograd.grad(x.square().sum(), start, retain_graph=True)
        x.square().sum().backward()
        gradients.append((g, net.weight.grad.clone()))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)
    with pytest.raises(ValueError, match="no gradients"):
        flowsolve.solve(model, solver="scipy:RK45", start=start, differentiable=True)


FIXED_STEPS = ["euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams", "implicit_adams"]


@pytest.mark.parametrize("method", FIXED_STEPS)
def test_gradients_of_fixed_steps_are_those_of_the_steps(method):
    """By finite differences: the adjoint, with as few steps, is another number."""
    torch.manual_seed(0)
    net = torch.nn.Linear(2, 2).double()
    model = flowsolve.Denoiser(Tanh(net).eval(), PROCESSES["edm"], "eps", (2,))
    start = torch.randn(2, 2, dtype=F64, requires_grad=True)
    kept = {"solver": f"torchdiffeq:{method}", "grid": [3.0, 1.0, 0.3, 0.0]}
    if "adams" in method:
        kept["substeps"] = 3

    def loss(x, differentiable=False):
        return (
            flowsolve.sample(model, start=x, differentiable=differentiable, **kept).square().sum()
        )

    gradient, by_weight = torch.autograd.grad(loss(start, True), (start, net.weight))
    for x, along, got in (
        (start, torch.randn(2, 2, dtype=F64), gradient),
        (net.weight, torch.randn(2, 2, dtype=F64), by_weight),
    ):
        ends = []
        with torch.no_grad():
            for h in (1e-5, -2e-5):
                x += h * along
                ends.append(loss(start.detach()))
            x += 1e-5 * along
        assert float((got * along).sum()) == pytest.approx(
            float(ends[0] - ends[1]) / 2e-5, rel=1e-6
        )
    if method == "euler":  # which is DDIM on the same grid
        plan = flowsolve.sample(
            model, solver="ddim", start=start, grid=kept["grid"], differentiable=True
        )
        (other,) = torch.autograd.grad(plan.square().sum(), start)
        torch.testing.assert_close(gradient, other)


def test_float32_states_and_options():
    model = flowsolve.Denoiser(elementwise, PROCESSES["vp"], "eps", (3,))
    for solver in ("dopri5", "scipy:RK45", "torchdiffeq:implicit_adams"):
        assert (
            flowsolve.sample(
                model, solver=solver, n=2, seed=0, span=(0.2, None), rtol=1e-3, atol=1e-3
            ).dtype
            == torch.float32
        )
    for name, value in (("rtol", 0.0), ("atol", -1.0), ("rtol", float("nan"))):
        with pytest.raises(ValueError, match=f"{name}="):
            flowsolve.sample(model, solver="dopri5", **{name: value})
    with pytest.raises(ValueError, match="substeps=0"):
        flowsolve.sample(model, solver="torchdiffeq:explicit_adams", substeps=0)
    with pytest.raises(TypeError, match="option='substeps'"):
        flowsolve.sample(model, solver="dopri5", substeps=3)
    with pytest.raises(ValueError, match="Did you mean 'dopri5'"):
        flowsolve.solvers.TorchDiffEq("dopri55")
