"""Grids: what each is, and that any grid is strictly decreasing, ends where asked, and is used as
given."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import PROCESSES, elementwise

import flowsolve
from flowsolve.grids import GRIDS

DISCRETE = PROCESSES["discrete"]


def times(grid, process, n, **ends):
    return (
        [level.t for level in GRIDS[grid]().levels(process, n, **ends)]
        if isinstance(grid, str)
        else [level.t for level in grid.levels(process, n, **ends)]
    )


@pytest.mark.sweep(keep=60)
@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("grid", GRIDS)
@settings(max_examples=15)
@given(
    n=st.integers(1, 70),
    u=st.floats(0.3, 0.999) | st.just(1.0),
    v=st.floats(0.0, 0.25),
    clean=st.booleans(),
)
def test_any_grid_on_any_process(grid, process, n, u, v, clean):
    process = PROCESSES[process]
    low, high = process.t_min, process.t_max
    start = process.level(low + (high - low) * u)
    end = process.clean if clean else process.level(low + (high - low) * v)
    levels = GRIDS[grid]().levels(process, n, start, end)
    sigmas = [level.sigma for level in levels]
    assert all(a > b for a, b in pairwise(sigmas))
    assert levels[-1] == end and all(not level.clean for level in levels[:-1])
    assert len(levels) <= n + 1
    if process.entries is None:
        assert len(levels) == n + 1
    assert levels[0] == start


def test_paper_tau():
    """τ_i = ⌊c i⌋ and ⌊c i²⌋ (2010.02502, D.2), the authors' code where their S divides T."""
    assert times("uniform", DISCRETE, 20) == [*range(950, -1, -50), -1]
    assert times("uniform", DISCRETE, 30)[:-1] == [float(i * 1000 // 30) for i in range(29, -1, -1)]
    assert times("quadratic", DISCRETE, 10) == [
        *((np.linspace(0, np.sqrt(800), 10) ** 2).astype(int)[::-1]),
        -1,
    ]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("n", [30, 50, 200, 800])
def test_grids_in_time_spend_the_budget_on_a_table(grid, n):
    """Where the law gives some indices twice they are moved apart, by as little as that takes."""
    if not isinstance(GRIDS[grid](), flowsolve.grids.TimeGrid):
        return
    placed = times(grid, DISCRETE, n)
    assert len(placed) == n + 1 and all(a - b >= 1.0 for a, b in pairwise(placed))


def test_indices_are_moved_apart_by_no_more_than_it_takes():
    law = ((np.linspace(0, np.sqrt(800), 50) ** 2).astype(int)[::-1]).tolist()
    assert law[-5:] == [5, 2, 1, 0, 0] and times("quadratic", DISCRETE, 50)[:-1] == [
        *law[:-4],
        3,
        2,
        1,
        0,
    ]
    short = flowsolve.VP.discrete(flowsolve.tables.linear(7))
    assert times("trailing", short, 20) == [*range(6, -1, -1), -1]  # all there is


def test_trailing_to_a_power():
    part = np.arange(10, 0, -1) / 10
    for power in (1, 2, 2.5):
        grid = flowsolve.grids.Trailing(power)
        np.testing.assert_array_equal(
            times(grid, DISCRETE, 10)[:-1], np.round(1000 * part**power) - 1
        )
    vp = PROCESSES["vp"]
    assert times(flowsolve.grids.Trailing(2), vp, 9) == times("quadratic", vp, 9)


def test_times_of_another_tool_may_meet():
    """Of times that round to one level one is kept."""
    flow = PROCESSES["rectified_flow"]
    explicit = flowsolve.grids.Explicit
    assert times(explicit((1.0 + 4e-10, 1.0, 0.5, 0.0)), flow, None) == [1, 0.5, 0]
    assert times(explicit((1.0, 0.5, -5.6e-17)), flow, None) == [1, 0.5, 0]
    assert times(explicit(tuple(np.float32([1.0, 0.1, 0.0]))), flow, None)[1] == np.float32(0.1)


@pytest.mark.parametrize(
    ("kind", "option", "values"),
    [
        ("Karras", "rho", (-7, 0, math.nan, math.inf, "7", True, None)),
        ("Shifted", "shift", (-1.0, 0, math.nan, 1e9, "3")),
        ("Logistic", "low", (-1.0, 0, math.nan, math.inf)),
        ("Trailing", "power", (-1.0, 0, math.nan, 1e9, (2,))),
        ("Leading", "offset", (-300, "abc", 1.5, math.nan, True)),
        ("Beta", "alpha", (-1.0, 0, math.nan, math.inf)),
        ("Beta", "beta", (-1.0, 0, math.nan, math.inf)),
    ],
)
def test_options_that_cannot_be_are_refused(kind, option, values):
    for value in values:
        with pytest.raises((TypeError, ValueError)) as caught:
            getattr(flowsolve.grids, kind)(**{option: value})
        assert f"{option}={value!r}: expected" in str(caught.value)


def test_numbers_of_numpy_and_torch_are_numbers():
    grids = flowsolve.grids
    assert grids.Karras(np.float32(5)) == grids.Karras(torch.tensor(5)) == grids.Karras(5.0)
    assert grids.Leading(np.int64(1)) == grids.Leading(1)
    given = (np.array([1.0, 0.5, 0.0]), torch.tensor([1.0, 0.5, 0.0]), (1, np.float32(0.5), 0.0))
    for each in given:
        assert grids.find_grid(each, PROCESSES["vp"]) == grids.Explicit((1.0, 0.5, 0.0))


def test_what_is_no_grid_is_told_so():
    vp, find = PROCESSES["vp"], flowsolve.grids.find_grid
    for grid, error, text in (
        ([1, "a", 0], TypeError, r"grid\[1\]='a'"),
        ([1, math.nan, 0], ValueError, r"grid\[1\]=nan"),
        ("karras(rho=-1)", ValueError, "rho=-1"),
        ("karras(rho=" + "(" * 5000 + ")", ValueError, "expected options by name"),
        (5, TypeError, "grid=5: expected a name"),
        ({1.0: 0.0}, TypeError, "grid={1.0: 0.0}: expected a name"),
    ):
        with pytest.raises(error, match=text):
            find(grid, vp)
    with pytest.raises(TypeError, match="process=5"):
        find("karras", 5)
    with pytest.raises(TypeError, match=r"start=0\.5"):
        flowsolve.grids.Uniform().levels(vp, 5, start=0.5)
    with pytest.raises(ValueError, match="offset=2000"):
        flowsolve.grids.Leading(2000).levels(DISCRETE, 5)


def test_table_grids_of_other_tools():
    assert times("leading", DISCRETE, 10) == [*range(900, -1, -100), -1]
    assert times(flowsolve.grids.Leading(offset=1), DISCRETE, 10) == [*range(901, 0, -100), -1]
    assert times("trailing", DISCRETE, 10) == [*range(999, 0, -100), -1]
    assert times("linspace", DISCRETE, 10) == [*np.linspace(0, 999, 10).round()[::-1], -1]
    dpm = [*np.linspace(0, 999, 11).round()[::-1][:-1], -1]
    assert times("dpm_linspace", DISCRETE, 10) == dpm and dpm[4:7] == [599, 500, 400]


def test_formulas_in_sigma():
    edm, n = PROCESSES["edm"], 12
    i = np.arange(n) / (n - 1)
    karras = (80 ** (1 / 7) + i * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(times("karras", edm, n)[:-1], karras, rtol=1e-12)
    np.testing.assert_allclose(times("logsnr", edm, n)[:-1], 80 * (0.002 / 80) ** i, rtol=1e-12)
    np.testing.assert_allclose(times("sigma", edm, n)[:-1], 80 + i * (0.002 - 80), rtol=1e-11)
    assert times("karras", edm, n)[-1] == 0.0 and times("karras", edm, 1) == [80.0, 0.0]
    flow = PROCESSES["rectified_flow"]
    u = np.linspace(1, 0, 9)
    np.testing.assert_allclose(times("shifted", flow, 8), 3 * u / (1 + 2 * u), atol=1e-12)
    from scipy.stats import beta

    np.testing.assert_allclose(times("beta", flow, 8), beta.ppf(u, 0.6, 0.6), atol=1e-12)


@pytest.mark.parametrize("process", PROCESSES)
def test_a_grid_is_used_as_given(process):
    process = PROCESSES[process]
    sigmas = [5.0, 2.0, 1.9, 0.3, 0.1]
    given_times = [process.time_of(s) for s in sigmas]
    asked = []

    def net(x, t):
        asked.append(float(t[0]))
        return elementwise(x, t)

    model = flowsolve.Denoiser(net, process, "eps", (2,), time="sigma", dtype=torch.float64)
    solution = flowsolve.solve(model, solver="ddim", grid=given_times, n=1, seed=0)
    assert [level.t for level in solution.grid] == given_times
    np.testing.assert_allclose(asked, sigmas[:-1], rtol=1e-12)


def test_zero_snr_steps_must_go_down():
    with pytest.raises(ValueError, match="n=0: expected a positive integer"):
        GRIDS["uniform"]().levels(DISCRETE, 0)
    with pytest.raises(ValueError, match="shift=-1"):
        flowsolve.grids.Shifted(-1.0)
