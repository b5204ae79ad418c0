"""Levels, their inverses, and the ends."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf
from problems import EXAMPLES, PROCESSES

import flowsolve
from flowsolve.processes import VARIABLES, tables


@pytest.mark.parametrize("name", PROCESSES)
@given(u=st.floats(0.0, 1.0))
def test_noise_level_to_time_and_back(name, u):
    process = PROCESSES[name]
    # The whole trained range, in log σ̄, and t itself.
    low = process.level(process.t_min).sigma
    top = process.start.sigma
    high = 1e5 if math.isinf(top) else top
    sigma = math.exp((1 - u) * math.log(low) + u * math.log(high))
    t = process.time_of(sigma)
    assert process.level(t).sigma == pytest.approx(sigma, rel=1e-10)
    assert process.time_of(process.level(t).sigma) == pytest.approx(t, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("variable", VARIABLES)
def test_at_any_variable(name, variable):
    process = PROCESSES[name]
    level = process.at("sigma", 0.7)
    assert process.at(variable, VARIABLES[variable].of(level)).sigma == pytest.approx(
        0.7, rel=1e-10
    )


@pytest.mark.parametrize("name", PROCESSES)
def test_ends(name):
    process = PROCESSES[name]
    assert process.clean.clean and process.clean.A.one and process.clean.lam == math.inf
    times = [process.t_min + (process.t_max - process.t_min) * k / 50 for k in range(51)]
    sigmas = [process.level(t).sigma for t in times]
    assert sigmas == sorted(sigmas) and sigmas[0] > 0 and len(set(sigmas)) == len(sigmas)
    if name in ("cosine", "zero_terminal_snr", "rectified_flow"):
        assert process.start.pure_noise and process.start.lam == -math.inf
        assert process.time_of(math.inf) == process.t_max


@pytest.mark.parametrize("t", [1e-12, 1e-8, 1e-5, 1e-3, 0.3, 1.0])
def test_vp_loses_no_digits_near_clean_data(t):
    with mp.workdps(40):
        b = mpf(t) * (mpf("0.1") + mpf(t) * (mpf(20) - mpf("0.1")) / 2)
        exact = {"vp": mp.sqrt(1 - mp.exp(-b)), "sub_vp": 1 - mp.exp(-b)}
    for name, r in exact.items():
        assert PROCESSES[name].level(t).R.value == pytest.approx(float(r), rel=1e-14)


@pytest.mark.parametrize("t", [1e-9, 1e-4, 0.5, 0.999, 1 - 1e-12])
def test_cosine_loses_no_digits_at_either_end(t):
    with mp.workdps(40):
        theta0 = mpf("0.008") / mpf("1.008") * mp.pi / 2
        a = mp.cos((mpf(t) + mpf("0.008")) / mpf("1.008") * mp.pi / 2) / mp.cos(theta0)
        r = mp.sqrt(1 - a * a)
    level = PROCESSES["cosine"].level(t)
    assert level.A.value == pytest.approx(float(a), rel=1e-11) and level.R.value == pytest.approx(
        float(r), rel=1e-9
    )


@pytest.mark.parametrize("name", ["vp", "cosine", "discrete", "zero_terminal_snr"])
def test_variance_is_preserved(name):
    process = PROCESSES[name]
    for k in range(21):
        level = process.level(process.t_clean + (process.t_max - process.t_clean) * k / 20)
        assert level.A.value**2 + level.R.value**2 == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize(
    "make", [tables.linear, tables.scaled_linear, tables.cosine, tables.sigmoid]
)
def test_tables_meet_their_entries(make):
    betas = make(200)
    process, alpha_bar = flowsolve.VP.discrete(betas), 1.0
    for i, beta in enumerate(betas):
        alpha_bar *= 1 - beta
        level = process.level(float(i))
        assert level.A.value**2 == pytest.approx(alpha_bar, rel=1e-11)
        assert process.time_of(level.sigma) == pytest.approx(i, abs=1e-9)
    assert process.entries == 200 and process.start.t == 199.0


def test_zero_terminal_snr_ends_on_noise_and_keeps_its_first_level():
    betas = tables.scaled_linear()
    process = flowsolve.VP.discrete(tables.zero_terminal_snr(betas))
    assert process.start.A.value == 0.0 and process.start.R.value == 1.0
    assert process.level(0.0).sigma == pytest.approx(
        flowsolve.VP.discrete(betas).level(0.0).sigma, rel=1e-12
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: flowsolve.VP(beta_min=-1.0), "beta_min=-1.0"),
        (lambda: flowsolve.VP(beta_min=5.0, beta_max=1.0), "beta_max=1.0"),
        (lambda: flowsolve.VE(sigma_min=0.0), "sigma_min=0.0"),
        (lambda: flowsolve.EDM(sigma_max=0.001), "sigma_max=0.001"),
        (lambda: flowsolve.VP.cosine(s=-1.0), "s=-1.0"),
        (lambda: flowsolve.VP.discrete([]), "empty"),
        (lambda: flowsolve.VP.discrete([0.1, 1.5]), r"betas\[1\]=1.5"),
        (lambda: flowsolve.VP.discrete([1.0, 0.5]), r"betas\[0\]=1.0"),
        (lambda: flowsolve.VP().level(1.5), "t=1.5"),
        (lambda: flowsolve.VP().level(float("nan")), "t=nan"),
        (lambda: flowsolve.VP().at("sigmoid", 1.0), "Did you mean 'sigma'"),
        (lambda: tables.linear(0), "entries=0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", EXAMPLES)
def test_rates_are_derivatives(name):
    """By central differences, whose error is h² of a third derivative and rounding over h."""
    process = EXAMPLES[name]
    for u in (0.05, 0.3, 0.6, 0.9):
        t = process.t_min + u * (process.t_max - process.t_min)
        if process.entries:  # a table has kinks at its entries
            t = int(t) + 0.4
        h = 1e-5 * max(1.0, abs(t))
        below, above = process.level(t - h), process.level(t + h)
        rates = process.rates(process.level(t))
        for rate, low, high in zip(rates, (below.A, below.R), (above.A, above.R), strict=True):
            difference = (high.entries - low.entries) / (2.0 * h)
            np.testing.assert_allclose(
                rate.entries,
                difference,
                rtol=1e-5,
                atol=1e-6 * (1e-12 + np.abs(rate.entries).max()),
            )
