"""A run before it has a model: its levels, its steps, its plan."""

from __future__ import annotations

from typing import NamedTuple

from ..caching import kept
from ..errors import Unsuited
from ..grids import Explicit, Grid, find_grid
from ..grids.base import ends_of
from ..plans import Plan
from ..processes import Level, Process
from ..solvers import DEFAULT_NFE, Solver, Step, name_of
from ..solvers.budget import count_steps, steps_of

Span = tuple[float | None, float | None]
#: The most steps that are laid out, which takes seconds.
MOST = 10_000


class Layout(NamedTuple):
    """A run before it has a model: its levels, its steps, and its plan if the solver has one."""

    levels: tuple[Level, ...]
    steps: tuple[Step, ...]
    plan: Plan | None


@kept
def layout(
    solver: Solver,
    process: Process,
    grid: Grid | None,
    nfe: int | None,
    span: Span,
    upward: bool = False,
) -> Layout:
    """Levels, steps and plan of a run; cached, since coefficients do not depend on the model or the
    data.

    With ``upward`` the same grid is walked from its quiet end to its noisy one.

    Raises:
        ValueError: for a grid and a budget that do not fit together, and for a solver that makes no
            sense on the process.
    """
    levels, nfe = _levels(solver, process, grid, nfe, span, upward)
    try:
        steps = steps_of(solver, levels, None if solver.evaluations is None else nfe)
        for step in steps:
            step.rule.coordinates.require(process)
        plan = Plan.trace(process, steps) if solver.fixed else None
    except (ZeroDivisionError, OverflowError) as error:
        raise ValueError(
            f"solver={name_of(solver) or solver!r}, process={process!r}: its coefficients are no "
            f"finite numbers on {len(levels)} levels from {levels[0]} to {levels[-1]} ({error}); "
            "expected levels that are farther apart, or a less extreme process"
        ) from error
    except Unsuited as error:
        others = "'ddim', a multistep or Runge-Kutta method, 'gddim', 'ddpm', or a torchdiffeq or "
        raise ValueError(
            f"solver={name_of(solver) or solver!r} is not for {process!r}: {error.reason}; use "
            f"{error.instead or others + 'scipy method'}"
        ) from None
    if plan is not None and nfe is not None and plan.nfe > nfe:
        raise ValueError(
            f"a grid of {len(steps)} steps costs {plan.nfe} evaluations with {solver}, but "
            f"nfe={nfe}; give one of the two"
        )
    return Layout(levels, steps, plan)


def _levels(
    solver: Solver,
    process: Process,
    grid: Grid | None,
    nfe: int | None,
    span: Span,
    upward: bool,
) -> tuple[tuple[Level, ...], int | None]:
    """The levels of a run, and its budget."""
    try:
        start, end = (None if t is None else process.level(t) for t in span)
    except ValueError as error:
        raise ValueError(f"span={span!r}: {error}") from None
    if isinstance(grid, Explicit):
        if len(grid.times) > MOST + 1:
            raise ValueError(f"grid: {len(grid.times)} times; expected at most {MOST + 1}")
        levels = grid.levels(process, None, start, end)
    elif solver.evaluations is None:
        if grid is not None:
            raise ValueError(
                f"{solver} chooses its own steps and cannot fill grid={grid}; leave grid out, or "
                "give the times to stop at"
            )
        start, end = ends_of(process, start, end)
        quiet = process.level(process.t_min)
        jumps = end.clean and not quiet.clean and quiet.t < start.t
        levels = (start, *[quiet] * jumps, end)
    else:
        nfe = DEFAULT_NFE if nfe is None else nfe
        if nfe > MOST:
            raise ValueError(
                f"nfe={nfe}: expected at most {MOST}; for a reference take an adaptive method, "
                "such as 'scipy:DOP853', and small rtol and atol"
            )
        clean = (end or process.clean).clean
        grid = find_grid(grid, process, solver.evaluations)
        # The start is not always the process's: the paper's τ starts below it.
        beginning = grid.levels(process, nfe, start, end)[0]
        n = count_steps(solver, nfe, beginning, clean)
        levels = grid.levels(process, n, start, end)
    if upward:
        levels = tuple(reversed(levels))
    return levels, nfe
