"""Methods that choose their own steps keep to the tolerance down to clean data, and from there up.

For data N(μ, v) the equation is known: (x − Aμ)/√(A²v + R²) does not change along it.
"""

import math

import pytest
import torch
from problems import F64, MATRIX_PROCESSES, MATRIX_SHAPES, PROCESSES, elementwise

import flowsolve
from flowsolve import exact

MU = torch.tensor([1.0, -2.0], dtype=F64)
SOLVERS = ["dopri5", "scipy:LSODA", "adaptive"]


def gaussian(process, variance=0.3):
    return exact.Gaussian(process, MU, variance)


def noise_of(process, x, variance=0.3, level=None):
    """Where the equation has ``x`` at the noisiest level, or another."""
    level = level or process.start
    a, r = level.A.value, level.R.value
    return a * MU + math.sqrt(a * a * variance + r * r) * (x - MU) / math.sqrt(variance)


def data(n=5, variance=0.3):
    z = torch.randn(n, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    return MU + math.sqrt(variance) * z


def grids(process):
    """Grids that leave all, much and nothing to the last interval."""
    middle = process.at("sigma", 0.5).t
    return [
        None,
        [process.t_max, process.t_clean],
        [process.t_max, middle, process.t_min, process.t_clean],
    ]


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize(
    ("solver", "process"),
    [*(("dopri5", name) for name in PROCESSES), ("adaptive", "vp"), ("adaptive", "rectified_flow")],
)
def test_down_and_up_between_noise_and_data(process, solver):
    """To σ̄⁴ of t_min, which the hold would miss by σ̄²."""
    process, x = PROCESSES[process], data(2)
    model, z = gaussian(process), noise_of(process, x)
    sigma = process.level(process.t_min).sigma
    tolerance = 3e-7 if solver == "dopri5" else 3e-6
    bound, scale = 7 * tolerance + 40.0 * sigma**4, float(z.abs().max())
    for grid in grids(process):
        kept = {"solver": solver, "grid": grid, "rtol": tolerance, "atol": tolerance}
        down = flowsolve.solve(model, start=z, keep="path", **kept)
        assert (down.x - x).abs().max() < bound
        up = flowsolve.encode(model, x, **kept)
        assert (up - z).abs().max() < 5 * bound * scale
        assert (flowsolve.sample(model, start=up, **kept) - x).abs().max() < 2 * bound
        if grid is not None:
            assert [level.t for level in down.grid] == grid and len(down.path) == len(grid)
    assert bound < sigma**2 or sigma < 2e-3, "the hold would pass"


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_error_falls_with_the_tolerance_whatever_the_grid(solver):
    process, x = PROCESSES["rectified_flow"], data(2)
    model, z = gaussian(process), noise_of(process, x)
    for grid in (None, [1.0, 0.0], [k / 10 for k in range(10, -1, -1)]):
        kept = {"solver": solver, "grid": grid}
        errors = [
            (flowsolve.sample(model, start=z, rtol=tol, atol=tol, **kept) - x).abs().max()
            for tol in (1e-3, 1e-6)
        ]
        assert errors[1] < 1e-4 and errors[1] < errors[0] / 3


@pytest.mark.parametrize("predicts", ["velocity", "eps", "x0", "v", "F"])
def test_whatever_the_network_predicts(predicts):
    process, x = PROCESSES["rectified_flow"], data()
    model = gaussian(process)
    told = []

    def net(x, t):
        told.append(float(t[0]))
        level = process.level(told[-1])
        x0, eps = model(x, level)
        a, b = other.parametrization.target(process, level)
        return a @ x0 + b @ eps

    scale = predicts == "F"  # whose network sees x/n
    other = flowsolve.Denoiser(net, process, predicts, (2,), time="t", dtype=F64)
    if scale:
        raw = net

        def net_f(x, t):
            n = other.parametrization.input_scale(process, process.level(float(t[0])))
            return raw(n.inverse() @ x, t)

        other = flowsolve.Denoiser(net_f, process, predicts, (2,), time="t", dtype=F64)
    end = 0.999 if predicts == "eps" else 1.0  # of ε at pure noise nothing follows
    z, kept = (
        noise_of(process, x, level=process.level(end)),
        {"solver": "dopri5", "rtol": 1e-9, "atol": 1e-9, "grid": [end, 0.4, 0.0]},
    )
    down, up = flowsolve.sample(other, start=z, **kept), flowsolve.encode(other, x, **kept)
    assert (down - x).abs().max() < 1e-6 and (up - z).abs().max() < 1e-5
    # It is never asked on clean data, nor below t_min.
    assert min(told) == process.t_min


def test_data_of_one_point_is_met():
    """Where x̂0 is constant the line is the hold."""
    point = MU.expand(3, 2)
    for name in ("vp", "edm", "zero_terminal_snr"):
        model = exact.Dirac(PROCESSES[name], MU)
        end = flowsolve.sample(model, solver="adaptive", n=3, seed=0)
        torch.testing.assert_close(end, point, rtol=0, atol=1e-9)


def test_a_noisy_end_is_a_state_and_is_left_alone():
    """Runs that do not end on clean data begin and end with states."""
    process = PROCESSES["vp"]
    model, quiet, noisy = gaussian(process), process.level(0.2), process.level(0.9)
    x = data()
    low, high = (noise_of(process, x, level=level) for level in (quiet, noisy))
    for where in ({"grid": [0.9, 0.5, 0.2]}, {"span": (0.9, 0.2)}):
        kept = {"solver": "dopri5", "rtol": 1e-9, "atol": 1e-9, **where}
        assert (flowsolve.sample(model, start=high, **kept) - low).abs().max() < 1e-7
        assert (flowsolve.encode(model, low, **kept) - high).abs().max() < 1e-7


def test_levels_below_t_min_are_the_callers_business():
    process, told = PROCESSES["rectified_flow"], []

    def net(x, t):
        told.append(float(t[0]))
        return elementwise(x, t)

    model = flowsolve.Denoiser(net, process, "velocity", (2,), dtype=F64)
    z = torch.randn(2, 2, dtype=F64)
    end = flowsolve.solve(model, solver="dopri5", start=z, grid=[1.0, 0.3, 1e-4, 0.0])
    assert min(told) == 1e-4 and end.grid[-1].clean and not end.stopped


@pytest.mark.parametrize("name", MATRIX_PROCESSES)
def test_of_matrices_the_end_is_the_hold_from_t_min(name):
    process = MATRIX_PROCESSES[name]
    model = exact.Gaussian(process, torch.zeros(MATRIX_SHAPES[name], dtype=F64), 0.3)
    kept = {"solver": "dopri5", "rtol": 1e-6, "atol": 1e-6}
    start = model.process.prior(process.start) @ torch.randn(
        2, *model.state_shape, dtype=F64, generator=torch.Generator().manual_seed(0)
    )
    a = flowsolve.sample(model, start=start, **kept)
    b = flowsolve.sample(model, start=start, grid=[process.t_max, process.t_clean], **kept)
    torch.testing.assert_close(a, b, rtol=0, atol=1e-4)
