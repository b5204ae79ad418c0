"""Solvers around solvers, and the way up: noise is added as the forward process adds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..coordinates import Coordinates
from ..processes import Level, Variable
from .base import Solver, check_planned
from .ode import Ode, V


def raised(ode: Ode[V], x: V, s: Level, t: Level, scale: float = 1.0) -> V:
    """x at the noisier level t: the forward kernel, its noise times ``scale``."""
    if s.A == t.A:
        return x + scale * (t.R.excess(s.R) @ ode.noise())
    carry = t.A @ s.A.inverse()
    return carry @ x + scale * (t.R.excess(carry @ s.R) @ ode.noise())


def check_downward(solver: object, s: Level, t: Level) -> None:
    """Raise ValueError unless t is quieter than s."""
    if not t.t < s.t:
        raise ValueError(
            f"{solver} adds noise, which can be done on the way down only, but {t} is noisier than "
            f"{s}; use a solver without noise"
        )


@dataclass(frozen=True)
class Wrapper(Solver):
    """A solver around another one, whose coordinates, budget, rules and, unless noise comes between
    its evaluations, end it shares."""

    inner: Solver

    def __post_init__(self) -> None:
        check_planned("inner", self.inner)

    @property
    def coordinates(self) -> Coordinates:
        return self.inner.coordinates

    @property
    def variable(self) -> Variable:
        return self.inner.variable

    @property
    def order(self) -> int:
        """Weak order: what is promised of means and covariances when noise is added. The method's
        own without."""
        return 1

    @property
    def evaluations(self) -> int | None:
        return self.inner.evaluations

    def steps(self, budget: int, start: Level) -> int:
        return self.inner.steps(budget, start)

    def rules(self, levels: Sequence[Level], budget: int | None) -> list[Solver]:
        return [replace(self, inner=rule) for rule in self.inner.rules(levels, budget)]

    @property
    def noisy(self) -> bool:
        """True if new noise comes between the evaluations that steps remember."""
        return False

    def between(self, s: Level, t: Level) -> Solver:
        if t.clean:
            # A better end than the hold goes by what a corrector changed, which would be the noise.
            return super().between(s, t) if self.noisy else self.inner.between(s, t)
        return replace(self, inner=self.inner.between(s, t))
