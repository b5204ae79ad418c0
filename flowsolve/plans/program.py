"""Programs: what a solver does on a grid, as instructions on numbered values.

Value 0 is the start. Every other value is made by one instruction: an evaluation, a linear
combination or a draw of noise. A program knows no tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ..coordinates import Coordinates
from ..noise import Place
from ..operators import Operator
from ..processes import Level


class Evaluate(NamedTuple):
    """Ask the network at value ``x`` on ``level``; value ``p`` is the answer in ``coordinates``."""

    x: int
    p: int
    level: Level
    coordinates: Coordinates


class Combine(NamedTuple):
    """Value ``out`` = Σ operator @ value."""

    out: int
    terms: dict[int, Operator]


class Draw(NamedTuple):
    """Value ``out`` = the ``number``-th fresh noise of the run."""

    out: int
    number: int


class Arrive(NamedTuple):
    """A step ends with value ``x`` on ``level``."""

    x: int
    level: Level


Instruction = Evaluate | Combine | Draw | Arrive


@dataclass(frozen=True, eq=False)
class Program:
    """The instructions of a run from the level ``start``, in order. Equal to itself alone."""

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
