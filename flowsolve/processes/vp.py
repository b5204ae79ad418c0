"""Variance preserving processes: VP with linear β, sub-VP, the cosine schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated

from ..checked import Positive, checked
from ..operators import Operator, Scalar
from ..readers import Must
from .discrete import Discrete
from .levels import Level
from .scalar import ScalarProcess

Shift = Annotated[float, Must(lambda s: 0.0 <= s < 1.0, "a number, 0 <= s < 1")]
#: ∫β beyond which the signal is no float64, and σ̄ beyond which 1 + σ̄² is σ̄².
FAINTEST, FAR = 1400.0, 1e100


@checked
@dataclass(frozen=True)
class _LinearBeta(ScalarProcess):
    """β(t) = β_min + t (β_max − β_min) on [0, 1], B(t) = ∫β."""

    beta_min: Positive = 0.1
    beta_max: Positive = 20.0
    t_max: float = field(default=1.0, init=False)
    t_min: float = field(default=1e-3, init=False)

    def __post_init__(self) -> None:
        if not self.beta_min <= self.beta_max:
            raise ValueError(
                f"expected 0 < beta_min <= beta_max, got beta_min={self.beta_min!r}, "
                f"beta_max={self.beta_max!r}"
            )
        if self._integral(self.t_min) > FAINTEST:
            raise ValueError(
                f"beta_min={self.beta_min!r}, beta_max={self.beta_max!r}: nothing is left of the "
                f"data at t={self.t_min:g}; expected smaller ones, such as 0.1 and 20"
            )

    def _integral(self, t: float) -> float:
        return t * (self.beta_min + 0.5 * t * (self.beta_max - self.beta_min))

    def _beta(self, t: float) -> float:
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def _time_of_integral(self, b: float) -> float:
        if b == math.inf:
            return self.t_max
        # The root of the quadratic in the form that does not cancel as t -> 0.
        return (
            2.0
            * b
            / (
                self.beta_min
                + math.sqrt(self.beta_min**2 + 2.0 * b * (self.beta_max - self.beta_min))
            )
        )

    @checked
    def prior(self, level: Level) -> Operator:
        return Scalar(1.0)


@checked
@dataclass(frozen=True)
class VP(_LinearBeta):
    """Variance preserving with linear β: A = exp(−B/2), R = √(1 − exp(−B)) (arXiv 2011.13456, eq.
    33).

    Examples:
        >>> level = flowsolve.VP().level(0.5)
        >>> round(level.A.value**2 + level.R.value**2, 12)
        1.0
    """

    def signal_and_noise(self, t: float) -> tuple[float, float]:
        b = self._integral(t)
        return math.exp(-0.5 * b), math.sqrt(-math.expm1(-b))

    def signal_and_noise_rates(self, t: float) -> tuple[float, float]:
        a, r = self.signal_and_noise(t)
        half = 0.5 * self._beta(t)
        return -half * a, half * a * a / r

    def time_of(self, sigma: float) -> float:
        far = sigma > FAR
        return self._time_of_integral(2.0 * math.log(sigma) if far else math.log1p(sigma * sigma))

    @staticmethod
    @checked
    def cosine(s: Shift = 0.008) -> Cosine:
        """Nichol and Dhariwal's schedule; see :class:`~flowsolve.processes.Cosine`."""
        return Cosine(s)

    @staticmethod
    @checked
    def discrete(betas: Iterable[float]) -> Discrete:
        """A table of β's as released DDPMs have; see :class:`~flowsolve.processes.Discrete` and
        :mod:`flowsolve.processes.tables`."""
        return Discrete(tuple(betas))


@checked
@dataclass(frozen=True)
class SubVP(_LinearBeta):
    """Sub-VP: A = exp(−B/2), R = 1 − exp(−B) (arXiv 2011.13456, eq. 34).

    Examples:
        >>> vp, sub = flowsolve.VP().level(0.5), flowsolve.SubVP().level(0.5)
        >>> vp.A == sub.A, abs(sub.R.value - vp.R.value**2) < 1e-12
        (True, True)
    """

    def signal_and_noise(self, t: float) -> tuple[float, float]:
        b = self._integral(t)
        return math.exp(-0.5 * b), -math.expm1(-b)

    def signal_and_noise_rates(self, t: float) -> tuple[float, float]:
        a, beta = self.signal_and_noise(t)[0], self._beta(t)
        return -0.5 * beta * a, beta * a * a

    def time_of(self, sigma: float) -> float:
        return self._time_of_integral(2.0 * math.asinh(0.5 * sigma))  # σ̄ = 2 sinh(B/2)


@checked
@dataclass(frozen=True)
class Cosine(ScalarProcess):
    """VP with ᾱ = cos²θ/cos²θ₀, θ = (t+s)/(1+s)·π/2 (arXiv 2102.09672, eq. 17), pure noise exactly
    at t = 1.

    Examples:
        >>> flowsolve.VP.cosine().start.sigma
        inf
    """

    s: Shift = 0.008
    t_max: float = field(default=1.0, init=False)
    t_min: float = field(default=1e-3, init=False)

    @property
    def _theta0(self) -> float:
        return 0.5 * math.pi * self.s / (1.0 + self.s)

    def signal_and_noise(self, t: float) -> tuple[float, float]:
        half, c0 = 0.5 * math.pi / (1.0 + self.s), math.cos(self._theta0)
        # cos θ = sin(π/2 − θ) and cos²θ₀ − cos²θ = sin(θ − θ₀) sin(θ + θ₀): exact at t = 1 and at t
        # = 0.
        a = math.sin(half * (1.0 - t)) / c0
        r2 = math.sin(half * t) * math.sin(half * t + 2.0 * self._theta0) / c0**2
        return a, math.sqrt(r2)

    def signal_and_noise_rates(self, t: float) -> tuple[float, float]:
        a, r = self.signal_and_noise(t)
        half = 0.5 * math.pi / (1.0 + self.s)
        down = -half * math.sin(half * t + self._theta0) / math.cos(self._theta0)
        return down, -a * down / r  # A² + R² = 1

    def time_of(self, sigma: float) -> float:
        if sigma > FAR:
            return 1.0
        c0, s0 = math.cos(self._theta0), math.sin(self._theta0)
        r2 = sigma * sigma / (1.0 + sigma * sigma)
        theta = math.atan2(math.sqrt(s0 * s0 + r2 * c0 * c0), c0 / math.sqrt(1.0 + sigma * sigma))
        delta = theta - self._theta0
        if theta < 0.25 * math.pi and sigma > 0.0:
            delta = math.asin(
                r2 * c0 * c0 / math.sin(theta + self._theta0)
            )  # keeps the digits of a small t
        return min(1.0, max(0.0, delta * (1.0 + self.s) / (0.5 * math.pi)))

    @checked
    def prior(self, level: Level) -> Operator:
        return Scalar(1.0)
