r"""Exponential Runge-Kutta methods in λ = −log σ̄: the single-step DPM-Solvers and RES.

The stages lie at λ_s + c(λ_t − λ_s). A stage integrates, exactly, the straight line in λ through the step's first
evaluation and its latest one; so does the end of the step. With c = (1/3, 2/3) these are DPM-Solver-3 in NOISE and
DPM-Solver++(3S) in DATA coordinates (arXiv 2206.00927, algorithm 2; 2211.01095), with c = (1/2) the two-stage method of RES
(arXiv 2308.02157). DPM-Solver-2 and DPM-Solver++(2S) with r = 1/2 hold the evaluation at the middle over the whole step:
the exponential midpoint rule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..coordinates import DATA, VELOCITY, Coordinates
from ..flow import Flow, Node
from ..processes import LAMBDA, Level, Variable
from .base import Step
from .multistep import advance
from .singlestep import KUTTA3, MIDPOINT, RungeKutta, SingleStep


@dataclass(frozen=True)
class Exponential(SingleStep):
    """Stages at ``nodes`` (the c of the module's text), of order len(nodes) + 1.

    Attributes:
        nodes: one or two fractions of the step, increasing.
        coordinates: NOISE or DATA.
        midpoint: end the step by holding the last evaluation instead of the line; for nodes (1/2,).
    """

    nodes: tuple[float, ...]
    coordinates: Coordinates = DATA  # type: ignore[assignment]
    midpoint: bool = False

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

    @property
    def variable(self) -> Variable:
        return LAMBDA

    def step(self, flow: Flow, x: Any, s: Level, t: Level, past: tuple[Node, ...]) -> Step:
        first = Node(s, x, flow(x, s), flow.coordinates)
        line = [first]
        for c in self.nodes:
            at = flow.process.at(LAMBDA, s.lam + c * (t.lam - s.lam))
            y = advance(flow, LAMBDA, x, s, at, line)
            line = [first, Node(at, y, flow(y, at), flow.coordinates)]
        x = flow.move(x, s, t, line[-1].p) if self.midpoint else advance(flow, LAMBDA, x, s, t, line)
        return x, (first, *past)

    def singular(self, level: Level) -> bool:
        return not math.isfinite(level.lam) or self.coordinates.singular(level)

    def from_singular(self) -> RungeKutta:
        return RungeKutta(MIDPOINT if self.order == 2 else KUTTA3, VELOCITY)
