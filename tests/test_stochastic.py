"""Stochastic solvers: marginals in law, their deterministic partners at zero noise, seeds, splits,
misuse.

For Gaussian data the exact denoiser is linear, so a run is a linear map of its start and its draws,
and its covariance is computed from that map's columns: no sampling, no statistical error.
"""

import math
from itertools import pairwise

import pytest
import torch
from problems import DETERMINISTIC, F64, PROCESSES, SOLVERS, STOCHASTIC, elementwise, rms

import flowsolve
from flowsolve import exact
from flowsolve.coordinates import DATA
from flowsolve.processes import LAMBDA
from flowsolve.solvers import (
    DDIM,
    HEUN,
    Ancestral,
    Churn,
    ExtendedSDE,
    Multistep,
    Polynomial,
    PredictorCorrector,
    Restart,
    ReverseSDE,
    RungeKutta,
)

#: Budgets at which the error's slope is taken: few, else many, for a corrector's noise begins to
#: shrink with the steps only at 512 evaluations.
BUDGETS = ((64, 128, 256), (400, 800, 1600))


def variance_error(process, solver, nfe, **options):
    """Relative error of the variance at σ̄ = 0.03, from the exact marginal at σ̄ = 5, for data N(0,
    1/4)."""
    model = exact.Gaussian(process, [0.0], 0.25)
    s, t = process.at("sigma", 5.0), process.at("sigma", 0.03)
    span = (s.t, t.t)
    draws = flowsolve.plan(solver, process, nfe=nfe, grid="logsnr", span=span, **options).draws
    assert draws > 0
    start, z = torch.zeros(1 + draws, 1, dtype=F64), torch.zeros(draws, 1 + draws, 1, dtype=F64)
    start[0] = 1.0
    for k in range(draws):
        z[k, 1 + k] = 1.0
    x = flowsolve.solve(
        model, solver=solver, nfe=nfe, grid="logsnr", span=span, start=start, noise=z, **options
    ).x[:, 0]
    before, exactly = (0.25 * level.A.value**2 + level.R.value**2 for level in (s, t))
    return abs(float(x[0] ** 2 * before + (x[1:] ** 2).sum()) / exactly - 1.0)


@pytest.mark.sweep(keep=8)
@pytest.mark.parametrize("process", ["vp", "edm", "rectified_flow"])
@pytest.mark.parametrize("solver", [name for name in STOCHASTIC if SOLVERS[name].order])
def test_weak_order(solver, process):
    """At least one: the marginal's variance is right in the limit, and the error falls with the
    step."""
    for budgets in BUDGETS:
        errors = [variance_error(PROCESSES[process], solver, nfe) for nfe in budgets]
        if math.log2(errors[0] / errors[-1]) / 2 > 0.8 and errors[-1] < 0.03:
            return
    raise AssertionError(errors)


#: The option that is a solver's amount of noise, and its value for none.
DIALS = {"eta": 0.0, "lam": 0.0, "strength": 0.0, "s_churn": 0.0, "repeats": 0, "snr": 0.0}


def silenced(solver):
    return {dial: zero for dial, zero in DIALS.items() if hasattr(solver, dial)}


#: Rows around an inner solver are it without noise; these have their own partners.
PARTNERS = {
    name: (silenced(SOLVERS[name]), SOLVERS[name].inner)
    for name in STOCHASTIC
    if silenced(SOLVERS[name]) and hasattr(SOLVERS[name], "inner")
} | {"ddpm": ({"eta": 0.0}, "ddim"), "dpmpp_sde": ({"lam": 0.0}, "dpmpp2s")}
_VPC2 = flowsolve.solvers.find_solver("vpc2")[0]
#: Around a solver with an end of its own, which is the wrapper's, too.
WRAPPERS = {
    ReverseSDE(_VPC2): {"lam": 0.0},
    Ancestral(_VPC2): {"eta": 0.0},
    ExtendedSDE(_VPC2): {"strength": 0.0},
    Churn(_VPC2): {"s_churn": 0.0},
    Restart(_VPC2): {"repeats": 0},
    PredictorCorrector(_VPC2): {"snr": 0.0},
}
SILENT = PARTNERS | {wrapper: (option, "vpc2") for wrapper, option in WRAPPERS.items()}


@pytest.mark.parametrize("process", ["vp", "edm", "rectified_flow"])
@pytest.mark.parametrize(
    "name", SILENT, ids=lambda name: name if isinstance(name, str) else type(name).__name__
)
def test_without_noise_it_is_its_partner(name, process):
    options, partner = SILENT[name]
    model = flowsolve.Denoiser(elementwise, PROCESSES[process], "velocity", (3,), dtype=F64)
    for nfe in (7, 12):
        a, b = (
            flowsolve.sample(model, solver=s, nfe=nfe, n=2, seed=0, **o)
            for s, o in ((name, options), (partner, {}))
        )
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", PARTNERS)
def test_a_little_noise_is_near_the_partner(name):
    """The limit of zero noise is continuous: to the first power of the noise's standard
    deviation."""
    (option, zero), partner = next(iter(PARTNERS[name][0].items())), PARTNERS[name][1]
    if option == "repeats":
        return
    model = flowsolve.Denoiser(elementwise, PROCESSES["vp"], "eps", (3,), dtype=F64)
    # The same levels in both: a corrector's evaluations come on top.
    little = 1e-6 if option in ("eta", "lam", "snr") else 1e-9
    grid = [0.9, 0.6, 0.4, 0.2, 0.1]
    a, b = (
        flowsolve.sample(model, solver=s, grid=grid, n=2, seed=0, **o)
        for s, o in ((name, {option: zero + little}), (partner, {}))
    )
    assert 0.0 < rms(a - b) < 1e-3


@pytest.mark.parametrize("lam", [0.3, 1.0, 1.7])
def test_gddim_is_ddim_with_the_eta_that_belongs_to_lambda(lam):
    """η² = (1 − ρ^{λ²})/(1 − ρ) on every step; λ = 1 is DDPM. Both against the closed form, step by
    step."""
    process = PROCESSES["vp"]
    model = flowsolve.Denoiser(elementwise, process, "eps", (3,), dtype=F64)
    x, z = torch.randn(2, 3, dtype=F64), torch.randn(9, 2, 3, dtype=F64)
    times = [0.9, 0.7, 0.4, 0.2, 0.05]
    got = flowsolve.solve(model, solver="gddim", lam=lam, grid=times, start=x, noise=z).x
    for k, (s, t) in enumerate(pairwise(times)):
        s, t = process.level(s), process.level(t)
        rho = (t.sigma / s.sigma) ** 2
        x0, eps = model(x, s)
        eta2 = (1.0 - rho ** (lam**2)) / (1.0 - rho)
        assert lam != 1.0 or eta2 == pytest.approx(1.0, abs=1e-14)
        added = eta2 * t.R.value**2 * (1.0 - rho)
        x = t.A.value * x0 + math.sqrt(t.R.value**2 - added) * eps + math.sqrt(added) * z[k]
    torch.testing.assert_close(got, x, rtol=1e-11, atol=1e-12)


def test_lambda_may_depend_on_the_level():
    model = flowsolve.Denoiser(elementwise, PROCESSES["edm"], "eps", (3,), dtype=F64)
    arguments = {"nfe": 9, "n": 2, "seed": 0}

    def only_at_high_noise(sigma):
        return 1.0 if sigma > 1.0 else 0.0

    plan = flowsolve.plan("sa", PROCESSES["edm"], nfe=9, lam=only_at_high_noise)
    assert 0 < plan.draws < 8
    always = flowsolve.sample(model, solver="sa", lam=lambda sigma: 1.0, **arguments)
    torch.testing.assert_close(
        always, flowsolve.sample(model, solver="sa", **arguments), rtol=0, atol=1e-12
    )


def test_ancestral_sampling_of_ddim_is_eta():
    model = flowsolve.Denoiser(elementwise, PROCESSES["vp"], "eps", (3,), dtype=F64)
    for eta in (0.3, 1.0):
        a, b = (
            flowsolve.sample(model, solver=s, nfe=9, n=2, seed=0)
            for s in (Ancestral(DDIM(), eta), DDIM(eta=eta))
        )
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def test_sde_multistep_against_the_integral():
    """One step of the reverse SDE with x̂0 linear in λ, integrated by quadrature in closed form for
    λ = 1 (c = 2)."""
    process = PROCESSES["edm"]
    model = flowsolve.Denoiser(elementwise, process, "x0", (3,), dtype=F64)
    x, z = torch.randn(2, 3, dtype=F64), torch.randn(2, 2, 3, dtype=F64)
    levels = [process.at("sigma", sigma) for sigma in (3.0, 1.4, 0.8)]
    s0, s1, s2 = levels
    run = flowsolve.solve(
        model,
        solver=ReverseSDE(Multistep(Polynomial(2, DATA, LAMBDA))),
        grid=[level.t for level in levels],
        start=x,
        noise=z,
        keep=("path", "x0"),
    )
    h, before = s2.lam - s1.lam, s1.lam - s0.lam
    x1, d0, d1 = run.path[1], run.x0_path[0], run.x0_path[1]
    slope = (d1 - d0) / before
    decay = math.exp(-2.0 * h)
    expected = math.exp(-2.0 * h) * x1 + (1.0 - decay) * d1 + (h - (1.0 - decay) / 2.0) * slope
    expected = expected + s2.sigma * math.sqrt(1.0 - math.exp(-2.0 * h)) * z[1]
    torch.testing.assert_close(run.x, expected, rtol=1e-12, atol=1e-12)


def test_euler_maruyama_by_hand():
    process = PROCESSES["vp"]
    model = flowsolve.Denoiser(elementwise, process, "eps", (3,), dtype=F64)
    x, z = torch.randn(2, 3, dtype=F64), torch.randn(1, 2, 3, dtype=F64)
    s, t = process.level(0.5), process.level(0.4)
    for lam in (0.0, 0.7, 1.0):
        got = flowsolve.solve(
            model, solver="euler_maruyama", lam=lam, grid=[0.5, 0.4], start=x, noise=z
        ).x
        drift = 0.5 * (1.0 + lam**2) * (t.sigma**2 - s.sigma**2) / s.sigma * model(x, s).eps
        expected = t.A.value * (
            x / s.A.value + drift + lam * math.sqrt(s.sigma**2 - t.sigma**2) * z[0]
        )
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_churn_goes_up_and_comes_down():
    """EDM's algorithm 2 written out: γ, the raised level, Heun's step from it."""
    process = PROCESSES["edm"]
    model = flowsolve.Denoiser(elementwise, process, "x0", (3,), dtype=F64)
    x, z = torch.randn(2, 3, dtype=F64), torch.randn(9, 2, 3, dtype=F64)
    sigmas = [30.0, 8.0, 1.0, 0.2]
    got = flowsolve.solve(
        model,
        solver="edm",
        s_churn=0.9,
        s_min=0.5,
        s_max=10.0,
        s_noise=1.01,
        grid=sigmas,
        start=x,
        noise=z,
    ).x
    k = 0
    for s, t in pairwise(sigmas):
        h = s * (1.0 + 0.9 / 4) if 0.5 <= s <= 10.0 else s
        if h > s:
            x, k = x + math.sqrt(h * h - s * s) * 1.01 * z[k], k + 1
        d = (x - model(x, h).x0) / h
        y = x + (t - h) * d
        x = x + (t - h) * 0.5 * (d + (y - model(y, t).x0) / t)
    torch.testing.assert_close(got, x, rtol=1e-11, atol=1e-11)


def test_restart_goes_up_again():
    process = PROCESSES["edm"]
    plan = flowsolve.plan("restart", process, nfe=41)
    assert plan.nfe == 41 and plan.draws == 2
    sigmas = [i.level.sigma for i in plan.program if hasattr(i, "coordinates")]
    rises = [(a, b) for a, b in pairwise(sigmas) if b > a]
    assert len(rises) == 2 and all(a < 0.06 * 3 and b == pytest.approx(0.3) for a, b in rises)


@pytest.mark.parametrize("solver", STOCHASTIC)
def test_batch_split_changes_nothing(solver):
    model = flowsolve.Denoiser(elementwise, PROCESSES["vp"], "eps", (3,))
    arguments = {"solver": solver, "nfe": 8, "n": 7, "seed": 3}
    whole = flowsolve.sample(model, **arguments)
    for size in (1, 3):
        assert torch.equal(whole, flowsolve.sample(model, batch_size=size, **arguments))
    assert not torch.equal(whole, flowsolve.sample(model, **arguments | {"seed": 4}))


@pytest.mark.sweep(keep=0.4)
@pytest.mark.parametrize("inner", DETERMINISTIC)
def test_wrappers_go_around_any_solver(inner):
    model = exact.Dirac(PROCESSES["rectified_flow"], torch.tensor([0.3, -1.2], dtype=F64))
    inside = flowsolve.solvers.find_solver(inner)[0]
    for wrapper in (
        ReverseSDE(inside, 0.5),
        Ancestral(inside, 0.5),
        Churn(inside),
        Restart(inside),
        PredictorCorrector(inside),
    ):
        for nfe in (3, 11):
            solution = flowsolve.solve(model, solver=wrapper, nfe=nfe, n=2, seed=0)
            assert solution.nfe == nfe
            torch.testing.assert_close(
                solution.x, torch.tensor([[0.3, -1.2]], dtype=F64).expand(2, 2), rtol=0, atol=1e-9
            )


@pytest.mark.parametrize(
    ("solver", "option", "value"),
    [
        ("gddim", "lam", -1.0),
        ("dpm2_a", "eta", 1.5),
        ("er_sde2", "strength", -0.1),
        ("edm", "s_churn", -1.0),
        ("restart", "share", 1.0),
        ("restart", "low", 0.5),
        ("pc", "snr", 0.6),
        ("pc", "corrections", 0),
        ("euler_maruyama", "lam", "much"),
    ],
)
def test_options_out_of_range(solver, option, value):
    model = flowsolve.Denoiser(elementwise, PROCESSES["vp"], "eps", (3,))
    with pytest.raises((TypeError, ValueError), match=option):
        flowsolve.sample(model, solver=solver, nfe=5, **{option: value})


@pytest.mark.parametrize("solver", STOCHASTIC)
def test_noise_cannot_be_encoded(solver):
    model = flowsolve.Denoiser(elementwise, PROCESSES["vp"], "eps", (3,))
    with pytest.raises(ValueError, match="on the way down only"):
        flowsolve.encode(model, torch.randn(2, 3), solver=solver, nfe=5)


def test_an_inner_solver_is_an_option():
    model = flowsolve.Denoiser(elementwise, PROCESSES["vp"], "eps", (3,))
    a = flowsolve.sample(model, solver="edm", inner=DDIM(), nfe=6, seed=0)
    assert torch.equal(a, flowsolve.sample(model, solver=Churn(DDIM()), nfe=6, seed=0))
    assert not torch.equal(
        a, flowsolve.sample(model, solver=Churn(RungeKutta(HEUN)), nfe=6, seed=0)
    )
