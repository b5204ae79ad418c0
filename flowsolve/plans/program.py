"""Programs: what a solver does on a grid, as instructions on numbered values.

Value 0 is the start. Every other value is made by one instruction: an evaluation, a linear
combination or a draw of noise. A program knows no tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..coordinates import Coordinates
from ..noise import Place
from ..operators import Operator
from ..processes import Level


class Evaluate(NamedTuple):
    """Ask the network at value ``x`` on ``level``; value ``p`` is the answer in ``coordinates``.

    Examples:
        >>> first = flowsolve.plan("ddim", flowsolve.VP(), nfe=2).program.instructions[0]
        >>> first.x, first.p, first.level.t
        (0, 1, 1.0)
    """

    x: int
    p: int
    level: Level
    coordinates: Coordinates


class Combine(NamedTuple):
    """Value ``out`` = Σ operator @ value.

    Examples:
        >>> step = flowsolve.plan("ddim", flowsolve.VP(), nfe=2).program.instructions[1]
        >>> step.out, list(step.terms)
        (2, [0, 1])
    """

    out: int
    terms: dict[int, Operator]


class Draw(NamedTuple):
    """Value ``out`` = the ``number``-th fresh noise of the run.

    Examples:
        >>> program = flowsolve.plan("ddpm", flowsolve.VP(), nfe=2).program
        >>> [each for each in program.instructions if isinstance(each, flowsolve.plans.Draw)]
        [Draw(out=2, number=0)]
    """

    out: int
    number: int


class Arrive(NamedTuple):
    """A step ends with value ``x`` on ``level``.

    Examples:
        >>> last = flowsolve.plan("ddim", flowsolve.VP(), nfe=2).program.instructions[-1]
        >>> last.x, last.level.clean
        (3, True)
    """

    x: int
    level: Level


Instruction = Evaluate | Combine | Draw | Arrive


@dataclass(frozen=True, eq=False)
class Program:
    """The instructions of a run from the level ``start``, in order. Equal to itself alone.

    Examples:
        >>> program = flowsolve.plan("ddpm", flowsolve.VP(), nfe=4).program
        >>> program.evaluations, program.draws, len(program.levels)
        (4, 3, 5)
    """

    start: Level
    instructions: tuple[Instruction, ...]

    def __iter__(self) -> Iterator[Instruction]:
        return iter(self.instructions)

    def __len__(self) -> int:
        return len(self.instructions)

    @property
    def levels(self) -> tuple[Level, ...]:
        """The start's, and those at which steps end: the grid."""
        return (self.start, *(i.level for i in self if isinstance(i, Arrive)))

    @property
    def evaluations(self) -> int:
        """How many evaluations are made."""
        return sum(isinstance(i, Evaluate) for i in self)

    @property
    def draws(self) -> int:
        """How many fresh noises are used."""
        return sum(isinstance(i, Draw) for i in self)

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Where in the run each draw is made."""
        result, level, again = list[Place](), self.start, 0
        for i in self:
            if isinstance(i, Arrive):
                level, again = i.level, 0
            elif isinstance(i, Draw):
                result.append(Place(level.t, again))
                again += 1
        return tuple(result)

    @cached_property
    def intervals(self) -> tuple[tuple[float, float] | None, ...]:
        """For each draw the σ̄ between which it is the noise of the path: from where the step
        begins, or the draw before was for, to where the network is asked next, or the step ends.
        None for one on a way that the run has been before, or upward."""
        result, here, low, waiting = list[tuple[float, float] | None](), self.start, self.start, 0
        for i in self:
            if isinstance(i, Draw):
                waiting += 1
            elif isinstance(i, (Evaluate, Arrive)):
                if waiting:
                    down = i.level.t < here.t <= low.t and not i.level.clean
                    result += [None] * (waiting - 1)
                    result.append((here.sigma, i.level.sigma) if down else None)
                    here, low = i.level, min(low, i.level, key=lambda level: level.t)
                if isinstance(i, Arrive):
                    here, low = i.level, min(low, i.level, key=lambda level: level.t)
                waiting = 0
        return tuple(result)

    @cached_property
    def ancestral(self) -> dict[int, float] | None:
        """R_s/R_t by the number of the draw, if every step from s to t that draws is DDIM's with
        one η ≤ 1, as DDPM's are; None if it draws otherwise. It is read off the coefficients, since
        a program from a file has no solver."""
        ratios: dict[int, float] = {}
        etas: list[float] = []
        here, s, step = 0, self.start, list[Instruction]()
        for i in self:
            if not isinstance(i, Arrive):
                step.append(i)
                continue
            drawn = [d.number for d in step if isinstance(d, Draw)]
            eta = _eta(step, here, s, i) if drawn and s.scalar else None
            if eta is not None:
                ratios[drawn[0]] = _number(s.R) / _number(i.level.R)
                etas.append(eta)
            elif drawn:
                return None
            here, s, step = i.x, i.level, []
        one = not etas or (max(etas) - min(etas) < 1e-6 and max(etas) < 1.0 + 1e-6)
        return ratios if one else None

    @property
    def names(self) -> dict[int, str]:
        """What the values are called where they are written down: the states x1 (the start), x2,
        ..., the network's answers p1, p2, ..., the draws z1, z2, ..., each in the run's order."""
        result, counts = {0: "x1"}, {"x": 1, "p": 0, "z": 0}
        for i in self:
            if not isinstance(i, Arrive):
                letter = "p" if isinstance(i, Evaluate) else "x" if isinstance(i, Combine) else "z"
                counts[letter] += 1
                result[i.p if isinstance(i, Evaluate) else i.out] = f"{letter}{counts[letter]}"
        return result


def _number(operator: Any) -> float:
    return operator.value


def _eta(step: list[Instruction], here: int, s: Level, end: Arrive) -> float | None:
    """The η of DDIM whose step from value ``here`` on s this is: x_t = A_t x̂0 + √(R_t² − η²β̃) ε̂ +
    η√β̃ z, β̃ the variance of DDPM's posterior. None if it is another step."""
    t, zero = end.level, np.zeros(3)
    known = {here: np.array([_number(s.A), _number(s.R), 0.0])}  # in terms of x̂0, ε̂ and z
    for i in step:
        if isinstance(i, Draw):
            known[i.out] = np.array([0.0, 0.0, 1.0])
        elif isinstance(i, Combine) and known.keys() >= i.terms.keys():
            known[i.out] = sum((known[v] * _number(c) for v, c in i.terms.items()), zero)
        elif isinstance(i, Evaluate) and (i.x, i.level) == (here, s):
            known[i.p] = np.array([*i.coordinates.p_of, 0.0])
        else:
            return None
    a, r = _number(t.A), _number(t.R)
    x0, eps, z = known[end.x].tolist()
    posterior = r * r * (1.0 - (t.sigma / s.sigma) ** 2)
    # Sums of x and p, large and of opposite sign beside pure noise, leave nine digits and more.
    right = abs(x0 - a) < 1e-8 * (a + r) and abs(eps * eps + z * z - r * r) < 1e-8 * r * r
    return math.sqrt(z * z / posterior) if right and posterior > 0.0 else None
