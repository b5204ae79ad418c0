r"""Multistep methods: exact integrals of the polynomial through past evaluations.

.. math:: x_t = \Psi x_s + \sum_j C_j p_j,\qquad C_j = \int_s^t \ell_j(\varphi)\, d\bigl[P_tP_\varphi^{-1}S_\varphi\bigr],

with the Lagrange polynomials ℓ_j in any variable φ through the levels of the evaluations, on whatever grid they lie. By
parts, with :math:`W_\varphi = P_t(P_\varphi^{-1}S_\varphi - P_s^{-1}S_s)`,

.. math:: C_j = \ell_j(\varphi_t) W_t - \int_s^t \ell_j'(\varphi) W_\varphi\, d\varphi ,

which needs no derivative of the process. φ = σ̄ in NOISE coordinates is variable-step Adams-Bashforth, where W is linear
in φ and the quadrature is exact; φ = t is DEIS.

A step that adds noise goes to a quieter level than t on its way (:mod:`flowsolve.solvers.stochastic`): the polynomial is
drawn over [s, t] while the state descends along the *shadows* of those levels, W being taken there. A shadow has the level's A
and less noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..coordinates import DATA, NOISE, Coordinates
from ..errors import expect, unknown
from ..flow import Flow, Node
from ..operators import Operator
from ..processes import SIGMA, TIME, Level, Process, Variable
from .base import Solver, Step

_GAUSS = [0.5 * a for a in np.polynomial.legendre.leggauss(24)]


#: Where the state is while the prediction is at a level; the identity but in a stochastic step.
Shadow = Callable[[Level], Level]

#: How the weights of a multistep method are found: "exact" is the module's formula; "constant_step" takes the evaluations for
#: equidistant whatever the grid (iPNDM); "midpoint" and "bh1" let two evaluations stand for the line's value at the middle of the
#: step, times its whole weight (DPM-Solver++(2M); UniPC's B₂ = eʰ − 1) or times h (UniPC's B₁), and are exact with more.
WEIGHTS = ("exact", "constant_step", "midpoint", "bh1")


def itself(level: Level) -> Level:
    """The shadow of a deterministic step."""
    return level


def weights(
    process: Process,
    coordinates: Coordinates,
    variable: Variable,
    nodes: Sequence[Level],
    s: Level,
    t: Level,
    kind: str = "exact",
    shadow: Shadow = itself,
) -> list[Operator]:
    """The C_j of the module's formula, for evaluations at ``nodes``; all of them, s and t have a finite ``variable``."""
    end = shadow(t)
    total = coordinates.hold(s, end)[1]
    if len(nodes) == 1:
        return [total]
    start, span = variable.of(s), variable.of(t) - variable.of(s)
    # In u = (φ − φ_s)/(φ_t − φ_s) the polynomials have coefficients of order one, whatever the step.
    places = [(variable.of(level) - start) / span for level in nodes]
    if kind == "constant_step":
        places = [-float(j) for j in range(len(nodes))]
    elif kind != "exact" and len(nodes) == 2:
        half = 0.5 * (coordinates.S(end) * (variable.of(end) - start) if kind == "bh1" else total)
        slopes = [half * (1.0 / (a - b)) for a, b in (places, places[::-1])]
        return [slope if place else total + slope for place, slope in zip(places, slopes, strict=True)]
    us = _GAUSS[0] + 0.5
    ends, slopes = np.array(_lagrange(places, 1.0)[0]), np.array(_lagrange(places, us)[1]) * _GAUSS[1]
    if variable is coordinates.clock and shadow is itself:  # W = u W_t: what is left is the integral of a polynomial
        return [total * float(c) for c in ends - slopes @ us]
    c_s, P = coordinates.P(s).inverse() @ coordinates.S(s), coordinates.P(end)
    inside = [shadow(process.at(variable, start + span * u)) for u in us.tolist()]
    inside = [coordinates.P(level).inverse() @ coordinates.S(level) - c_s for level in inside]
    return [total * at_end - P @ P.mixed(inside, slope) for at_end, slope in zip(ends.tolist(), slopes.tolist(), strict=True)]


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
    return added(flow, flow.coordinates.transport(s, t) @ x, cs, nodes)


def added(flow: Flow, x: Any, cs: Sequence[Operator], nodes: Sequence[Node]) -> Any:
    """x + Σ C_j p_j."""
    for c, node in zip(cs, nodes, strict=True):
        x = x + c @ node.seen_in(flow.coordinates)
    return x


class Taken(NamedTuple):
    """What a corrector has to know of the step that began at an evaluation: its shadow and its weights, newest first."""

    shadow: Shadow
    cs: list[Operator]


@dataclass(frozen=True)
class Multistep(Solver):
    """The polynomial through the last ``points`` evaluations, integrated over the step.

    A multistep method of order q has no past at first. Its first steps are taken by ``starter``, a Runge-Kutta method
    whose local error is of the order of the whole method's error; the lower orders of the same family fill in afterwards.
    With fewer than ``START_FROM * points`` steps the method warms up through its lower orders alone, which costs no
    evaluations.

    Attributes:
        points: how many evaluations the polynomial goes through.
        coordinates, variable: of what, and in which scalar, the polynomial is drawn.
        starter: the method of the first steps, of order ``points - 1`` (``points`` with a corrector).
        weights: one of ``WEIGHTS``.
        corrector: take each step once more when its end has been evaluated, with that evaluation as one more point (UniC,
            arXiv 2302.04867; SA-Solver's corrector, 2309.05019). It costs nothing and the order is ``points + 1``.
        finish: end on clean data with more than the last x̂0, which misses two things that are known by then: the corrector's change of
            the state it was asked at, from x to x̃, and that along a path x̂0 = x0 + O(σ̄²). With r the σ̄ of the evaluation before,
            x0 ≈ x̂0 + A_s⁻¹(x̃ − x) + σ̄_s²/(r² − σ̄_s²) (x̂0 − x̂0'). It costs nothing.
        start_steps: let ``starter`` take this many steps in runs of any length that can pay for them (PNDM).
    """

    points: int = 2
    coordinates: Coordinates = NOISE  # type: ignore[assignment]
    variable: Variable = SIGMA  # type: ignore[assignment]
    starter: Solver | None = None
    weights: str = "exact"
    corrector: bool = False
    finish: bool = False
    start_steps: int | None = None

    def __post_init__(self) -> None:
        expect(self, "a positive integer", "points")
        if self.weights not in WEIGHTS:
            raise ValueError(unknown("weights", self.weights, WEIGHTS))

    @property
    def order(self) -> int:
        return self.points + self.corrector

    def step(self, flow: Flow, x: Any, s: Level, t: Level, past: tuple[Node, ...]) -> Step:
        return self.toward(flow, x, s, t, past, itself)

    def toward(self, flow: Flow, x: Any, s: Level, t: Level, past: tuple[Node, ...], shadow: Shadow) -> Step:
        new = Node(s, x, flow(x, s), flow.coordinates)
        if self.corrector and past and past[0].taken is not None and self._finite(s):
            x = self._corrected(flow, x, new, past)
        if t.clean:
            return self._finished(x, new, past, t), (new,)
        past = (new, *past)[: self.points]
        # An evaluation at an infinite value of the variable carries no weight in a polynomial; a step from or to one holds p.
        nodes = [n for n in past if self._finite(n.level)] if self._finite(s) and self._finite(t) else past[:1]
        cs = self._weights(flow, nodes, s, t, shadow)
        taken = Taken(shadow, cs) if self._finite(s) else None
        return added(flow, flow.coordinates.transport(s, shadow(t)) @ x, cs, nodes), (new._replace(taken=taken), *past[1:])

    def _corrected(self, flow: Flow, x: Any, new: Node, past: tuple[Node, ...]) -> Any:
        """x at the newest evaluation if the step there had known it: its weights change, its noise does not."""
        shadow, cs = past[0].taken
        s, t = past[0].level, new.level
        nodes = (new, *past[: len(cs)])
        better = self._weights(flow, nodes, s, t, shadow)
        return added(flow, x, [better[0], *(a - b for a, b in zip(better[1:], cs, strict=True))], nodes)

    def in_time(self) -> Solver:
        # Weights that approximate the polynomial's own count on λ, the better end on σ̄. A Runge-Kutta start in t costs
        # more than it brings below some hundred steps (docs/gddim.md), unless it is what makes the method.
        kind = self.weights if self.weights == "constant_step" else "exact"
        starter = None if self.starter is None or self.start_steps is None else self.starter.in_time()
        return replace(self, variable=TIME, starter=starter, weights=kind, finish=False)

    def last(self) -> Solver:
        return self if self.finish else super().last()

    def _finished(self, x: Any, new: Node, past: tuple[Node, ...], t: Level) -> Any:
        """x at clean data; see ``finish``."""
        x0, s = new.seen_in(DATA), new.level
        end = x0
        if x is not new.x:
            end = end + s.A.inverse() @ (x - new.x)
        if past and math.isfinite(past[0].level.sigma):
            end = end + (x0 - past[0].seen_in(DATA)) * (1.0 / ((past[0].level.sigma / s.sigma) ** 2 - 1.0))
        return t.A @ end

    def _weights(self, flow: Flow, nodes: Sequence[Node], s: Level, t: Level, shadow: Shadow) -> list[Operator]:
        return weights(flow.process, flow.coordinates, self.variable, [n.level for n in nodes], s, t, self.weights, shadow)

    def _finite(self, level: Level) -> bool:
        return math.isfinite(self.variable.of(level))

    def rules(self, starts: Sequence[Level], budget: int | None) -> list[Solver]:
        if self.starter is None or not starts:
            return [self] * len(starts)
        count, extra = self._starting(starts[0])
        if budget is not None and len(starts) + extra > budget:
            count = 0
        first: list[Solver] = [self.starter] * min(count, len(starts))
        return first + [self] * (len(starts) - len(first))

    def steps(self, budget: int, start: Level) -> int:
        count, extra = self._starting(start)
        enough = START_FROM * self.points if self.start_steps is None else count
        return budget - extra if budget - extra >= enough else budget

    def _starting(self, start: Level) -> tuple[int, int]:
        """How many steps the starter takes, one more where the first evaluation cannot enter a polynomial, and their extra cost."""
        if self.starter is None:
            return 0, 0
        count = (self.points - 2 if self.start_steps is None else self.start_steps) + (not self._finite(start))
        return count, count * ((self.starter.evaluations or 1) - 1)


@dataclass(frozen=True)
class GradientEstimation(Solver):
    """Euler on ε̂ + (γ − 1)(ε̂ − ε̂_before): the change of the prediction since the last step, exaggerated (arXiv 2306.04848, eq. 4).

    Attributes:
        gamma: 1 is DDIM, 3/2 is AB2 on equal steps; the paper's choice is 2.
    """

    gamma: float = 2.0

    @property
    def coordinates(self) -> Coordinates:
        return NOISE

    @property
    def order(self) -> int:
        return 1

    def in_time(self) -> Solver:
        return self

    def step(self, flow: Flow, x: Any, s: Level, t: Level, past: tuple[Node, ...]) -> Step:
        new = Node(s, x, flow(x, s), flow.coordinates)
        p = new.p
        if past:
            p = self.gamma * p + (1.0 - self.gamma) * past[0].seen_in(NOISE)
        return flow.move(x, s, t, p), (new,)


#: Steps per point from which a Runge-Kutta start is used. Measured (docs/benchmarks.md): below about 80 evaluations warming up is
#: more accurate on every process, above that the start costs a few percent from finite noise and halves the error from pure noise.
START_FROM = 20
