"""Exact denoisers under CLD and blurring diffusion, against autograd, torch.distributions and
DOP853."""

import math

import pytest
import torch
from problems import F64, MATRIX_PROCESSES, MATRIX_SHAPES, dense, norm

import flowsolve
from flowsolve import exact
from flowsolve.processes import CLD

matrices = pytest.mark.parametrize("name", MATRIX_PROCESSES)


def models(name):
    """A mixture of every kind of covariance, alone and together."""
    process, shape = MATRIX_PROCESSES[name], MATRIX_SHAPES[name]
    size, generator = math.prod(shape), torch.Generator().manual_seed(3)
    means = torch.randn(3, *shape, dtype=F64, generator=generator)
    root = torch.randn(size, size, dtype=F64, generator=generator)
    diagonal, full = torch.rand(shape, dtype=F64, generator=generator) + 0.1, root @ root.T
    return [
        exact.Mixture(process, [1, 2, 1], means, 0.3),
        exact.Mixture(process, [1, 2, 1], means, [0.3, 0.0, 0.1]),
        exact.Mixture(process, [1, 2, 1], means, diagonal),
        exact.Mixture(process, [1, 2, 1], means, [full, diagonal, 0.2]),
        exact.Gaussian(process, means[0], full),
        exact.Dirac(process, means[0]),
        exact.Empirical(process, means),
    ]


@matrices
@pytest.mark.parametrize("t", [1e-3, 0.1, 0.5, 0.996])
def test_scores_and_predictions(name, t):
    """The score is the gradient of the log density, and x = A x̂0 + R ε̂ with x̂0 the posterior
    mean by Tweedie's formula."""
    level = MATRIX_PROCESSES[name].level(t)
    for model in models(name):
        x = model.draw(5, level=level).requires_grad_(True)
        (gradient,) = torch.autograd.grad(model.log_density(x, level).sum(), x)
        x = x.detach()
        assert (model.score(x, level) - gradient).abs().max() < 1e-10 * (
            1.0 + float(gradient.abs().max())
        )
        x0, eps = model(x, level)
        size = 1.0 + float(x.abs().max()) + float((level.A @ x0).abs().max())
        torch.testing.assert_close(level.A @ x0 + level.R @ eps, x, rtol=0, atol=1e-12 * size)
        tweedie = level.A.inverse() @ (x + level.R @ level.R.T @ gradient)
        torch.testing.assert_close(
            x0, tweedie, rtol=0, atol=1e-11 * (1.0 + norm(level.A.inverse())) * size
        )


@matrices
@pytest.mark.parametrize("t", [0.0, 1e-3, 0.1, 0.5, 0.996])
def test_log_density_is_that_of_the_mixture(name, t):
    """Against torch.distributions, every covariance as a dense matrix."""
    process, shape = MATRIX_PROCESSES[name], MATRIX_SHAPES[name]
    level, model = process.level(t), models(name)[3]
    if level.R.singular:
        return
    size, law = math.prod(shape), torch.distributions.MultivariateNormal
    generator = torch.Generator().manual_seed(3)
    means = torch.randn(3, *shape, dtype=F64, generator=generator)
    root = torch.randn(size, size, dtype=F64, generator=generator)
    diagonal = torch.rand(shape, dtype=F64, generator=generator) + 0.1
    covariances = [root @ root.T, torch.diag(diagonal.flatten()), 0.2 * torch.eye(size, dtype=F64)]
    clean = process.state(torch.eye(size, dtype=F64).view(size, *shape)).flatten(1).T
    a, r = (dense(o, model.state_shape) for o in (level.A, level.R))
    x, parts = model.draw(6, level=level), []
    for weight, mean, c in zip((0.25, 0.5, 0.25), means, covariances, strict=True):
        covariance = (a @ clean) @ c @ (a @ clean).T + r @ r.T
        parts.append(
            math.log(weight)
            + law(a @ clean @ mean.flatten(), 0.5 * (covariance + covariance.T)).log_prob(
                x.flatten(1)
            )
        )
    # The dense covariance is rounded: its smallest eigenvalue by eps times the largest.
    eigenvalues = torch.linalg.eigvalsh(r @ r.T)
    room = 1e3 * torch.finfo(F64).eps * float(eigenvalues[-1] + 10) / float(eigenvalues[0])
    torch.testing.assert_close(
        model.log_density(x, level), torch.stack(parts).logsumexp(0), rtol=1e-10, atol=1e-10 + room
    )


def test_a_density_integrates_to_one():
    model, level = exact.Mixture(CLD(), [1, 2], [[-1.0], [0.7]], [0.2, 0.1]), CLD().level(0.25)
    line = torch.linspace(-6, 6, 801, dtype=F64)
    total = (
        model.log_density(torch.cartesian_prod(line, line), level).exp().sum()
        * (line[1] - line[0]) ** 2
    )
    assert float(total) == pytest.approx(1.0, abs=1e-6)


@matrices
def test_gaussian_flow_solves_the_ode(name):
    process, shape = MATRIX_PROCESSES[name], MATRIX_SHAPES[name]
    isotropic = exact.Gaussian(process, torch.full(shape, 0.3), 0.4)
    others = (
        []
        if name == "blurring"
        else [models(name)[4], exact.Gaussian(process, [0.3, 0.1], torch.tensor([0.5, 0.1]))]
    )
    for model in (isotropic, *others):
        for s, t in ((0.996, 0.3), (0.3, 0.01), (0.05, 0.9)):
            x = model.draw(3, level=s)
            if t < s:
                ode = flowsolve.solve(
                    model, solver="scipy:DOP853", rtol=1e-12, atol=1e-13, start=x, grid=[s, t]
                ).x
                assert (model.flow(x, s, t) - ode).abs().max() < 1e-8
            torch.testing.assert_close(model.flow(model.flow(x, s, t), t, s), x, rtol=0, atol=1e-8)
    if name == "blurring":
        with pytest.raises(ValueError, match="isotropic covariances only"):
            models(name)[4].flow(x, 0.5, 0.1)
