"""The library's own adaptive solver: the pair of orders 2 and 3, its error control, its ends."""

import math
from itertools import pairwise

import pytest
import torch
from problems import F64, PROCESSES, Tanh, elementwise, mixture, mixture_run, rms

import flowsolve
from flowsolve import exact
from flowsolve.coordinates import DATA
from flowsolve.operators import combine
from flowsolve.solvers import Adaptive, Evaluation, Evaluator, Ode
from flowsolve.solvers.walk import MU, centre


def evenly(process, s, t, n):
    """n + 1 levels from s to t, evenly spaced in μ."""
    return [process.at(MU, MU.of(s) + (MU.of(t) - MU.of(s)) * k / n) for k in range(n + 1)]


class Bare(Evaluator):
    """A evaluator to a model that keeps what it is told."""

    def __init__(self, model):
        self.model, self.process, self.told = model, model.process, []

    def ask(self, x, s, coordinates):
        return combine(self.model.linear(s).mix(coordinates.p_of), (x, self.model.evaluate(x, s)))

    def judged(self, x, levels, accepted, rejected, running):
        self.told.append((accepted.tolist(), rejected.tolist(), levels))

    def noise(self): ...

    def arrive(self, x, t): ...


@pytest.mark.parametrize("h", [-3.0, -0.1, -0.0999, -1e-3, 1e-9, 1e-3, 0.0999, 0.1, 0.5, 8.0, 40.0])
def test_centre_of_mass(h):
    import mpmath

    with mpmath.workdps(50):
        exact_value = float(1 / (1 - mpmath.exp(-mpmath.mpf(h))) - 1 / mpmath.mpf(h))
    assert centre(h) == pytest.approx(exact_value, rel=1e-14)


@pytest.mark.parametrize("process", ["vp", "edm", "rectified_flow"])
def test_order_with_fixed_steps(process):
    """With no error to fear every leg is one step, so a grid is a fixed-step run: order three."""
    process = PROCESSES[process]
    model, start, end, _ = mixture_run(process, 2.0, 0.4)
    s, t = process.at("sigma", 2.0), process.at("sigma", 0.4)
    errors = []
    for n in (8, 16, 32, 64):
        grid = [level.t for level in evenly(process, s, t, n)]
        solution = flowsolve.solve(
            model, solver="adaptive", rtol=1e9, atol=1e9, grid=grid, start=start
        )
        assert (solution.statistics.accepted == n).all() and solution.nfe == 3 * n
        errors.append(rms(solution.x - end))
    assert math.log2(errors[0] / errors[-1]) / 3 == pytest.approx(3.0, abs=0.2)


def test_order_of_the_embedded_solution():
    process = PROCESSES["vp"]
    model, start, end, _ = mixture_run(process, 2.0, 0.4)
    errors = []
    for n in (16, 32, 64, 128):
        x, levels = start, evenly(process, process.at("sigma", 2.0), process.at("sigma", 0.4), n)
        for s, t in pairwise(levels):
            x = pair(model, x, s, t)[1]
        errors.append(rms(x - end))
    assert math.log2(errors[0] / errors[-1]) / 3 == pytest.approx(2.0, abs=0.2)


def pair(model, x, s, t):
    """The two solutions of one step, from the formulas of the module's text."""
    h = MU.of(t) - MU.of(s)

    def move(to, p):
        carry, c = DATA.hold(s, to)
        return carry @ x + c @ p

    third, two_thirds = (model.process.at(MU, MU.of(s) + c * h) for c in (1 / 3, 2 / 3))
    p1 = model(x, s).x0
    p2 = model(move(third, p1), third).x0
    p3 = model(move(two_thirds, p1 + 2 * centre(2 * h / 3) * (p2 - p1)), two_thirds).x0
    return move(t, p1 + 1.5 * centre(h) * (p3 - p1)), move(t, p1 + 3 * centre(h) * (p2 - p1))


@pytest.mark.parametrize("process", ["vp", "edm", "rectified_flow"])
def test_a_step_is_accepted_if_its_error_is_within_the_tolerance(process):
    """The error of the text's formula decides, to a thousandth."""
    process = PROCESSES[process]
    model, start, _, _ = mixture_run(process, 2.0, 0.4)
    s, t = process.at("sigma", 2.0), process.at("sigma", 1.0)
    high, low = pair(model, start, s, t)
    scale_s, scale_t = (math.hypot(level.A.value, level.R.value) for level in (s, t))
    size = torch.maximum(start.abs() / scale_s, high.abs() / scale_t)
    error = ((high - low) / scale_t / (1 + size)).square().mean(1).sqrt()  # with rtol = atol = 1
    for number in (0, 5, 11):
        for tolerance, within in (
            (1.001 * float(error[number]), True),
            (0.999 * float(error[number]), False),
        ):
            evaluator, solver = Bare(model), Adaptive(tolerance, tolerance)
            x, _ = solver.step(
                Ode(evaluator, DATA),
                start,
                s,
                t,
                (Evaluation(s, None, None, DATA, [10.0] * len(start)),),
            )
            assert (
                evaluator.told[0][0][number] is within
                and evaluator.told[0][1][number] is not within
            )
        if (error <= error[number]).sum() == len(error):
            torch.testing.assert_close(x, high, rtol=0, atol=1e-13)


def test_what_is_left_is_cut_in_the_middle():
    """Rather than into a long step and a sliver."""
    process = PROCESSES["vp"]
    s, t = process.at(MU, 0.5), process.at(MU, 1.5)
    for stride, first in ((2.0, 1.5), (1.0, 1.5), (0.9, 1.0), (0.45, 0.95)):
        evaluator, coarse = Bare(mixture(process)), Adaptive(1e9, 1e9)
        coarse.step(
            Ode(evaluator, DATA),
            torch.randn(1, 2, dtype=F64),
            s,
            t,
            (Evaluation(s, None, None, DATA, [stride]),),
        )
        assert (
            MU.of(evaluator.told[0][2][0]) == pytest.approx(first, abs=1e-12)
            and evaluator.told[-1][2][0] is t
        )


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("process", ["vp", "cosine", "discrete", "ve", "edm", "rectified_flow"])
def test_error_is_proportional_to_the_tolerance(process):
    """Over the whole run, from the process's start (pure noise included) to its t_min: between 0.1
    and 2 times rtol."""
    process = PROCESSES[process]
    model = mixture(process)
    start = process.prior(process.start) @ torch.randn(
        32, 2, dtype=F64, generator=torch.Generator().manual_seed(0)
    )
    arguments = {"start": start, "span": (None, process.t_min)}
    end = flowsolve.solve(model, solver="scipy:DOP853", rtol=1e-11, atol=1e-11, **arguments).x
    spent = []
    for tolerance in (1e-2, 1e-3, 1e-4, 1e-5):
        solution = flowsolve.solve(
            model, solver="adaptive", rtol=tolerance, atol=tolerance, **arguments
        )
        assert 0.1 < rms(solution.x - end) / tolerance < 2
        spent.append(float(solution.statistics.evaluations.double().mean()))
        assert int(solution.statistics.rejected.sum()) < 0.3 * int(
            solution.statistics.accepted.sum()
        )
    # Steps as long as the cube root of the tolerance allows: 10^(1/3) times the evaluations for a
    # tenth of the error.
    assert all(b / a < 1.15 * 10 ** (1 / 3) for a, b in pairwise(spent))


@pytest.mark.parametrize("process", PROCESSES)
def test_exact_on_one_point_between_singular_ends(process):
    point = torch.tensor([0.3, -1.2], dtype=F64)
    solution = flowsolve.solve(
        exact.Dirac(PROCESSES[process], point), solver="adaptive", n=3, seed=1
    )
    torch.testing.assert_close(solution.x, point.expand(3, 2), rtol=0, atol=1e-9)
    assert solution.grid[-1].clean and solution.grid[-2].t == PROCESSES[process].t_min
    assert int(solution.statistics.rejected.sum()) == 0 and solution.nfe < 20


def test_stops_on_the_callers_times_and_keeps_its_stride():
    process = PROCESSES["rectified_flow"]
    model, tolerances = mixture(process), {"rtol": 1e-6, "atol": 1e-6}
    start = torch.randn(6, 2, dtype=F64)
    times = [1.0, 0.9, 0.5, 0.3, 0.1, 0.02]
    solution = flowsolve.solve(
        model, solver="adaptive", grid=times, start=start, keep=("path", "x0"), **tolerances
    )
    assert [level.t for level in solution.grid] == times and solution.path.shape == (6, 6, 2)
    assert torch.equal(solution.path[0], start) and torch.equal(solution.path[-1], solution.x)
    other = flowsolve.solve(
        model, solver="scipy:DOP853", rtol=1e-11, atol=1e-11, grid=times, start=start, keep="path"
    ).path
    assert rms(solution.path - other) < 5e-6
    assert solution.x0_path.shape == (solution.nfe, 6, 2) and solution.x0_path.isfinite().all()
    # After one point has shown that steps may be long they stay so: the first leg takes the few
    # that lead there, the others one.
    one_point, times = (
        exact.Dirac(process, [0.3, -1.2]),
        [level.t for level in evenly(process, process.start, process.level(0.02), 9)],
    )
    accepted = flowsolve.solve(
        one_point, solver="adaptive", grid=times, start=start, rtol=1e-9, atol=1e-9
    ).statistics.accepted
    assert (accepted <= 9 + 4).all()
    with pytest.raises(ValueError, match="chooses its own steps"):
        flowsolve.solve(model, solver="adaptive", grid="karras", start=start)


@pytest.mark.parametrize("process", ["vp", "edm", "rectified_flow"])
def test_upward_and_back(process):
    model, tolerances = mixture(PROCESSES[process]), {"rtol": 1e-6, "atol": 1e-6}
    x = model.draw(5)
    z = flowsolve.encode(model, x, solver="adaptive", **tolerances)
    reference = flowsolve.encode(model, x, solver="scipy:DOP853", rtol=1e-10, atol=1e-10)
    assert rms(z - reference) < 1e-4 * rms(reference)
    assert (
        rms(flowsolve.sample(model, solver="adaptive", start=z, **tolerances) - x) < 2e-2
    )  # the noise missing at t_min


def test_gradients_of_the_accepted_steps():
    torch.manual_seed(0)
    net = torch.nn.Linear(2, 2).double()
    model = flowsolve.Denoiser(Tanh(net).eval(), PROCESSES["edm"], "eps", (2,))
    start = torch.randn(3, 2, dtype=F64) * torch.tensor([[1.0], [1.0], [8.0]], dtype=F64)
    start.requires_grad_(True)
    gradients = []
    for solver, options in (("adaptive", {"rtol": 1e-8, "atol": 1e-8}), ("rk4", {"nfe": 800})):
        net.zero_grad()
        x = flowsolve.solve(
            model, solver=solver, start=start, span=(2.0, 0.1), differentiable=True, **options
        ).x
        (g,) = torch.autograd.grad(x.square().sum(), start, retain_graph=True)
        x.square().sum().backward()
        gradients.append((g, net.weight.grad.clone()))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_float32_follows_float64():
    a, b = (
        flowsolve.sample(
            flowsolve.Denoiser(elementwise, PROCESSES["vp"], "eps", (5,), dtype=dtype),
            solver="adaptive",
            n=4,
            seed=2,
        )
        for dtype in (torch.float32, F64)
    )
    assert a.dtype == torch.float32 and b.dtype == F64
    torch.testing.assert_close(
        a.double(), b, rtol=0, atol=5e-3
    )  # a step near the tolerance may be accepted in one only


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rtol": 0.0}, ValueError, "rtol=0.0: expected a positive number"),
        ({"atol": -1.0}, ValueError, "atol=-1.0: expected a positive number"),
        ({"rtol": float("nan")}, ValueError, "rtol=nan"),
        ({"atol": "1e-3"}, TypeError, "atol='1e-3'"),
        (
            {"tol": 1e-3},
            TypeError,
            r"option='tol' is not known. Did you mean '[ra]tol'.*an option of Adaptive",
        ),
        ({"nfe": 0}, ValueError, "nfe=0"),
    ],
)
def test_misuse(options, error, message):
    with pytest.raises(error, match=message):
        flowsolve.sample(mixture(PROCESSES["vp"]), solver="adaptive", **options)


def test_names():
    model = mixture(PROCESSES["edm"])
    arguments = {"n": 2, "seed": 0, "rtol": 1e-2, "atol": 1e-2}
    x = flowsolve.sample(model, solver="adaptive", **arguments)
    assert torch.equal(x, flowsolve.sample(model, solver="dpm_adaptive", **arguments))
    assert torch.equal(x, flowsolve.sample(model, solver=Adaptive(1e-2, 1e-2), n=2, seed=0))
