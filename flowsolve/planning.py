"""Plans without a model."""

from __future__ import annotations

from inspect import signature
from typing import Annotated, Any

from . import checks
from .about import NOTHING
from .checked import Count, checked
from .checks import AnyGrid
from .denoiser import Denoiser
from .plans import Plan
from .processes import Process
from .readers import Later
from .run import Span, layout
from .solvers import Solver, solver_table


@checked
def plan(
    solver: Annotated[Solver | str, Later("checks.check_solver")],
    process: Process | Denoiser,
    *,
    nfe: Count | None = None,
    grid: AnyGrid = None,
    span: Span = (None, None),
    **options: Any,
) -> Plan:
    """A fixed-step solver laid out on a grid, without a model: what :func:`flowsolve.solve` does
    when it is given the same arguments.

    Args:
        solver: a name or a solver object, but not an adaptive method or a bridge to another
            library.
        process: the process the plan is for; or a model on it, whose size and prediction "auto"
            goes by: without, it takes those of latents of large pictures and of a velocity.
        nfe, grid, span, options: as in :func:`flowsolve.solve`.

    Returns:
        The plan, whose ``nfe`` is what a run spends, at most what was given.

    Raises:
        TypeError, ValueError: for arguments that do not fit, naming the argument, its value and
            what was expected.

    Examples:
        >>> plan = flowsolve.plan("heun", flowsolve.VP(), nfe=10, grid="karras")
        >>> plan.nfe, len(plan.levels)
        (10, 7)
        >>> plan == flowsolve.plan("heun", flowsolve.VP(), nfe=10, grid="karras(rho=7)")
        True
    """
    arguments = tuple(name for name in signature(plan).parameters if name != "options")
    about = NOTHING
    if isinstance(process, Denoiser):
        process, about = process.process, process.about
    chosen, on = checks.check_solver(process, solver, nfe, grid, options, arguments, about)
    if not chosen.fixed:
        near = min(
            (row for row in solver_table() if row.solver.fixed),
            key=lambda row: (abs(row.solver.order - chosen.order), row.family != "Runge-Kutta"),
        )
        raise ValueError(
            f"solver={solver!r} has no plan: its steps depend on the data, or are another "
            f"library's. Did you mean {near.name!r}?"
        )
    laid = layout(chosen, process, on, nfe, span).plan
    assert laid is not None
    return laid
