"""What the processes whose A and R are matrices have in common."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

from .base import LEFT, O_co, Process, within
from .levels import Level
from .variables import TIME


class MatrixProcess(Process[O_co]):
    """A process with A_t and R_t two matrices. The only scalar name its levels have is t; clean
    data are infinitely far in it.

    The way from t_max to t_min can amplify rounding by the norm of Ψ, 1e4 and more, so states are
    float64.

    Examples:
        >>> flowsolve.CLD().scalar
        False
    """

    clock = TIME
    t_max = 1.0
    t_min = 1e-3
    t_clean = -math.inf
    flows = False

    @abstractmethod
    def operators(self, t: float) -> tuple[O_co, O_co]:
        """(A_t, R_t) for 0 <= t <= t_max."""

    def level(self, t: float) -> Level[O_co]:
        t = within(self, "t", t, float(self.t_max), -math.inf)
        if t == -math.inf:
            one: Any = self.operators(0.0)[0].eye()
            return Level(t, one, one * 0.0)
        if t < -LEFT * self.t_max:
            raise ValueError(
                f"t={t!r}: expected 0 <= t <= {self.t_max:g}, or -inf for clean data; got it for "
                f"{self!r}"
            )
        t = max(0.0, t)
        return Level(t, *self.operators(t))

    def time_of(self, sigma: float) -> float:
        raise ValueError(
            f"levels of {self!r} have no sigma, their A and R are matrices; give the time t instead"
        )
