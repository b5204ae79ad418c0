"""Programs in terms of what a network returns.

For one parametrisation a program is *bound*: p is replaced by the network's output, in which every
prediction is linear. A p that is used only before the next evaluation is folded into its
combination, so that a DDIM step is one multiply and one multiply-add whatever the network predicts.

A p that is needed later cannot stay where it is, since networks may reuse their output buffers. If
it is the output and nothing else, and the operators are numbers, it goes at once into the sums of
the steps to come, each begun early; else it is made once, in the run's own memory.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..caching import kept
from ..operators import Basis, Operator
from ..parametrizations import Linear, Parametrization
from ..processes import Level, Process
from .program import Arrive, Combine, Draw, Evaluate, Program


class Ask(NamedTuple):
    """A bound evaluation, the ``number``-th: the network's raw output becomes value ``out``."""

    x: int
    out: int
    number: int
    level: Level
    linear: Linear


class Sum(NamedTuple):
    """A bound combination; with ``reuse`` in the memory of its first term, which ends here."""

    out: int
    terms: tuple[int, ...]
    operators: tuple[Operator, ...]
    reuse: bool = False

    @classmethod
    def of(cls, out: int, terms: dict[int, Operator]) -> Sum:
        terms = {key: c for key, c in terms.items() if not c.zero} or terms
        return cls(out, tuple(terms), tuple(terms.values()))

    def reusing(self, value: int) -> Sum:
        """The same in the memory of one of its terms."""
        pairs = dict(zip(self.terms, self.operators, strict=True))
        pairs = {value: pairs.pop(value), **pairs}
        return Sum(self.out, tuple(pairs), tuple(pairs.values()), True)


Item = Ask | Sum | Draw | Arrive


@dataclass(frozen=True, eq=False)
class Bound:
    """A program for one parametrisation.

    Attributes:
        program: what was bound.
        items: the instructions, each with the values that nothing reads after it.
        size: how many values there are.
        asked: the levels of the evaluations.
        basis: in which the sums are computed.
    """

    program: Program
    items: tuple[tuple[Item, tuple[int, ...]], ...]
    size: int
    asked: tuple[Level, ...]
    basis: Basis | None


@kept
def bind(program: Program, answers: Parametrization, process: Process) -> Bound:
    """``program`` for a network of ``process`` that answers with ``answers``.

    Raises:
        ValueError: if that determines nothing at a level where the program asks.
    """
    items = _folded(program, answers, process)
    if program.start.scalar:
        items = _early(items)
    free: list[list[int]] = [[] for _ in items]
    for value, n in _last_read(items).items():
        free[n].append(value)
    # The run's own memory: what is neither shown to the network nor to whoever watches.
    shown = {i.x for i in items if isinstance(i, (Ask, Arrive))}
    own = {i.out for i in items if isinstance(i, Sum)} - shown
    for n, item in enumerate(items):
        mine = own.intersection(free[n])
        if isinstance(item, Sum) and mine and not item.reuse:
            items[n] = item.reusing(min(mine))
    size = 1 + max(i.x if isinstance(i, Arrive) else i.out for i in items)
    asked = tuple(i.level for i in items if isinstance(i, Ask))
    paired = tuple((item, tuple(values)) for item, values in zip(items, free, strict=True))
    return Bound(program, paired, size, asked, program.start.R.basis)


def _folded(program: Program, answers: Parametrization, process: Process) -> list[Item]:
    """The program with p = a x + b o put in: folded into the combinations, or made once."""
    late, states = _late(program)
    fresh = itertools.count(1 + max(i.x for i in program if isinstance(i, Arrive)) + len(program))
    folded: dict[int, dict[int, Operator]] = {}
    items: list[Item] = []
    number = itertools.count()
    for i in program:
        if isinstance(i, Evaluate):
            linear = answers.coefficients(process, i.level)
            a, b = linear.mix(i.coordinates.p_of)
            items.append(Ask(i.x, i.p, next(number), i.level, linear))
            raw = a.zero and program.start.scalar
            if i.p in states or (i.p in late and b.singular):
                items.append(Sum.of(i.p, {i.x: a, i.p: b}))
            elif i.p in late and not raw:  # kept as b⁻¹p = o + b⁻¹a x: one kernel
                kept = next(fresh)  # another value than the output, which is the network's
                items.append(Sum.of(kept, {i.p: b.eye(), i.x: b.inverse() @ a}))
                folded[i.p] = {kept: b}
            else:
                folded[i.p] = {i.x: a, i.p: b}
        elif isinstance(i, Combine):
            terms: dict[int, Operator] = {}
            for v, c in i.terms.items():
                parts = ((k, c @ o) for k, o in folded[v].items()) if v in folded else ((v, c),)
                for key, part in parts:
                    terms[key] = terms[key] + part if key in terms else part
            items.append(Sum.of(i.out, terms))
        else:
            items.append(i)
    return items


def _early(items: list[Item]) -> list[Item]:
    """The items with every raw output that a later evaluation may overwrite put into the sums that
    use it as soon as it is there."""
    fresh = itertools.count(1 + max(i.x if isinstance(i, Arrive) else i.out for i in items))
    made: dict[int, int] = {}  # raw outputs, and at which evaluation they are there
    parts: dict[int, list[Item]] = {}  # what is to be done when such an output is there
    begun: dict[int, tuple[int, list[int]]] = {}  # sums: the value so far, and what is in it
    evaluation = 0
    for n, item in enumerate(items):
        if isinstance(item, Ask):
            evaluation += 1
            made[item.out] = evaluation
        elif isinstance(item, Sum):
            made.pop(item.out, None)  # what is made of an output is the run's own
            terms = dict(zip(item.terms, item.operators, strict=True))
            past = [v for v in terms if made.get(v, evaluation) < evaluation]
            for v in sorted(past, key=made.__getitem__):
                if n not in begun:
                    begun[n] = (next(fresh), [v])
                    part = Sum(begun[n][0], (v,), (terms[v],))
                else:
                    value, inside = begun[n]
                    inside.append(v)
                    part = Sum(value, (value, v), (terms[v].eye(), terms[v]), True)
                parts.setdefault(v, []).append(part)
    result: list[Item] = []
    for n, item in enumerate(items):
        if isinstance(item, Sum) and n in begun:
            value, inside = begun[n]
            pairs = zip(item.terms, item.operators, strict=True)
            rest = {v: c for v, c in pairs if v not in inside}
            one = item.operators[0].eye()
            item = Sum(item.out, (value, *rest), (one, *rest.values()), True)
        result.append(item)
        if isinstance(item, Ask):
            result += parts.get(item.out, [])
    return result


def _last_read(items: list[Item]) -> dict[int, int]:
    """For each value the last of the items that reads it."""
    last: dict[int, int] = {}
    for n, item in enumerate(items):
        read: Any = item.terms if isinstance(item, Sum) else ()
        for v in (item.x,) if isinstance(item, (Ask, Arrive)) else read:
            last[v] = n
    return last


def _late(program: Program) -> tuple[set[int], set[int]]:
    """The p's that are used after a later evaluation, and those that are states themselves (x̂0 at
    the end)."""
    current, asked, late, states = -1, set[int](), set[int](), set[int]()
    for i in program:
        if isinstance(i, Combine):
            late.update(v for v, c in i.terms.items() if v in asked - {current} and not c.zero)
        elif isinstance(i, (Evaluate, Arrive)) and i.x in asked:
            states.add(i.x)
        if isinstance(i, Evaluate):
            current = i.p
            asked.add(current)
    return late, states
