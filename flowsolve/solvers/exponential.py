r"""Exponential Runge-Kutta methods in λ = −log σ̄: the single-step DPM-Solvers and RES.

The stages lie at λ_s + c(λ_t − λ_s). A stage integrates, exactly, the straight line in λ through the step's first
evaluation and its latest one; so does the end of the step. With c = (1/3, 2/3) these are DPM-Solver-3 in NOISE and
DPM-Solver++(3S) in DATA coordinates (arXiv 2206.00927, algorithm 2; 2211.01095), with c = (1/2) the two-stage method of RES
(arXiv 2308.02157). DPM-Solver-2 and DPM-Solver++(2S) with r = 1/2 hold the evaluation at the middle over the whole step:
the exponential midpoint rule.

RES with three stages weights them differently, so that the *stiff* order conditions of Hochbruck and Ostermann (2005,
section 5.3) hold: its order three does not depend on how fast the prediction varies with the state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from ..coordinates import DATA, VELOCITY, Coordinates
from ..flow import Flow, Node
from ..operators import Operator
from ..processes import LAMBDA, TIME, Level, Variable
from .base import DDIM, Solver, Step
from .multistep import added, advance, weights
from .singlestep import KUTTA3, MIDPOINT, RungeKutta, SingleStep


class InLambda(SingleStep):
    """Stages placed in λ, which is finite neither at pure noise nor on clean data; where A and R are matrices, in t."""

    @property
    def variable(self) -> Variable:
        return LAMBDA

    def between(self, flow: Flow, s: Level, t: Level, c: float) -> Level:
        """The level at the fraction c of the step."""
        start, end = self.variable.of(s), self.variable.of(t)
        return flow.process.at(self.variable, start + c * (end - start))

    def singular(self, level: Level) -> bool:
        return not math.isfinite(self.variable.of(level)) or self.coordinates.singular(level)

    def from_singular(self) -> Solver:
        if self.variable is TIME:
            return DDIM()
        return RungeKutta(MIDPOINT if self.evaluations == 2 else KUTTA3, VELOCITY)


@dataclass(frozen=True)
class Exponential(InLambda):
    """Stages at ``nodes`` (the c of the module's text), of order len(nodes) + 1.

    Attributes:
        nodes: one or two fractions of the step, increasing.
        coordinates: NOISE or DATA.
        midpoint: end the step by holding the last evaluation instead of the line; for nodes (1/2,).
    """

    nodes: tuple[float, ...]
    coordinates: Coordinates = DATA  # type: ignore[assignment]
    midpoint: bool = False
    variable: Variable = LAMBDA  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if not (1 <= len(self.nodes) <= 2 and all(0 < c < 1 for c in self.nodes) and sorted(set(self.nodes)) == list(self.nodes)):
            raise ValueError(f"nodes={self.nodes!r}: expected one or two increasing numbers between 0 and 1")
        if self.midpoint and self.nodes != (0.5,):
            raise ValueError(f"midpoint=True needs nodes=(0.5,), got {self.nodes!r}")

    @property
    def order(self) -> int:
        return len(self.nodes) + 1

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        return len(self.nodes) + 1

    def in_time(self) -> Solver:
        return replace(self, variable=TIME)

    def step(self, flow: Flow, x: Any, s: Level, t: Level, past: tuple[Node, ...]) -> Step:
        first = Node(s, x, flow(x, s), flow.coordinates)
        line = [first]
        for c in self.nodes:
            at = self.between(flow, s, t, c)
            y = advance(flow, self.variable, x, s, at, line)
            line = [first, Node(at, y, flow(y, at), flow.coordinates)]
        x = flow.move(x, s, t, line[-1].p) if self.midpoint else advance(flow, self.variable, x, s, t, line)
        return x, (first, *past)


@dataclass(frozen=True)
class RES3(InLambda):
    """Three stages, at c₂ and at the end of the step, of stiff order three (arXiv 2308.02157; Hochbruck & Ostermann 2005, eq. 5.8).

    With γ from 2(γc₂ + c₃) = 3(γc₂² + c₃²) and Φ(c) the weight of the straight line from 0 at s to 1 at c: the third stage
    adds γΦ(c₂) + (c₃/c₂)Φ(c₃) times p₂ − p₁, the end Φ(1)/(γc₂ + c₃) times γ(p₂ − p₁) + (p₃ − p₁).

    Attributes:
        c2: where the second stage lies, a fraction of the step other than 2/3.
    """

    c2: float = 0.5
    variable: Variable = LAMBDA  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if not (0 < self.c2 < 1 and abs(self.c2 - 2 / 3) > 1e-3):
            raise ValueError(f"c2={self.c2!r}: expected a number between 0 and 1 that is not 2/3")

    @property
    def coordinates(self) -> Coordinates:
        return DATA

    @property
    def order(self) -> int:
        return 3

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        return 3

    def in_time(self) -> Solver:
        return replace(self, variable=TIME)

    def step(self, flow: Flow, x: Any, s: Level, t: Level, past: tuple[Node, ...]) -> Step:
        c, c2 = flow.coordinates, self.c2
        gamma = 1.0 / (c2 * (2.0 - 3.0 * c2))

        def line(at: Level) -> Operator:
            return weights(flow.process, c, self.variable, [s, at], s, at)[1]

        middle = self.between(flow, s, t, c2)
        first = Node(s, x, flow(x, s), c)
        second = Node(middle, None, flow(flow.move(x, s, middle, first.p), middle), c)
        held = flow.move(x, s, t, first.p)
        w = line(t)
        w32 = c.S(t) @ c.S(middle).inverse() @ line(middle) * gamma + w * (1.0 / c2)
        third = Node(t, None, flow(added(flow, held, [w32, -w32], [second, first]), t), c)
        w = w * (1.0 / (gamma * c2 + 1.0))
        return added(flow, held, [w * gamma, w, w * -(gamma + 1.0)], [second, third, first]), (first, *past)
