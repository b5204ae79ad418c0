"""What is compared: the solvers and budgets as a user gives them, laid out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ..checked import Count, checked, read
from ..checks import check_layout
from ..denoiser import Denoiser
from ..errors import shown
from ..grids import Grid
from ..plans import Plan, Tuned
from ..solvers import Solver, name_of, options_of

#: A solver, by name or as an object, or a plan; a solver and its grid.
Choice = Solver | Plan | Tuned | str | tuple[Solver | str, Any]


class Case(NamedTuple):
    """One row of a comparison: its label, what ``solve`` is given, and whether that draws noise."""

    label: str
    solver: Solver | Plan | str
    grid: Any
    stochastic: bool


@checked
def cases(
    model: Denoiser, solvers: Any, nfe: Any, grid: Any, span: Any
) -> tuple[tuple[Case, ...], tuple[int, ...]]:
    """The rows and the budgets of a comparison, all of them laid out. Raises TypeError or
    ValueError for what does not fit."""
    if isinstance(nfe, (str, bytes)):
        raise TypeError(f"nfe={nfe!r}: expected budgets, such as (5, 10, 20)")
    several = isinstance(nfe, Iterable) and getattr(nfe, "ndim", 1) > 0
    budgets = tuple(dict.fromkeys(read("nfe", each, Count) for each in (nfe if several else [nfe])))
    if isinstance(solvers, (str, Solver, Plan, Tuned)):
        solvers = (solvers,)
    if not isinstance(solvers, Iterable) or isinstance(solvers, (bytes, Tensor)):
        raise TypeError(
            f"solvers={shown(solvers)}: expected names such as ('ddim', 'ab3'), solver objects, "
            "plans, or pairs (solver, grid)"
        )
    named: Iterable[tuple[str | None, Any]] = (
        solvers.items() if isinstance(solvers, Mapping) else ((None, choice) for choice in solvers)
    )
    rows: dict[str, Case] = {}
    for label, choice in named:
        pair: Any = choice if isinstance(choice, tuple) and len(choice) == 2 else (choice, None)
        name, solver, on = label or _label(*pair), pair[0], grid if pair[1] is None else pair[1]
        if not isinstance(name, str):
            raise TypeError(f"solvers: the label {shown(name)} is no string; expected one for each")
        if name in rows:
            raise ValueError(
                f"solvers: {name!r} is there twice; expected each once, or a mapping "
                "{label: solver}, which tells the two apart"
            )
        if isinstance(solver, Tuned):
            solver = solver.plan
        if isinstance(solver, Plan):
            on = pair[1]  # what is said for all solvers a plan has of its own
        plans = [
            check_layout(
                model.process,
                solver,
                None if isinstance(solver, Plan) else budget,
                on,
                span,
                {},
                about=model.about,
            ).plan
            for budget in budgets
        ]
        rows[name] = Case(
            name, solver, on, any(plan is not None and plan.draws > 0 for plan in plans)
        )
    for name, given in (("solvers", rows), ("nfe", budgets)):
        if not given:
            raise ValueError(f"{name} is empty; there is nothing to compare")
    return tuple(rows.values()), budgets


def _label(solver: Any, grid: Any) -> str:
    name = solver if isinstance(solver, str) else shown(solver)
    if isinstance(solver, (Plan, Tuned)):
        kind = "plan" if isinstance(solver, Plan) else "tuned"
        name = f"{kind} ({solver.nfe} evaluations)"
    if isinstance(solver, Solver):
        options = ", ".join(f"{key}={value}" for key, value in options_of(solver).items())
        name = name_of(solver) or type(solver).__name__ + f"({options})" * bool(options)
    if grid is None:
        return name
    return f"{name}, {grid if isinstance(grid, (str, Grid)) else 'its own grid'}"
