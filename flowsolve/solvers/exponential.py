r"""Exponential Runge-Kutta methods in λ = −log σ̄: the single-step DPM-Solvers and RES.

The stages lie at λ_s + c(λ_t − λ_s). A stage integrates, exactly, the straight line in λ through
the step's first evaluation and its latest one; so does the end of the step. With c = (1/3, 2/3)
these are DPM-Solver-3 in NOISE and DPM-Solver++(3S) in DATA coordinates (arXiv 2206.00927,
algorithm 2; 2211.01095), with c = (1/2) the two-stage method of RES (arXiv 2308.02157).
DPM-Solver-2 and DPM-Solver++(2S) with r = 1/2 hold the evaluation at the middle over the whole
step: the exponential midpoint rule.

RES with three stages weights them differently, so that the *stiff* order conditions of Hochbruck
and Ostermann (2005, section 5.3) hold: its order three does not depend on how fast the prediction
varies with the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..checked import Must, checked
from ..coordinates import DATA, FLOW, NOISE, Coordinates
from ..operators import Operator
from ..processes import LAMBDA, Level, Variable
from .base import Hold, Solver
from .ode import Evaluation, Ode, Past, V
from .runge_kutta import KUTTA3, MIDPOINT, RungeKutta, SingleStep
from .weights import Interval


class InLambda(SingleStep):
    """Stages placed in λ, which is finite neither at pure noise nor on clean data; or in the
    process's clock."""

    @property
    def variable(self) -> Variable:
        return LAMBDA

    def middle(self, ode: Ode[V], s: Level, t: Level, c: float) -> Level:
        """The level at the fraction c of the step."""
        variable = ode.variable(self.variable)
        start, end = variable.of(s), variable.of(t)
        return ode.process.at(variable, start + c * (end - start))

    def between(self, s: Level, t: Level) -> Solver:
        if t.clean:
            return super().between(s, t)
        if s.drowned or (s.scalar and not self.variable.finite(t)):
            return RungeKutta(MIDPOINT if self.evaluations == 2 else KUTTA3, FLOW)
        return Hold(NOISE) if self.singular(s, t) else self


@checked
@dataclass(frozen=True)
class Exponential(InLambda):
    """Stages at ``nodes`` (the c of the module's text), of order len(nodes) + 1 (DPM-Solver, arXiv
    2206.00927; DPM-Solver++, 2211.01095; RES, 2308.02157).

    Attributes:
        nodes: one or two fractions of the step, increasing.
        coordinates: NOISE or DATA.
        midpoint: end the step by holding the last evaluation instead of the line; for nodes (1/2,).

    Examples:
        >>> flowsolve.solvers.name_of(flowsolve.solvers.Exponential((1 / 3, 2 / 3)))
        'dpmpp3s'
    """

    nodes: tuple[float, ...]
    coordinates: Coordinates = DATA  # type: ignore[assignment]
    midpoint: bool = False

    def __post_init__(self) -> None:
        rising = sorted(set(self.nodes)) == list(self.nodes)
        if not (1 <= len(self.nodes) <= 2 and rising and self.nodes[0] > 0 and self.nodes[-1] < 1):
            raise ValueError(
                f"nodes={self.nodes!r}: expected one or two increasing numbers between 0 and 1"
            )
        if self.coordinates not in (NOISE, DATA):
            raise ValueError(f"coordinates={self.coordinates!r}: expected NOISE or DATA")
        if self.midpoint and self.nodes != (0.5,):
            raise ValueError(
                f"midpoint=True, nodes={self.nodes!r}: expected nodes=(0.5,) or midpoint=False"
            )

    @property
    def order(self) -> int:
        return len(self.nodes) + 1

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        return len(self.nodes) + 1

    def step(self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V]) -> tuple[V, Past[V]]:
        first = Evaluation(s, x, ode(x, s), ode.coordinates)
        line = [first]
        for c in self.nodes:
            at = self.middle(ode, s, t, c)
            y = self._along(ode, x, s, at, line)
            line = [first, Evaluation(at, y, ode(y, at), ode.coordinates)]
        if self.midpoint:
            return ode.move(x, s, t, line[-1].p), (first, *past)
        return self._along(ode, x, s, t, line), (first, *past)

    def _along(self, ode: Ode[V], x: V, s: Level, t: Level, line: list[Evaluation[V]]) -> V:
        """x at t from x at s, with p on the straight line through the evaluations."""
        interval = Interval(ode.process, ode.coordinates, ode.variable(self.variable), s, t)
        return interval.hold[0] @ x + interval.drift(line)


@checked
@dataclass(frozen=True)
class RES3(InLambda):
    """Three stages, at c₂ and at the end of the step, of stiff order three (arXiv 2308.02157;
    Hochbruck & Ostermann 2005, eq. 5.8).

    With γ from 2(γc₂ + c₃) = 3(γc₂² + c₃²) and Φ(c) the weight of the straight line from 0 at s to
    1 at c: the third stage adds γΦ(c₂) + (c₃/c₂)Φ(c₃) times p₂ − p₁, the end Φ(1)/(γc₂ + c₃) times
    γ(p₂ − p₁) + (p₃ − p₁).

    Attributes:
        c2: where the second stage lies, a fraction of the step other than 2/3.

    Examples:
        >>> plan = flowsolve.plan("res3s", flowsolve.VP(), nfe=10, c2=1 / 3)
        >>> flowsolve.solvers.RES3().order, plan.nfe
        (3, 10)
    """

    c2: Annotated[
        float,
        Must(
            lambda v: 1e-6 < v < 1.0 and abs(v - 2 / 3) > 1e-3,
            "a number between 0 and 1, more than a millionth, that is not 2/3",
        ),
    ] = 0.5

    @property
    def coordinates(self) -> Coordinates:
        return DATA

    @property
    def order(self) -> int:
        return 3

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        return 3

    def step(self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V]) -> tuple[V, Past[V]]:
        c, c2, variable = ode.coordinates, self.c2, ode.variable(self.variable)
        gamma = 1.0 / (c2 * (2.0 - 3.0 * c2))

        def line(at: Level) -> Operator:
            return Interval(ode.process, c, variable, s, at).weights([s, at])[1]

        middle = self.middle(ode, s, t, c2)
        first = Evaluation(s, x, ode(x, s), c)
        second = ode(ode.move(x, s, middle, first.p), middle)
        held = ode.move(x, s, t, first.p)
        w = line(t)
        w32 = c.S(t) @ c.S(middle).inverse() @ line(middle) * gamma + w * (1.0 / c2)
        third = ode(held + w32 @ second + (-w32) @ first.p, t)
        w = w * (1.0 / (gamma * c2 + 1.0))
        x = held + (w * gamma) @ second + w @ third + (w * -(gamma + 1.0)) @ first.p
        return x, (first, *past)
