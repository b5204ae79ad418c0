r"""Runge-Kutta methods by tableau, on :math:`d(P^{-1}x) = dc\,p` with the coordinates' own clock c.

A method is its Butcher tableau and nothing else. In NOISE coordinates c = σ̄ and the trapezoid is
the sampler of EDM. From pure noise, where σ̄ = ∞, the same tableau is used in FLOW coordinates,
whose clock σ̄/(1+σ̄) is finite. Where the clock P⁻¹S is a matrix the equation is that of dx/dt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..checked import Count, checked
from ..coordinates import FLOW, NOISE, Coordinates, check_clock
from ..operators import Operator
from ..processes import Level
from .base import Hold, Solver
from .multistep import Multistep
from .ode import Evaluation, Ode, Past, V
from .weights import Polynomial


@checked
@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method: nodes c, stage weights a (lower triangular), step weights
    b.

    Examples:
        >>> from flowsolve.solvers import RungeKutta, Tableau, name_of
        >>> midpoint = Tableau(order=2, c=(0.0, 0.5), a=((), (0.5,)), b=(0.0, 1.0))
        >>> name_of(RungeKutta(midpoint))
        'midpoint'
    """

    order: Count
    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]

    def __post_init__(self) -> None:
        n = len(self.b)
        if n == 0 or not _near(sum(self.b), 1.0):
            raise ValueError(f"b={self.b!r}: expected weights whose sum is 1")
        if [len(row) for row in self.a] != list(range(n)):
            raise ValueError(
                f"a={self.a!r}: expected {n} rows, one for each of b, of 0, 1, 2, ... weights"
            )
        sums = tuple(sum(row) for row in self.a)
        if len(self.c) != n or not all(map(_near, self.c, sums)):
            raise ValueError(f"c={self.c!r}: expected {sums!r}, the sums of the rows of a")
        if not all(0.0 <= node <= 1.0 for node in self.c):
            raise ValueError(f"c={self.c!r}: expected numbers from 0 to 1")


def _near(x: float, y: float) -> bool:
    return abs(x - y) < 1e-9


HEUN = Tableau(2, (0, 1), ((), (1,)), (1 / 2, 1 / 2))
MIDPOINT = Tableau(2, (0, 1 / 2), ((), (1 / 2,)), (0, 1))
RALSTON = Tableau(2, (0, 2 / 3), ((), (2 / 3,)), (1 / 4, 3 / 4))
KUTTA3 = Tableau(3, (0, 1 / 2, 1), ((), (1 / 2,), (-1, 2)), (1 / 6, 2 / 3, 1 / 6))
RK4 = Tableau(
    4, (0, 1 / 2, 1 / 2, 1), ((), (1 / 2,), (0, 1 / 2), (0, 0, 1)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)
)


class SingleStep(Solver):
    """A method of several evaluations a step.

    Evaluations that do not make a whole step are spent on single-evaluation multistep steps of the
    same order, early in the run: they use the evaluations the whole steps began with, so the run
    keeps its order.
    """

    evaluations: int  # type: ignore[assignment]

    def steps(self, budget: int, start: Level) -> int:
        return sum(divmod(budget, self.evaluations))

    def rules(self, levels: Sequence[Level], budget: int | None) -> list[Solver]:
        n, e = len(levels) - 1, self.evaluations
        single = 0 if budget is None or e == 1 else max(0, -((budget - n * e) // (e - 1)))
        if single >= e:  # more than a remainder: the caller's grid does not fit the budget
            single = 0
        # From pure noise the polynomial, too, must be drawn in a clock that is finite there.
        first = self.between(levels[0], levels[1]) if n else self
        before = min(self.order - 1, n - single)
        fill = [self.filler(first)] * single if single else []
        return [*[first] * before, *fill, *[self] * (n - single - before)]

    def filler(self, first: Solver) -> Solver:
        """The single-evaluation step after a run began with the rule ``first``."""
        return Multistep(Polynomial(self.order, first.coordinates, first.variable))


@checked
@dataclass(frozen=True)
class RungeKutta(SingleStep):
    """One step of ``tableau`` in the coordinates' own clock, or in the process's if it has one:
    EDM's sampler with ``HEUN`` (arXiv 2206.00364, algorithm 1), ρRK (2204.13902).

    Examples:
        >>> heun = flowsolve.solvers.RungeKutta(flowsolve.solvers.HEUN)
        >>> flowsolve.solvers.name_of(heun), heun.order, heun.evaluations
        ('heun', 2, 2)
    """

    tableau: Tableau
    coordinates: Coordinates = NOISE  # type: ignore[assignment]

    def __post_init__(self) -> None:
        check_clock(self.coordinates)

    @property
    def order(self) -> int:
        return self.tableau.order

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        return len(self.tableau.b)

    def between(self, s: Level, t: Level) -> Solver:
        if t.clean:
            return super().between(s, t)
        if not s.scalar:  # dR/dt is infinite where R is singular
            return Hold(self.coordinates) if s.R.singular or t.R.singular else self
        return replace(self, coordinates=FLOW) if self.singular(s, t) else self

    def step(self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V]) -> tuple[V, Past[V]]:
        if ode.process.clock:
            return self._in_time(ode, x, s, t, past)
        c, clock = ode.coordinates, ode.coordinates.clock
        assert clock is not None
        gap, start, end = c.gap(s, t), clock.of(s), clock.of(t)
        ps: list[V] = []
        for node, row in zip(self.tableau.c, self.tableau.a, strict=True):
            inside = start + node * (end - start)
            at = s if node == 0 else t if node == 1 else ode.process.at(clock, inside)
            y = _combined(c.transport(s, at), x, c.P(at) @ gap, row, ps) if ps else x
            ps.append(ode(y, at))
        past = (Evaluation(s, x, ps[0], c), *past)
        return _combined(c.transport(s, t), x, c.P(t) @ gap, self.tableau.b, ps), past

    def _in_time(self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V]) -> tuple[V, Past[V]]:
        """The step on dx/dt. It is x that is stepped and not P⁻¹x, which grows by Ψ, 1e4 and more,
        from one end of a run to the other."""
        h, slopes = t.t - s.t, list[V]()
        for node, row in zip(self.tableau.c, self.tableau.a, strict=True):
            at = s if node == 0 else t if node == 1 else ode.process.level(s.t + node * h)
            y = _weighted(x, h, row, slopes) if slopes else x
            p = ode(y, at)
            if not slopes:
                past = (Evaluation(s, x, p, ode.coordinates), *past)
            a, b = ode.coordinates.slope(ode.process, at)
            slopes.append(a @ y + b @ p)
        return _weighted(x, h, self.tableau.b, slopes), past


def _weighted(x: V, h: float, row: Sequence[float], slopes: Sequence[V]) -> V:
    """x + h Σ weight · slope."""
    for weight, slope in zip(row, slopes, strict=False):
        if weight:
            x = x + slope * (h * weight)
    return x


def _combined(carry: Operator, x: V, gap: Operator, row: Sequence[float], ps: Sequence[V]) -> V:
    """carry x + Σ weight · gap p."""
    x = carry @ x
    for weight, p in zip(row, ps, strict=False):
        if weight:
            x = x + (gap * weight) @ p
    return x
