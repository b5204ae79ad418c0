r"""Coordinates in which the probability-flow ODE is pure quadrature.

**Theorem.** Let a noisy state be :math:`x = A\hat x_0 + R\hat\varepsilon` with the prediction
:math:`(\hat x_0, \hat\varepsilon)` at that state, and let the probability-flow ODE be
:math:`dx = dA\,\hat x_0 + dR\,\hat\varepsilon`. Let :math:`(q, p)` be a constant invertible change
of basis of :math:`(\hat x_0, \hat\varepsilon)` and write :math:`x = Pq + Sp`. Where P is
invertible,

.. math:: d(P^{-1}x) = d(P^{-1}S)\,p .

*Proof.* P and S are constant combinations of A and R, so :math:`dx = dP\,q + dS\,p` is the same
equation. With :math:`q = P^{-1}(x - Sp)`,

.. math::
   d(P^{-1}x) = P^{-1}dx - P^{-1}dP\,P^{-1}x
              = P^{-1}(dP\,q + dS\,p) - P^{-1}dP(q + P^{-1}Sp)
              = (P^{-1}dS - P^{-1}dP\,P^{-1}S)\,p = d(P^{-1}S)\,p. \qquad\square

Holding p over a step from s to t gives
:math:`x_t = P_tq_s + S_tp_s = A_t\hat x_0 + R_t\hat\varepsilon`: DDIM, in every coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .checked import checked
from .errors import Unsuited
from .operators import Operator
from .processes import FLOW_TIME, SIGMA, Level, Process, Variable


@checked
@dataclass(frozen=True)
class Coordinates:
    """One basis (q, p): P and S as combinations of (A, R), p as a combination of (x̂0, ε̂).

    Attributes:
        name: "noise", "data" or "flow".
        P_of, S_of: the weights of (A, R) in P and in S.
        p_of: the weights of (x̂0, ε̂) in p.
        clock: the variable that equals P⁻¹S up to an increasing function, None if it has no name of
            its own.

    Examples:
        >>> s, t = flowsolve.VP().at("sigma", 2.0), flowsolve.VP().at("sigma", 1.0)
        >>> round(flowsolve.coordinates.NOISE.gap(s, t).value, 12)  # dσ̄, for a step from 2 to 1
        -1.0
    """

    such_as: ClassVar[str] = "NOISE, DATA or FLOW of flowsolve.coordinates"

    name: str
    P_of: tuple[float, float]
    S_of: tuple[float, float]
    p_of: tuple[float, float]
    clock: Variable | None

    def P(self, level: Level) -> Operator:
        return _mix(self.P_of, level)

    def S(self, level: Level) -> Operator:
        return _mix(self.S_of, level)

    def singular(self, level: Level) -> bool:
        """True where P has no inverse, or P = A as good as none: the ODE cannot start from this
        level in these coordinates."""
        return self.P(level).singular or (level.drowned and self.P_of[1] == 0.0)

    def require(self, process: Process) -> None:
        """Raise ValueError where P need not have an inverse at any level of ``process``."""
        if all(self.P_of) and not process.flows:
            raise Unsuited(
                f"in {self!r} coordinates A + R must have an inverse, which matrices need not",
                "a solver in NOISE or DATA coordinates, such as 'ab3' or 'etd3'",
            )

    def increasing(self, sigma: Any) -> Any:
        """P⁻¹S as a function of σ̄, a number or an array, for processes with numbers for A and
        R."""
        (p_a, p_r), (s_a, s_r) = self.P_of, self.S_of
        return (s_a + s_r * sigma) / (p_a + p_r * sigma)

    def transport(self, s: Level, t: Level) -> Operator:
        """Ψ = P_t P_s⁻¹, what carries a state from s to t if p = 0."""
        return self.P(t) @ self.P(s).inverse()

    def gap(self, s: Level, t: Level) -> Operator:
        """The clock's increment P_t⁻¹S_t − P_s⁻¹S_s."""
        return self.P(t).inverse() @ self.S(t) - self.P(s).inverse() @ self.S(s)

    def slope(self, process: Process, level: Level) -> tuple[Operator, Operator]:
        """(a, b) with dx/dt = a x + b p: the ODE itself, a = P'P⁻¹ and b = S' − aS, for processes
        whose A and R are matrices."""
        derivative = Level(level.t, *process.rates(level))
        a = self.P(derivative) @ self.P(level).inverse()
        return a, self.S(derivative) - a @ self.S(level)

    def convert(self, other: Coordinates, level: Level) -> tuple[Operator, Operator]:
        """(a, b) with p' = a x + b p: the same prediction's p in ``other`` coordinates, from the
        state x it was made at."""
        (u, v), (w, z) = self.p_of, other.p_of
        # x = A x̂0 + R ε̂ and p = u x̂0 + v ε̂, solved for (x̂0, ε̂).
        inverse = (level.A * v - level.R * u).inverse()
        return inverse * (w * v - z * u), inverse @ (level.A * z - level.R * w)

    def hold(self, s: Level, t: Level) -> tuple[Operator, Operator]:
        """(Ψ, C) with x_t = Ψ x_s + C p for p held from s to t. Finite wherever P_s is invertible,
        P_t need not be."""
        carry = self.transport(s, t)
        return carry, self.S(t) - carry @ self.S(s)

    def __repr__(self) -> str:
        return self.name.upper()


def check_clock(coordinates: Coordinates) -> None:
    """Raise ValueError unless these have a clock to lay out stages in."""
    if coordinates.clock is None:
        raise ValueError(
            f"coordinates={coordinates!r} have no clock of their own to place the stages in; "
            "expected NOISE or FLOW"
        )


def _mix(weights: tuple[float, float], level: Level) -> Operator:
    a, r = weights
    if r == 0.0:
        return level.A if a == 1.0 else level.A * a
    if a == 0.0:
        return level.R if r == 1.0 else level.R * r
    return level.A * a + level.R * r


#: P = A, S = R, p = ε̂. Singular at pure noise.
NOISE = Coordinates("noise", (1.0, 0.0), (0.0, 1.0), (0.0, 1.0), SIGMA)
#: P = R, S = A, p = x̂0. Singular on clean data.
DATA = Coordinates("data", (0.0, 1.0), (1.0, 0.0), (1.0, 0.0), None)
#: P = A + R, S = R, p = ε̂ − x̂0. Singular nowhere (scalar processes).
FLOW = Coordinates("flow", (1.0, 1.0), (0.0, 1.0), (-1.0, 1.0), FLOW_TIME)
#: By what plans' files call them; those of before FLOW had its name say "velocity".
COORDINATES = {"noise": NOISE, "data": DATA, "flow": FLOW}
