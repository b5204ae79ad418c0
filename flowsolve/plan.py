r"""Plans: a fixed-step solver laid out on a grid, traced once on symbols and run without host arithmetic.

On a fixed grid every point at which the network is asked, and the end, is a linear combination of the start, the p's
so far and the fresh noises. So a solver's ``step`` is run once on :class:`Symbol` states and what it does is written
down as a short program of linear combinations with float64 coefficients. The program knows no tensors: it is immutable,
shared by threads and cached.

For one model the program is *bound*: p is replaced by what the network returns (every parametrisation is linear, see
:mod:`flowsolve.denoiser`). A p that is used only before the next evaluation is folded into its combination, so that a
DDIM step is one multiply and one multiply-add whatever the network predicts. A p that is needed later is copied into
the run's own memory first: networks may reuse their output buffers.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from .coordinates import Coordinates
from .denoiser import Denoiser, Linear
from .flow import Door, Leg, drive
from .operators import Operator, combine
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


class _Tracer(Door):
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


class Watch(Protocol):
    """Who is told of what happens in a run; may stop it by returning True from ``arrived``."""

    def evaluated(self, x: Tensor, out: Tensor, level: Level, linear: Linear) -> None: ...

    def arrived(self, x: Tensor, level: Level) -> bool: ...


class _Ask(NamedTuple):
    """A bound evaluation, the ``number``-th: the raw output of the network becomes value ``out``."""

    x: int
    out: int
    number: int
    level: Level
    linear: Linear

    def values(self) -> tuple[int, ...]:
        return (self.x,)


class _Sum(NamedTuple):
    """A bound combination."""

    out: int
    terms: tuple[int, ...]
    operators: tuple[Operator, ...]

    def values(self) -> tuple[int, ...]:
        return self.terms


@dataclass(frozen=True, eq=False)
class Plan:
    """A solver on a grid, as numbers.

    Attributes:
        levels: the grid.
        program: what is computed, in order; value 0 is the start.
    """

    levels: tuple[Level, ...]
    program: tuple[Instruction, ...]
    _bound: weakref.WeakKeyDictionary[Denoiser, _Bound] = field(default_factory=weakref.WeakKeyDictionary, init=False, repr=False)

    @classmethod
    def trace(cls, process: Process, legs: Sequence[Leg]) -> Plan:
        """The plan of a run made of these steps."""
        tracer = _Tracer(process, legs[0].s.R.eye())
        drive(legs, tracer, tracer.symbol(tracer.new()))
        return cls((legs[0].s, *(leg.t for leg in legs)), tuple(tracer.program))

    @property
    def nfe(self) -> int:
        """Evaluations a run spends."""
        return sum(isinstance(i, Evaluate) for i in self.program)

    @property
    def draws(self) -> int:
        """Fresh noises a run uses."""
        return sum(isinstance(i, Draw) for i in self.program)

    def run(self, model: Denoiser, x: Tensor, noise: Callable[[int], Tensor], watch: Watch) -> Tensor:
        """The state at the end of a run from ``x``; ``noise(k)`` gives the k-th draw. ``x`` is not modified."""
        bound = self._bound.get(model)
        if bound is None:
            bound = self._bound[model] = self._bind(model)
        values: list[Any] = [None] * bound.size
        values[0] = x
        times = model.times(bound.asked, x)
        for item, free in bound.items:
            if isinstance(item, _Sum):
                values[item.out] = combine(item.operators, [values[v] for v in item.terms])
            elif isinstance(item, _Ask):
                values[item.out] = ask(model, values[item.x], item.level, item.linear, watch, times[item.number])
            elif isinstance(item, Draw):
                values[item.out] = noise(item.number)
            else:
                x = values[item.x]
                if watch.arrived(x, item.level):
                    break
            for v in free:
                values[v] = None
        return x

    def _bind(self, model: Denoiser) -> _Bound:
        """The program in terms of the model's raw outputs."""
        late, states = self._late()
        # p = a x + b o. A folded p is replaced by those two terms; a kept one is stored as b⁻¹p = o + b⁻¹a x, one kernel.
        folded: dict[int, dict[int, Operator]] = {}
        items: list[_Ask | _Sum | Draw | Arrive] = []
        number = itertools.count()
        for i in self.program:
            if isinstance(i, Evaluate):
                linear = model.linear(i.level)
                a, b = linear.mix(i.coordinates.p_of)
                items.append(_Ask(i.x, i.p, next(number), i.level, linear))
                if i.p in states or (i.p in late and b.singular):
                    items.append(_sum(i.p, {i.x: a, i.p: b}))
                elif i.p in late:
                    items.append(_sum(i.p, {i.p: b.eye(), i.x: b.inverse() @ a}))
                    folded[i.p] = {i.p: b}
                else:
                    folded[i.p] = {i.x: a, i.p: b}
            elif isinstance(i, Combine):
                terms: dict[int, Operator] = {}
                for v, c in i.terms.items():
                    for key, part in ((key, c @ o) for key, o in folded[v].items()) if v in folded else ((v, c),):
                        terms[key] = terms[key] + part if key in terms else part
                items.append(_sum(i.out, terms))
            else:
                items.append(i)
        return _Bound.of(items)

    def _late(self) -> tuple[set[int], set[int]]:
        """The p's that are used after a later evaluation, and those that are states themselves (x̂0 at the end)."""
        current, asked, late, states = -1, set[int](), set[int](), set[int]()
        for i in self.program:
            if isinstance(i, Combine):
                late.update(v for v in i.terms if v in asked and v != current)
            elif isinstance(i, (Evaluate, Arrive)) and i.x in asked:
                states.add(i.x)
            if isinstance(i, Evaluate):
                current = i.p
                asked.add(current)
        return late, states


class _Bound(NamedTuple):
    """A program for one model: instructions, each with the values nothing reads after it; how many values there are; the levels asked."""

    items: tuple[tuple[_Ask | _Sum | Draw | Arrive, tuple[int, ...]], ...]
    size: int
    asked: tuple[Level, ...]

    @classmethod
    def of(cls, items: list[_Ask | _Sum | Draw | Arrive]) -> _Bound:
        last: dict[int, int] = {}
        for n, item in enumerate(items):
            for v in (item.x,) if isinstance(item, Arrive) else () if isinstance(item, Draw) else item.values():
                last[v] = n
        free: dict[int, list[int]] = {}
        for v, n in last.items():
            free.setdefault(n, []).append(v)
        size = 1 + max(item.x if isinstance(item, Arrive) else item.out for item in items)
        asked = tuple(item.level for item in items if isinstance(item, _Ask))
        return cls(tuple((item, tuple(free.get(n, ()))) for n, item in enumerate(items)), size, asked)


def _sum(out: int, terms: dict[int, Operator]) -> _Sum:
    terms = {key: c for key, c in terms.items() if not c.zero} or terms
    return _Sum(out, tuple(terms), tuple(terms.values()))


def ask(model: Denoiser, x: Tensor, level: Level, linear: Linear, watch: Watch, times: Tensor | None = None) -> Tensor:
    """One evaluation: the network's output in the state's dtype."""
    out = model.evaluate(x, level, times)
    watch.evaluated(x, out, level, linear)
    return out if out.dtype == x.dtype else out.to(x.dtype)
