"""Programs: what a solver does on a grid, as instructions on numbered values.

Value 0 is the start. Every other value is made by one instruction: an evaluation, a linear combination or a draw of
noise. A program is got by running a solver's steps on :class:`Symbol` states through the door :class:`Tracer`.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

from .coordinates import Coordinates
from .flow import Door
from .operators import Operator
from .processes import Level, Process


class Symbol:
    """A state that is not there yet: a linear combination of numbered values."""

    __slots__ = ("terms",)

    def __init__(self, terms: dict[int, Operator]) -> None:
        self.terms = terms

    def __add__(self, other: Symbol) -> Symbol:
        terms = dict(self.terms)
        for key, c in other.terms.items():
            terms[key] = terms[key] + c if key in terms else c
        return Symbol(terms)

    def __sub__(self, other: Symbol) -> Symbol:
        return self + other * -1.0

    def __mul__(self, factor: float) -> Symbol:
        return Symbol({key: c * factor for key, c in self.terms.items()})

    __rmul__ = __mul__

    def __rmatmul__(self, operator: Operator) -> Symbol:
        return Symbol({key: operator @ c for key, c in self.terms.items()})


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


class Tracer(Door):
    """The door on symbols: it writes down what a solver does."""

    def __init__(self, process: Process, eye: Operator) -> None:
        self.process, self.eye = process, eye
        self.program: list[Instruction] = []
        self.draws = itertools.count()
        self.values = 0

    def new(self) -> int:
        self.values += 1
        return self.values - 1

    def symbol(self, value: int) -> Symbol:
        return Symbol({value: self.eye})

    def name(self, x: Symbol) -> int:
        """The number of the value ``x``; if it has none, it is computed here and known by its number from now on."""
        terms = {key: c for key, c in x.terms.items() if not c.zero} or x.terms
        if len(terms) == 1 and next(iter(terms.values())).one:
            return next(iter(terms))
        out = self.new()
        self.program.append(Combine(out, terms))
        x.terms = {out: self.eye}
        return out

    def ask(self, x: Symbol, s: Level, coordinates: Coordinates) -> Symbol:
        at, p = self.name(x), self.new()
        self.program.append(Evaluate(at, p, s, coordinates))
        return self.symbol(p)

    def noise(self) -> Symbol:
        out = self.new()
        self.program.append(Draw(out, next(self.draws)))
        return self.symbol(out)

    def arrive(self, x: Symbol, t: Level) -> None:
        self.program.append(Arrive(self.name(x), t))
