"""The DPM-Solvers' single steps against their papers' formulas, written out with α, σ and h."""

import math

import pytest
import torch
from problems import F64, PROCESSES, elementwise

import flowsolve

PROCESS = PROCESSES["vp"]


def at(lam):
    return PROCESS.at("lambda", lam)


@pytest.fixture
def setting():
    s, t = PROCESS.at("sigma", 2.0), PROCESS.at("sigma", 0.6)
    model = flowsolve.Denoiser(elementwise, PROCESS, "eps", (3,), dtype=F64)
    x = torch.randn(4, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    return model, x, s, t, t.lam - s.lam


def eps_hold(x, s, t, eps):
    """DPM-Solver-1: α_t/α_s x − σ_t (e^h − 1) ε."""
    return t.A.value / s.A.value * x - t.R.value * math.expm1(t.lam - s.lam) * eps


def x0_hold(x, s, t, x0):
    """DPM-Solver++(1): σ_t/σ_s x − α_t (e^{−h} − 1) x0."""
    return t.R.value / s.R.value * x - t.A.value * math.expm1(-(t.lam - s.lam)) * x0


def run(model, x, s, t, solver):
    return flowsolve.solve(model, solver=solver, grid=[s.t, t.t], start=x).x


def test_dpm_solver_2(setting):
    model, x, s, t, h = setting
    eps = model(x, s).eps
    mid = at(s.lam + h / 2)
    inner = model(eps_hold(x, s, mid, eps), mid).eps
    expected = t.A.value / s.A.value * x - t.R.value * math.expm1(h) * inner
    torch.testing.assert_close(run(model, x, s, t, "dpm2"), expected, rtol=0, atol=1e-12)


def test_dpm_solver_3(setting):
    """Algorithm 2 of 2206.00927 with r1 = 1/3, r2 = 2/3."""
    model, x, s, t, h = setting
    r1, r2 = 1 / 3, 2 / 3
    eps = model(x, s).eps
    a, b = at(s.lam + r1 * h), at(s.lam + r2 * h)
    d1 = model(eps_hold(x, s, a, eps), a).eps - eps
    u = eps_hold(x, s, b, eps) - b.R.value * r2 / r1 * (math.expm1(r2 * h) / (r2 * h) - 1) * d1
    d2 = model(u, b).eps - eps
    expected = eps_hold(x, s, t, eps) - t.R.value / r2 * (math.expm1(h) / h - 1) * d2
    torch.testing.assert_close(run(model, x, s, t, "dpm3"), expected, rtol=0, atol=1e-12)


def test_dpm_solver_pp_2s_and_res_2s(setting):
    """Algorithm 1 of 2211.01095 with r = 1/2; RES replaces 1/(2r) by the exact φ-function."""
    model, x, s, t, h = setting
    x0 = model(x, s).x0
    mid = at(s.lam + h / 2)
    d = model(x0_hold(x, s, mid, x0), mid).x0 - x0
    torch.testing.assert_close(
        run(model, x, s, t, "dpmpp2s"), x0_hold(x, s, t, x0 + d), rtol=0, atol=1e-12
    )
    phi = t.A.value * (math.expm1(-h) / h + 1)
    torch.testing.assert_close(
        run(model, x, s, t, "res2s"), x0_hold(x, s, t, x0) + 2 * phi * d, rtol=0, atol=1e-12
    )


def test_dpm_solver_pp_3s(setting):
    model, x, s, t, h = setting
    r1, r2 = 1 / 3, 2 / 3
    x0 = model(x, s).x0
    a, b = at(s.lam + r1 * h), at(s.lam + r2 * h)
    d1 = model(x0_hold(x, s, a, x0), a).x0 - x0
    u = x0_hold(x, s, b, x0) + b.A.value * r2 / r1 * (math.expm1(-r2 * h) / (r2 * h) + 1) * d1
    d2 = model(u, b).x0 - x0
    expected = x0_hold(x, s, t, x0) + t.A.value / r2 * (math.expm1(-h) / h + 1) * d2
    torch.testing.assert_close(run(model, x, s, t, "dpmpp3s"), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "arguments",
    [{"nodes": ()}, {"nodes": (0.5, 0.5)}, {"nodes": (1.0,)}, {"nodes": (0.3,), "midpoint": True}],
)
def test_bad_nodes(arguments):
    with pytest.raises(ValueError, match="nodes="):
        flowsolve.solvers.Exponential(**arguments)
