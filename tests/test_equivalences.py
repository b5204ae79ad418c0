"""Two names, one method: what the literature calls differently and what is the same, and multistep
formulas written out by hand."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from problems import F64, PROCESSES, elementwise, mixture, rms
from scipy.integrate import quad

import flowsolve
from flowsolve.coordinates import DATA, FLOW, NOISE
from flowsolve.grids import Logistic
from flowsolve.processes import LAMBDA, TIME
from flowsolve.solvers import DDIM, Multistep, Polynomial, auto, find_solver

SAME = {
    "ddim, in the coordinates of the data": ("ddim", DDIM(coordinates=DATA)),
    "ddim, in those of the velocity": ("ddim", DDIM(coordinates=FLOW)),
    "flow matching's Euler": ("flow_euler", "ddim"),
    "DPM-Solver-1": ("dpm1", "ddim"),
    "k-diffusion's LMS": ("lms", "ab4"),
    "Euler ancestral": ("euler_a", DDIM(eta=1.0)),
    "iPNDM on equal steps in sigma": ("ipndm3", "ab3"),
    "gradient estimation at 3/2 on equal steps": (flowsolve.solvers.GradientEstimation(1.5), "ab2"),
    "DEIS in t on EDM, where t is sigma": ("deis3", "ab3"),
    "UniP-2 with B2": ("unip2", "dpmpp2m"),
    "UniP-3": ("unip3", "etd3"),
    "UniPC without its corrector": (Multistep(Polynomial(2, DATA, LAMBDA, "midpoint")), "dpmpp2m"),
    "SA-Solver's predictor without noise": (
        flowsolve.solvers.ReverseSDE(Multistep(Polynomial(3, DATA, LAMBDA)), 0.0),
        "etd3",
    ),
}
DIFFERENT = [
    ("ddim", "ab2"),
    ("ab2", "ab3"),
    ("etd2", "dpmpp2m"),
    ("unipc2", "dpmpp2m"),
    ("ipndm2", "ab4"),
    ("ddim", "ddpm"),
    ("etd3", "ab3"),
]


@pytest.mark.parametrize("case", SAME)
def test_same_method_same_plan(case):
    grid = "sigma" if "equal steps" in case or "DEIS" in case else "karras"
    process = PROCESSES["edm"]
    a, b = (flowsolve.plan(solver, process, nfe=9, grid=grid) for solver in SAME[case])
    assert a == b


@pytest.mark.parametrize("pair", DIFFERENT)
def test_different_methods_different_plans(pair):
    a, b = (flowsolve.plan(solver, PROCESSES["edm"], nfe=9, grid="karras") for solver in pair)
    assert a != b


@pytest.mark.parametrize("process", ["vp", "edm", "rectified_flow"])
@pytest.mark.parametrize("corrector", [False, True])
def test_multistep_by_hand(process, corrector):
    """Order two in (DATA, λ) with exact and with the papers' weights, and UniC's correction, from
    their formulas in h and r."""
    process = PROCESSES[process]
    model = mixture(process)
    levels = [process.at("sigma", sigma) for sigma in (5.0, 2.0, 0.9, 0.5, 0.2)]
    start = model.draw(6, level=levels[0])
    for weights in ("exact", "midpoint", "bh1"):
        got = flowsolve.solve(
            model,
            solver=Multistep(
                Polynomial(2, DATA, LAMBDA, weights),
                Polynomial(3, DATA, LAMBDA, weights) if corrector else None,
            ),
            grid=[x.t for x in levels],
            start=start,
        )
        x, seen, last = start, [], None  # seen: (λ, x̂0), newest first; last: the step before
        for s, t in pairwise(levels):
            m = model(x, s).x0
            base = _unic(*last, seen, m, weights) if corrector and last else x
            seen, last = [(s.lam, m), *seen][:2], (base, s, t)
            x = _unip(base, s, t, seen, weights)
        torch.testing.assert_close(got.x, x, rtol=0, atol=1e-12)


def _unip(x, s, t, seen, weights):
    """σ_t/σ_s x − α_t(e^{−h} − 1)m − α_t B Σ_k w_k D_k/r_k, the papers' form (arXiv 2302.04867,
    section 3)."""
    h = t.lam - s.lam
    whole = -math.expm1(-h)
    x = t.R.value / s.R.value * x + t.A.value * whole * seen[0][1]
    if len(seen) == 2:
        slope = (seen[1][1] - seen[0][1]) / ((seen[1][0] - s.lam) / h)
        weight = {"exact": 1.0 - whole / h, "midpoint": 0.5 * whole, "bh1": 0.5 * h}[weights]
        x = x + t.A.value * weight * slope
    return x


def _unic(base, s, t, seen, new, weights):
    """The step from s to t again with ``new``, its end's evaluation: quadratic through three, or
    the papers' half with two."""
    h = t.lam - s.lam
    whole = -math.expm1(-h)
    x = t.R.value / s.R.value * base + t.A.value * whole * seen[0][1]
    first = new - seen[0][1]
    phi2 = 1.0 - whole / h  # ∫ u e^{h(u−1)} h du over [0, 1]
    if len(seen) == 1:
        weight = {"exact": phi2, "midpoint": 0.5 * whole, "bh1": 0.5 * h}[weights]
        return x + t.A.value * weight * first
    phi3 = 1.0 - 2.0 * phi2 / h  # ∫ u² e^{h(u−1)} h du
    r = (seen[1][0] - s.lam) / h
    second = (first - (seen[1][1] - seen[0][1]) / r) / (1.0 - r)  # second divided difference
    return x + t.A.value * (phi2 * (first - second) + phi3 * second)


@pytest.mark.parametrize("process", ["vp", "rectified_flow", "trig_flow"])
def test_a_corrector_in_other_coordinates_by_hand(process):
    """Adams-Bashforth of ε̂ in σ̄ predicts; a line of ε̂ − x̂0 in λ, through the step's two ends,
    corrects. Its integral over d(σ̄/(1 + σ̄)) is taken by scipy."""
    process = PROCESSES[process]
    model = mixture(process)
    levels = [process.at("sigma", sigma) for sigma in (5.0, 2.0, 0.9, 0.4)]
    start = model.draw(6, level=levels[0])
    solver = Multistep(Polynomial(2), Polynomial(2, FLOW, LAMBDA))
    got = flowsolve.solve(model, solver=solver, grid=[x.t for x in levels], start=start).x
    # x is where the network is asked, better the corrected state there.
    better, before = start, None
    x = start
    for s, t in pairwise(levels):
        asked = model(x, s)
        if before is not None:
            r, base, first = before
            better = flow_step(base, r, s, first, asked)
        slope = 0.0
        if before is not None:
            slope = (asked.eps - before[2].eps) / (s.sigma - before[0].sigma)
        gap = t.sigma - s.sigma
        x = t.A.value * (better / s.A.value + gap * asked.eps + 0.5 * gap**2 * slope)
        before = (s, better, asked)
    torch.testing.assert_close(got, x, rtol=0, atol=1e-11)


def flow_step(x, s, t, first, last):
    """From x at s to t along the line of ε̂ − x̂0 in λ from ``first`` to ``last``."""
    ps, pt = first.eps - first.x0, last.eps - last.x0

    def clock(lam):
        return 1.0 / (1.0 + math.exp(lam))

    def weight(lam):  # ∫ (λ − λ_s)/(λ_t − λ_s) dc, dc = −c(1 − c) dλ
        return -(lam - s.lam) / (t.lam - s.lam) * clock(lam) * (1.0 - clock(lam))

    end = quad(weight, s.lam, t.lam, epsabs=1e-14, epsrel=1e-13)[0]
    whole = clock(t.lam) - clock(s.lam)
    size_s, size_t = (level.A.value + level.R.value for level in (s, t))
    return size_t * (x / size_s + (whole - end) * ps + end * pt)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Polynomial(0), "points=0: expected a positive integer"),
        (lambda: Polynomial(2, weights="exakt"), "weights='exakt'.*Did you mean 'exact'"),
    ],
)
def test_no_polynomial(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_deis_in_lambda_in_closed_form():
    """The line of ε̂ in λ, integrated: DPM-Solver's two-step formula with exact weights (arXiv
    2204.13902; 2206.00927)."""
    process = PROCESSES["vp"]
    model = flowsolve.Denoiser(elementwise, process, "eps", (3,), dtype=F64)
    levels = [process.at("sigma", sigma) for sigma in (3.0, 1.1, 0.7)]
    x = torch.randn(4, 3, dtype=F64)
    run = flowsolve.solve(
        model,
        solver=Multistep(Polynomial(2, NOISE, LAMBDA)),
        grid=[level.t for level in levels],
        start=x,
        keep="path",
    )
    s0, s1, s2 = levels
    e0, e1 = model(x, s0).eps, model(run.path[1], s1).eps
    h, before = s2.lam - s1.lam, s1.lam - s0.lam
    # x_t = A_t/A_s x − R_t ∫ e^{λ_t − λ} ε̂ dλ
    slope = (e1 - e0) / before
    expected = s2.A.value / s1.A.value * run.path[1] - s2.R.value * (
        math.expm1(h) * e1 + (math.expm1(h) - h) * slope
    )
    torch.testing.assert_close(run.x, expected, rtol=1e-12, atol=1e-12)


def test_deis_in_time_is_another_method_than_adams():
    process = PROCESSES["vp"]
    assert find_solver("deis2")[0] == Multistep(Polynomial(2, variable=TIME))
    assert flowsolve.plan("deis2", process, nfe=9) != flowsolve.plan("ab2", process, nfe=9)


@pytest.mark.parametrize("solver", ["pndm", "plms"])
def test_pndm_starts_with_runge_kutta(solver):
    """Whatever the budget, if it can pay: three steps of four evaluations, or one of two; every
    evaluation is spent."""
    process = PROCESSES["vp"]
    extra = {"pndm": 9, "plms": 1}[solver]
    for nfe in (14, 20, 60):
        plan = flowsolve.plan(solver, process, nfe=nfe)
        assert plan.nfe == nfe and len(plan.levels) - 1 == nfe - extra
    assert flowsolve.plan(solver, process, nfe=2) == flowsolve.plan("ipndm4", process, nfe=2)


@pytest.mark.parametrize("process", ["vp", "edm", "rectified_flow"])
def test_the_finish_by_hand(process):
    """x0 ≈ x̂0 + (x̃ − x)/A + σ̄²/(r² − σ̄²)(x̂0 − x̂0'), with x̃ from the plan that stops at the
    last level and corrects there."""
    process = PROCESSES[process]
    model = mixture(process)
    times = [process.at("sigma", sigma).t for sigma in (5.0, 2.0, 0.9, 0.4)]
    start = model.draw(6, level=process.level(times[0]))
    vpc2 = find_solver("vpc2")[0]
    run = flowsolve.solve(
        model, solver=vpc2, grid=[*times, process.t_clean], start=start, keep=("path", "x0")
    )
    x, before, last = run.path[-2], *run.x0_path[-2:]
    s = process.level(times[-1])
    # One more step, of next to no length, begins at the corrected state.
    further = flowsolve.solve(
        model, solver=vpc2, grid=[*times, process.at("sigma", 0.4 * (1 - 1e-9)).t], start=start
    ).x
    expected = last + (further - x) / s.A.value + (last - before) / ((0.9 / 0.4) ** 2 - 1.0)
    torch.testing.assert_close(run.x, expected, rtol=0, atol=1e-7)
    assert (run.x - last).abs().max() > 1e-3, "it is more than the last x0"


@pytest.mark.parametrize("predicts", ["eps", "v", "x0"])
def test_auto_is_a_rule_and_a_grid_by_what_is_known(predicts):
    """The budget, the size of a sample, the scale of the data, and whether what is predicted says
    ε̂ − x̂0 where there is the most noise."""
    by_name = {row.name: row.solver for row in flowsolve.solver_table()}
    table = auto.AMPLIFIED if predicts == "eps" else auto.STEADY
    for nfe, process, d, scale in (
        (1, "vp", 12, None),
        (4, "edm", 12, 2.0),
        (5, "vp", 3072, None),
        (9, "edm", 2, None),
        (14, "vp", 12, 0.1),
        (100, "vp", 50_000, None),
    ):
        process = PROCESSES[process]
        model = flowsolve.Denoiser(elementwise, process, predicts, (d,), data_scale=scale)
        choice = next(choice for choice in table if nfe <= choice.most)
        center = choice.center * min(d, 4096) ** 0.25 * (scale or 0.3**0.5) / 0.3**0.5
        solver = replace(by_name[choice.solver], finish=choice.finish)
        grid = Logistic(center, choice.low, choice.high)
        expected = flowsolve.plan(solver, process, nfe=nfe, grid=grid)
        assert flowsolve.plan("auto", model, nfe=nfe) == expected
        start = torch.zeros(1, d, dtype=F64)
        levels = flowsolve.solve(model, nfe=nfe, start=start).grid
        times = [level.t for level in expected.levels]
        assert [level.t for level in levels] == pytest.approx(times, rel=1e-12)


def test_auto_without_a_model_is_for_latents_of_large_pictures():
    process = PROCESSES["vp"]
    large = flowsolve.Denoiser(elementwise, process, "v", (4, 64, 64))
    assert flowsolve.plan("auto", process, nfe=8) == flowsolve.plan("auto", large, nfe=8)
    assert flowsolve.plan("auto", process) == flowsolve.plan("auto", process, nfe=20)
    assert flowsolve.plan("auto", process, nfe=9, grid="karras") == flowsolve.plan(
        "fpc2", process, nfe=9, grid="karras"
    )
    times = [1.0, 0.7, 0.4, 0.2, 0.1, 0.0]
    assert flowsolve.plan("auto", process, grid=times) == flowsolve.plan(
        "fpc2", process, grid=times
    )


@pytest.mark.parametrize("process", PROCESSES)
def test_auto_is_the_default_and_better_than_what_came_before(process):
    process = PROCESSES[process]
    model = mixture(process)
    start = model.draw(16, level=process.start)
    exact = flowsolve.solve(
        model, solver="etd4", grid="logsnr", nfe=400, start=start, span=(None, None)
    ).x
    for nfe in (8, 20):
        default = flowsolve.sample(model, nfe=nfe, start=start)
        assert torch.equal(default, flowsolve.sample(model, solver="auto", nfe=nfe, start=start))
        others = [
            flowsolve.sample(model, solver=s, nfe=nfe, start=start, grid=g)
            for s in ("ddim", "ab3")
            for g in ("uniform", "karras")
        ]
        assert rms(default - exact) < 0.7 * min(rms(x - exact) for x in others)
