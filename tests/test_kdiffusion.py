"""What goes by the names of k-diffusion's functions and of ComfyUI's samplers and schedulers is the
method of that name: their loops, written out for a denoiser D(x, σ) with x = x0 + σ ε."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from problems import F64, PROCESSES
from scipy import integrate, stats

import flowsolve
from flowsolve.solvers import aliases, find_solver

SIGMAS = [8.0, 5.0, 2.9, 1.5, 0.9, 0.4, 0.1, 0.0]
START = 8.0 * torch.linspace(-1.5, 1.5, 6, dtype=F64)[:, None]
#: Noise for each of two draws a step.
Z = torch.linspace(-2, 2, 20 * 6, dtype=F64).sin().mul(7).cos().view(20, 6, 1)


def denoised(x, sigma):
    return x / (1 + sigma**2) + 0.3 * torch.tanh(x / (0.5 + sigma))


def net(x, t):
    return denoised(x, t.view(-1, 1))


MODEL = flowsolve.Denoiser(net, flowsolve.EDM(), "x0", (1,), time="sigma", dtype=F64)


def slope(x, sigma):
    return (x - denoised(x, sigma)) / sigma


def ancestral(s, t):
    up = min(t, math.sqrt(t**2 * (s**2 - t**2) / s**2))
    return math.sqrt(t**2 - up**2), up


def middle(s, t):
    return math.exp(0.5 * (math.log(s) + math.log(t)))


def euler(x, s, t, z):
    return x + slope(x, s) * (t - s)


def euler_ancestral(x, s, t, z):
    down, up = ancestral(s, t)
    return x + slope(x, s) * (down - s) + up * z


def heun(x, s, t, z):
    d = slope(x, s)
    return x + 0.5 * (d + slope(x + d * (t - s), t)) * (t - s)


def dpm_2(x, s, t, z):
    m = middle(s, t)
    return x + slope(x + slope(x, s) * (m - s), m) * (t - s)


def dpm_2_ancestral(x, s, t, z):
    down, up = ancestral(s, t)
    return dpm_2(x, s, down, z) + up * z


def dpmpp_2s(x, s, t):
    m, h = middle(s, t), math.log(s / t)
    y = m / s * x - math.expm1(-h / 2) * denoised(x, s)
    return t / s * x - math.expm1(-h) * denoised(y, m)


def dpmpp_2s_ancestral(x, s, t, z):
    down, up = ancestral(s, t)
    return dpmpp_2s(x, s, down) + up * z


def ddpm(x, s, t, z):
    """In the scaled state x/√(1 + σ²), as DDPM has it."""
    a, b = 1 / (s * s + 1), 1 / (t * t + 1)
    alpha, eps = a / b, slope(x, s)
    mean = (x * math.sqrt(a) - (1 - alpha) * eps / math.sqrt(1 - a)) / math.sqrt(alpha)
    return (mean + math.sqrt((1 - alpha) * (1 - b) / (1 - a)) * z) / math.sqrt(b)


def lcm(x, s, t, z):
    return denoised(x, s) + t * z


ONE_STEP = {
    f.__name__: f
    for f in (
        euler,
        euler_ancestral,
        heun,
        dpm_2,
        dpm_2_ancestral,
        dpmpp_2s_ancestral,
        ddpm,
        lcm,
    )
}
ONE_STEP["ddim"] = euler


def seeds_2(x, s, t, z, w):
    """The exponential midpoint rule in the SDE, its noise carried on (2305.14267)."""
    m, h = middle(s, t), math.log(s / t)
    first = math.sqrt(-math.expm1(-h)) * z
    y = m / s * math.exp(-h / 2) * x - math.expm1(-h) * denoised(x, s) + m * first
    noise = math.exp(-h / 2) * first + math.sqrt(-math.expm1(-h)) * w
    return t / s * math.exp(-h) * x - math.expm1(-2 * h) * denoised(y, m) + t * noise


def sampled(name, **how):
    return flowsolve.sample(MODEL, solver=name, grid=SIGMAS, start=START, **{"noise": Z} | how)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ONE_STEP)
@pytest.mark.parametrize("prefix", ["", "sample_"])
def test_one_step_methods(name, prefix):
    x = START
    for k, (s, t) in enumerate(pairwise(SIGMAS[:-1])):
        x = ONE_STEP[name](x, s, t, Z[k])
    close(sampled(prefix + name), denoised(x, SIGMAS[-2]))


@pytest.mark.parametrize("name", ["seeds_2", "dpmpp_sde", "dpmpp_sde_gpu"])
def test_the_single_step_sde(name):
    """k-diffusion's dpmpp_sde is this but for its two draws, which a Brownian tree correlates in
    its own way."""
    x = START
    for k, (s, t) in enumerate(pairwise(SIGMAS[:-1])):
        x = seeds_2(x, s, t, Z[2 * k], Z[2 * k + 1])
    close(sampled(name), denoised(x, SIGMAS[-2]))


def lagrange_step(x, s, t, past, points, weight, carry=1.0):
    """carry·x plus the polynomial through the past (σ, value), integrated with ``weight``."""
    nodes = past[-points:]
    total = carry * x
    for j, (node, value) in enumerate(nodes):
        others = [other for i, (other, _) in enumerate(nodes) if i != j]

        def ell(v, node=node, others=others):
            return weight(v) * math.prod((v - o) / (node - o) for o in others)

        total = total + integrate.quad(ell, s, t, epsabs=1e-13, epsrel=1e-13)[0] * value
    return total


def adams(points, weights=None):
    """Polynomials of the slope in σ; or with the weights that belong to equal steps."""

    def step(x, s, t, past):
        n = min(points, len(past))
        if weights is None:
            return lagrange_step(x, s, t, past, n, lambda v: 1.0)
        return x + (t - s) * sum(w * d for w, (_, d) in zip(weights[n], past[::-1], strict=False))

    return step


IPNDM = {
    1: [1],
    2: [3 / 2, -1 / 2],
    3: [23 / 12, -16 / 12, 5 / 12],
    4: [55 / 24, -59 / 24, 37 / 24, -9 / 24],
}


def extrapolated(x, s, t, past):
    """2 d − d_before (2306.04848)."""
    d = past[-1][1] if len(past) == 1 else 2 * past[-1][1] - past[-2][1]
    return x + d * (t - s)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("lms", adams(4)),
        ("ipndm", adams(4, IPNDM)),
        ("gradient_estimation", extrapolated),
    ],
)
def test_multistep_methods_of_the_slope(name, step):
    # With a budget, not times: those are filled from a Runge-Kutta start.
    got = flowsolve.solve(MODEL, solver=name, nfe=8, grid="karras", start=START)
    x, past, sigmas = START, [], [level.t for level in got.grid[:-1]]
    for s, t in pairwise(sigmas):
        past.append((s, slope(x, s)))
        x = step(x, s, t, past)
    torch.testing.assert_close(got.x, denoised(x, sigmas[-1]), rtol=0, atol=1e-8)


def dpmpp_2m(s, t, before, lam, kind):
    """k-diffusion's second-order multistep: how much of D and of D_before; λ² is its eta."""
    h = math.log(s / t)
    z = h * (1 + lam)
    r = math.log(before / s) / h if before else math.inf
    w = {
        "midpoint": -0.5 * math.expm1(-z) / r,
        "heun": (math.expm1(-z) / z + 1) / r,
    }[kind]
    return -math.expm1(-z) + w, -w


@pytest.mark.parametrize(
    ("name", "lam", "kind"),
    [
        ("dpmpp_2m", 0, "midpoint"),
        ("dpmpp_2m_sde", 1, "midpoint"),
        ("dpmpp_2m_sde_gpu", 1, "midpoint"),
        ("dpmpp_2m_sde_heun", 1, "heun"),
        ("dpmpp_2m_sde_heun_gpu", 1, "heun"),
        ("res_multistep", 0, "heun"),
    ],
)
def test_second_order_multistep_methods_of_the_data(name, lam, kind):
    x, old, before = START, torch.zeros_like(START), None
    for k, (s, t) in enumerate(pairwise(SIGMAS[:-1])):
        h, new = math.log(s / t), denoised(x, s)
        a, b = dpmpp_2m(s, t, before, lam, kind)
        noise = t * math.sqrt(-math.expm1(-2 * h * lam)) * Z[k]
        x = t / s * math.exp(-h * lam) * x + a * new + b * old + noise
        old, before = new, s
    close(sampled(name), denoised(x, SIGMAS[-2]))


@pytest.mark.parametrize("name", ["dpmpp_3m_sde", "dpmpp_3m_sde_gpu"])
def test_the_third_order_multistep_sde(name):
    """k-diffusion's loop with the integral of its parabola: it has half of the second difference's
    weight, which costs it the third order."""
    x, past, steps = START, [], []
    for k, (s, t) in enumerate(pairwise(SIGMAS[:-1])):
        h = math.log(s / t)
        z, new = 2 * h, denoised(x, s)
        x = math.exp(-z) * x - math.expm1(-z) * new + t * math.sqrt(-math.expm1(-2 * h)) * Z[k]
        phi_2 = math.expm1(-z) / z + 1
        phi_3 = phi_2 / z - 0.5
        if len(past) == 1:
            x = x + phi_2 * (new - past[-1]) * h / steps[-1]
        elif past:
            r0, r1 = steps[-1] / h, steps[-2] / h
            d1_0, d1_1 = (new - past[-1]) / r0, (past[-1] - past[-2]) / r1
            d2 = (d1_0 - d1_1) / (r0 + r1)
            x = x + phi_2 * (d1_0 + r0 * d2) - 2 * phi_3 * d2
        past.append(new)
        steps.append(h)
    close(sampled(name), denoised(x, SIGMAS[-2]))


def test_er_sde():
    """x at t is φ(t)/φ(s) x plus g(t) + φ(t) ∫ g′/φ over [t, s] for g, the polynomial of the data
    (2309.06169). The paper's code takes the backward difference for the slope at s, with which its
    third stage is no polynomial through three evaluations; and sums of 200 terms for integrals."""

    def scaler(v):
        return v * (math.exp(v**0.3) + 10)

    x, past = START, []
    for k, (s, t) in enumerate(pairwise(SIGMAS[:-1])):
        new, r = denoised(x, s), scaler(t) / scaler(s)
        noise = math.sqrt(t**2 - (s * r) ** 2) * Z[k]
        x = r * x + (1 - r) * new + noise

        def part(g, slope_of, s=s, t=t):
            whole = integrate.quad(lambda v: slope_of(v) / scaler(v), t, s, epsabs=0, epsrel=1e-13)
            return g(t) + whole[0] * scaler(t)

        if past:
            d = (new - past[-1]) / (s - SIGMAS[k - 1])
            x = x + part(lambda v, s=s: v - s, lambda v: 1.0) * d
        if len(past) > 1:
            p, q = s, SIGMAS[k - 1]
            older = (past[-1] - past[-2]) / (q - SIGMAS[k - 2])
            u = (d - older) / (s - SIGMAS[k - 2])
            x = (
                x
                + part(lambda v, p=p, q=q: (v - p) * (v - q), lambda v, p=p, q=q: 2 * v - p - q) * u
            )
        past.append(new)
    torch.testing.assert_close(sampled("er_sde"), denoised(x, SIGMAS[-2]), rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["uni_pc", "uni_pc_bh2"])
def test_uni_pc(name):
    """Predictor and corrector of order two with B(h) = 1 − e^−h (2302.04867, algorithms 5 and 6):
    the corrector takes each step once more with the evaluation at its end. (ComfyUI's is of order
    three: solver="unipc3".)"""
    x, evaluated, base = START, [], None
    for k, s in enumerate(SIGMAS[:-1]):
        new = denoised(x, s)
        if k:
            before, h = SIGMAS[k - 1], math.log(SIGMAS[k - 1] / s)
            b = -math.expm1(-h)
            d0 = evaluated[-1]
            if k == 1:
                correction = 0.5 * (new - d0)
            else:
                r = -math.log(SIGMAS[k - 2] / before) / h
                d1 = (evaluated[-2] - d0) / r
                rhos = np.linalg.solve([[1.0, 1.0], [r, 1.0]], [_b(1, h), _b(2, h)])
                correction = rhos[0] * d1 + rhos[1] * (new - d0)
            x = s / before * base + b * d0 + b * correction
        evaluated.append(new)
        base, t = x, SIGMAS[k + 1]
        if t == 0.0:
            break
        h = math.log(s / t)
        predicted = t / s * x - math.expm1(-h) * new
        if k:
            r = -math.log(SIGMAS[k - 1] / s) / h
            predicted = predicted - math.expm1(-h) * 0.5 * (evaluated[-2] - new) / r
        x = predicted
    close(sampled(name), new)


def _b(k, h):
    """The k-th right-hand side of UniPC's system: ∫ of e^{u−h}·u^k over [0, h], over h^k B(h)."""
    value = integrate.quad(lambda u: math.exp(u - h) * (u / h) ** k, 0, h, epsabs=0, epsrel=1e-13)[
        0
    ]
    return value / -math.expm1(-h)


def test_sa_solver():
    """The stochastic Adams method in λ with λ = τ = 1, predictor of three points, corrector of four
    (2309.05019), by quadrature. (ComfyUI draws noise in the middle of a run alone: lam=.)"""
    x, past, base, noise = START, [], None, None

    def over(x, s, t, points, nodes):
        lam = [(-math.log(node), value) for node, value in nodes]
        return lagrange_step(
            x, -math.log(s), -math.log(t), lam, points,
            lambda v: 2 * math.exp(2 * (v + math.log(t))), carry=(t / s) ** 2,
        )  # fmt: skip

    for k, s in enumerate(SIGMAS[:-1]):
        new = (s, denoised(x, s))
        if k:
            x = over(base, SIGMAS[k - 1], s, min(4, k + 1), [*past, new]) + noise
        past.append(new)
        base, t = x, SIGMAS[k + 1]
        if t == 0.0:
            break
        noise = t * math.sqrt(1 - (t / s) ** 2) * Z[k]
        x = over(x, s, t, min(3, k + 1), past) + noise
    torch.testing.assert_close(sampled("sa_solver"), new[1], rtol=0, atol=1e-8)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_dpm_fast(steps):
    """DPM-Solver-fast's steps: of order three, equal in λ. (What is left of a budget over those is
    filled with multistep steps, where k-diffusion's last step is of order one or two.)"""
    sigmas = np.exp(np.linspace(math.log(8.0), math.log(0.1), steps + 1))
    x = START
    for s, t in pairwise(sigmas):
        h, e = math.log(s / t), slope(x, s)
        m, p = s * math.exp(-h / 3), h / 3
        e_1 = slope(x - m * math.expm1(p) * e, m)
        m, q = s * math.exp(-2 / 3 * h), 2 / 3 * h
        y = x - m * math.expm1(q) * e - m * 2 * (math.expm1(q) / q - 1) * (e_1 - e)
        x = x - t * math.expm1(h) * e - t * 1.5 * (math.expm1(h) / h - 1) * (slope(y, m) - e)
    got = flowsolve.sample(MODEL, solver="dpm_fast", nfe=3 * steps, span=(8.0, 0.1), start=START)
    close(got, x)


def test_deis_is_that_of_diffusers():
    """In λ, of two points; ComfyUI's, in the time of a VP process with linear β, is deis3 there."""
    assert find_solver("deis") == find_solver("DEIS")


@pytest.mark.parametrize("name", aliases.REFUSED)
def test_what_has_no_equal_is_refused_with_the_nearest(name):
    reason, nearest = aliases.REFUSED[name]
    for typed in (name, f"sample_{name}", name.upper()):
        with pytest.raises(ValueError, match="has no equal here") as caught:
            flowsolve.plan(typed, flowsolve.VP(), nfe=10)
        assert reason in str(caught.value) and f"the nearest is {nearest!r}" in str(caught.value)
    assert flowsolve.plan(nearest, flowsolve.VP(), nfe=10).nfe <= 10


TABLE = PROCESSES["discrete"]


def times(grid, process, n):
    return [level.t for level in flowsolve.grids.GRIDS[grid]().levels(process, n)]


@pytest.mark.parametrize("n", [1, 4, 7, 20, 30])
def test_schedulers_on_a_table(n):
    """ComfyUI's lists of indices, those between entries rounded."""
    T = 1000
    simple = [T - 1 - int(x * (T / n)) for x in range(n)]
    assert times("simple", TABLE, n) == [*simple, -1]
    sgm = np.linspace(T - 1, 0, n + 1)[:-1]
    assert np.abs(np.array(times("sgm_uniform", TABLE, n)[:-1]) - sgm).max() < 0.5 + 1e-9
    normal = np.linspace(T - 1, 0, n) if n > 1 else np.array([T - 1])
    assert times("normal", TABLE, n) == [*normal.round(), -1]
    assert times("ddim_uniform", TABLE, n) == [*[1 + i * (T // n) for i in range(n)][::-1], -1]
    beta = np.rint(stats.beta.ppf(1 - np.linspace(0, 1, n, endpoint=False), 0.6, 0.6) * (T - 1))
    assert times("beta", TABLE, n) == [*dict.fromkeys(beta), -1]


def linear_quadratic(steps, threshold=0.025):
    """ComfyUI's and Mochi's function."""
    if steps == 1:
        return [1.0, 0.0]
    linear = steps // 2
    first = [i * threshold / linear for i in range(linear)]
    difference, rest = linear - threshold * steps, steps - linear
    quadratic = difference / (linear * rest**2)
    slope = threshold / linear - 2 * difference / rest**2
    then = [quadratic * i**2 + slope * i + quadratic * linear**2 for i in range(linear, steps)]
    return [1.0 - v for v in [*first, *then, 1.0]]


@pytest.mark.parametrize("n", [2, 5, 12])
def test_schedulers_in_continuous_time(n):
    edm, flow = flowsolve.EDM(), flowsolve.RectifiedFlow()
    i = np.arange(n) / (n - 1)
    optimal = np.tan(i * math.atan(0.002) + (1 - i) * math.atan(80.0))
    np.testing.assert_allclose(times("kl_optimal", edm, n), [*optimal, 0.0], rtol=1e-10)
    exponential = np.exp(np.linspace(math.log(80.0), math.log(0.002), n))
    np.testing.assert_allclose(times("exponential", edm, n), [*exponential, 0.0], rtol=1e-10)
    np.testing.assert_allclose(times("simple", flow, n), 1 - np.arange(n + 1) / n, atol=1e-12)
    low = flow.t_min
    sgm = [*np.linspace(1.0, low, n + 1)[:-1], 0.0]
    np.testing.assert_allclose(times("sgm_uniform", flow, n), sgm, atol=1e-12)
    np.testing.assert_allclose(times("normal", flow, n), [*np.linspace(1, low, n), 0.0], atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 25])
def test_linear_quadratic(n):
    flow = times("linear_quadratic", flowsolve.RectifiedFlow(), n)
    np.testing.assert_allclose(flow, linear_quadratic(n), atol=1e-12)


@pytest.mark.parametrize("threshold", [0.0, 0.5, -1.0, math.nan, "much"])
def test_a_threshold_is_a_part_of_the_way(threshold):
    with pytest.raises((TypeError, ValueError), match="threshold="):
        flowsolve.grids.GRIDS["linear_quadratic"](threshold=threshold)


@pytest.mark.parametrize("process", PROCESSES)
def test_lcm(process):
    """From pure noise, too; and a variance that is short by what the network averages away."""
    model = flowsolve.exact.Gaussian(PROCESSES[process], [0.5], 0.25)
    whole = flowsolve.sample(model, solver="lcm", nfe=8, n=4, seed=0)
    assert whole.isfinite().all()
    solution = flowsolve.solve(model, solver="lcm", nfe=4, n=3, seed=1, keep=("path", "x0"))
    for k, level in enumerate(solution.grid[1:-1]):
        noise = (solution.path[k + 1] - level.A @ solution.x0_path[k]) * (1 / level.R.value)
        place = flowsolve.plan("lcm", model.process, nfe=4).places[k]
        drawn = flowsolve.noise.Stream(1, range(3), (1,), F64, None).at(place)
        torch.testing.assert_close(noise, drawn, rtol=0, atol=1e-9)
