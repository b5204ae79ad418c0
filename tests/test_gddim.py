"""CLD and blurring diffusion: closed forms against their equations, the root R, gDDIM's exactness.

The identities are those of arXiv 2206.05564; an oracle is scipy's DOP853, mpmath, or a formula
written out in the test.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf
from problems import (
    F64,
    MATRIX_PROCESSES,
    MATRIX_SHAPES,
    PROCESSES,
    dense,
    marginal_covariance,
    matrix_mixture,
    mixture,
    norm,
    rms,
    run_covariance,
)
from scipy.integrate import solve_ivp

import flowsolve
from flowsolve import exact
from flowsolve.operators import Block
from flowsolve.processes import CLD, Blurring

RELEASED = CLD(c0=1e-6, gamma=0.04 + 4e-6)  # the convention of the CLD authors' checkpoints
LANGEVINS = [CLD(), RELEASED, CLD(beta=3.0, inverse_mass=2.5, gamma=0.2), CLD(gamma=0.0, c0=1.0)]
langevins = pytest.mark.parametrize("process", LANGEVINS)
matrices = pytest.mark.parametrize("name", MATRIX_PROCESSES)
GAUSS = [0.5 * v for v in np.polynomial.legendre.leggauss(24)]


def sde(process):
    """(F, GGᵀ) of a CLD."""
    b, k = process.beta, process.inverse_mass
    return b * np.array([[0.0, k], [-1.0, -2.0 * math.sqrt(k)]]), np.diag(
        [0.0, 4.0 * b / math.sqrt(k)]
    )


def integrated(field, y, start, end, panels=12):
    """y + ∫ field, by Gauss's rule with 24 points on each of a few panels; exact to rounding for
    what is smooth on them."""
    for a, b in pairwise(np.linspace(start, end, panels + 1)):
        y = y + sum(
            (b - a) * w * field(a + (b - a) * (0.5 + c)) for c, w in zip(*GAUSS, strict=True)
        )
    return y


def solved(field, y, start, end):
    """The end of y' = field(t, y) for an array of matrices."""
    shape = np.shape(y)
    run = solve_ivp(
        lambda t, v: field(t, v.reshape(shape)).ravel(),
        (start, end),
        np.ravel(y),
        method="DOP853",
        rtol=1e-13,
        atol=1e-15,
    )
    return run.y[:, -1].reshape(shape)


# Closed forms.


@langevins
def test_closed_forms_solve_their_equations(process):
    F, G = sde(process)
    first = process.level(0.01)
    start = np.array([first.A.entries, first.R.entries @ first.R.entries.T, first.R.entries])

    def field(t, y):
        a, cov, r = y
        return np.array([F @ a, F @ cov + cov @ F.T + G, F @ r + 0.5 * G @ np.linalg.inv(r).T])

    for t in (0.05, 0.3, 1.0):
        level, y = process.level(t), solved(field, start, 0.01, t)
        for got, expected in zip(
            (level.A.entries, level.R.entries @ level.R.entries.T, level.R.entries), y, strict=True
        ):
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10)


@langevins
@pytest.mark.parametrize("t", [1e-7, 1e-5, 1e-3, 0.04, 0.3, 1.0])
def test_no_digits_are_lost_at_any_time(process, t):
    """A, the covariance and its determinant against mpmath; the determinant is 1e-15 of the product
    of the variances."""
    mass = math.sqrt(1.0 / process.inverse_mass)
    level = process.level(t)
    with mp.workdps(50):
        v, c0, gamma = (
            mpf(process.beta) / mp.sqrt(1 / mpf(process.inverse_mass)) * mpf(t),
            mpf(process.c0),
            mpf(process.gamma),
        )
        psi = mp.exp(-v) * mp.matrix([[1 + v, v], [-v, 1 - v]])
        kernel = (lambda w: w * w, lambda w: w * (1 - w), lambda w: (1 - w) ** 2)
        xx, xy, yy = (mp.quad(lambda w, f=f: 4 * mp.exp(-2 * w) * f(w), [0, v]) for f in kernel)
        cov = mp.matrix([[xx, xy], [xy, yy]]) + psi * mp.diag([c0, gamma]) * psi.T
        expected = [float(e) for e in (cov[0, 0], cov[0, 1], cov[1, 1], mp.sqrt(mp.det(cov)))]
    R = level.R.entries / np.array([[1.0], [mass]])
    assert level.A.a == pytest.approx(float(psi[0, 0]), rel=1e-14)
    got = (*(R @ R.T)[[0, 0, 1], [0, 1, 1]], level.R.det / mass)
    # An entry of RRᵀ is a sum of products: it is as good as the norms of the two rows.
    sizes = (expected[0], math.sqrt(expected[0] * expected[2]), expected[2], expected[3])
    for value, right, size in zip(got, expected, sizes, strict=True):
        assert abs(value - right) < 4e-14 * size + 1e-15 * math.sqrt(expected[0] * expected[2])


@langevins
@pytest.mark.parametrize("u", [1e-4, 0.1, 2.0, 8.0])
def test_the_angle(process, u):
    """θ(u), the one integral that has no closed form, against mpmath."""
    with mp.workdps(30):
        c0, gamma = mpf(process.c0), mpf(process.gamma)

        def slope(z):  # dθ/dz = 2z √det S / S_xx in z = √u
            v = z * z
            e, p = mp.exp(-2 * v), mp.gammainc(3, 0, 2 * v, regularized=True)
            xx = p + e * (c0 * (1 + v) ** 2 + gamma * v**2)
            xy = 2 * v**2 * e + e * (gamma * v * (1 - v) - c0 * v * (1 + v))
            yy = p + 4 * v * e + e * (c0 * v**2 + gamma * (1 - v) ** 2)
            return 2 * z * mp.sqrt(xx * yy - xy * xy) / xx

        top, least = mp.sqrt(mpf(u)), mpf(10) ** -12
        expected = (0 if process.c0 > 0 else mp.pi / 2) + least * slope(least)
        expected += mp.quad(slope, [least, *(top * mpf(10) ** -k for k in range(6, 0, -1)), top])
    # The first row of R is (cos θ, sin θ) times its length.
    level = replace(process, beta=u / math.sqrt(process.inverse_mass)).level(1.0)
    turn = (math.atan2(level.R.b, level.R.a) - float(expected) + math.pi) % (2.0 * math.pi)
    assert abs(turn - math.pi) < 1e-14


def test_the_limit_at_time_zero():
    process = CLD()
    mass = 1.0 / process.inverse_mass
    kappa, g2, v = (
        process.beta * process.inverse_mass,
        float(sde(process)[1][1, 1]),
        math.sqrt(process.gamma * mass),
    )
    assert Block(0.0, 0.0, 0.0, v) == process.level(0.0).R and process.level(0.0).A.one
    np.testing.assert_allclose(
        CLD(c0=0.25).level(0.0).R.entries, [[0.5, 0.0], [0.0, v]], rtol=1e-15, atol=1e-200
    )
    assert (
        process.level(0.0).R.singular
        and not process.level(1e-9).R.singular
        and process.clean.R.zero
    )
    g, errors = math.sqrt(g2), []
    for t in (1e-8, 1e-10):  # the leading terms; what is left out is smaller by a power of √t
        leading = np.array(
            [[-2 / math.sqrt(3) * kappa * g * t**1.5, kappa * v * t], [-math.sqrt(3 * t) * g, v]]
        )
        errors.append(np.abs(process.level(t).R.entries / leading - 1.0).max())
    assert errors[0] < 1e-3 and errors[1] < 0.15 * errors[0]


@pytest.mark.parametrize("size", [4, (3, 5)])
def test_blurring_is_its_formula(size):
    process = Blurring(size, sigma_max=7.0)
    h, w = process.size
    i, j = np.mgrid[:h, :w]
    for t in (0.0, 0.2, 0.7, 0.996):
        theta = (t + 0.004) / 1.008 * math.pi / 2
        decay = np.exp(
            -(math.pi**2)
            * (i**2 / h**2 + j**2 / w**2)
            * 0.5
            * (7.0 * math.sin(math.pi * t / 2) ** 2) ** 2
        )
        level = process.level(t)
        np.testing.assert_allclose(
            level.A.value, math.cos(theta) * (0.001 + 0.999 * decay), rtol=1e-12
        )
        np.testing.assert_allclose(level.R.value, math.sin(theta), rtol=1e-14)
    assert process.start.t == 0.996 and process.level(0.0).R.value.max() == pytest.approx(
        6.2333e-3, rel=1e-4
    )


@pytest.mark.parametrize("process", [*LANGEVINS, Blurring((3, 4))])
def test_rates_are_derivatives(process):
    for a, b in ((0.02, 0.05), (0.4, 0.9)):
        for k, name in enumerate(("A", "R")):
            s, t = (getattr(process.level(u), name) for u in (a, b))
            got = integrated(
                lambda u, k=k: dense(process.rates(process.level(u))[k], (2, 3, 4)).numpy(),
                dense(s, (2, 3, 4)).numpy(),
                a,
                b,
            )
            np.testing.assert_allclose(got, dense(t, (2, 3, 4)).numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("process", [*LANGEVINS, Blurring((2, 2))])
@pytest.mark.parametrize(("t", "s"), [(1.0, 0.1), (0.02, 0.6)])
def test_the_integral_that_gddim_needs(process, t, s):
    """∫_t^s ½ Ψ(s,τ) GGᵀ R⁻ᵀ dτ = R_s − Ψ(s,t)R_t, with GGᵀ from the definition of the process."""
    t = min(t, process.t_max)
    at_s, at_t = process.level(s), process.level(t)

    def field(tau):
        level = process.level(tau)
        psi = at_s.A @ level.A.inverse()
        if isinstance(process, CLD):
            return 0.5 * psi.entries @ sde(process)[1] @ level.R.inverse().T.entries
        A, R = process.rates(level)  # of diagonals: GGᵀ = dR²/dt − 2(A'/A)R²
        return psi.value * (R.value - A.value / level.A.value * level.R.value)

    whole = at_s.R - at_s.A @ at_t.A.inverse() @ at_t.R
    whole = whole.entries if isinstance(process, CLD) else whole.value
    got = integrated(field, 0.0 * whole, t, s, 24)
    assert np.abs(got - whole).max() < 1e-11 * (1.0 + np.abs(whole).max())


def test_states_of_a_langevin_process():
    process, x0 = CLD(), torch.randn(2, 3, 5, dtype=F64)
    x = process.state(x0)
    assert (
        x.shape == (2, 6, 5)
        and process.state_shape((3, 5)) == (6, 5)
        and torch.equal(process.data(x), x0)
        and not x[:, 3:].any()
    )
    assert (
        process.prior(process.start) == Block(1.0, 0.0, 0.0, 0.5)
        and process.label(process.level(0.5)) == 499.5
    )


# The gauge: R times a rotation does as well.


@dataclass(frozen=True)
class Turned(CLD):
    """A CLD with R O for R, O a rotation."""

    angle: float = 1.3222

    def _turn(self):
        c, s = math.cos(self.angle), math.sin(self.angle)
        return Block(c, -s, s, c)

    def operators(self, t):
        A, R = super().operators(t)
        return A, R @ self._turn()

    def bridge(self, s, t, lam):
        s, t = (CLD().level(level.t) for level in (s, t))
        return CLD().bridge(s, t, lam) @ self._turn()


def test_the_released_convention_is_turned():
    for t in (1e-2, 0.3, 1.0):
        turn = (CLD().level(t).R.inverse() @ RELEASED.level(t).R).entries
        assert abs(math.atan2(turn[0, 1] - turn[1, 0], turn[0, 0] + turn[1, 1])) == pytest.approx(
            1.3222, abs=2e-3
        )


@pytest.mark.parametrize(
    "solver", ["ddim", "ab3", "etd3", "unipc2", "heun", "dpmpp3s", "ddpm", "gddim", "sa"]
)
def test_samplers_do_not_depend_on_the_gauge(solver):
    options = {"lam": 0.6} if solver in ("gddim", "sa") else {}
    arguments = {"solver": solver, "nfe": 12, "n": 4, "seed": 0, **options}
    plain = flowsolve.sample(mixture(CLD()), **arguments)
    size = 1.0 + float(plain.abs().max())
    torch.testing.assert_close(
        flowsolve.sample(mixture(Turned()), **arguments), plain, rtol=0, atol=1e-9 * size
    )
    # c0 = 1e-6 moves a sample by a few of its standard deviations, 1e-3, and not by the turn of R.
    torch.testing.assert_close(
        flowsolve.sample(mixture(RELEASED), **arguments), plain, rtol=0, atol=5e-3 * size
    )


def test_the_law_of_langevin_steps_does_not_depend_on_the_gauge():
    """Their noise is R z: another draw with another R, of the same covariance."""
    a, b = (
        run_covariance(process, (1,), 0.25, "pc", [1.0, 0.6, 0.3, 0.1])
        for process in (CLD(), Turned())
    )
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["vp", "ve", "cld", "blurring"])
def test_eps_is_constant_along_the_flow_to_a_point(name):
    """And with the Cholesky factor in R's place it is not."""
    process = (PROCESSES | MATRIX_PROCESSES)[name]
    shape = MATRIX_SHAPES.get(name, (3,))
    point = torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(1))
    model, top = exact.Dirac(process, point), process.t_max
    grid = [top, 0.8 * top, 0.5 * top, 0.2 * top, 0.05 * top]
    start = model.draw(4, level=top)
    path = flowsolve.solve(
        model, solver="scipy:DOP853", rtol=1e-13, atol=1e-14, grid=grid, start=start, keep="path"
    ).path
    eps = [model(x, t).eps for x, t in zip(path, grid, strict=True)]
    assert max(float((e - eps[0]).abs().max()) for e in eps) < 1e-9
    if name == "cld":
        choleskys = []
        for x, t in zip(path, grid, strict=True):
            level = process.level(t)
            factor = Block.of(np.linalg.cholesky(level.R.entries @ level.R.entries.T))
            choleskys.append(factor.inverse() @ (x - level.A @ process.state(point[None])))
        assert max(float((e - choleskys[0]).abs().max()) for e in choleskys) > 0.5


@pytest.mark.parametrize("name", [*PROCESSES, *MATRIX_PROCESSES, "released", "pictures"])
@settings(max_examples=25)
@given(
    u=st.floats(0.0, 1.0),
    size=st.floats(0.01, 30.0),
    n=st.integers(1, 5),
    seed=st.integers(0, 1000),
    single=st.booleans(),
)
def test_one_evaluation_recovers_a_point(name, u, size, n, seed, single):
    """From any state, on any level, in either dtype: to rounding, amplified by Ψ from there to
    clean data."""
    process = (PROCESSES | MATRIX_PROCESSES | {"released": RELEASED, "pictures": Blurring((8, 8))})[
        name
    ]
    shape = {**MATRIX_SHAPES, "pictures": (3, 8, 8)}.get(name, (4,))
    generator = torch.Generator().manual_seed(seed)
    point = size * torch.randn(shape, dtype=F64, generator=generator)
    level = process.level(process.t_min + (process.t_max - process.t_min) * u)
    model = exact.Dirac(process, point)
    x = level.A @ process.state(point[None]) + level.R @ (
        2.0 * torch.randn(n, *model.state_shape, dtype=F64, generator=generator)
    )
    x = x.float() if single else x
    solution = flowsolve.solve(model, solver="ddim", nfe=1, span=(level.t, None), start=x)
    assert solution.nfe == 1 and solution.x.shape == (n, *shape)
    assert solution.x.dtype == (torch.float32 if single and process.scalar else F64)
    # Where A is a number the estimates come from the velocity ε̂ − x̂0, whose Ψ is 1/(A + R):
    # finite even at pure noise.
    psi = norm(level.A.inverse()) if not process.scalar else 1.0 / (level.A.value + level.R.value)
    room = (
        100
        * torch.finfo(solution.x.dtype).eps
        * (psi * float(x.abs().max()) + float(point.abs().max()))
    )
    torch.testing.assert_close(solution.x.double(), point.expand(n, *shape), rtol=0, atol=room)


# Noise.


def kernel(process, s, t, lam):
    """(Ψ̂, P) of one step of gDDIM, as matrices: what a run through the public face does with unit
    vectors and unit noises."""
    model = exact.Dirac(process, torch.zeros(1, dtype=F64))
    unit, zero = torch.eye(2, dtype=F64), torch.zeros(2, 2, dtype=F64)
    carry, noise = (
        flowsolve.solve(
            model, solver="gddim", lam=lam, grid=[s, t], start=x, noise=z[None]
        ).x.T.numpy()
        for x, z in ((unit, zero), (zero, unit))
    )
    return carry, noise @ noise.T


@pytest.mark.sweep(keep=3)
@langevins
@pytest.mark.parametrize("lam", [0.5, 1.0, 1.7])
def test_the_stochastic_step_solves_its_equations(process, lam):
    """Ψ̂' = F̂Ψ̂, P' = F̂P + PF̂ᵀ − λ²GGᵀ with F̂ = F + ½(1+λ²)GGᵀΣ⁻¹, from s down to t."""
    F, G = sde(process)

    def field(tau, y):
        R = process.level(tau).R.entries
        drift = F + 0.5 * (1.0 + lam**2) * G @ np.linalg.inv(R @ R.T)
        return np.array([drift @ y[0], drift @ y[1] + y[1] @ drift.T - lam**2 * G])

    for s, t in ((1.0, 0.5), (0.5, 0.02), (0.02, 1e-3)):
        expected = solved(field, np.array([np.eye(2), np.zeros((2, 2))]), s, t)
        for got, right in zip(kernel(process, s, t, lam), expected, strict=True):
            np.testing.assert_allclose(got, right, rtol=0, atol=1e-9 * (1.0 + np.abs(right).max()))


@langevins
def test_lambda_one_is_the_bridge_and_lambda_is_continuous(process):
    """q(x_t | x_s, x0) by conditioning the joint Gaussian of the two states."""
    for s, t in ((1.0, 0.5), (0.5, 0.02), (0.3, 1e-3)):
        at_s, at_t = process.level(s), process.level(t)
        before, after = (level.R.entries @ level.R.entries.T for level in (at_s, at_t))
        psi = at_s.A.entries @ np.linalg.inv(at_t.A.entries)
        gain = np.linalg.solve(before, psi @ after).T
        carry, covariance = kernel(process, s, t, 1.0)
        np.testing.assert_allclose(carry, gain, rtol=0, atol=1e-9 * (1.0 + np.abs(gain).max()))
        np.testing.assert_allclose(covariance, after - gain @ psi @ after, rtol=0, atol=1e-9)
        for lam, near in ((1.0, 1.0 + 1e-12), (0.0, 1e-6)):
            a, b = (kernel(process, s, t, value)[0] for value in (lam, near))
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * (1.0 + np.abs(gain).max()))
        at_one, closed = (
            (at_t.R.inverse() @ process.bridge(at_s, at_t, lam)).entries
            for lam in (1.0 + 1e-13, 1.0)
        )
        np.testing.assert_allclose(
            at_one, closed, rtol=0, atol=1e-10
        )  # Q integrated, and Q in closed form
        q = [
            (at_t.R.inverse() @ process.bridge(at_s, at_t, lam)).entries
            for lam in (1.0, math.sqrt(2.0))
        ]
        assert np.abs(q[1] - q[0] @ q[0]).max() > 1e-6, "Q is not a power of its value at λ = 1"


@langevins
@pytest.mark.parametrize("lam", [0.5, 1.0])
def test_steps_as_short_as_there_are(process, lam):
    """Their noise is λ²GGᵀh to first order, in velocities; what rounding leaves of the positions'
    part, h³, is small or none."""
    gg = sde(process)[1]
    for h in (1e-4, 1e-6, 1e-8, 1e-10):
        covariance = kernel(process, 0.5, 0.5 - h, lam)[1]
        np.testing.assert_allclose(
            covariance, lam**2 * h * gg, rtol=0, atol=h * (20.0 * h + 1e-15 / h) * gg[1, 1]
        )


@matrices
@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0, 1.7])
def test_marginals_of_a_point_are_exact_after_four_steps(name, lam):
    """x̂0 is right at once, and so is the law of every step: whatever λ, whatever the steps."""
    process, shape = MATRIX_PROCESSES[name], MATRIX_SHAPES[name]
    times = [process.t_max, 0.7, 0.3, 0.1, 0.01]
    got, exactly = (
        run_covariance(process, shape, 0.0, "gddim", times, lam=lam),
        marginal_covariance(process, shape, 0.0, times[-1]),
    )
    torch.testing.assert_close(got, exactly, rtol=0, atol=1e-9 * float(exactly.abs().max()))
    point = torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(0))
    start = (process.start.A @ process.state(point[None])).expand(
        2, -1, *[-1] * (len(shape) - 1)
    )  # the mean
    silent = torch.zeros(4, *start.shape, dtype=F64)
    mean = flowsolve.solve(
        exact.Dirac(process, point), solver="gddim", lam=lam, grid=times, start=start, noise=silent
    ).x
    torch.testing.assert_close(
        mean,
        (process.level(times[-1]).A @ process.state(point[None])).expand_as(mean),
        rtol=0,
        atol=1e-9,
    )


@pytest.mark.parametrize("lam", [0.3, 1.0, 1.7])
def test_lambda_and_eta_are_one_plan_on_vp(lam):
    """η² = (1 − ρ^{λ²})/(1 − ρ), one number for all steps of a grid uniform in log σ̄; and λ = 1 is
    DDPM."""
    process = PROCESSES["vp"]
    arguments = {"process": process, "nfe": 8, "grid": "logsnr", "span": (1.0, 1e-3)}
    plan = flowsolve.plan("gddim", lam=lam, **arguments)
    rho = {(t.sigma / s.sigma) ** 2 for s, t in pairwise(plan.levels)}
    assert max(rho) == pytest.approx(min(rho), rel=1e-10)
    eta = math.sqrt((1.0 - min(rho) ** (lam**2)) / (1.0 - min(rho)))
    assert (
        plan
        == flowsolve.plan("ddim", eta=eta, **arguments)
        != flowsolve.plan("ddim", eta=0.99 * eta, **arguments)
    )
    assert (plan == flowsolve.plan("ddpm", **arguments)) == (lam == 1.0)


# Accuracy.


@pytest.mark.parametrize(
    ("solver", "coarse", "fine"), [("ddim", 0.59, 0.18), ("etd3", 0.42, 1.8e-3)]
)
def test_a_mixture_with_langevin_down_to_little_noise(solver, coarse, fine):
    """The root mean square of the positions' errors at 10 and at 100 evaluations, no more than a
    first implementation's."""
    process = CLD()
    start = process.prior(process.start) @ torch.randn(
        100, 4, dtype=F64, generator=torch.Generator().manual_seed(0)
    )
    model, arguments = mixture(process), {"span": (1.0, 1e-3), "start": start}
    end = flowsolve.solve(model, solver="scipy:DOP853", rtol=1e-9, atol=1e-11, **arguments).x
    errors = [
        rms(process.data(flowsolve.solve(model, solver=solver, nfe=nfe, **arguments).x - end))
        for nfe in (10, 100)
    ]
    assert errors[0] < coarse and errors[1] < fine


@pytest.mark.parametrize("name", ["vp", "cld", "blurring"])
def test_a_step_of_ddim_errs_by_its_square(name):
    """The local order is two, one more than the global one."""
    process = (PROCESSES | MATRIX_PROCESSES)[name]
    model, errors = mixture(process) if name != "blurring" else matrix_mixture(name), []
    x = model.draw(16, level=0.5)
    for h in (0.01, 0.005):
        run = {"grid": [0.5, 0.5 - h], "start": x}
        exactly = flowsolve.solve(model, solver="scipy:DOP853", rtol=1e-13, atol=1e-14, **run).x
        errors.append(rms(flowsolve.solve(model, solver="ddim", **run).x - exactly))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize(
    ("solver", "order"), [("ddim", 1), ("deis2", 2), ("deis3", 3), ("unipc1", 2), ("unipc2", 3)]
)
def test_orders_on_vp_in_time(solver, order):
    """Between the times where those on a CLD are measured."""
    model = mixture(PROCESSES["vp"])
    run = {"span": (1.0, 0.3), "grid": "uniform", "start": model.draw(16, level=1.0)}
    end = flowsolve.solve(
        model, solver="scipy:DOP853", rtol=1e-13, atol=1e-14, span=run["span"], start=run["start"]
    ).x
    errors = [
        rms(flowsolve.solve(model, solver=solver, nfe=nfe, **run).x - end) for nfe in (160, 320)
    ]
    assert math.log2(errors[0] / errors[1]) > order - 0.25
