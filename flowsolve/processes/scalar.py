"""What the processes whose A and R are numbers have in common.

Every formula is in the form that loses no digits at either end: :math:`1-\\bar\\alpha =
-\\mathrm{expm1}(-B)`, never ``1 - exp(-B)``.
"""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from ..checked import NonNegative, checked
from ..errors import shown
from ..operators import Operator, Scalar
from .base import Process, within
from .levels import Level, Levels, rows


class ScalarProcess(Process[Scalar]):
    """A process with A_t and R_t two numbers. A subclass gives them and their rates, the inverse
    time and the network's label.

    Examples:
        >>> flowsolve.RectifiedFlow().signal_and_noise(0.25)
        (0.75, 0.25)
    """

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if "time_of" in vars(cls):
            cls.time_of = _of_levels(cls.time_of)  # type: ignore[method-assign]

    def level(self, t: float) -> Level[Scalar]:
        t = within(self, "t", t, float(self.t_max), float(self.t_clean))
        both = self.signal_and_noise(t)
        try:
            a, r = map(float, both)
            if not (math.isfinite(a) and math.isfinite(r)):
                raise ValueError
        except (TypeError, ValueError):
            raise ValueError(
                f"t={t!r}: {self!r} has {shown(both)} for (A, R) there; expected two finite numbers"
            ) from None
        return Level(t, Scalar(a), Scalar(r))

    @abstractmethod
    def signal_and_noise(self, t: float) -> tuple[float, float]:
        """(A_t, R_t)."""

    @abstractmethod
    def signal_and_noise_rates(self, t: float) -> tuple[float, float]:
        """(dA/dt, dR/dt) at a noisy time."""

    @checked
    def rates(self, level: Level) -> tuple[Operator, Operator]:
        if isinstance(level, Levels):
            each = [self.rates(one) for one in level.each]
            return rows([a for a, _ in each]), rows([r for _, r in each])
        if level.clean:
            raise ValueError(f"dR/dt may be infinite at {level}; expected a level with noise")
        a, r = self.signal_and_noise_rates(level.t)
        return Scalar(a), Scalar(r)

    def label(self, level: Level) -> float:
        return level.t

    @checked
    def bridge(self, s: Level, t: Level, lam: NonNegative) -> Operator:
        if lam == 0.0:
            return t.R
        return t.R * (t.sigma / s.sigma) ** (lam * lam)  # Q = ρ^(λ²/2), ρ = (σ̄_t/σ̄_s)²


def _of_levels(time_of: Callable[[Any, float], float]) -> Callable[[Any, float], float]:
    """``time_of`` for the σ̄ of levels alone; it raises ValueError for others."""

    @functools.wraps(time_of)
    def time_of_level(self: ScalarProcess, sigma: float) -> float:
        return float(time_of(self, within(self, "sigma", sigma, self.start.sigma, 0.0)))

    return time_of_level


def check_sigmas(low: float, high: float) -> None:
    """Raise ValueError unless these can be the σ̄ between which a network was trained."""
    if not (low < high and high / low < math.inf):
        raise ValueError(
            f"expected 0 < sigma_min < sigma_max, got sigma_min={low!r}, sigma_max={high!r}"
        )
    if high > 1e18:
        raise ValueError(
            f"sigma_max={high!r}: expected at most 1e18, whose square float32 still has"
        )
