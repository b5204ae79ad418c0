r"""Plans: a fixed-step solver laid out on a grid, traced once on symbols and run without host arithmetic.

On a fixed grid every point at which the network is asked, and the end, is a linear combination of the start, the p's
so far and the fresh noises. So a solver's ``step`` is run once on symbols and what it does is written down as a short
program of linear combinations with float64 coefficients (:mod:`flowsolve.program`). The program knows no tensors: it is
immutable, shared by threads and cached.

For one model the program is *bound*: p is replaced by what the network returns (every parametrisation is linear, see
:mod:`flowsolve.denoiser`). A p that is used only before the next evaluation is folded into its combination, so that a
DDIM step is one multiply and one multiply-add whatever the network predicts. A p that is needed later is copied into
the run's own memory first: networks may reuse their output buffers.
"""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from . import notation
from .denoiser import Denoiser, Linear
from .files import write
from .flow import Leg, drive
from .operators import Basis, Operator
from .processes import Level, Process
from .program import Arrive, Combine, Draw, Evaluate, Instruction, Tracer


class Watch(Protocol):
    """Who is told of what happens in a run; may stop it by returning True from ``arrived``. States are given to who looks at them."""

    @property
    def looks(self) -> bool: ...

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
    """A solver on a grid, as numbers; :func:`flowsolve.plan` makes one.

    ``print(plan)`` shows all of it as a table. Two plans are equal if they are the same method up to rounding: the same number
    of evaluations and of draws, on the same levels, at the same states, with the same end, whatever coordinates
    either works in. Plans are immutable.

    Attributes:
        levels: the grid.
        program: what is computed, in order; value 0 is the start.
    """

    levels: tuple[Level, ...]
    program: tuple[Instruction, ...]
    _bound: weakref.WeakKeyDictionary[Denoiser, _Bound] = field(default_factory=weakref.WeakKeyDictionary, init=False, repr=False)
    _fits: set[Process] = field(default_factory=set, init=False, repr=False)

    @classmethod
    def trace(cls, process: Process, legs: Sequence[Leg]) -> Plan:
        """The plan of a run made of these steps."""
        tracer = Tracer(process, legs[0].s.R.eye())
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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        if self is other:
            return True
        alike = (self.nfe, self.draws) == (other.nfe, other.draws)
        return alike and notation.same(self.levels[0], self.program, other.levels[0], other.program)

    def __hash__(self) -> int:
        return hash((self.nfe, self.draws))  # of what equal plans have in common to the bit

    def __repr__(self) -> str:
        s, t = self.levels[0].t, self.levels[-1].t
        return f"<Plan: {self.nfe} evaluations, {self.draws} draws of noise, {len(self.levels) - 1} steps from t={s:.6g} to t={t:.6g}>"

    def __str__(self) -> str:
        return (
            f"Plan: evaluations {self.nfe}, draws of noise {self.draws}, steps {len(self.levels) - 1}.\n"
            "A state on a level is x = A x0 + R eps; eps(x) and x0(x) are the network's estimates there. The last line is the result.\n"
        ) + notation.table(self.levels[0], self.program)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan to a file: JSON, with every number in full. It appears complete or not at all."""
        text = notation.dumps(self.levels[0], self.program)
        write(Path(path), lambda file: file.write(text.encode()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """The plan in a file that :meth:`save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is not a plan's file, of another version, or damaged.
        """
        data = Path(path).read_bytes()
        try:
            start, program = notation.loads(data.decode())
        except (ValueError, OverflowError, RecursionError) as error:
            expected = f"a {notation.FORMAT} of version {notation.VERSION}, as Plan.save writes it"
            raise ValueError(f"{os.fspath(path)}: {error}; expected {expected}") from error
        return cls((start, *(i.level for i in program if isinstance(i, Arrive))), program)

    def check(self, process: Process) -> None:
        """Raise ValueError unless the plan's levels are levels of ``process``, to rounding."""
        if process in self._fits:
            return
        for level in (self.levels[0], *(i.level for i in self.program if isinstance(i, (Evaluate, Arrive)))):
            try:
                there = process.level(level.t)
            except ValueError:
                there = None
            if there is None or not notation.same_level(level, there):
                has = f"has {there}" if there else "has no such time"
                raise ValueError(
                    f"solver: this plan was made for another process. It has {level}; the model's {type(process).__name__} {has}"
                )
        self._fits.add(process)

    def run(self, model: Denoiser, x: Tensor, noise: Callable[[int], Tensor], watch: Watch) -> Tensor:
        """The state at the end of a run from ``x``; ``noise(k)`` gives the k-th draw. ``x`` is not modified."""
        bound = self._bound.get(model)
        if bound is None:
            bound = self._bound[model] = self._bind(model)
        basis = self.levels[0].R.basis
        values: list[Any] = [None] * bound.size
        values[0] = x if basis is None else basis.into(x)
        times = model.times(bound.asked, x)
        for item, free in bound.items:
            if isinstance(item, _Sum):
                values[item.out] = item.operators[0].sum_of(item.operators, [values[v] for v in item.terms])
            elif isinstance(item, _Ask):
                values[item.out] = ask(model, values[item.x], item.level, item.linear, watch, times[item.number], basis)
            elif isinstance(item, Draw):
                values[item.out] = noise(item.number) if basis is None else basis.into(noise(item.number))
            else:
                x = values[item.x]
                if watch.arrived(basis.back(x) if basis is not None and watch.looks else x, item.level):
                    break
            for v in free:
                values[v] = None
        return x if basis is None else basis.back(x)

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


def ask(
    model: Denoiser, x: Tensor, level: Level, linear: Linear, watch: Watch, times: Tensor | None = None, basis: Basis | None = None
) -> Tensor:
    """One evaluation: the network's output in the state's dtype, both in ``basis``."""
    if basis is None:
        out = model.evaluate(x, level, times)
        watch.evaluated(x, out, level, linear)
        return out if out.dtype == x.dtype else out.to(x.dtype)
    # What a network takes and gives in float32 changes its basis in float32, as its own products are: less than half the cost of float64.
    single = model.correct_x0 is None and model.dtype not in (None, torch.float64)
    out = model.evaluate(basis.back(x.float() if single else x), level, times)
    watch.evaluated(basis.back(x) if watch.looks else x, out, level, linear)
    return basis.into(out.float() if single else out.to(x.dtype)).to(x.dtype)
