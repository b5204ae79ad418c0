"""The rest of a plan: what begins later does not know what came before."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..coordinates import DATA, NOISE
from ..processes import Level
from ..solvers import Ode, Past, Step
from ..solvers.base import Hold
from ..solvers.ode import V
from ..solvers.wrapper import raised
from .program import Arrive, Combine, Draw, Evaluate, Instruction, Program


@dataclass(frozen=True)
class Alone(Hold):
    """A hold that no step remembers; upward the forward process, whose noise is drawn."""

    def step(self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V]) -> tuple[V, Past[V]]:
        end, _ = super().step(ode, x, s, t, past)
        return (raised(ode, x, s, t) if t.t > s.t else end), ()


def remaining(program: Program, steps: Sequence[Step], k: int) -> list[Step]:
    """The steps of a run that begins at evaluation k (from 0) of ``program``, which ``steps``
    were traced to. In the middle of a step, the evaluations that are left of it are steps from
    each one's level to the next one's."""
    asked = [i.level for i in program if isinstance(i, Evaluate)]
    begins = [*beginnings(program), len(asked)]
    at = max(n for n, begin in enumerate(begins) if begin <= k)
    if begins[at] == k:
        return list(steps[at:])
    inside = [*asked[k : begins[at + 1]], steps[at].t]
    holds = [Step(Alone(NOISE if DATA.singular(s) else DATA), s, t) for s, t in pairwise(inside)]
    return [*holds, *steps[at + 1 :]]


def cut(program: Program, k: int) -> Program | None:
    """What ``program`` does from evaluation k on, if a step begins there and it does not use what
    was computed before; else None."""
    begins = beginnings(program)
    if k not in begins:
        return None
    arrivals = [n for n, i in enumerate(program) if isinstance(i, Arrive)]
    known: dict[int, int] = {0: 0}
    start, later = program.start, program.instructions
    if k:
        n = arrivals[begins.index(k) - 1]
        here = program.instructions[n]
        assert isinstance(here, Arrive)
        known, start, later = {here.x: 0}, here.level, program.instructions[n + 1 :]
    draws, fresh = itertools.count(), itertools.count(1)
    instructions: list[Instruction] = []
    for i in later:
        read = i.terms if isinstance(i, Combine) else () if isinstance(i, Draw) else (i.x,)
        if not known.keys() >= set(read):
            return None
        if isinstance(i, Evaluate):
            known[i.p] = next(fresh)
            instructions.append(i._replace(x=known[i.x], p=known[i.p]))
        elif isinstance(i, Combine):
            terms = {known[v]: c for v, c in i.terms.items()}
            known[i.out] = next(fresh)
            instructions.append(Combine(known[i.out], terms))
        elif isinstance(i, Draw):
            known[i.out] = next(fresh)
            instructions.append(i._replace(out=known[i.out], number=next(draws)))
        else:
            instructions.append(i._replace(x=known[i.x]))
    return Program(start, tuple(instructions))


def beginnings(program: Program) -> list[int]:
    """For each step the number of evaluations before it."""
    counts, n = [0], 0
    for i in program:
        n += isinstance(i, Evaluate)
        if isinstance(i, Arrive):
            counts.append(n)
    return counts[:-1]
