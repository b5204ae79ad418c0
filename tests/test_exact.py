"""Exact denoisers against autograd, direct sums and their own samples."""

import math

import pytest
import torch
from problems import F64, PROCESSES, mixture, mixture_run

import flowsolve
from flowsolve import exact

processes = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)


def models(process):
    full = torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=F64)
    return [
        mixture(process),
        exact.Gaussian(process, [0.3, -0.2], full),
        exact.Gaussian(process, [0.3, -0.2], torch.tensor([0.5, 0.1])),
        exact.Dirac(process, [0.3, -0.2]),
        exact.Empirical(process, torch.randn(30, 2, generator=torch.Generator().manual_seed(0))),
        exact.Mixture(process, [1, 2], [[0.0, 1.0], [1.0, 0.0]], 0.2),
    ]


@processes
def test_score_is_the_gradient_of_the_log_density(process):
    for sigma in (0.05, 0.7, 20.0):
        level = process.at("sigma", min(sigma, process.start.sigma))
        for model in models(process):
            x = model.draw(6, level=level).requires_grad_(True)
            (gradient,) = torch.autograd.grad(model.log_density(x, level).sum(), x)
            scale = float(gradient.abs().max()) + 1
            torch.testing.assert_close(model.score(x, level), gradient, rtol=0, atol=1e-10 * scale)


@processes
def test_prediction_adds_up_and_survives_the_solvers_route(process):
    for level in (process.level(process.t_min), process.at("sigma", 1.0), process.start):
        for model in models(process):
            x = model.draw(6, level=level)
            x0, eps = model(x, level)
            torch.testing.assert_close(level.A @ x0 + level.R @ eps, x, rtol=0, atol=1e-13 * (1 + float(x.abs().max())))
            route = flowsolve.Denoiser.__call__(model, x, level)  # through the velocity, as solvers take it
            torch.testing.assert_close(route.x0, x0, rtol=0, atol=1e-13 * (1 + float(x.abs().max())))
            torch.testing.assert_close(route.eps, eps, rtol=0, atol=1e-13 * (1 + float(x.abs().max()) / max(level.R.value, 1)))


def test_posterior_mean_by_hand():
    """x̂0 of point masses is the softmax-weighted mean of the data."""
    process, data = PROCESSES["vp"], torch.randn(9, 3, 2, dtype=F64)
    model, level = exact.Empirical(process, data), process.level(0.4)
    x = torch.randn(5, 3, 2, dtype=F64)
    a, r = level.A.value, level.R.value
    log_weights = torch.stack([-(x - a * point).flatten(1).square().sum(1) / (2 * r * r) for point in data], 1)
    expected = torch.einsum("bk,kij->bij", log_weights.softmax(1), data)
    torch.testing.assert_close(model(x, level).x0, expected, rtol=0, atol=1e-12)


def test_density_integrates_to_one():
    model = mixture(PROCESSES["vp"])
    line = torch.linspace(-8, 8, 401, dtype=F64)
    x = torch.cartesian_prod(line, line)
    for sigma in (0.3, 3.0):
        level = PROCESSES["vp"].at("sigma", sigma)
        assert float(model.log_density(x, level).exp().sum() * (line[1] - line[0]) ** 2) == pytest.approx(1, abs=1e-6)


def test_samples_have_the_moments_of_the_law():
    process, n = PROCESSES["edm"], 40000
    model = mixture(process)
    x = model.draw(n, seed=1)
    weights = model.law.log_weights.exp()
    mean = weights @ model.law.means
    assert (x.mean(0) - mean).abs().max() < 5 * float(x.std(0).max()) / math.sqrt(n)
    noisy = model.draw(n, level=2.0, seed=1)
    assert torch.allclose(noisy.var(0), x.var(0) + 4.0, rtol=5 * math.sqrt(2 / n) * 2)
    assert torch.equal(model.draw(3, seed=4), model.draw(3, seed=4))


@pytest.mark.parametrize("process", ["vp", "edm", "rectified_flow"])
def test_gaussian_flow_solves_the_ode(process):
    process = PROCESSES[process]
    for model in models(process)[1:4]:
        s, t = process.at("sigma", 5.0), process.at("sigma", 0.1)
        x = model.draw(4, level=s)
        ode = flowsolve.solve(model, solver="scipy:DOP853", rtol=1e-12, atol=1e-12, grid=[s.t, t.t], start=x).x
        torch.testing.assert_close(model.flow(x, s, t), ode, rtol=0, atol=1e-8)
        torch.testing.assert_close(model.flow(model.flow(x, s, t), t, s), x, rtol=0, atol=1e-10)
    assert mixture_run(process, 3.0, 0.3)[2].isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: exact.Mixture(p, [1.0], [[0.0], [1.0]]), "expected .K,. and"),
        (lambda p: exact.Mixture(p, [1.0, -1.0], [[0.0], [1.0]]), "expected positive numbers"),
        (lambda p: exact.Mixture(p, [1.0, 1.0], [[0.0], [1.0]], [0.1]), "1 covariances for 2 means"),
        (lambda p: exact.Gaussian(p, [0.0, 1.0], torch.ones(3)), r"a covariance has shape \(3,\)"),
        (lambda p: exact.Gaussian(p, [0.0, 1.0], -1.0), "negative variance"),
        (lambda p: exact.Gaussian(p, [0.0, 1.0], [[1.0, 2.0], [2.0, 1.0]]), "negative variance -1"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make(PROCESSES["vp"])
