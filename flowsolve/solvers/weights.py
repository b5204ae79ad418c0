r"""Polynomials through past evaluations, integrated exactly.

.. math:: x_t = \Psi x_s + \sum_j C_j p_j,\qquad
   C_j = \int_s^t \ell_j(\varphi)\, d\bigl[P_tP_\varphi^{-1}S_\varphi\bigr],

with the Lagrange polynomials ℓ_j in any variable φ through the levels of the evaluations, on
whatever grid they lie. By parts, with
:math:`W_\varphi = P_t(P_\varphi^{-1}S_\varphi - P_s^{-1}S_s)`,

.. math:: C_j = \ell_j(\varphi_t) W_t - \int_s^t \ell_j'(\varphi) W_\varphi\, d\varphi ,

which needs no derivative of the process. φ = σ̄ in NOISE coordinates is variable-step
Adams-Bashforth, where W is linear in φ and the quadrature is exact; φ = t is DEIS.

A step that adds noise goes to a quieter level than t on its way (:mod:`flowsolve.solvers.descent`):
the polynomial is drawn over [s, t] while the state descends along the *shadows* of those levels, W
being taken there. A shadow has the level's A and less noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar, Literal

import numpy as np

from ..caching import table
from ..checked import Count, checked
from ..coordinates import NOISE, Coordinates
from ..operators import Operator, Scalar
from ..processes import SIGMA, Level, Process, Variable
from .base import Shadow
from .ode import Evaluation, Ode, Past, V

_NODES, _WEIGHTS = (0.5 * a for a in np.polynomial.legendre.leggauss(24))
_NODES = _NODES + 0.5

#: How the weights are found: "exact" is the module's formula; "constant_step" takes the evaluations
#: for equidistant whatever the grid (iPNDM); "midpoint" and "bh1" let two evaluations stand for the
#: line's value at the middle of the step, times its whole weight (DPM-Solver++(2M); UniPC's
#: B₂ = eʰ − 1) or times h (UniPC's B₁), and are exact with more, and where the process has a clock.
Weights = Literal["exact", "constant_step", "midpoint", "bh1"]


#: Up to so many evaluations the integrals of a step are found together.
USUAL = 5


def itself(level: Level) -> Level:
    """The shadow of a deterministic step."""
    return level


@checked
@dataclass(frozen=True)
class Polynomial:
    """The polynomial of p through the last evaluations, newest first.

    Attributes:
        points: how many evaluations it goes through at most.
        coordinates: whose p it is of.
        variable: the scalar in which it is drawn.
        weights: how they are found, see ``Weights``.

    Examples:
        >>> from flowsolve.coordinates import DATA
        >>> from flowsolve.processes import LAMBDA
        >>> two = flowsolve.solvers.Polynomial(2, DATA, LAMBDA, "midpoint")
        >>> flowsolve.solvers.name_of(flowsolve.solvers.Multistep(two))
        'dpmpp2m'
    """

    such_as: ClassVar[str] = "a flowsolve.solvers.Polynomial, such as Polynomial(2)"

    points: Count = 1
    coordinates: Coordinates = NOISE
    variable: Variable = SIGMA
    weights: Weights = "exact"

    def through(self, ode: Ode[V], past: Past[V], s: Level, t: Level) -> Past[V]:
        """Those of the evaluations ``past`` that it goes through in a step from s to t.

        One at an infinite value of the variable carries no weight; a step from or to one holds p.
        """
        variable = ode.variable(self.variable)
        if not (variable.finite(s) and variable.finite(t)):
            return past[:1]
        return tuple(e for e in past[: self.points] if variable.finite(e.level))

    def over(self, ode: Ode[V], s: Level, t: Level, shadow: Shadow = itself) -> Interval:
        """The step from s to the shadow of t, in this polynomial's coordinates and variable."""
        self.coordinates.require(ode.process)
        variable = ode.variable(self.variable)
        return Interval(ode.process, self.coordinates, variable, s, t, shadow)

    def drift(self, interval: Interval, past: Past[V]) -> V:
        """Σ C_j p_j over the evaluations it goes through: what the step adds to Ψ x."""
        kind = self.weights
        if interval.process.clock and kind != "constant_step":
            kind = "exact"  # what approximates the weights in λ has no business in another clock
        return interval.drift(past, kind)


@dataclass(frozen=True)
class Interval:
    """A step from s to the shadow of t, and the integrals over it.

    Examples:
        >>> from flowsolve.coordinates import NOISE
        >>> from flowsolve.processes import SIGMA
        >>> before, s, t = (flowsolve.EDM().level(sigma) for sigma in (3.0, 2.0, 1.0))
        >>> over = flowsolve.solvers.weights.Interval(flowsolve.EDM(), NOISE, SIGMA, s, t)
        >>> [round(each.value, 9) for each in over.weights((s, before))]  # Adams-Bashforth's
        [-1.5, 0.5]
    """

    process: Process
    coordinates: Coordinates
    variable: Variable
    s: Level
    t: Level
    shadow: Shadow = itself

    @cached_property
    def end(self) -> Level:
        """Where the step ends: the shadow of t."""
        return self.shadow(self.t)

    @cached_property
    def hold(self) -> tuple[Operator, Operator]:
        """(Ψ, C) of the step if p is held."""
        return self.coordinates.hold(self.s, self.end)

    def drift(self, past: Sequence[Evaluation[V]], kind: str = "exact") -> V:
        """Σ C_j p_j for these evaluations, newest first."""
        cs = self.weights([e.level for e in past], kind)
        first, *rest = (c @ e.seen_in(self.coordinates) for c, e in zip(cs, past, strict=True))
        for term in rest:
            first = first + term
        return first

    def weights(self, nodes: Sequence[Level], kind: str = "exact") -> list[Operator]:
        """The C_j of the module's formula, for evaluations at ``nodes``; all of them, s and t have
        a finite variable. The newest p is held where the variable cannot tell s from t, or nodes
        from each other, because the step is so short."""
        whole, variable = self.hold[1], self.variable
        start, span = variable.of(self.s), variable.of(self.t) - variable.of(self.s)
        if len(nodes) == 1 or span == 0.0 or len(set(map(variable.of, nodes))) < len(nodes):
            return [whole, *[whole * 0.0] * (len(nodes) - 1)]
        # In u = (φ − φ_s)/(φ_t − φ_s) the polynomials have coefficients of order one at any step.
        places = [(variable.of(level) - start) / span for level in nodes]
        if kind == "constant_step":
            places = [-float(j) for j in range(len(nodes))]
        elif kind != "exact" and len(nodes) == 2:
            half = 0.5 * whole
            if kind == "bh1":
                half = 0.5 * (self.coordinates.S(self.end) * (variable.of(self.end) - start))
            slopes = [half * (1.0 / (a - b)) for a, b in (places, places[::-1])]
            return [c if place else whole + c for place, c in zip(places, slopes, strict=True)]
        moments = self._moments if len(nodes) <= USUAL else self._find_moments(len(nodes))
        return [
            whole.mixed(moments[: len(nodes)], coefficients) for coefficients in _lagrange(places)
        ]

    @cached_property
    def _moments(self) -> list[Operator]:
        # A predictor and its corrector ask for them one after the other.
        return self._find_moments(USUAL)

    def _find_moments(self, count: int) -> list[Operator]:
        """∫ uᵐ dW over the step, u from 0 to 1, for m = 0, 1, ..., by parts."""
        c, variable, whole, s = self.coordinates, self.variable, self.hold[1], self.s
        if variable == c.clock and self.shadow is itself:  # W = u W_t
            return [whole * (1.0 / (m + 1)) for m in range(count)]
        start, P = variable.of(s), c.P(self.end)
        values = start + (variable.of(self.t) - start) * _NODES
        if isinstance(P, Scalar) and self.shadow is itself and variable.to_sigma is not None:
            # Of numbers P⁻¹S is a function of σ̄, and all the nodes are computed at once.
            before = (c.P(s).inverse() @ c.S(s)).entries.item()
            gained = c.increasing(variable.to_sigma(values)) - before
            parts, first = (_powers(count) @ (P.value * gained)).tolist(), whole.entries.item()
            return [whole, *(Scalar(first - part) for part in parts)]
        c_s = c.P(s).inverse() @ c.S(s)
        inside = [self.shadow(self.process.at(variable, value)) for value in values.tolist()]
        gain = [c.P(v).inverse() @ c.S(v) - c_s for v in inside]
        return [whole, *(whole - P @ P.mixed(gain, row) for row in _powers(count).tolist())]


@table
@lru_cache
def _powers(count: int) -> np.ndarray:
    """The derivatives of u, u², ... at the quadrature's nodes, times its weights."""
    m = np.arange(1, count)[:, None]
    return m * _NODES ** (m - 1) * _WEIGHTS


def _lagrange(places: Sequence[float]) -> list[list[float]]:
    """The Lagrange polynomials through ``places``, by their coefficients of 1, u, u², ..."""
    result = []
    for place in places:
        coefficients = [1.0]
        for other in places:
            if other != place:
                unit = 1.0 / (place - other)
                shift = -unit * other
                coefficients.append(coefficients[-1] * unit)
                for k in range(len(coefficients) - 2, 0, -1):
                    coefficients[k] = coefficients[k] * shift + coefficients[k - 1] * unit
                coefficients[0] *= shift
        result.append(coefficients)
    return result
