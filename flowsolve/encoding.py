"""Data to noise: the probability-flow ODE run upward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .checks import check_layout, check_rows
from .denoiser import Denoiser
from .grids import Grid
from .run import Span, integrate
from .sampling import DEFAULT_SOLVER
from .solvers import Solver
from .starts import check_state
from .typing import Float


def encode(
    model: Denoiser,
    x: Float[Tensor, "n *shape"],
    *,
    solver: Solver | str = DEFAULT_SOLVER,
    nfe: int | None = None,
    grid: Grid | str | Sequence[float] | None = None,
    span: Span = (None, None),
    progress: bool = False,
    differentiable: bool = False,
    **options: Any,
) -> Float[Tensor, "n *state"]:
    """The noise that the ODE carries to ``x``: x0 → x_T (arXiv 2010.02502, section 5.4).

    ``x`` is taken for the state at the quietest noisy level of the grid, where the little noise
    that is missing changes it by that level's σ; then the grid is walked upward.
    ``flowsolve.solve(model, start=encode(model, x, ...), ...)`` with the same solver and grid
    brings x back, up to the error of the solver.

    Args:
        x: data, (n, *shape).
        solver, nfe, grid, span, progress, differentiable, options: as in :func:`flowsolve.solve`;
            the grid is given from noisy to quiet, as there. The solver must be deterministic.

    Raises:
        TypeError, ValueError, BudgetExceeded, NonFiniteError: as :func:`flowsolve.solve`.
    """
    model, x = model.in_run(), check_state(model, "x", x, model.shape, data=True)
    model, x = check_rows(model, 0, len(x)), model.process.state(x)
    run = check_layout(model.process, solver, nfe, grid, span, options, upward=True)

    def no_noise(k: int) -> Tensor:
        raise ValueError(f"solver={solver!r} draws noise; encoding needs a deterministic solver")

    return integrate(
        model, run, x, nfe, no_noise, None, progress=progress, differentiable=differentiable
    ).x
