r"""Laws of data whose denoiser is known without error, and that denoiser as matrix products.

Each is a mixture of Gaussians with diagonal covariances. For thousands of dimensions or of
components the sums of :mod:`flowsolve.exact` are written here as matrix products, in float64: the
three terms of :math:`(x-am)^2/v` lose no digit that matters while every variance is well above
1e-10.

All samplers of interest commute with rotations, so the 3072-dimensional laws are written in their
eigenbasis, the discrete cosine basis of 3x32x32 images.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from inside import numbers, training_digits
from torch import Tensor

from flowsolve import Process

F64 = torch.float64
#: Weights, means and variances: a number for all components, or a tensor for each.
Parts = tuple[Tensor, Tensor, float | list[Tensor]]


class Law:
    """A mixture of K Gaussians in D dimensions."""

    def __init__(self, weights: Tensor, means: Tensor, variances: float | list[Tensor]) -> None:
        self.log_weights = weights.to(F64).log().log_softmax(0)
        self.means = means.flatten(1)
        if isinstance(variances, list):
            self.variances = torch.stack([v.flatten() for v in variances])
        else:
            self.variances = float(variances)
        self.lengths = self.means.square().sum(1)

    def __call__(self, x: Tensor, a: float, r: float) -> tuple[Tensor, Tensor]:
        """(x̂0, ε̂) at x of shape (batch, D), the signal's factor being a and the noise's r."""
        m, c = self.means, self.variances
        if not isinstance(c, Tensor):
            v = a * a * c + r * r
            log_p = self.log_weights + torch.addmm(
                self.lengths, x, m.T, beta=-0.5 * a * a / v, alpha=a / v
            )
            mean = log_p.softmax(1) @ m
            return (a * c * x + r * r * mean) / v, (r / v) * (x - a * mean)
        w = 1.0 / (a * a * c + r * r)
        am_w = a * m * w
        log_p = self.log_weights - 0.5 * (
            x.square() @ w.T - 2.0 * (x @ am_w.T) + (a * (m * am_w) - w.log()).sum(1)
        )
        p = log_p.softmax(1)
        eps = r * (x * (p @ w) - p @ am_w)
        x0 = a * x * (p @ (c * w)) + (r * r) * (p @ (m * w))
        return x0, eps


class Velocity:
    """A network that knows the law: called at (x, t) it returns ε̂ − x̂0, from which both are got
    without cancellation at either end."""

    def __init__(self, law: Law, process: Process) -> None:
        self.law, self.process = law, process

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        x0, eps = self.law(x.flatten(1), *numbers(self.process.level(t[0].item())))
        return (eps - x0).view(x.shape)


def mixture(seed: int, components: int, spread: tuple[float, float], d: int = 2) -> Parts:
    """Gaussians of many widths in d dimensions."""
    g = torch.Generator().manual_seed(seed)
    means = torch.randn(components, d, dtype=F64, generator=g)
    means = 0.5 * (means - means.mean(0)) / means.std()
    widths = spread[0] * (spread[1] / spread[0]) ** torch.rand(
        components, d, dtype=F64, generator=g
    )
    return 0.3 + torch.rand(components, dtype=F64, generator=g), means, list(widths.square())


def circle(radius: float, width: float) -> Parts:
    """Eight on a circle."""
    angle = torch.arange(8, dtype=F64) * (math.pi / 4)
    return torch.ones(8), radius * torch.stack([angle.cos(), angle.sin()], 1), width**2


def _digits() -> Tensor:
    from sklearn.datasets import load_digits

    pixels = np.asarray(load_digits(return_X_y=True)[0]).reshape(-1, 1, 8, 8)
    return torch.as_tensor(pixels[:600], dtype=F64) / 8.0 - 1.0


def around(points: Tensor, width: float) -> Parts:
    """A Gaussian around each: around points alone every path ends on some point, and an error is
    nothing or a whole digit."""
    return torch.ones(len(points)), points.to(F64), width**2


def _patches() -> Parts:
    """Pieces of 8x8 pixels, 3 colours, of the two photographs that come with scikit-learn."""

    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(1)
    pieces = []
    for photo in load_sample_images().images:
        rows, columns = (
            rng.integers(0, photo.shape[0] - 8, 200),
            rng.integers(0, photo.shape[1] - 8, 200),
        )
        pieces += [
            photo[i : i + 8, j : j + 8].transpose(2, 0, 1)
            for i, j in zip(rows, columns, strict=True)
        ]
    means = torch.as_tensor(np.stack(pieces), dtype=F64) / 127.5 - 1.0
    return torch.ones(len(means)), means, 0.06**2


def images(
    seed: int,
    components: int,
    exponent: float,
    shared: float,
    side: int = 32,
    colours: tuple[float, ...] = (1.0, 0.1, 0.03),
) -> Parts:
    """Gaussians with power 1/f^exponent over the frequencies of images in decorrelated colours, by
    default 32x32 in three.

    Component k has its own mean, drawn with ``shared`` of the power, and its own covariance with
    the rest: each frequency's power is up to a factor of e more or less than the law's. A pixel has
    a variance of 0.25 in all.
    """
    g = torch.Generator().manual_seed(seed)
    f = torch.arange(side, dtype=F64)
    radius = (f[:, None] ** 2 + f**2 + 1.0).sqrt()
    power = torch.tensor(colours, dtype=F64)[:, None, None] * radius**-exponent
    power = 0.25 * power / power.mean()
    means = (shared * power).sqrt() * torch.randn(components, *power.shape, dtype=F64, generator=g)
    tilt = (
        torch.randn(components, len(colours), 1, 1, dtype=F64, generator=g).clamp(-2, 2)
        / 2
        * radius.log()
        / radius.log().max()
    )
    return torch.ones(components), means, list((1.0 - shared) * power * tilt.exp())


LAWS: dict[str, Callable[[], Parts]] = {
    "circle": lambda: circle(1.0, 0.1),
    "1500 digits": lambda: around(training_digits(), 0.1),
    "mixture": lambda: circle(0.7, 0.08),
    "digits": lambda: around(_digits(), 0.1),
    "images": lambda: images(0, 6, 2.0, 0.5),
    "random mixture": lambda: mixture(5, 9, (0.04, 0.3)),
    "patches": _patches,
    "rougher images": lambda: images(11, 7, 1.7, 0.4),
}
