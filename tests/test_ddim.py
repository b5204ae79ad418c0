"""DDIM is Euler's method, one point is recovered in one step, and the identities around them."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import F64, PROCESSES, elementwise, mixture, rms

import flowsolve
from flowsolve import exact
from flowsolve.coordinates import DATA, FLOW, NOISE
from flowsolve.parametrizations import Parametrization, Velocity
from flowsolve.plans import Plan, play
from flowsolve.solvers import DDIM
from flowsolve.solvers.budget import steps_of

processes = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
unit = st.floats(0.02, 0.98)


def between(process, u):
    """A level a fraction u of the way up, with noise and signal."""
    return process.level(process.t_min + (process.t_max - process.t_min) * u)


def undefined(process, predicts):
    """A table has no dx/dt (tests/test_velocity.py)."""
    return process.entries and issubclass(Parametrization.known[predicts], Velocity)


@processes
@pytest.mark.parametrize("predicts", Parametrization.known)
@settings(max_examples=10)
@given(u=unit, v=unit, seed=st.integers(0, 1000))
def test_ddim_is_euler_on_the_ode(process, predicts, u, v, seed):
    if abs(u - v) < 1e-3 or undefined(process, predicts):
        return
    s, t = between(process, max(u, v)), between(process, min(u, v))
    model = flowsolve.Denoiser(elementwise, process, predicts, (3,), dtype=F64)
    x = s.R @ torch.randn(2, 3, dtype=F64, generator=torch.Generator().manual_seed(seed))
    got = flowsolve.solve(model, solver="ddim", grid=[s.t, t.t], start=x).x
    # dx̄ = ε̂ dσ̄, x̄ = x / A, written out.
    eps = model(x, s).eps
    euler = t.A.value * (x / s.A.value + (t.sigma - s.sigma) * eps)
    scale = t.A.value * (x.abs().max() / s.A.value + (t.sigma + s.sigma) * eps.abs().max())
    torch.testing.assert_close(got, euler, rtol=0, atol=1e-13 * float(scale) + 1e-13)


@pytest.mark.parametrize("predicts", Parametrization.known)
@processes
@settings(max_examples=10)
@given(
    u=st.floats(0.0, 1.0), nfe=st.integers(1, 3), seed=st.integers(0, 1000), double=st.booleans()
)
def test_a_point_is_recovered_from_any_level(process, predicts, u, nfe, seed, double):
    dtype = F64 if double else torch.float32
    generator = torch.Generator().manual_seed(seed)
    point, start = (
        torch.randn(4, generator=generator, dtype=F64),
        process.t_min + (process.t_max - process.t_min) * u,
    )
    s = process.level(start)
    if (s.pure_noise and predicts in ("eps", "score")) or undefined(process, predicts):
        return
    law = exact.Dirac(process, point)

    def net(x, t, level):
        x0, eps = law(x.double(), level[0])
        linear = model.linear(level[0])
        # Solve the one of the two relations whose coefficient of o is the larger.
        (a, b), target = max(
            ((linear.x0, x0), (linear.eps, eps)), key=lambda pair: abs(pair[0][1].value)
        )
        return (target - a.value * x_in[0].double()) / b.value

    level, x_in = [s], [None]

    class Model(flowsolve.Denoiser):
        def evaluate_both(self, x, at, times=None):
            level[0], x_in[0] = at, x
            return net(x, None, level), None

    model = Model(lambda x, t: x, process, predicts, (4,), dtype=dtype)
    x = (s.R @ torch.randn(3, 4, generator=generator, dtype=F64) + s.A @ point).to(dtype)
    solution = flowsolve.solve(model, solver="ddim", nfe=nfe, span=(start, None), start=x)
    # Rounding of x and of the output is amplified by 1/A at the start, once.
    room = (
        100 * torch.finfo(dtype).eps * (1 + 1 / max(s.A.value, 1e-3) * (1 + float(x.abs().max())))
    )
    if predicts in ("eps", "score"):
        room = 100 * torch.finfo(dtype).eps * (1 + (1 + float(x.abs().max())) / s.A.value)
    torch.testing.assert_close(solution.x.double(), point.expand(3, 4), rtol=0, atol=room)


@processes
@settings(max_examples=10)
@given(u=unit, v=unit)
def test_holding_p_is_the_same_step_in_all_coordinates(process, u, v):
    if abs(u - v) < 1e-3:
        return
    s, t = between(process, max(u, v)), between(process, min(u, v))
    x0, eps = torch.randn(5, dtype=F64), torch.randn(5, dtype=F64)
    x = s.A @ x0 + s.R @ eps
    expected = t.A @ x0 + t.R @ eps
    for c in (NOISE, DATA, FLOW):
        p = c.p_of[0] * x0 + c.p_of[1] * eps
        carry, weight = c.hold(s, t)
        scale = abs(carry.value) * x.abs().max() + abs(weight.value) * p.abs().max()
        torch.testing.assert_close(
            carry @ x + weight @ p, expected, rtol=0, atol=1e-14 * float(scale) + 1e-14
        )


def test_vp_is_ve_in_other_coordinates():
    """Appendix B: x/√ᾱ of the VP flow solves the VE flow with σ = σ̄; score_VE = √ᾱ score_VP."""
    vp, ve = flowsolve.VP(), flowsolve.EDM()
    a, b = mixture(vp), mixture(ve)
    s, t = vp.at("sigma", 8.0), vp.at("sigma", 0.05)
    x = a.draw(8, level=s)
    torch.testing.assert_close(
        b.score(x / s.A.value, s.sigma), s.A.value * a.score(x, s), rtol=1e-10, atol=1e-12
    )
    for solver, options in (
        ("ddim", {}),
        ("ab3", {}),
        ("heun", {}),
        ("scipy:DOP853", {"rtol": 1e-12, "atol": 1e-12}),
    ):
        fixed = not solver.startswith("scipy")
        sigmas = torch.linspace(8.0, 0.05, 41 if fixed else 2, dtype=F64).tolist()
        down = flowsolve.solve(
            a, solver=solver, grid=[vp.time_of(c) for c in sigmas], start=x, **options
        ).x
        same = flowsolve.solve(b, solver=solver, grid=sigmas, start=x / s.A.value, **options).x
        torch.testing.assert_close(down / t.A.value, same, rtol=0, atol=1e-9)


def test_rectified_flow_euler_is_ddim():
    process = flowsolve.RectifiedFlow()
    model = flowsolve.Denoiser(elementwise, process, "velocity", (3,), dtype=F64)
    x = torch.randn(4, 3, dtype=F64)
    got = flowsolve.solve(model, solver="ddim", nfe=10, grid="uniform", start=x).x
    for k in range(10):  # dx/dt = u, from t = 1
        t = 1 - k / 10
        x = x - 0.1 * elementwise(x, torch.full((4,), t, dtype=F64))
    torch.testing.assert_close(got, x, rtol=0, atol=1e-13)


@pytest.mark.parametrize("nfe", [4, 25])
def test_eta_one_is_ddpm(nfe):
    """The posterior q(x_t | x_s, x̂0) of DDPM, eq. 6-7, written with its α's and β's on the strided
    table."""
    process = PROCESSES["discrete"]
    model = flowsolve.Denoiser(elementwise, process, "eps", (3,), dtype=F64)
    x, z = torch.randn(2, 3, dtype=F64), torch.randn(nfe, 2, 3, dtype=F64)
    solution = flowsolve.solve(model, solver="ddim", eta=1.0, nfe=nfe, start=x, noise=z)
    assert torch.equal(
        solution.x, flowsolve.solve(model, solver="ddpm", nfe=nfe, start=x, noise=z).x
    )
    for k, (s, t) in enumerate(zip(solution.grid, solution.grid[1:], strict=False)):
        bar_s, bar_t = s.A.value**2, t.A.value**2
        alpha = bar_s / bar_t
        x0, _ = model(x, s)
        mean = (math.sqrt(bar_t) * (1 - alpha) * x0 + math.sqrt(alpha) * (1 - bar_t) * x) / (
            1 - bar_s
        )
        x = mean + math.sqrt((1 - bar_t) / (1 - bar_s) * (1 - alpha)) * z[k]
    torch.testing.assert_close(solution.x, x, rtol=0, atol=1e-9)


@pytest.mark.sweep(keep=8)
@processes
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0, 1.2])
def test_gaussian_marginals_are_kept_for_any_eta(process, eta):
    """Variance after the run against the data's, exactly: for Gaussian data a step is a linear map
    plus noise.

    One sample per coordinate direction carries the linear map; the variance is propagated step by
    step. The hold of ε̂ is a first-order rule, so the defect must shrink like the step.
    """
    c = 0.6
    model = exact.Gaussian(process, torch.zeros(1), c)
    top, low = min(process.start.sigma, 20.0), 0.05
    defects = []
    for n in (128, 256):
        ratio = (low / top) ** (1 / n)
        levels = [process.at("sigma", top * ratio**k) for k in range(n + 1)]
        variance = levels[0].A.value ** 2 * c + levels[0].R.value ** 2
        for s, t in pairwise(levels):
            plan = Plan.trace(process, steps_of(DDIM(eta=eta), [s, t], None))

            class Ignore:
                def evaluated(self, *_): ...
                def arrived(self, *_): ...

            zero, one = torch.zeros(1, 1, dtype=F64), torch.ones(1, 1, dtype=F64)
            gain = play(plan, model, one, lambda k, z=zero: z, Ignore())
            noise = play(plan, model, zero, lambda k, z=one: z, Ignore())
            variance = float(gain) ** 2 * variance + float(noise) ** 2
        v = levels[-1].A.value ** 2 * c + levels[-1].R.value ** 2
        defects.append(abs(variance / v - 1))
    assert defects[1] < 0.1 and (defects[0] / defects[1] == pytest.approx(2.0, abs=0.3))


def test_gaussian_marginals_by_sampling():
    """The same by drawing: variance within five standard errors of the sample's size plus the
    measured bias."""
    model = exact.Gaussian(flowsolve.VP(), torch.zeros(500), 0.6)
    for eta in (0.5, 1.0):
        x = flowsolve.sample(model, solver="ddim", eta=eta, nfe=400, grid="logsnr", n=40, seed=0)
        assert float(x.var()) == pytest.approx(0.6, abs=0.6 * (5 * math.sqrt(2 / x.numel()) + 0.01))


def test_too_much_eta_is_an_error_not_a_nan():
    model = flowsolve.Denoiser(elementwise, flowsolve.VP(), "eps", (3,))
    with pytest.raises(ValueError, match=r"eta=3.* can be at most 1\.0"):
        flowsolve.sample(model, solver="ddim", eta=3.0, nfe=5)
    for bad in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="eta="):
            flowsolve.sample(model, solver="ddim", eta=bad)


@pytest.mark.sweep(keep=8)
@processes
@pytest.mark.parametrize("solver", ["ddim", "heun", "ab3"])
def test_encode_and_decode(process, solver):
    """Up and down again: what is lost falls with the step at the solver's order or better."""
    model = mixture(process)
    x = model.draw(8, level=process.at("sigma", 0.1))
    top = process.at("sigma", min(process.start.sigma, 10.0)).t
    span, losses = (top, process.at("sigma", 0.1).t), []
    for nfe in (48, 96):
        z = flowsolve.encode(model, x, solver=solver, nfe=nfe, grid="logsnr", span=span)
        back = flowsolve.solve(model, solver=solver, nfe=nfe, grid="logsnr", span=span, start=z)
        assert back.nfe == nfe
        losses.append(rms(back.x - x))
    assert losses[1] < 0.1
    assert math.log2(losses[0] / losses[1]) > {"ddim": 1, "heun": 2, "ab3": 3}[solver] - 0.35


def test_encode_to_pure_noise_and_refusals():
    process = flowsolve.RectifiedFlow()
    model = exact.Gaussian(process, torch.zeros(2), 0.5)
    x = model.draw(6)
    for solver in ("ddim", "heun", "ab2", "ab4", "rk4", "dopri5"):
        z = flowsolve.encode(model, x, solver=solver, **({} if solver == "dopri5" else {"nfe": 60}))
        # The exact flow from t_min to pure noise scales by 1/√v.
        v = (
            (1 - 1e-3) ** 2 * 0.5 + 1e-6
            if solver == "dopri5"
            else (1 - 1 / 61) ** 2 * 0.5 + (1 / 61) ** 2
        )
        assert torch.isfinite(z).all() and rms(z - x / math.sqrt(v)) < 0.1
    with pytest.raises(ValueError, match="use eta=0"):
        flowsolve.encode(model, x, solver="ddpm")
    with pytest.raises(ValueError, match=r"x has shape \(6, 3\)"):
        flowsolve.encode(model, torch.zeros(6, 3))
