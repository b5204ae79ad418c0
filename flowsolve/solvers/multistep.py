r"""Multistep methods: exact integrals of the polynomial through past evaluations.

.. math:: x_t = \Psi x_s + \sum_j C_j p_j,\qquad C_j = \int_s^t \ell_j(\varphi)\, d\bigl[P_tP_\varphi^{-1}S_\varphi\bigr],

with the Lagrange polynomials ℓ_j in any variable φ through the levels of the evaluations, on whatever grid they lie. By
parts, with :math:`W_\varphi = P_t(P_\varphi^{-1}S_\varphi - P_s^{-1}S_s)`,

.. math:: C_j = \ell_j(\varphi_t) W_t - \int_s^t \ell_j'(\varphi) W_\varphi\, d\varphi ,

which needs no derivative of the process. φ = σ̄ in NOISE coordinates is variable-step Adams-Bashforth, where W is linear
in φ and the quadrature is exact; φ = t is DEIS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..coordinates import NOISE, Coordinates
from ..flow import Flow, Node
from ..operators import Operator
from ..processes import SIGMA, Level, Process, Variable
from .base import Solver, Step

_GAUSS = [0.5 * a for a in np.polynomial.legendre.leggauss(24)]


def weights(process: Process, coordinates: Coordinates, variable: Variable, nodes: Sequence[Level], s: Level, t: Level) -> list[Operator]:
    """The C_j of the module's formula, for evaluations at ``nodes``; all of them, s and t have a finite ``variable``."""
    total = coordinates.hold(s, t)[1]
    if len(nodes) == 1:
        return [total]
    start, span = variable.of(s), variable.of(t) - variable.of(s)
    # In u = (φ − φ_s)/(φ_t − φ_s) the polynomials have coefficients of order one, whatever the step.
    places = [(variable.of(level) - start) / span for level in nodes]
    us = _GAUSS[0] + 0.5
    ends, slopes = np.array(_lagrange(places, 1.0)[0]), np.array(_lagrange(places, us)[1]) * _GAUSS[1]
    if variable is coordinates.clock:  # W = u W_t: what is left is the integral of a polynomial
        return [total * float(c) for c in ends - slopes @ us]
    levels = [process.at(variable, start + span * float(u)) for u in us]
    inside = [coordinates.P(t) @ coordinates.gap(s, level) for level in levels]
    result = []
    for end, slope in zip(ends, slopes, strict=True):
        c = total * float(end)
        for factor, w in zip(slope, inside, strict=True):
            c = c - w * float(factor)
        result.append(c)
    return result


def _lagrange(places: Sequence[float], u: Any) -> tuple[list[Any], list[Any]]:
    """The Lagrange polynomials through ``places`` and their derivatives at u, a number or an array."""
    values, slopes = [], []
    for j, place in enumerate(places):
        value, slope = 1.0, 0.0
        for other in (*places[:j], *places[j + 1 :]):
            factor = (u - other) / (place - other)
            value, slope = value * factor, slope * factor + value / (place - other)
        values.append(value)
        slopes.append(slope)
    return values, slopes


def advance(flow: Flow, variable: Variable, x: Any, s: Level, t: Level, nodes: Sequence[Node]) -> Any:
    """x at t from x at s, with p the polynomial in ``variable`` through the evaluations ``nodes``, integrated exactly."""
    cs = weights(flow.process, flow.coordinates, variable, [n.level for n in nodes], s, t)
    x = flow.coordinates.transport(s, t) @ x
    for c, node in zip(cs, nodes, strict=True):
        x = x + c @ node.seen_in(flow.coordinates)
    return x


@dataclass(frozen=True)
class Multistep(Solver):
    """The polynomial through the last ``order`` evaluations, integrated exactly over the step.

    A multistep method of order q has no past at first. Its first q − 2 steps are taken by ``starter``, a Runge-Kutta
    method of order q − 1, whose local error is of the order of the whole method's error; the lower orders of the same
    family fill in afterwards. With fewer than ``START_FROM * order`` steps the method warms up through its lower orders
    alone, which costs no evaluations.
    """

    order: int = 2  # type: ignore[assignment]
    coordinates: Coordinates = NOISE  # type: ignore[assignment]
    variable: Variable = SIGMA  # type: ignore[assignment]
    starter: Solver | None = None

    def step(self, flow: Flow, x: Any, s: Level, t: Level, past: tuple[Node, ...]) -> Step:
        past = (Node(s, x, flow(x, s), flow.coordinates), *past)[: self.order]
        # An evaluation at an infinite value of the variable carries no weight in a polynomial; a step from or to one holds p.
        nodes = [n for n in past if math.isfinite(self.variable.of(n.level))]
        if not math.isfinite(self.variable.of(s)) or not math.isfinite(self.variable.of(t)):
            nodes = [past[0]]
        return advance(flow, self.variable, x, s, t, nodes), past

    def rules(self, starts: Sequence[Level], budget: int | None) -> list[Solver]:
        if self.starter is None or not starts:
            return [self] * len(starts)
        count, extra = self._starting(starts[0])
        if budget is not None and len(starts) + extra > budget:
            count = 0
        first: list[Solver] = [self.starter] * min(count, len(starts))
        return first + [self] * (len(starts) - len(first))

    def steps(self, budget: int, start: Level) -> int:
        fewer = budget - self._starting(start)[1]
        return fewer if fewer >= START_FROM * self.order else budget

    def _starting(self, start: Level) -> tuple[int, int]:
        """How many steps the starter takes, one more where the first evaluation cannot enter a polynomial, and their extra cost."""
        if self.starter is None:
            return 0, 0
        count = self.order - 2 + (not math.isfinite(self.variable.of(start)))
        return count, count * ((self.starter.evaluations or 1) - 1)


#: Steps per order from which a Runge-Kutta start is used. Measured (docs/benchmarks.md): below about 80 evaluations warming up is
#: more accurate on every process, above that the start costs a few percent from finite noise and halves the error from pure noise.
START_FROM = 20
