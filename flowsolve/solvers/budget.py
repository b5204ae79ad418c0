"""From a budget of evaluations, or a grid, to the steps of a run; and the loop over them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from ..processes import Level
from .base import Rise, Solver
from .ode import Evaluator, Ode, Past, V


class Step(NamedTuple):
    """One step of a run: which rule takes the state from s to t."""

    rule: Solver
    s: Level
    t: Level


def steps_of(solver: Solver, levels: Sequence[Level], nfe: int | None) -> tuple[Step, ...]:
    """The run of ``solver`` over ``levels`` with at most ``nfe`` evaluations (None: as many as
    whole steps need). The step onto clean data is of one evaluation, and the solver's own
    choice; so is the step from it, of a run upward whose solver has no way of its own there."""
    if levels[0].clean and solver.evaluations is not None:
        first = Step(Rise(), levels[0], levels[1])
        return (first, *steps_of(solver, levels[1:], None if nfe is None else nfe - 1))
    clean = levels[-1].clean
    noisy = levels[:-1] if clean else levels
    rules: list[Solver] = solver.rules(noisy, None if nfe is None else nfe - clean)
    rules += [solver] * clean
    return tuple(
        Step(rule.between(s, t), s, t) for rule, (s, t) in zip(rules, pairwise(levels), strict=True)
    )


def count_steps(solver: Solver, nfe: int, start: Level, clean: bool) -> int:
    """How many steps from ``start`` pay ``nfe`` evaluations for, if the last is onto ``clean``
    data.

    Raises:
        ValueError: if it is none.
    """
    n = solver.steps(nfe - clean, start) + clean
    if n < 1:
        raise ValueError(
            f"nfe={nfe} does not pay for one step of {solver}, which takes {solver.evaluations}"
        )
    return n


def drive(steps: Sequence[Step], evaluator: Evaluator[V], x: V) -> V:
    """The loop over a solver's steps: on symbols to trace a plan, on tensors where the arithmetic
    depends on the data. (A plan that has been traced has a loop of its own, over its program.)"""
    past: Past[V] = ()
    for rule, s, t in steps:
        x, past = rule.step(Ode(evaluator, rule.coordinates), x, s, t, past)
        if evaluator.stopped:  # on the way
            break
        evaluator.arrive(x, t)
        if evaluator.stopped:
            break
    return x
