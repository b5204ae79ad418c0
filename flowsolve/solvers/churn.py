"""EDM's stochastic sampler: up, and then down from there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from ..checked import Extended, checked
from ..processes import SIGMA, Level
from ..readers import Must
from .base import Solver
from .ode import Ode, Past, V
from .wrapper import Wrapper, check_downward, raised


@checked
@dataclass(frozen=True)
class Churn(Wrapper):
    """Raise the noise by a factor 1 + γ, then step down from there (arXiv 2206.00364, algorithm 2).

    γ = min(s_churn/N, √2 − 1) in a run of N steps, at most up to the process's noisiest level.

    Attributes:
        s_churn: how much noise is added in all; 0 is the inner solver.
        s_min, s_max: the σ̄ between which it is.
        s_noise: its standard deviation, 1 to keep the marginals. The paper inflates it to 1.003 or
            1.007 for its networks.

    Examples:
        >>> from flowsolve.solvers import HEUN, Churn, RungeKutta
        >>> flowsolve.solvers.name_of(Churn(RungeKutta(HEUN)))
        'edm'
        >>> flowsolve.plan("edm", flowsolve.EDM(), nfe=19, s_churn=10.0).draws
        7
    """

    s_churn: Extended = 40.0
    s_min: Extended = 0.05
    s_max: Extended = 50.0
    s_noise: Annotated[float, Must(lambda v: 0.0 <= v <= 1e6, "a number from 0 to 1e6")] = 1.0

    @property
    def noisy(self) -> bool:
        return self.s_churn != 0.0

    def rules(self, levels: Sequence[Level], budget: int | None) -> list[Solver]:
        gamma = min(self.s_churn / len(levels), math.sqrt(2.0) - 1.0)
        return [_Churned(rule, self, gamma) for rule in self.inner.rules(levels, budget)]

    def step(self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V]) -> tuple[V, Past[V]]:
        gamma = min(self.s_churn, math.sqrt(2.0) - 1.0)  # a run of this one step
        return _Churned(self.inner, self, gamma).step(ode, x, s, t, past)


@dataclass(frozen=True)
class _Churned(Wrapper):
    """A step of a run with the options ``churn`` and this γ."""

    churn: Churn
    gamma: float

    def step(self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V]) -> tuple[V, Past[V]]:
        check_downward(self.churn, s, t)
        top = min(s.sigma * (1.0 + self.gamma), ode.process.start.sigma)
        if self.churn.s_min <= s.sigma <= self.churn.s_max and top > s.sigma:
            h = ode.process.at(SIGMA, top)
            x, s = raised(ode, x, s, h, self.churn.s_noise), h
            # The state has left the path a corrector could mend, and evaluations must lie above it
            # for a polynomial.
            above = [e for e in past if e.level.sigma > top * (1.0 + 1e-9)]
            past = tuple(replace(e, taken=None) for e in above)
        return self.inner.step(ode, x, s, t, past)
