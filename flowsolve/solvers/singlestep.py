r"""Runge-Kutta methods by tableau, on :math:`d(P^{-1}x) = dc\,p` with the coordinates' own clock c.

A method is its Butcher tableau and nothing else. In NOISE coordinates c = σ̄ and the trapezoid is the sampler of EDM.
From pure noise, where σ̄ = ∞, the same tableau is used in VELOCITY coordinates, whose clock σ̄/(1+σ̄) is finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..coordinates import NOISE, VELOCITY, Coordinates
from ..flow import Flow, Node
from ..operators import Operator
from ..processes import TIME, Level, Variable
from .base import DDIM, Solver, Step
from .multistep import Multistep


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method: nodes c, stage weights a (lower triangular), step weights b."""

    order: int
    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]


HEUN = Tableau(2, (0, 1), ((), (1,)), (1 / 2, 1 / 2))
MIDPOINT = Tableau(2, (0, 1 / 2), ((), (1 / 2,)), (0, 1))
RALSTON = Tableau(2, (0, 2 / 3), ((), (2 / 3,)), (1 / 4, 3 / 4))
KUTTA3 = Tableau(3, (0, 1 / 2, 1), ((), (1 / 2,), (-1, 2)), (1 / 6, 2 / 3, 1 / 6))
RK4 = Tableau(4, (0, 1 / 2, 1 / 2, 1), ((), (1 / 2,), (0, 1 / 2), (0, 0, 1)), (1 / 6, 1 / 3, 1 / 3, 1 / 6))


class SingleStep(Solver):
    """A method of several evaluations a step.

    Evaluations that do not make a whole step are spent on single-evaluation multistep steps of the same order, early in
    the run: they use the evaluations the whole steps began with, so the run keeps its order.
    """

    evaluations: int  # type: ignore[assignment]

    def rules(self, starts: Sequence[Level], budget: int | None) -> list[Solver]:
        n, e = len(starts), self.evaluations
        single = 0 if budget is None else max(0, -((budget - n * e) // (e - 1)))
        if single >= e:  # more than a remainder: the caller's grid does not fit the caller's budget
            single = 0
        # From pure noise the polynomial, too, must be drawn in a clock that is finite there.
        first = self.from_singular() if n > 0 and self.singular(starts[0]) else self
        before = min(self.order - 1, n - single)
        return [*[first] * before, *[self.remainder(first)] * single, *[self] * (n - single - before)]

    def remainder(self, first: Solver) -> Solver:
        """The single-evaluation step after a run began with the rule ``first``."""
        return Multistep(self.order, first.coordinates, first.variable)

    def steps(self, budget: int, start: Level) -> int:
        return sum(divmod(budget, self.evaluations))


@dataclass(frozen=True)
class RungeKutta(SingleStep):
    """One step of ``tableau`` in the coordinates' own clock."""

    tableau: Tableau
    coordinates: Coordinates = NOISE  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.coordinates.clock is None:
            raise ValueError(f"coordinates={self.coordinates!r} have no clock of their own to place the stages in; use NOISE or VELOCITY")

    @property
    def order(self) -> int:
        return self.tableau.order

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        return len(self.tableau.b)

    def step(self, flow: Flow, x: Any, s: Level, t: Level, past: tuple[Node, ...]) -> Step:
        c, clock = flow.coordinates, flow.coordinates.clock
        assert clock is not None
        gap = c.gap(s, t)
        ps: list[Any] = []
        for node, row in zip(self.tableau.c, self.tableau.a, strict=True):
            at = s if node == 0 else t if node == 1 else flow.process.at(clock, clock.of(s) + node * (clock.of(t) - clock.of(s)))
            y = _combined(c.transport(s, at), x, c.P(at) @ gap, row, ps) if ps else x
            ps.append(flow(y, at))
        past = (Node(s, x, ps[0], c), *past)
        return _combined(c.transport(s, t), x, c.P(t) @ gap, self.tableau.b, ps), past

    def in_time(self) -> Solver:
        return InTime(self.tableau, self.coordinates)

    def from_singular(self) -> Solver:
        return replace(self, coordinates=VELOCITY)


@dataclass(frozen=True)
class InTime(RungeKutta):
    """One step of ``tableau`` on dx/dt: for processes whose clock P⁻¹S is a matrix.

    It is x that is stepped and not P⁻¹x, which grows by Ψ, 1e4 and more, from one end of a run to the other.
    """

    @property
    def variable(self) -> Variable:
        return TIME

    def step(self, flow: Flow, x: Any, s: Level, t: Level, past: tuple[Node, ...]) -> Step:
        h, slopes = t.t - s.t, list[Any]()
        for node, row in zip(self.tableau.c, self.tableau.a, strict=True):
            at = s if node == 0 else t if node == 1 else flow.process.level(s.t + node * h)
            y = _weighted(x, h, row, slopes) if slopes else x
            p = flow(y, at)
            if not slopes:
                past = (Node(s, x, p, flow.coordinates), *past)
            a, b = flow.coordinates.slope(flow.process, at)
            slopes.append(a @ y + b @ p)
        return _weighted(x, h, self.tableau.b, slopes), past

    def singular(self, level: Level) -> bool:
        return level.R.singular  # dR/dt is infinite there

    def from_singular(self) -> Solver:
        return DDIM(coordinates=self.coordinates)


def _weighted(x: Any, h: float, row: Sequence[float], slopes: Sequence[Any]) -> Any:
    """x + h Σ weight · slope."""
    for weight, slope in zip(row, slopes, strict=False):
        if weight:
            x = x + slope * (h * weight)
    return x


def _combined(carry: Operator, x: Any, gap: Operator, row: Sequence[float], ps: Sequence[Any]) -> Any:
    x = carry @ x
    for weight, p in zip(row, ps, strict=False):
        if weight:
            x = x + (gap * weight) @ p
    return x
