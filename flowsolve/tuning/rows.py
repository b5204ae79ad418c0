r"""A deterministic plan of a scalar process as levels and a triangle of weights.

With :math:`y = x/(A+R)`, :math:`r = R/(A+R)` and :math:`U = \hat\varepsilon - \hat x_0` the
probability-flow ODE is :math:`dy = U\,dr`, finite at both ends, and a plan is

.. math:: y_{k+1} = y_k + \sum_{j\le k} w_{kj}\,U_j,\qquad U_j = U(y_j, r_j),

for every method that is exact where U is nothing: all that the zoo's deterministic rows are, in
whatever coordinates. Levels and weights are all there is to choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..coordinates import FLOW
from ..operators import Scalar
from ..plans import Plan
from ..plans.program import Arrive, Combine, Draw, Evaluate, Instruction, Program
from ..processes import Level


def scale(level: Any) -> float:
    """A + R: a state's x in its y."""
    return level.A.value + level.R.value


@dataclass(frozen=True, eq=False)
class Rows:
    """Levels and weights.

    Attributes:
        levels: where the network is asked, n of them, the first the start's.
        end: where the run ends.
        weights: (n, n), lower triangular; row r makes the state after evaluation r.
    """

    levels: tuple[Level, ...]
    end: Level
    weights: np.ndarray

    @property
    def n(self) -> int:
        """Evaluations."""
        return len(self.levels)

    @classmethod
    def of(cls, plan: Plan) -> Rows | None:
        """The rows of a plan; None of one that draws noise, or is not of this form."""
        n = plan.nfe
        known = {0: _unit(0, n) * scale(plan.levels[0])}  # x in terms of y₀, U₀, U₁, ...
        levels: list[Level] = []
        states: list[np.ndarray] = []
        end = Arrive(0, plan.levels[0])
        for i in plan.program:
            if isinstance(i, Evaluate):
                a, r = i.level.A.value, i.level.R.value  # type: ignore[attr-defined]
                x, u = known[i.x], _unit(1 + len(levels), n)
                levels.append(i.level)
                states.append(x / (a + r))
                w, v = i.coordinates.p_of
                known[i.p] = w * (x - r * u) / (a + r) + v * (x + a * u) / (a + r)
            elif isinstance(i, Combine):
                terms: Any = i.terms
                known[i.out] = sum((c.value * known[k] for k, c in terms.items()), np.zeros(n + 1))
            elif isinstance(i, Draw):
                return None
            else:
                end = i
        states.append(known[end.x] / scale(end.level))
        made = np.array(states)
        if not np.allclose(made[:, 0], 1.0, atol=1e-9) or levels[0].t != plan.levels[0].t:
            return None
        return cls(tuple(levels), end.level, np.diff(made[:, 1:], axis=0))

    def plan(self) -> Plan:
        """The plan."""
        instructions: list[Instruction] = []
        at, value, answers = 0, 0, list[int]()
        ends = (*self.levels[1:], self.end)
        for r, (s, t) in enumerate(zip(self.levels, ends, strict=True)):
            asked, out = value + 1, value + 2
            instructions.append(Evaluate(at, asked, s, FLOW))
            answers.append(asked)
            terms: dict[int, Any] = {at: Scalar(scale(t) / scale(s))}
            for j, w in enumerate(self.weights[r, : r + 1].tolist()):
                if w != 0.0:
                    terms[answers[j]] = Scalar(scale(t) * w)
            instructions += [Combine(out, terms), Arrive(out, t)]
            at = value = out
        return Plan(Program(self.levels[0], tuple(instructions)))


def _unit(k: int, n: int) -> np.ndarray:
    return np.eye(n + 1)[k]
