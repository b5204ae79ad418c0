"""Orders of convergence, of ends and of laws, on processes whose A and R are matrices.

Measured as in tests/test_orders.py, on equal steps in t, from noise to the times where the data
begin to show.
"""

import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from problems import (
    ALL,
    DETERMINISTIC,
    MATRIX_PROCESSES,
    MATRIX_SHAPES,
    MATRIX_SPANS,
    SOLVERS,
    STOCHASTIC,
    WORKING,
    marginal_covariance,
    matrix_mixture,
    matrix_run,
    rms,
    run_covariance,
)

import flowsolve
from flowsolve.coordinates import DATA
from flowsolve.processes import CLD, TIME, Blurring
from flowsolve.solvers import (
    DDIM,
    Ancestral,
    Multistep,
    Polynomial,
    PredictorCorrector,
    ReverseSDE,
    StagedSDE,
    Starter,
)

matrices = pytest.mark.parametrize("name", MATRIX_PROCESSES)
#: How far a measured slope may be below the order.
ROOM = {"cld": 0.25, "blurring": 0.3}


def rows(names):
    return pytest.mark.parametrize(("name", "solver"), [row for row in WORKING if row[1] in names])


def started(solver):
    """Options that have a Runge-Kutta method of one order less make the start, where a multistep
    method would warm up."""
    rule = SOLVERS[solver]
    return (
        {"starter": Starter(rule.starter.solver, rule.predictor.points - 1)}
        if isinstance(rule, Multistep) and rule.starter and rule.starter.steps is None
        else {}
    )


@cache
def error(name, solver, nfe, with_start):
    model, start, end = matrix_run(name, *MATRIX_SPANS[name])
    options = started(solver) if with_start else {}
    run = {"nfe": nfe, "grid": "uniform", "span": MATRIX_SPANS[name], "start": start, **options}
    return rms(flowsolve.solve(model, solver=solver, **run).x - end)


def assert_order(name, solver, order, with_start=False):
    """Some come to their order late: if not from 80 to 160 evaluations, then to 320."""
    slopes = []
    for coarse, fine in pairwise((80, 160, 320)):
        errors = (error(name, solver, nfe, with_start) for nfe in (coarse, fine))
        slopes.append(math.log2(next(errors) / next(errors)))
        if slopes[-1] > order - ROOM[name]:
            return
    raise AssertionError(f"{solver} on {name}: slopes {slopes}, expected order {order}")


def limit(name, rule):
    """The order that a method with a memory is left by its first step: Euler's has a local error
    of order two, corrected or Heun's three. On a CLD it does not show."""
    started_with = rule.starter.steps if getattr(rule, "starter", None) else None
    if rule.evaluations > 1 or (started_with or 0) >= rule.order - 1:
        return rule.order
    if name == "cld" and not started_with:
        return rule.order
    return min(rule.order, 2 + bool(getattr(rule, "corrector", None) or started_with))


@pytest.mark.sweep(keep=8)
@rows(DETERMINISTIC)
def test_order(name, solver):
    assert_order(name, solver, limit(name, SOLVERS[solver]))


@pytest.mark.sweep(keep=4)
@rows([solver for solver in ALL if started(solver)])
def test_order_after_a_runge_kutta_start(name, solver):
    assert_order(name, solver, SOLVERS[solver].order, True)


# Noise.


@pytest.mark.sweep(keep=5)
@rows([solver for solver in STOCHASTIC if SOLVERS[solver].order > 0])
def test_weak_order(name, solver):
    """The covariance after a run on Gaussian data, through the run's linear map: no sampling, no
    statistical error. The noise of some shrinks with short steps only, or they are crude."""
    process, shape = MATRIX_PROCESSES[name], (1,) if name == "cld" else MATRIX_SHAPES[name]
    smallest = (CLD(), (1,)) if name == "cld" else (Blurring(1), (1, 1))
    for of, steps, room in (((process, shape), (24, 48), 0.03), (smallest, (200, 400), 0.2)):
        errors = [covariance_error(name, *of, solver, n) for n in steps]
        if math.log2(errors[0] / errors[1]) > 0.8 and errors[1] < room:
            return
    raise AssertionError(f"{solver} on {name}: errors {errors}")


def covariance_error(name, process, shape, solver, n, **options):
    """Of the largest entry, for data N(0, 1/4)."""
    times = np.linspace(*MATRIX_SPANS[name], n + 1).tolist()
    got = run_covariance(process, shape, 0.25, solver, times, **options)
    exactly = marginal_covariance(process, shape, 0.25, times[-1])
    return float((got - exactly).abs().max() / exactly.abs().max())


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("lam", [0.5, 1.0, 1.7])
@matrices
def test_weak_order_of_gddim(name, lam):
    """One, as with λ = 1; λ above it errs more and comes to its order later."""
    process, shape = MATRIX_PROCESSES[name], (1,) if name == "cld" else MATRIX_SHAPES[name]
    coarse, fine = (covariance_error(name, process, shape, "gddim", n, lam=lam) for n in (96, 192))
    assert math.log2(coarse / fine) == pytest.approx(1.0, abs=0.2)


@rows(STOCHASTIC)
def test_law_for_one_point_is_exact(name, solver):
    """x̂0 is right whenever it is asked, so its polynomials are, and so is the law of every step
    that goes quieter and adds the difference; that of a rule that holds more than x̂0 comes to it
    with the step."""
    process, shape = MATRIX_PROCESSES[name], MATRIX_SHAPES[name]
    times = np.array([process.t_max, 0.7, 0.4, 0.2, 0.05])
    exactly = marginal_covariance(process, shape, 0.0, times[-1])
    errors = []
    for _ in range(4):
        got = run_covariance(process, shape, 0.0, solver, times.tolist())
        errors.append(float((got - exactly).abs().max() / exactly.abs().max()))
        if errors[-1] < 1e-9:
            return
        times = np.sort(np.concatenate([times, 0.5 * (times[1:] + times[:-1])]))[::-1]
    exact = DDIM | ReverseSDE | Ancestral | StagedSDE | PredictorCorrector
    assert not isinstance(SOLVERS[solver], exact), errors
    assert errors[-1] < 0.7 * errors[-2], errors


@matrices
@pytest.mark.parametrize(
    ("solver", "options", "partner"),
    [
        ("gddim", {"lam": 0.0}, "ddim"),
        ("ddpm", {"eta": 0.0}, "ddim"),
        ("sa", {"lam": 0.0}, Multistep(Polynomial(3, DATA, TIME), Polynomial(4, DATA, TIME))),
        ("dpmpp2m_sde", {"lam": 0.0}, "etd2"),
        ("dpmpp3m_sde", {"lam": 0.0}, Multistep(Polynomial(3, DATA, TIME))),
        ("dpmpp2s_a", {"eta": 0.0}, "dpmpp2s"),
        ("dpmpp_sde", {"lam": 0.0}, "dpmpp2s"),
        ("pc", {"snr": 0.0}, "ddim"),
        (Ancestral(DDIM()), {}, "ddpm"),
        ("gddim", {}, "ddpm"),
    ],
)
def test_partners(name, solver, options, partner):
    """Without noise a solver is its inner one; gDDIM with λ = 1 is DDPM."""
    for nfe in (5, 8):
        process = MATRIX_PROCESSES[name]
        assert flowsolve.plan(solver, process, nfe=nfe, **options) == flowsolve.plan(
            partner, process, nfe=nfe
        )
        assert flowsolve.plan(solver, process, nfe=nfe) != flowsolve.plan("ddim", process, nfe=nfe)


# Bridges, and the way up.


@pytest.mark.sweep(keep=6)
@matrices
@pytest.mark.parametrize("solver", [name for name in ALL if ":" in name])
def test_bridges_end_where_our_solvers_do(name, solver):
    """Fixed steps within their order's error at 400 evaluations, adaptive ones within a thousand
    times their tolerance."""
    model, start, end = matrix_run(name, *MATRIX_SPANS[name])
    arguments = {"span": MATRIX_SPANS[name], "start": start}
    ours = flowsolve.solve(model, solver="etd4", nfe=160, grid="uniform", **arguments).x
    assert rms(ours - end) < 1e-4
    rule = SOLVERS[solver]
    options = (
        {"nfe": 400, "grid": "uniform"}
        if rule.evaluations
        else {"rtol": 1e-6, "atol": 1e-7, "nfe": 5000}
    )
    if (
        "adams" in solver
    ):  # of order twelve: the explicit one is stable on a CLD with very short steps only
        options |= {"substeps": 2000 if (name, rule.method) == ("cld", "explicit_adams") else 200}
    solution = flowsolve.solve(model, solver=solver, **options, **arguments)
    room = {1: 0.1, 2: 2e-3, 3: 1e-4, 4: 1e-4}[rule.order] if rule.evaluations else 1e-3
    assert rms(solution.x - ours) < room and rms(solution.x - end) < room


@pytest.mark.sweep(keep=1)
@matrices
def test_bridges_from_the_noisiest_level_to_clean_data(name):
    model = matrix_mixture(name)
    arguments = {"n": 3, "seed": 0}
    end = flowsolve.sample(model, solver="scipy:DOP853", rtol=1e-9, atol=1e-11, **arguments)
    assert end.shape == (3, *MATRIX_SHAPES[name])
    for solver, options in (("dopri5", {"rtol": 1e-7, "atol": 1e-9}), ("etd3", {"nfe": 300})):
        assert rms(flowsolve.sample(model, solver=solver, **options, **arguments) - end) < 0.02


@pytest.mark.sweep(keep=1)
@matrices
@pytest.mark.parametrize(
    ("solver", "order"),
    [("ddim", 1), ("heun", 2), ("dpmpp2s", 2), ("unipc2", 3), ("res3s", 3), ("rk4", 4)],
)
def test_encode_and_decode(name, solver, order):
    """Up and down again: what is lost falls with the step at the solver's order or better, and
    little is lost of a whole run."""
    model, lost = matrix_mixture(name), []
    x = model.draw(8)
    for nfe in (192, 384):
        arguments = {"solver": solver, "nfe": nfe, "grid": "uniform", "span": MATRIX_SPANS[name]}
        z = flowsolve.encode(model, x, **arguments)
        assert z.shape == (8, *model.state_shape)
        lost.append(rms(model.process.data(flowsolve.solve(model, start=z, **arguments).x) - x))
    assert math.log2(lost[0] / lost[1]) > order - 0.35
    z = flowsolve.encode(model, x, solver=solver, nfe=96)
    assert rms(flowsolve.sample(model, solver=solver, nfe=96, start=z) - x) < 0.1
