"""A solver's steps, run once on symbols and written down as a program."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ..coordinates import Coordinates
from ..operators import Operator
from ..processes import Level, Process
from ..solvers import Evaluator, Step, drive
from .program import Arrive, Combine, Draw, Evaluate, Instruction, Program


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


class Tracer(Evaluator[Symbol]):
    """The evaluator on symbols: it writes down what a solver does."""

    def __init__(self, process: Process, eye: Operator) -> None:
        self.process, self.eye = process, eye
        self.program: list[Instruction] = []
        self.draws = itertools.count()
        self.values = itertools.count()

    def new(self) -> tuple[int, Symbol]:
        """A new value: its number, and the symbol that stands for it."""
        value = next(self.values)
        return value, Symbol({value: self.eye})

    def number(self, x: Symbol) -> int:
        """The number of the value ``x``; if it has none, it is computed here and known by its
        number from now on."""
        terms = {key: c for key, c in x.terms.items() if not c.zero} or x.terms
        if len(terms) == 1 and next(iter(terms.values())).one:
            return next(iter(terms))
        out, symbol = self.new()
        self.program.append(Combine(out, terms))
        x.terms = symbol.terms
        return out

    def ask(self, x: Symbol, s: Level, coordinates: Coordinates) -> Symbol:
        at = self.number(x)
        p, symbol = self.new()
        self.program.append(Evaluate(at, p, s, coordinates))
        return symbol

    def noise(self) -> Symbol:
        out, symbol = self.new()
        self.program.append(Draw(out, next(self.draws)))
        return symbol

    def settle(self, x: Symbol) -> Symbol:
        self.number(x)
        return x

    def arrive(self, x: Symbol, t: Level) -> None:
        self.program.append(Arrive(self.number(x), t))


def trace(process: Process, steps: Sequence[Step]) -> Program:
    """The program of a run made of these steps."""
    start = steps[0].s
    tracer = Tracer(process, start.R.eye())
    drive(steps, tracer, tracer.new()[1])
    return Program(start, tuple(tracer.program))
