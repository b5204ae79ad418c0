r"""Problems for few-step accuracy: exact denoisers, where runs start, and where they truly end.

Each law of the data is a mixture of Gaussians with diagonal covariances, known without error, in float64. For thousands
of dimensions or of components the sums of :mod:`flowsolve.exact` are written here as matrix products: the three terms of
:math:`(x-am)^2/v` lose no digit that matters while every variance is well above 1e-10.

All samplers of interest commute with rotations, so the 3072-dimensional law is written in its eigenbasis, the discrete
cosine basis of 3x32x32 images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

import flowsolve
from flowsolve import exact
from flowsolve.operators import Scalar
from flowsolve.processes import Process

F64 = torch.float64
#: The σ̄ at which the reference takes its x̂0; what is left of a path from there is of the order of σ̄² over a variance.
QUIET = 1e-5


class Law(exact._Law):
    """The mixture of :class:`flowsolve.exact.Mixture`, evaluated by matrix products; isotropic covariances are all the same."""

    def __init__(self, law: exact._Law) -> None:
        super().__init__(law.log_weights, law.means, None, law.variances)
        self.variance = law.variances[0, 0].item()
        self.lengths = law.means.square().sum(1)

    def forward(self, x: Tensor, a: float, r: float) -> tuple[Tensor, Tensor, Tensor]:
        m, c = self.means, self.variances
        if self.isotropic:
            v = a * a * self.variance + r * r
            log_p = self.log_weights + torch.addmm(self.lengths, x, m.T, beta=-0.5 * a * a / v, alpha=a / v)
            mean = log_p.softmax(1) @ m
            return (a * self.variance * x + r * r * mean) / v, (r / v) * (x - a * mean), log_p
        w = 1.0 / (a * a * c + r * r)
        am_w = a * m * w
        log_p = self.log_weights - 0.5 * (x.square() @ w.T - 2.0 * (x @ am_w.T) + (a * (m * am_w) - w.log()).sum(1))
        p = log_p.softmax(1)
        eps = r * (x * (p @ w) - p @ am_w)
        x0 = a * x * (p @ (c * w)) + (r * r) * (p @ (m * w))
        return x0, eps, log_p


@dataclass(frozen=True, eq=False)
class Problem:
    """A law of the data on a process, with starts and the ODE's ends.

    Attributes:
        name: "mixture", ...; with the process's name it says which problem this is.
        model: the exact denoiser.
        noise: (n, *shape), standard normal: what every sampler makes its start of.
        truth: (n, *shape), where the probability-flow ODE takes the start.
    """

    name: str
    process_name: str
    model: flowsolve.Denoiser
    noise: Tensor
    truth: Tensor

    @property
    def process(self) -> Process:
        return self.model.process

    @property
    def start(self) -> Tensor:
        return self.process.prior(self.process.start) @ self.noise

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """x̂0 at x̄ = x/A and σ̄, the same for every process."""
        assert isinstance(self.model, exact.Exact)
        return self.model.law(x.flatten(1).to(F64), 1.0, sigma)[0].view(x.shape)

    def errors(self, x: Tensor) -> tuple[float, float]:
        """Root mean square over samples and pixels, and the median over samples of the root mean square over pixels."""
        error = (x.to(F64) - self.truth).flatten(1).square().mean(1)
        return error.mean().sqrt().item(), error.median().sqrt().item()


class NetworkProblem(Problem):
    """The same with a trained network, whose path ends with its x̂0 at the quietest trained level."""

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        process = self.process
        level = process.level(min(process.t_max, max(process.t_min, process.time_of(sigma))))
        assert isinstance(level.A, Scalar)
        return self.model((x * level.A.value), level).x0.to(F64)


def _mixture(seed: int, components: int, spread: tuple[float, float]) -> tuple[Tensor, Tensor, list[Tensor]]:
    g = torch.Generator().manual_seed(seed)
    means = torch.randn(components, 2, dtype=F64, generator=g)
    means = 0.5 * (means - means.mean(0)) / means.std()
    widths = spread[0] * (spread[1] / spread[0]) ** torch.rand(components, 2, dtype=F64, generator=g)
    return 0.3 + torch.rand(components, dtype=F64, generator=g), means, list(widths.square())


def _circle() -> tuple[Tensor, Tensor, float]:
    angle = torch.arange(8, dtype=F64) * (math.pi / 4)
    return torch.ones(8), 0.7 * torch.stack([angle.cos(), angle.sin()], 1), 0.08**2


def _digits() -> tuple[Tensor, Tensor, float]:
    from sklearn.datasets import load_digits

    images = torch.as_tensor(load_digits().images, dtype=F64)[:600]  # pyright: ignore[reportAttributeAccessIssue]
    return torch.ones(len(images)), images[:, None] / 8.0 - 1.0, 0.1**2


def _patches() -> tuple[Tensor, Tensor, float]:
    """Pieces of 8x8 pixels, 3 colours, of the two photographs that come with scikit-learn."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(1)
    pieces = []
    for photo in load_sample_images().images:
        rows, columns = rng.integers(0, photo.shape[0] - 8, 200), rng.integers(0, photo.shape[1] - 8, 200)
        pieces += [photo[i : i + 8, j : j + 8].transpose(2, 0, 1) for i, j in zip(rows, columns, strict=True)]
    means = torch.as_tensor(np.stack(pieces), dtype=F64) / 127.5 - 1.0
    return torch.ones(len(means)), means, 0.06**2


def _images(seed: int, components: int, exponent: float, shared: float) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Gaussians with power 1/f^exponent over the frequencies of 32x32 images in three decorrelated colours.

    Component k has its own mean, drawn with ``shared`` of the power, and its own covariance with the rest: each frequency's
    power is up to a factor of e more or less than the law's. A pixel has a variance of 0.25 in all.
    """
    g = torch.Generator().manual_seed(seed)
    f = torch.arange(32, dtype=F64)
    radius = (f[:, None] ** 2 + f**2 + 1.0).sqrt()
    power = torch.tensor([1.0, 0.1, 0.03], dtype=F64)[:, None, None] * radius**-exponent
    power = 0.25 * power / power.mean()
    means = (shared * power).sqrt() * torch.randn(components, 3, 32, 32, dtype=F64, generator=g)
    tilt = torch.randn(components, 3, 1, 1, dtype=F64, generator=g).clamp(-2, 2) / 2 * radius.log() / radius.log().max()
    return torch.ones(components), means, list((1.0 - shared) * power * tilt.exp())


LAWS: dict[str, Callable[[], tuple[Tensor, Tensor, float | list[Tensor]]]] = {
    "mixture": _circle,
    "digits": _digits,
    "images": lambda: _images(0, 6, 2.0, 0.5),
    "random mixture": lambda: _mixture(5, 9, (0.04, 0.3)),
    "patches": _patches,
    "rougher images": lambda: _images(11, 7, 1.7, 0.4),
}
PROCESSES: dict[str, Process] = {
    "VP": flowsolve.VP(),
    "EDM": flowsolve.EDM(),
    "flow": flowsolve.RectifiedFlow(),
    "cosine": flowsolve.VP.cosine(),
    "table": flowsolve.VP.discrete(flowsolve.tables.scaled_linear()),
    "VE": flowsolve.VE(),
}
#: Samples in a full run.
SIZES = {"mixture": 128, "digits": 24, "images": 8, "random mixture": 128, "patches": 24, "rougher images": 8}
#: What ``solver="auto"`` was chosen from, and what it was then checked on.
CHOOSING = [(law, process) for law in ("mixture", "digits", "images") for process in ("VP", "EDM", "flow")]
CHECKING = [(law, process) for law in ("random mixture", "patches", "rougher images") for process in ("cosine", "table", "VE")]


def slow_model(name: str, process: Process) -> exact.Mixture:
    """The library's own exact denoiser of the same law."""
    return exact.Mixture(process, *LAWS[name]())


@lru_cache
def problem(name: str, process_name: str, n: int | None = None, tolerance: float = 1e-10) -> Problem:
    """One of ``LAWS`` on one of ``PROCESSES`` with ``n`` starts."""
    process = PROCESSES[process_name]
    slow = slow_model(name, process)
    model = exact.Exact(process, Law(slow.law), slow.shape)
    generator = torch.Generator().manual_seed(1000)
    noise = torch.randn(SIZES[name] if n is None else n, *slow.shape, dtype=F64, generator=generator)
    blank = Problem(name, process_name, model, noise, torch.empty(0))
    return Problem(name, process_name, model, noise, end(blank, "scipy:DOP853", rtol=tolerance, atol=tolerance))


@lru_cache
def network_problem(n: int = 48, tolerance: float = 1e-6) -> Problem:
    """The shipped network of digits."""
    model = flowsolve.digits()
    process = model.process
    noise = torch.randn(n, *model.shape, dtype=F64, generator=torch.Generator().manual_seed(3))
    blank = NetworkProblem("network", "cosine", model, noise, torch.empty(0))
    with torch.no_grad():
        x = flowsolve.solve(model, solver="scipy:DOP853", rtol=tolerance, atol=tolerance, start=blank.start, span=(None, process.t_min)).x
        truth = model(x, process.level(process.t_min)).x0.to(F64)
    return NetworkProblem("network", "cosine", model, noise, truth)


def end(where: Problem, solver: str, **options: Any) -> Tensor:
    """Where ``solver`` takes the starts, down to σ̄ = ``QUIET`` and from there by x̂0."""
    return where.denoise(_path(where, QUIET, solver, **options), QUIET)


@lru_cache
def path_to(where: Problem, sigma: float) -> Tensor:
    """The true x̄ at σ̄, (n, *shape)."""
    return _path(where, sigma, "scipy:DOP853", rtol=1e-10, atol=1e-10)


def _path(where: Problem, sigma: float, solver: str, **options: Any) -> Tensor:
    level = where.process.at("sigma", sigma)
    assert isinstance(level.A, Scalar)
    return flowsolve.solve(where.model, solver=solver, start=where.start, span=(None, level.t), **options).x / level.A.value
