r"""The variational bound a network is judged by.

With :math:`x_s = A_s x_0 + R_s\varepsilon` at a noisier level s and
:math:`q_\sigma(x_t\mid x_s, x_0)` the DDIM paper's family (arXiv 2010.02502, eq. 7), replacing
:math:`x_0` by :math:`\hat x_0` shifts the mean of :math:`q_\sigma` and nothing else, so that

.. math:: \mathrm{KL} = \gamma\,\lVert\varepsilon-\varepsilon_\theta\rVert^2,\qquad \gamma =
   \frac{k^2}{2\sigma^2},\qquad k = A_t\,\bar\sigma_s - \sqrt{R_t^2-\sigma^2},\qquad \sigma^2 =
   \eta^2 R_t^2\,(1-\bar\sigma_t^2/\bar\sigma_s^2)

(eq. 16 for σ; in the paper's VP, s is its t and t its t − 1). The sum over a grid is
:math:`L_\gamma` (Theorem 1); η = 1 makes σ the posterior's and the sum DDPM's bound (arXiv
2006.11239, eq. 5); γ = 1 is :math:`L_\text{simple}` of :mod:`flowsolve.training.objectives`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from ..checked import Must, OneSeed, checked
from ..denoiser import Denoiser
from ..noise import normal
from ..operators import combine
from ..processes import Level, numbers
from ..starts import check_state
from ..typing import Float


def _x0_weight(s: Level, t: Level, eta: float) -> float:
    """The KL's factor of ‖x0 − x̂0‖², which is finite at pure noise, where γ is not. Raises
    ValueError for matrices."""
    if not s.sigma > t.sigma > 0.0:
        raise ValueError(
            "expected a noisier level s and a quieter one t that is noisy still, "
            f"got s: {s}, t: {t} (the step to clean data is the decoder's part of the bound)"
        )
    ratio = t.sigma / s.sigma
    rest = 1.0 - ratio**2 if ratio < 0.5 else (s.sigma - t.sigma) / s.sigma * (1.0 + ratio)
    if not (eta >= 1e-100 and eta * eta * rest <= 1.0):
        raise ValueError(
            f"eta={eta!r}: expected 0 < eta <= {1.0 / math.sqrt(rest):.6g} for the step to {t}"
        )
    q = math.sqrt(1.0 - eta * eta * rest)  # √(R_t² − σ²)/R_t
    # 1 − q σ̄_t/σ̄_s as a sum of two positive terms: short steps lose no digits.
    shift = rest / (1.0 + ratio) + ratio * (eta * eta * rest / (1.0 + q))
    return (shift / (eta * t.sigma)) ** 2 / (2.0 * rest)


@checked
def gamma(s: Level, t: Level, eta: float = 1.0) -> float:
    r""":math:`\gamma = k^2/2\sigma^2`, the weight of ‖ε − ε_θ‖² for the step from level s to the
    quieter t; inf from pure noise.

    Returns:
        The weight, a number.

    Raises:
        ValueError: unless σ̄_s > σ̄_t > 0 and 0 < σ_η ≤ R_t, and where A and R are matrices.

    Examples:
        >>> process = flowsolve.VP()
        >>> round(flowsolve.training.gamma(process.level(0.6), process.level(0.5)), 3)
        1.095
    """
    return _x0_weight(s, t, eta) * s.sigma**2


@checked
@torch.no_grad()
def l_gamma(
    model: Denoiser,
    x0: Float[Tensor, "n *shape"],
    levels: Sequence[Level],
    *,
    eta: float = 1.0,
    seed: OneSeed = 0,
) -> Float[Tensor, "n"]:
    r""":math:`L_\gamma(\sigma_\eta)
    = \sum_t\gamma_t\,E\lVert\varepsilon-\varepsilon_\theta\rVert^2`, in nats, with one ε a level.

    Args:
        model: any prediction; the network is asked at every level but the last.
        x0: data, (n, *shape).
        levels: from noisy to quiet, the last one noisy still.
        eta: σ as a multiple of the posterior's; 1 is DDPM's bound.
        seed: the ε of sample i at step k depends on (seed, i, k) alone.

    Returns:
        One number for each sample, (n,), in float64.

    Raises:
        ValueError: for levels that do not go down, an η for which there is no σ, or where A and R
            are matrices.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> levels = [model.process.level(t) for t in (1.0, 0.5, 0.1)]
        >>> flowsolve.training.l_gamma(model, torch.zeros(4, 2), levels).shape
        torch.Size([4])
    """
    weights = [_x0_weight(s, t, eta) for s, t in pairwise(levels)]
    x0 = check_state(model, "x0", x0, model.shape, data=True)
    total = torch.zeros(len(x0), dtype=torch.float64, device=x0.device)
    for k, (s, weight) in enumerate(zip(levels, weights, strict=False)):
        total += weight * (x0 - _x0_estimate(model, x0, s, seed, k)).double().square().flatten(
            1
        ).sum(1)
    return total


def _x0_estimate(model: Denoiser, x0: Tensor, level: Level, seed: int, draw: int) -> Tensor:
    eps = normal(seed, range(len(x0)), draw, x0.shape[1:], x0.dtype, x0.device)
    return model(combine((level.A, level.R), (x0, eps)), level).x0


class Bound(NamedTuple):
    """The variational bound on −log₂ p(x0) per dimension, in bits; each part (n,), in float64.

    Examples:
        >>> bound = flowsolve.training.Bound(*torch.tensor([[0.1], [2.0], [0.9]]))
        >>> round(bound.total.item(), 3)
        3.0
    """

    prior: Float[Tensor, "n"]
    steps: Float[Tensor, "n"]
    decoder: Float[Tensor, "n"]

    @property
    def total(self) -> Float[Tensor, "n"]:
        return self.prior + self.steps + self.decoder


@checked
@torch.no_grad()
def bound(
    model: Denoiser,
    x0: Float[Tensor, "n *shape"],
    levels: Sequence[Level],
    *,
    bins: Annotated[int, Must(lambda v: 2 <= v <= 2**24, "an integer, at least 2")] = 256,
    seed: OneSeed = 0,
) -> Bound:
    """The variational bound in bits per dimension (DDPM's eq. 5 and 13), for data with ``bins``
    equal steps from −1 to 1.

    The prior's KL at the first level, :func:`l_gamma` with η = 1, and the decoder N(x̂0, R²) at the
    last noisy level (DDPM's σ₁² = β₁), integrated over each value's bin; the bins at −1 and 1 reach
    to infinity. It is finite wherever x̂0 is.

    Args:
        model: any prediction, of a scalar process.
        x0: data, (n, *shape), in [−1, 1]: 256 values for images of bytes, 17 for the shipped
            digits.
        levels: from noisy to quiet; a clean level at the end is the decoder's and adds nothing. One
            evaluation for each noisy one.
        bins: the number of values.
        seed: as in :func:`l_gamma`.

    Returns:
        The three parts, (n,) each, in bits per dimension; ``total`` is their sum.

    Raises:
        ValueError: for data that are not on the bins, levels that do not go down, or where A and R
            are matrices.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 0.0], 0.25)
        >>> levels = [model.process.level(t) for t in (1.0, 0.5, 0.1)]
        >>> flowsolve.training.bound(model, torch.ones(4, 2), levels, bins=2).total.shape
        torch.Size([4])
    """
    levels = list(levels[:-1] if levels and levels[-1].clean else levels)
    if not levels:
        raise ValueError("levels has no noisy level; expected one or more, from noisy to quiet")
    x0 = check_state(model, "x0", x0, model.shape, data=True)
    off = (
        ((x0.double() + 1.0) * (0.5 * (bins - 1))).frac().sub(0.5).abs().sub(0.5).abs().max().item()
    )
    if x0.abs().max() > 1.0 or off > 1e-3:
        raise ValueError(
            f"x0 is not on bins={bins} equally spaced values from -1 to 1; "
            f"expected -1 + 2 k / {bins - 1}"
        )
    (a, r), (_, scale) = numbers(levels[0]), numbers(levels[-1])
    prior: Any = model.process.prior(levels[0])
    p = prior.value
    to_bits = 1.0 / (math.log(2.0) * x0[0].numel())
    kl = 0.5 * (
        (a / p) ** 2 * x0.double().square() + (r / p) ** 2 - 1.0 - 2.0 * math.log(r / p)
    ).flatten(1).sum(1)
    estimate = _x0_estimate(model, x0, levels[-1], seed, len(levels) - 1)
    return Bound(
        kl * to_bits,
        l_gamma(model, x0, levels, seed=seed) * to_bits,
        _decoder(x0, estimate, scale, bins) * to_bits,
    )


def _decoder(x0: Tensor, mean: Tensor, scale: float, bins: int) -> Tensor:
    """−log of the normal distribution's mass on the bin of each value, (n,), in nats."""
    x, mean, half = x0.double(), mean.double(), 1.0 / (bins - 1)
    low = torch.where(x < -1.0 + half, -math.inf, (x - half - mean) / scale)
    high = torch.where(x > 1.0 - half, math.inf, (x + half - mean) / scale)
    # Both ends on the left of 0, where log Φ keeps its digits: log(Φ(b) − Φ(a)) = log Φ(b) + log(1
    # − Φ(a)/Φ(b)).
    right = low > 0
    low, high = torch.where(right, -high, low), torch.where(right, -low, high)
    log_high = torch.special.log_ndtr(high)
    return (
        -(log_high + torch.log(-torch.expm1(torch.special.log_ndtr(low) - log_high)))
        .flatten(1)
        .sum(1)
    )
