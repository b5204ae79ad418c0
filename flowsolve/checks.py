"""What users may pass: each check raises TypeError or ValueError naming the argument, its value and
what was expected."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch

from . import conditioning as conditions
from .about import NOTHING, About
from .denoiser import Denoiser
from .grids import Explicit, Grid, find_grid
from .plans import Plan, Tuned, planned
from .processes import Process
from .readers import Later
from .run import Layout, Span, layout
from .solvers import DEFAULT_NFE, Solver, find_solver

#: A solver, and a grid, as users write them.
AnySolver = Annotated[Solver | Plan | Tuned | os.PathLike[str] | str, Later("check_solver")]
AnyGrid = Annotated[Grid | str | Sequence[float] | None, Later("find_grid")]
#: What a solution may keep.
Keep = Literal["path", "x0"]
#: Where tensors may be.
Device = torch.device | str


def check_rows(model: Denoiser, first: int, n: int) -> Denoiser:
    """``model`` for the samples first, ..., first + n - 1: what it is told of each is cut to
    theirs.

    Raises:
        ValueError: if it is told less, or if what it is told would have to be cut and nobody said
            which of it has rows.
    """
    if model.per_sample is None:
        if first:
            conditions.check_known(model.conditioning, first, n, f"first={first}")
        return model
    count = conditions.count(model.conditioning, model.per_sample)
    if count is not None and count < first + n:
        raise ValueError(
            f"{', '.join(model.per_sample)}: {count} rows for the samples {first} to "
            f"{first + n - 1}; expected a row for each, {first + n} of them"
        )
    return model.rows(slice(first, first + n))


def samples_of(model: Denoiser, first: int) -> int:
    """How many samples a run from number ``first`` has, where nobody says: as many as the model
    has rows of conditioning for, else 1."""
    count = conditions.count(model.conditioning, model.per_sample)
    return 1 if count is None else max(1, count - first)


def check_device(device: Any) -> torch.device:
    """A device on which there can be tensors with values."""
    try:
        place = torch.device(device)
        if place.type == "meta":
            raise RuntimeError("tensors have no values there")
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].partition(": ")[0]
        raise ValueError(
            f"device={device!r} is not available ({reason}); expected one such as 'cpu'"
        ) from None
    return place


def check_layout(
    process: Process,
    solver: Any,
    nfe: int | None,
    grid: Any,
    span: Span,
    options: dict[str, Any],
    upward: bool = False,
    arguments: Sequence[str] = (),
    about: About = NOTHING,
) -> Layout:
    """The layout of a run from what a user wrote, to a function that has ``arguments`` besides
    options; ``about`` is what is known of the data. Raises TypeError or ValueError naming what does
    not fit."""
    solver, nfe = planned(solver, nfe)
    if isinstance(solver, Plan):
        given = {"nfe": nfe, "grid": grid}
        if span != (None, None):
            given["span"] = span
        named = {name: value for name, value in given.items() if value is not None}
        return _planned(solver, process, named | options, upward)
    chosen, on = check_solver(process, solver, nfe, grid, options, arguments, about)
    return layout(chosen, process, on, nfe, span, upward)


def check_solver(
    process: Process,
    solver: Any,
    nfe: int | None,
    grid: Any,
    options: dict[str, Any],
    arguments: Sequence[str] = (),
    about: About = NOTHING,
) -> tuple[Solver, Grid | None]:
    """The solver, and the grid: the caller's, or what the solver's name brings."""
    on = None if grid is None else find_grid(grid, process)
    budget = nfe or (max(len(on.times) - 1, 1) if isinstance(on, Explicit) else DEFAULT_NFE)
    chosen, own = find_solver(solver, options, budget, process, arguments, about)
    return chosen, (find_grid(own, process) if on is None and own is not None else on)


def _planned(plan: Plan, process: Process, given: dict[str, Any], upward: bool) -> Layout:
    if upward:
        raise ValueError(
            "solver: a plan runs from noise to data, and encoding from data to noise; give the "
            "solver itself"
        )
    for name, value in given.items():
        raise ValueError(
            f"{name}={value!r} cannot be given beside a plan, which has its own {name}"
        )
    plan.check(process)
    return Layout(plan.levels, (), plan)
