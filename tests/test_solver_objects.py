"""Solver objects are what can be, or say what cannot; and what runs make of absurd levels."""

import math

import numpy as np
import pytest
import torch
from problems import DETERMINISTIC, F64, PROCESSES, mixture

import flowsolve
from flowsolve import VE, VP, exact
from flowsolve import solvers as sv
from flowsolve.coordinates import DATA, FLOW
from flowsolve.solvers import DDIM, Polynomial, RungeKutta, Tableau

HALF = ((), (0.5,))
INNER = DDIM()
V, T = ValueError, TypeError


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda: Tableau(2, (0, 0.5), HALF, (0.3, 0.3)),
            V,
            r"b=\(0.3, 0.3\): .* sum is 1",
        ),
        (
            lambda: Tableau(2, (0, 1), HALF, (0, 1)),
            V,
            r"c=\(0.0, 1.0\): expected \(0, 0.5\)",
        ),
        (lambda: Tableau(2, (0,), HALF, (0, 1)), V, r"c=\(0.0,\): expected"),
        (lambda: Tableau(2, (0, 0.5), ((),), (0, 1)), V, r"a=\(\(\),\): expected 2 rows"),
        (lambda: Tableau(2, (0, 1), ((), (0.5, 0.5)), (0, 1)), V, "a=.*of 0, 1, 2, ... w"),
        (lambda: Tableau(2, (0.5, 0.5), ((0.5,), (0.5,)), (0, 1)), V, "a=.*0, 1, 2"),
        (lambda: Tableau(1, (), (), ()), V, r"b=\(\): expected weights"),
        (
            lambda: Tableau(2, (0, 2), ((), (2,)), (0.75, 0.25)),
            V,
            "c=.*numbers from 0 to 1",
        ),
        (
            lambda: Tableau(2, (0, 0.5), HALF, (0, math.nan)),
            V,
            r"b\[1\]=nan: expected a f",
        ),
        (lambda: Tableau(0, (0,), ((),), (1,)), V, "order=0: expected a positive integer"),
        (lambda: Tableau(2, (0, 0.5), 5, (0, 1)), T, "a=5: expected a sequence"),
        (lambda: RungeKutta("heun"), T, "tableau='heun': expected a"),
        (lambda: RungeKutta(sv.HEUN, DATA), V, "coordinates=DATA .*NOISE or FLOW"),
        (
            lambda: RungeKutta(sv.HEUN, "noise"),
            T,
            "coordinates='noise': .* NOISE, DATA",
        ),
        (lambda: sv.Exponential([0.5, 0.2]), V, r"nodes=\(0.5, 0.2\): .*increasing"),
        (lambda: sv.Exponential(0.5), T, "nodes=0.5: expected a sequence"),
        (
            lambda: sv.Exponential((0.5,), FLOW),
            V,
            "coordinates=FLOW: expected NOISE or",
        ),
        (lambda: sv.Exponential((0.4,), midpoint=True), V, "midpoint=True, nodes"),
        (
            lambda: sv.Exponential((0.5,), midpoint="yes"),
            T,
            "midpoint='yes': .*True or F",
        ),
        (lambda: sv.RES3(2 / 3), V, "c2=0.66.*that is not 2/3"),
        (lambda: Polynomial(0), V, "points=0: expected a positive integer"),
        (lambda: Polynomial(True), T, "points=True: expected a positive integer"),
        (lambda: Polynomial(2, variable="sigma"), T, "variable='sigma': expected a"),
        (lambda: Polynomial(2, weights="exakt"), V, "weights='exakt' .*mean 'exact'"),
        (
            lambda: sv.Multistep(Polynomial(2), starter="heun"),
            T,
            "starter='heun': .*Start",
        ),
        (lambda: sv.Starter(sv.Adaptive()), V, "solver=Adaptive.*with a plan"),
        (lambda: sv.Starter(DDIM(), -1), V, "steps=-1: expected an integer >= 0"),
        (lambda: sv.GradientEstimation(math.nan), V, "gamma=nan: expected a finite"),
        (lambda: DDIM(large="false"), T, "large='false': expected True or False"),
        (lambda: DDIM(large=1), T, "large=1: expected True or False"),
        (lambda: DDIM(math.inf), V, "eta=inf: expected a number >= 0"),
        (lambda: DDIM(True), T, "eta=True: expected a number >= 0"),
        (
            lambda: DDIM(coordinates=None),
            T,
            "coordinates=None: expected NOISE, DATA or FLOW",
        ),
        (lambda: sv.Hold("data"), T, "coordinates='data': expected NOISE"),
        (lambda: sv.Ancestral(INNER, 1.5), V, "eta=1.5: expected a number from 0"),
        (lambda: sv.ReverseSDE(INNER, -1.0), V, "lam=-1.0: expected a number >= 0"),
        (lambda: sv.ReverseSDE(INNER, "1"), T, "lam='1': .* or a function"),
        (lambda: sv.StagedSDE(math.nan), V, "lam=nan"),
        (lambda: sv.ExtendedSDE(INNER, -1), V, "strength=-1: expected a number >= 0"),
        (lambda: sv.EulerMaruyama(-1), V, "lam=-1: expected a number >= 0"),
        (
            lambda: sv.Churn("heun"),
            T,
            "inner='heun': expected a flowsolve.solvers obj",
        ),
        (lambda: sv.Churn(INNER, s_noise=math.inf), V, "s_noise=inf"),
        (
            lambda: sv.Churn(INNER, s_churn=-1),
            V,
            "s_churn=-1: expected a number >= 0",
        ),
        (lambda: sv.Restart(INNER, low=0.3, high=0.3), V, "expected low < high"),
        (
            lambda: sv.Restart(INNER, repeats=2.5),
            T,
            "repeats=2.5: expected an integer",
        ),
        (lambda: sv.Restart(INNER, share=1.0), V, "share=1.0: expected a number bet"),
        (
            lambda: sv.PredictorCorrector(INNER, snr=1),
            V,
            "snr=1: expected a number from",
        ),
        (
            lambda: sv.PredictorCorrector(INNER, corrections=10**7),
            V,
            "from 1 to 1000",
        ),
        (lambda: sv.Adaptive(0.0), V, "rtol=0.0: expected a positive number"),
        (lambda: sv.Adaptive("1e-3"), T, "rtol='1e-3': expected a positive number"),
        (
            lambda: sv.TorchDiffEq("dopri5", math.inf),
            V,
            "rtol=inf: expected a positive",
        ),
        (lambda: sv.TorchDiffEq("dopri5", coordinates=DATA), V, "coordinates=DATA"),
        (lambda: sv.TorchDiffEq(5), T, "method=5: expected a string"),
        (lambda: sv.SciPy("RK54"), V, "method='RK54' .*mean 'RK45'"),
        (
            lambda: sv.TorchDiffEqAdams("explicit_adams", substeps=10**7),
            V,
            "substeps=10000000: expected an integer from 1 to 1000",
        ),
        (lambda: DDIM(etta=1.0), T, "argument='etta' .*mean 'eta'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_numbers_of_any_library_make_equal_solvers():
    assert DDIM(np.float32(0.5)) == DDIM(torch.tensor(0.5)) == DDIM(0.5)
    assert hash(DDIM(np.float64(1))) == hash(DDIM(1))
    assert Polynomial(np.int64(3)) == Polynomial(3)
    assert sv.Exponential([0.5]) == sv.Exponential((0.5,))
    assert Tableau(2, [0, 1], [[], [1]], np.array([0.5, 0.5])) == sv.HEUN
    assert sv.Adaptive(np.float64(1e-3), 1e-3) == sv.Adaptive()


def test_one_stage_is_a_method_too():
    """Euler's."""
    model, euler = mixture(PROCESSES["vp"]), RungeKutta(Tableau(1, (0,), ((),), (1,)))
    start = torch.randn(3, 2, dtype=F64)
    a, b = (flowsolve.sample(model, solver=s, nfe=7, start=start) for s in (euler, "ddim"))
    torch.testing.assert_close(a, b)


def test_huge_options_are_right_or_refused():
    """1e300 squared is no number."""
    model = mixture(PROCESSES["vp"])
    with pytest.raises(ValueError, match=r"eta=1e\+300 asks for more noise than"):
        flowsolve.sample(model, solver="ddim", eta=1e300)
    fresh = flowsolve.sample(model, solver=sv.ReverseSDE(DDIM(), 1e300), nfe=6, n=2, seed=0)
    assert fresh.isfinite().all()  # every step forgets the noise of the last
    with pytest.raises(ValueError):
        flowsolve.sample(model, solver="euler_maruyama", lam=1e300, seed=0)


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("relative", [1e-15, 1e-14, 1e-12, 1e-9])
@pytest.mark.parametrize("process", ["vp", "discrete", "edm"])
def test_short_spans_hold_the_state(process, relative):
    """A run over next to nothing goes next to nowhere, whatever the method's weights."""
    process = PROCESSES[process]
    model, noisy = mixture(process), process.at("sigma", 2.0)
    x = noisy.R @ torch.randn(2, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    for solver in DETERMINISTIC:
        for nfe in (3, 7, 12):
            try:
                end = flowsolve.sample(
                    model,
                    solver=solver,
                    start=x,
                    nfe=nfe,
                    span=(noisy.t, noisy.t * (1.0 - relative)),
                )
            except ValueError as error:  # there are not so many numbers in between
                assert "decreasing" in str(error) or "no finite numbers" in str(error), error
                continue
            assert (end - x).abs().max() < 1e4 * relative + 1e-8, solver


@pytest.mark.parametrize("solver", ["dopri5", "torchdiffeq:rk4", "scipy:RK45", "adaptive"])
def test_short_spans_of_methods_without_a_plan(solver):
    for name in ("vp", "rectified_flow", "edm"):
        process = PROCESSES[name]
        x, end = torch.randn(2, 2, dtype=F64), process.t_max * (1.0 - 2e-16)
        kept = {"solver": solver, "grid": [process.t_max, end]}
        for move in (flowsolve.sample, flowsolve.encode):
            start = {"start": x} if move is flowsolve.sample else {"x": x}
            assert (move(mixture(process), **start, **kept) - x).abs().max() < 1e-8
        with pytest.raises(ValueError, match=r"the run's end, .*, is not quieter than its start"):
            flowsolve.sample(mixture(process), solver=solver, span=(process.t_clean, None))


EXTREME = {
    "hot": VP(0.1, 2000.0),
    "mild": VP(1e-6, 1e-6),
    "all at once": VP.discrete([0.9999] * 100),
    "narrow": VE(1e-3, 1.0000001e-3),
}


@pytest.mark.parametrize("name", EXTREME)
def test_extreme_processes_are_right_or_refused(name):
    model = exact.Gaussian(EXTREME[name], torch.zeros(2, dtype=F64), 0.3)
    for solver in (*DETERMINISTIC, "dopri5", "adaptive", "scipy:RK45"):
        kept = (
            {"rtol": 1e-2, "atol": 1e-2} if solver in ("dopri5", "adaptive", "scipy:RK45") else {}
        )
        for nfe in (2, 9) if not kept else (300,):
            try:
                end = flowsolve.sample(model, solver=solver, nfe=nfe, n=2, seed=0, **kept)
                assert end.isfinite().all()
            except (ValueError, flowsolve.BudgetExceeded) as error:
                assert "=" in str(error) or isinstance(error, flowsolve.NonFiniteError)
