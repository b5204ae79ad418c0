"""Multistep methods: a polynomial through past evaluations predicts a step, and another one, which
knows the evaluation at its end, may correct it. :mod:`flowsolve.solvers.weights` has the integrals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Generic

from ..checked import Must, Natural, checked
from ..coordinates import DATA, NOISE, Coordinates
from ..processes import Level, Variable
from .base import Shadow, Solver, check_planned
from .ode import Evaluation, Ode, Past, V
from .weights import Interval, Polynomial, itself

#: Steps per point from which a Runge-Kutta start is used. Measured (docs/benchmarks.md): up to 40
#: evaluations warming up is more accurate, or as good within a few percent, on every process; at
#: 160 the start costs up to ten percent from finite noise and takes a sixth to two thirds off the
#: error from pure noise.
START_FROM = 20
#: Between these ratios of σ̄ the end on clean data extrapolates: at less it would multiply rounding,
#: at more it has nothing to add.
SHORTEST, LONGEST = 1.0 + 1e-9, 1e100


@dataclass(frozen=True)
class Taken(Generic[V]):
    """What a corrector has to know of the step that began at an evaluation.

    Attributes:
        interval: the step.
        base: the state that it began from.
        drift: what the predictor added to Ψ times that.
    """

    interval: Interval
    base: V
    drift: V


@checked
@dataclass(frozen=True)
class Starter:
    """How a method of several points takes its first steps.

    Attributes:
        solver: the method of the first steps.
        steps: how many it takes, in runs of any length that can pay for them (PNDM); None for as
            many as are needed, in runs that are long enough to gain by it.

    Examples:
        >>> from flowsolve.solvers import HEUN, Multistep, Polynomial, RungeKutta, Starter
        >>> ab3 = Multistep(Polynomial(3), starter=Starter(RungeKutta(HEUN)))
        >>> flowsolve.solvers.name_of(ab3)
        'ab3'
    """

    such_as: ClassVar[str] = "a flowsolve.solvers.Starter, such as Starter(RungeKutta(HEUN))"

    solver: Solver
    steps: Natural | None = None

    def __post_init__(self) -> None:
        check_planned("solver", self.solver)


@checked
@dataclass(frozen=True)
class Multistep(Solver):
    """The polynomial through the last evaluations, integrated over the step.

    A multistep method of order q has no past at first. Its first steps are taken by ``starter``, a
    Runge-Kutta method whose local error is of the order of the whole method's error; the lower
    orders of the same family fill in afterwards. With fewer than ``START_FROM`` steps for each of
    its points the method warms up through its lower orders alone, which costs no evaluations.

    Attributes:
        predictor: the polynomial.
        corrector: a polynomial that takes each step once more when its end has been evaluated, that
            evaluation being its first point (UniC, arXiv 2302.04867; SA-Solver's corrector,
            2309.05019). It costs nothing. In the predictor's coordinates, with one point more, it
            raises the order by one.
        starter: the method of the first steps, of order ``points - 1`` at least.
        finish: end on clean data with more than the last x̂0, which misses two things that are
            known by then: the corrector's change of the state it was asked at, from x to x̃, and
            that along a path x̂0 = x0 + O(σ̄²). With r the σ̄ of the evaluation before,
            x0 ≈ x̂0 + A_s⁻¹(x̃ − x) + σ̄_s²/(r² − σ̄_s²) (x̂0 − x̂0'). It costs nothing.

    Examples:
        >>> from flowsolve.solvers import Multistep, Polynomial
        >>> ab2 = Multistep(Polynomial(2))
        >>> flowsolve.solvers.name_of(ab2), ab2.order
        ('ab2', 2)
    """

    predictor: Polynomial
    corrector: Polynomial | None = None
    starter: Starter | None = None
    finish: bool = False

    @property
    def coordinates(self) -> Coordinates:
        return self.predictor.coordinates

    @property
    def variable(self) -> Variable:
        return self.predictor.variable

    @property
    def order(self) -> int:
        return max(self.predictor.points, self.corrector.points if self.corrector else 0)

    def step(self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V]) -> tuple[V, Past[V]]:
        return self.descend(ode, x, s, t, past, itself)

    def descend(
        self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V], shadow: Shadow
    ) -> tuple[V, Past[V]]:
        new = Evaluation(s, x, ode(x, s), ode.coordinates)
        if self.corrector and past and past[0].taken is not None:
            x = self._corrected(ode, x, new, past)
        if t.clean:
            return self._finished(x, new, past, t), (new,)
        past = (new, *past)[: self._remembered]
        interval = self.predictor.over(ode, s, t, shadow)
        drift = self.predictor.drift(interval, self.predictor.through(ode, past, s, t))
        if interval.variable.finite(s):
            past = (replace(new, taken=Taken(interval, x, drift)), *past[1:])
        return interval.hold[0] @ x + drift, past

    @property
    def _remembered(self) -> int:
        return max(self.predictor.points, self.corrector.points - 1 if self.corrector else 0)

    def _corrected(self, ode: Ode[V], x: V, new: Evaluation[V], past: Past[V]) -> V:
        """x at the newest evaluation if the step there had known it: its drift changes, its noise
        does not."""
        better, taken = self.corrector, past[0].taken
        before, s, t = taken.interval, past[0].level, new.level
        assert better is not None
        if not ode.variable(better.variable).finite(t):
            return x
        mixed, again = better.coordinates != ode.coordinates, before
        if mixed or ode.variable(better.variable) != before.variable:
            again = better.over(ode, s, t, before.shadow)
        change = better.drift(again, better.through(ode, (new, *past), s, t)) - taken.drift
        if not mixed:
            return x + change
        # The two coordinates carry the state differently, too.
        turn = again.hold[0] - before.hold[0]
        return ode.evaluator.settle(x + change + turn @ taken.base)

    def between(self, s: Level, t: Level) -> Solver:
        return self if t.clean and self.finish and s.scalar else super().between(s, t)

    def _finished(self, x: V, new: Evaluation[V], past: Past[V], t: Level) -> V:
        """x at clean data; see ``finish``."""
        x0, s = new.seen_in(DATA), new.level
        end = x0
        if x is not new.x:
            end = end + s.A.inverse() @ (x - new.x)
        ratio = past[0].level.sigma / s.sigma if past else math.inf
        if SHORTEST < ratio < LONGEST:
            change = x0 - past[0].seen_in(DATA)
            end = end + change * (1.0 / (ratio**2 - 1.0))
        return t.A @ end

    def rules(self, levels: Sequence[Level], budget: int | None) -> list[Solver]:
        n = len(levels) - 1
        # A run upward is paid as the one down the same levels is: by their noisy end.
        count, extra = self._starting(max(levels[0], levels[-1], key=lambda level: level.t))
        if self.starter is None or (budget is not None and n + extra > budget):
            return [self] * n
        return [self.starter.solver] * min(count, n) + [self] * (n - count)

    def steps(self, budget: int, start: Level) -> int:
        count, extra = self._starting(start)
        enough = START_FROM * self.predictor.points
        if self.starter is not None and self.starter.steps is not None:
            enough = count
        return budget - extra if budget - extra >= enough else budget

    def _starting(self, level: Level) -> tuple[int, int]:
        """How many steps the start takes, one more where the first evaluation cannot enter a
        polynomial, and their extra cost."""
        if self.starter is None:
            return 0, 0
        count = self.predictor.points - 2 if self.starter.steps is None else self.starter.steps
        if level.scalar:
            count += not self.variable.finite(level)
        elif self.starter.steps is None:
            # In t it costs more than it brings below some hundred steps (docs/gddim.md).
            count = 0
        return count, count * ((self.starter.solver.evaluations or 1) - 1)


Gamma = Annotated[float, Must(lambda g: abs(g) <= 1e6, "a finite number from -1e6 to 1e6")]


@checked
@dataclass(frozen=True)
class GradientEstimation(Solver):
    """Euler on ε̂ + (γ − 1)(ε̂ − ε̂_before): the change of the prediction since the last step,
    exaggerated (arXiv 2306.04848, eq. 4).

    Attributes:
        gamma: 1 is DDIM, 3/2 is AB2 on equal steps; the paper's choice is 2.

    Examples:
        >>> plan = flowsolve.plan("gradient_estimation", flowsolve.VP(), nfe=6, gamma=1.0)
        >>> plan == flowsolve.plan("ddim", flowsolve.VP(), nfe=6)
        True
    """

    gamma: Gamma = 2.0

    @property
    def coordinates(self) -> Coordinates:
        return NOISE

    @property
    def order(self) -> int:
        return 1

    def step(self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V]) -> tuple[V, Past[V]]:
        new = Evaluation(s, x, ode(x, s), ode.coordinates)
        p = new.p
        if past:
            p = self.gamma * p + (1.0 - self.gamma) * past[0].seen_in(NOISE)
        return ode.move(x, s, t, p), (new,)
