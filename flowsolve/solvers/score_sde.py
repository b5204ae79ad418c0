"""Solvers of the reverse SDE that are kept to be compared with: Langevin's corrector after each
step, and Euler and Maruyama's method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from ..checked import Must, checked
from ..coordinates import DATA, NOISE, Coordinates
from ..processes import Level
from .base import Solver
from .ddim import DDIM
from .ode import Ode, Past, V
from .wrapper import Wrapper, check_downward

#: Of explicit steps, which much noise throws out of all bounds.
Lam = Annotated[float, Must(lambda v: 0.0 <= v <= 1e6, "a number >= 0, at most 1e6")]

Corrections = Annotated[int, Must(lambda v: 1 <= v <= 1000, "an integer from 1 to 1000")]


@checked
@dataclass(frozen=True)
class PredictorCorrector(Wrapper):
    r"""Langevin steps after each step of a solver (arXiv 2011.13456, algorithm 4 and 5).

    A Langevin step of size ½δR² on the level t is x − ½δRε̂ + √δ R z to first order in δ. It is
    taken as the hold to the quieter level of noise √(1−δ) R and the difference back, which keeps
    the variance to all orders. The paper's signal-to-noise ratio r gives δ = 4r², its norms ‖z‖ and
    ‖ε̂‖ being equal in the mean; here it is at most what the step before took away of the variance,
    in the mean over a sample's entries, so that the corrector's own bias vanishes as the grid
    refines.

    Attributes:
        snr: r, from 0 (no corrector: the inner solver) to 1/2.
        corrections: Langevin steps, one evaluation each, after each step.

    Examples:
        >>> plan = flowsolve.plan("pc", flowsolve.VE(), nfe=20, snr=0.1)
        >>> plan.nfe, plan.draws
        (20, 9)
    """

    snr: Annotated[
        float, Must(lambda v: 0.0 <= v <= 0.5, "a number from 0 (no corrector) to 0.5")
    ] = 0.16
    corrections: Corrections = 1

    @property
    def _extra(self) -> int:
        return self.corrections if self.snr else 0

    @property
    def evaluations(self) -> int:
        return (self.inner.evaluations or 1) + self._extra

    def _corrected(self, budget: int, start: Level) -> int:
        """How many steps are corrected: all, but for a remainder of the budget that goes into
        steps."""
        k = budget // self.evaluations
        while k and self.inner.steps(budget - self._extra * k, start) < k:
            k -= 1
        return k

    def steps(self, budget: int, start: Level) -> int:
        return self.inner.steps(budget - self._extra * self._corrected(budget, start), start)

    def rules(self, levels: Sequence[Level], budget: int | None) -> list[Solver]:
        n = len(levels) - 1
        if not self._extra:
            return self.inner.rules(levels, budget)
        corrected = n if budget is None else self._corrected(budget, levels[0])
        rest = None if budget is None else budget - self._extra * corrected
        rules = self.inner.rules(levels, rest)
        first = rules[: n - corrected]
        return [*first, *(replace(self, inner=rule) for rule in rules[len(first) :])]

    def step(self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V]) -> tuple[V, Past[V]]:
        check_downward(self, s, t)
        x, past = self.inner.step(ode, x, s, t, past)
        kept = t.R.inverse() @ ode.process.bridge(s, t, 1.0)  # σ̄_t/σ̄_s
        delta = min(4.0 * self.snr**2, max(0.0, 1.0 - kept.mean_square))
        quiet = replace(t, R=t.R * math.sqrt(1.0 - delta))
        for _ in range(self._extra):
            x = ode.move(x, t, quiet, ode(x, t)) + (t.R * math.sqrt(delta)) @ ode.noise()
        return x, tuple(replace(e, taken=None) for e in past)


@checked
@dataclass(frozen=True)
class EulerMaruyama(Solver):
    """Euler-Maruyama for the reverse SDE of x̄ = x/A in the clock σ̄², dx̄ = ½(1+λ²)(ε̂/σ̄)dσ̄² +
    λdw (arXiv 2011.13456, eq. 6).

    The linear part of the SDE in x is thereby solved exactly. Kept to be compared with:
    :class:`~flowsolve.solvers.ReverseSDE` costs the same.

    Attributes:
        lam: the noise; 1 is the reverse SDE, 0 Euler's method on the probability flow in the clock
            σ̄².

    Examples:
        >>> plan = flowsolve.plan("euler_maruyama", flowsolve.VP(), nfe=10)
        >>> plan.nfe, plan.draws
        (10, 9)
    """

    lam: Lam = 1.0

    @property
    def coordinates(self) -> Coordinates:
        return NOISE

    @property
    def order(self) -> int:
        return 1

    def between(self, s: Level, t: Level) -> Solver:
        if not t.clean and self.singular(s, t):
            return DDIM(min(1.0, self.lam), coordinates=DATA)
        return super().between(s, t)

    def step(self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V]) -> tuple[V, Past[V]]:
        check_downward(self, s, t)
        carry = ode.coordinates.transport(s, t)
        before = carry @ s.R
        # A dσ̄² of noise levels that are matrices, R/A = Y, is A(YYᵀ)_t − A(YYᵀ)_s; by Y⁻ᵀ at s the
        # first is the posterior's R.
        gain = (ode.process.bridge(s, t, 1.0) - before) * (0.5 * (1.0 + self.lam * self.lam))
        x = carry @ x + gain @ ode(x, s)
        if self.lam:
            x = x + (before.excess(t.R) * self.lam) @ ode.noise()
        return x, ()
