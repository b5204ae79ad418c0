"""``predicts="velocity"`` is dx/dt of the process's own path, written down here a second time."""

import math

import pytest
import torch
from problems import F64, PROCESSES

import flowsolve
from flowsolve.processes import Levels

MEAN, VARIANCE = torch.tensor([1.0, -2.0], dtype=F64), 0.3


def vp(t):
    b = 0.1 * t + 9.95 * t**2
    return torch.exp(-0.5 * b), torch.sqrt(-torch.expm1(-b))


def cosine(t, s=0.008):
    theta, first = (0.5 * math.pi * (u + s) / (1.0 + s) for u in (t, 0.0))
    a = torch.cos(theta) / math.cos(first)
    return a, torch.sqrt(1.0 - a * a)


#: (A_t, R_t) of the papers.
PATHS = {
    "vp": (flowsolve.VP(), vp),
    "sub_vp": (flowsolve.processes.SubVP(), lambda t: (vp(t)[0], vp(t)[1] ** 2)),
    "cosine": (flowsolve.VP.cosine(), cosine),
    "gvp": (flowsolve.VP.cosine(s=0.0), lambda t: (torch.cos(c := 0.5 * math.pi * t), c.sin())),
    "ve": (flowsolve.VE(), lambda t: (torch.ones_like(t), 0.01 * 5000.0**t)),
    "edm": (flowsolve.EDM(), lambda t: (torch.ones_like(t), t)),
    "rectified_flow": (flowsolve.RectifiedFlow(), lambda t: (1.0 - t, t)),
    "trig_flow": (flowsolve.TrigFlow(0.5), lambda t: (torch.cos(t), 0.5 * torch.sin(t))),
}
paths = pytest.mark.parametrize(("process", "path"), PATHS.values(), ids=PATHS)


def size(path, t):
    a, r = path(t)
    return torch.sqrt(a * a * VARIANCE + r * r)


def models(process, path):
    """Exact networks of N(MEAN, VARIANCE): x_t = A_t m + S_t z with z constant on a path."""

    def velocity(x, t):
        with torch.enable_grad():
            t = t.clone().requires_grad_()
            a, s = path(t)[0] + 0.0 * t, size(path, t)
            (a_rate,), (s_rate,) = (torch.autograd.grad(c.sum(), t) for c in (a, s))
        a, a_rate, s, s_rate = (c.detach()[:, None] for c in (a, a_rate, s, s_rate))
        return a_rate * MEAN + s_rate / s * (x - a * MEAN)

    def eps(x, t):
        a, r = (c[:, None] for c in path(t))
        return r / (a * a * VARIANCE + r * r) * (x - a * MEAN)

    return (
        flowsolve.Denoiser(net, process, name, (2,), time="t", dtype=F64)
        for net, name in ((velocity, "velocity"), (eps, "eps"))
    )


def test_every_process_of_numbers_has_its_path_here():
    kinds = {type(process) for process, _ in PATHS.values()}
    assert kinds == {type(process) for process in PROCESSES.values() if not process.entries}


@paths
def test_it_says_what_the_posterior_mean_is(process, path):
    model, _ = models(process, path)
    x = torch.randn(3, 2, dtype=F64)
    for u in (0.0, 0.01, 0.3, 0.7, 0.99, 1.0):
        level = process.level(process.t_min + u * (process.t_max - process.t_min))
        a, r = path(torch.tensor(level.t, dtype=F64))
        prediction, scaled = model(r * x, level), r * x - a * MEAN
        room = 1e-11 * (1.0 + float(1.0 / r))  # the rate of √(1 − a²) cancels at small R
        x0 = MEAN + a * VARIANCE / size(path, torch.tensor(level.t, dtype=F64)) ** 2 * scaled
        torch.testing.assert_close(prediction.x0, x0, rtol=room, atol=room)
        torch.testing.assert_close(level.A @ prediction.x0 + level.R @ prediction.eps, r * x)


@pytest.mark.sweep(keep=12)
@paths
@pytest.mark.parametrize(("solver", "order"), [("ab3", 3), ("heun", 2), ("dpmpp2m", 2)])
def test_order_to_the_closed_form(process, path, solver, order):
    """Between levels inside, against x_t = A_t m + S_t/S_s (x_s − A_s m); and as ε does."""
    velocity, eps = models(process, path)
    ends = [process.at("sigma", sigma).t for sigma in (4.0, 0.1)]
    (a, _), (a_t, _) = (path(torch.tensor(t, dtype=F64)) for t in ends)
    s, s_t = (size(path, torch.tensor(t, dtype=F64)) for t in ends)
    x, errors = torch.randn(4, 2, dtype=F64), []
    exact = a_t * MEAN + s_t / s * (x - a * MEAN)
    for steps in (40, 80):
        grid = [
            process.at("lambda", v).t
            for v in torch.linspace(-math.log(4), -math.log(0.1), steps + 1).tolist()
        ]
        grid = [ends[0], *grid[1:-1], ends[1]]
        ours, same = (
            flowsolve.sample(m, solver=solver, grid=grid, start=x) for m in (velocity, eps)
        )
        torch.testing.assert_close(ours, same, rtol=1e-9, atol=1e-9)
        errors.append(float((ours - exact).abs().max()))
    assert errors[1] < 1e-3 and math.log2(errors[0] / errors[1]) > order - 0.3


def test_samples_of_their_own_levels():
    for process, path in PATHS.values():
        model, _ = models(process, path)
        each, x = (
            [process.at("sigma", sigma) for sigma in (0.05, 0.7, 3.0)],
            torch.randn(3, 2, dtype=F64),
        )
        both = model(x, Levels(each))
        for i, level in enumerate(each):
            one = model(x[i : i + 1], level)
            torch.testing.assert_close(both.x0[i : i + 1], one.x0, rtol=1e-12, atol=1e-12)


def test_on_a_rectified_flow_it_is_the_straight_direction_to_the_bit():
    process = flowsolve.RectifiedFlow()
    for t in (1e-3, 0.37, 1.0):
        level = process.level(t)
        for of in ("target", "coefficients"):
            ours, flow = (
                getattr(flowsolve.Parametrization.known[name](), of)(process, level)
                for name in ("velocity", "flow")
            )
            assert ours == flow


@pytest.mark.parametrize("predicts", ["velocity", "scm"])
@pytest.mark.parametrize("name", ["discrete", "zero_terminal_snr"])
def test_a_table_has_none(name, predicts):
    model = flowsolve.Denoiser(lambda x, t: x, PROCESSES[name], predicts, (2,))
    with pytest.raises(ValueError, match=f"predicts='{predicts}' is dx/dt.*expected.*'flow'"):
        flowsolve.sample(model, nfe=5)
