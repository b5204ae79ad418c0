r"""Scalar processes: VP (linear, cosine, any table), sub-VP, VE, EDM, rectified flow.

Every formula is in the form that loses no digits at either end: :math:`1-\bar\alpha = -\mathrm{expm1}(-B)`, never
``1 - exp(-B)``.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..operators import Operator, Scalar
from .base import Level, Process
from .tables import check_betas


class ScalarProcess(Process):
    """A process with A_t and R_t two numbers; a subclass gives them, the inverse time and the network's label."""

    def level(self, t: float) -> Level:
        t = self._check(t)
        a, r = self.signal_and_noise(t)
        return Level(t, Scalar(a), Scalar(r))

    def signal_and_noise(self, t: float) -> tuple[float, float]:
        """(A_t, R_t)."""
        raise NotImplementedError

    def label(self, level: Level) -> float:
        return level.t

    def bridge(self, s: Level, t: Level, lam: float) -> Operator:
        return t.R if lam == 0.0 else t.R * (t.sigma / s.sigma) ** (lam * lam)  # Q = ρ^(λ²/2), ρ = (σ̄_t/σ̄_s)²


@dataclass(frozen=True)
class _LinearBeta(ScalarProcess):
    """β(t) = β_min + t (β_max − β_min) on [0, 1], B(t) = ∫β."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_max: float = field(default=1.0, init=False)
    t_min: float = field(default=1e-3, init=False)

    def __post_init__(self) -> None:
        if not 0.0 < self.beta_min <= self.beta_max < math.inf:
            raise ValueError(f"expected 0 < beta_min <= beta_max, got beta_min={self.beta_min!r}, beta_max={self.beta_max!r}")

    def _integral(self, t: float) -> float:
        return t * (self.beta_min + 0.5 * t * (self.beta_max - self.beta_min))

    def _time_of_integral(self, b: float) -> float:
        # The root of the quadratic in the form that does not cancel as t -> 0.
        return 2.0 * b / (self.beta_min + math.sqrt(self.beta_min**2 + 2.0 * b * (self.beta_max - self.beta_min)))

    def prior(self, level: Level) -> Operator:
        return Scalar(1.0)


@dataclass(frozen=True)
class VP(_LinearBeta):
    """Variance preserving with linear β: A = exp(−B/2), R = √(1 − exp(−B)) (arXiv 2011.13456, eq. 33)."""

    def signal_and_noise(self, t: float) -> tuple[float, float]:
        b = self._integral(t)
        return math.exp(-0.5 * b), math.sqrt(-math.expm1(-b))

    def time_of(self, sigma: float) -> float:
        return self._time_of_integral(math.log1p(sigma * sigma))

    @staticmethod
    def cosine(s: float = 0.008) -> Cosine:
        """Nichol and Dhariwal's schedule; see :class:`Cosine`."""
        return Cosine(s)

    @staticmethod
    def discrete(betas: Iterable[float]) -> Discrete:
        """A table of β's as released DDPMs have; see :class:`Discrete` and :mod:`flowsolve.processes.tables`."""
        return Discrete(check_betas(betas))


@dataclass(frozen=True)
class SubVP(_LinearBeta):
    """Sub-VP: A = exp(−B/2), R = 1 − exp(−B) (arXiv 2011.13456, eq. 34)."""

    def signal_and_noise(self, t: float) -> tuple[float, float]:
        b = self._integral(t)
        return math.exp(-0.5 * b), -math.expm1(-b)

    def time_of(self, sigma: float) -> float:
        return self._time_of_integral(2.0 * math.asinh(0.5 * sigma))  # σ̄ = 2 sinh(B/2)


@dataclass(frozen=True)
class Cosine(ScalarProcess):
    """VP with ᾱ = cos²θ/cos²θ₀, θ = (t+s)/(1+s)·π/2 (arXiv 2102.09672, eq. 17), pure noise exactly at t = 1."""

    s: float = 0.008
    t_max: float = field(default=1.0, init=False)
    t_min: float = field(default=1e-3, init=False)

    def __post_init__(self) -> None:
        if not 0.0 <= self.s < 1.0:
            raise ValueError(f"expected 0 <= s < 1, got s={self.s!r}")

    @property
    def _theta0(self) -> float:
        return 0.5 * math.pi * self.s / (1.0 + self.s)

    def signal_and_noise(self, t: float) -> tuple[float, float]:
        half, c0 = 0.5 * math.pi / (1.0 + self.s), math.cos(self._theta0)
        # cos θ = sin(π/2 − θ) and cos²θ₀ − cos²θ = sin(θ − θ₀) sin(θ + θ₀): exact at t = 1 and at t = 0.
        a = math.sin(half * (1.0 - t)) / c0
        r2 = math.sin(half * t) * math.sin(half * t + 2.0 * self._theta0) / c0**2
        return a, math.sqrt(r2)

    def time_of(self, sigma: float) -> float:
        if math.isinf(sigma):
            return 1.0
        c0, s0 = math.cos(self._theta0), math.sin(self._theta0)
        r2 = sigma * sigma / (1.0 + sigma * sigma)
        theta = math.atan2(math.sqrt(s0 * s0 + r2 * c0 * c0), c0 / math.sqrt(1.0 + sigma * sigma))
        delta = theta - self._theta0
        if theta < 0.25 * math.pi and sigma > 0.0:
            delta = math.asin(r2 * c0 * c0 / math.sin(theta + self._theta0))  # keeps the digits of a small t
        return min(1.0, max(0.0, delta * (1.0 + self.s) / (0.5 * math.pi)))

    def prior(self, level: Level) -> Operator:
        return Scalar(1.0)


@dataclass(frozen=True, repr=False)
class Discrete(ScalarProcess):
    """VP through a table of β's: time is the index, 0 … T−1, with t = −1 the clean level (ᾱ = 1) as in the DDIM code.

    Between entries the angle atan σ̄ is linear in the index, which is finite at both ends, so a table that ends on pure
    noise (zero terminal SNR) needs no special case. At the entries the table is met exactly.
    """

    betas: tuple[float, ...]
    _angles: tuple[tuple[float, ...], tuple[float, ...]] = field(init=False, repr=False, compare=False)
    _rising: tuple[float, ...] = field(init=False, repr=False, compare=False)
    t_min: float = field(default=0.0, init=False)
    t_clean: float = field(default=-1.0, init=False)

    def __post_init__(self) -> None:
        integral, up, down = 0.0, [0.0], [0.5 * math.pi]
        for beta in self.betas:
            integral = math.inf if beta == 1.0 else integral - math.log1p(-beta)
            a, r = math.exp(-0.5 * integral), math.sqrt(-math.expm1(-integral))
            up.append(math.atan2(r, a))
            down.append(math.atan2(a, r))
        object.__setattr__(self, "_angles", (tuple(up), tuple(down)))
        object.__setattr__(self, "_rising", tuple(-a for a in down))

    def __repr__(self) -> str:
        return f"Discrete({len(self.betas)} betas from {self.betas[0]:.4g} to {self.betas[-1]:.4g})"

    @property
    def entries(self) -> int:  # type: ignore[override]
        return len(self.betas)

    @property
    def t_max(self) -> float:  # type: ignore[override]
        return len(self.betas) - 1.0

    def signal_and_noise(self, t: float) -> tuple[float, float]:
        i = min(int(t + 1.0), len(self.betas) - 1)
        w = t + 1.0 - i
        up, down = ((1.0 - w) * angles[i] + w * angles[i + 1] for angles in self._angles)
        return math.sin(down), math.sin(up)

    def time_of(self, sigma: float) -> float:
        # From the clean end by the angle, from the noisy end by its complement: digits are kept at both.
        if sigma <= 1.0:
            angles, x = self._angles[0], math.atan(sigma)
        else:
            angles, x = self._rising, -math.atan(1.0 / sigma)
        i = min(max(bisect.bisect_right(angles, x) - 1, 0), len(self.betas) - 1)
        return i - 1.0 + (x - angles[i]) / (angles[i + 1] - angles[i])

    def prior(self, level: Level) -> Operator:
        return Scalar(1.0)


@dataclass(frozen=True)
class VE(ScalarProcess):
    """Variance exploding: A = 1, R = σ_min (σ_max/σ_min)^t (arXiv 2011.13456, eq. 31). The network is told σ."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    t_max: float = field(default=1.0, init=False)
    t_min: float = field(default=0.0, init=False)
    t_clean: float = field(default=-math.inf, init=False)

    def __post_init__(self) -> None:
        _check_sigmas(self.sigma_min, self.sigma_max)

    def signal_and_noise(self, t: float) -> tuple[float, float]:
        return 1.0, self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def time_of(self, sigma: float) -> float:
        if sigma == 0.0:
            return -math.inf
        return min(1.0, math.log(sigma / self.sigma_min) / math.log(self.sigma_max / self.sigma_min))

    def label(self, level: Level) -> float:
        return level.sigma


@dataclass(frozen=True)
class EDM(ScalarProcess):
    """Karras et al.'s parametrisation: A = 1, R = t = σ; the network is told ¼ ln σ (arXiv 2206.00364, table 1)."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        _check_sigmas(self.sigma_min, self.sigma_max)

    @property
    def t_max(self) -> float:  # type: ignore[override]
        return self.sigma_max

    @property
    def t_min(self) -> float:  # type: ignore[override]
        return self.sigma_min

    def signal_and_noise(self, t: float) -> tuple[float, float]:
        return 1.0, t

    def time_of(self, sigma: float) -> float:
        return sigma

    def label(self, level: Level) -> float:
        return 0.25 * math.log(level.sigma)


@dataclass(frozen=True)
class RectifiedFlow(ScalarProcess):
    """Straight paths: A = 1 − t, R = t, pure noise at t = 1 (arXiv 2209.03003; 2210.02747)."""

    t_max: float = field(default=1.0, init=False)
    t_min: float = field(default=1e-3, init=False)

    def signal_and_noise(self, t: float) -> tuple[float, float]:
        return 1.0 - t, t

    def time_of(self, sigma: float) -> float:
        return 1.0 if math.isinf(sigma) else sigma / (1.0 + sigma)


def _check_sigmas(low: float, high: float) -> None:
    if not 0.0 < low < high < math.inf:
        raise ValueError(f"expected 0 < sigma_min < sigma_max, got sigma_min={low!r}, sigma_max={high!r}")
