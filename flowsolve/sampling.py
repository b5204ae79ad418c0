"""The two calls: ``sample`` returns a tensor, ``solve`` everything there is to know about the
run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import checks
from .denoiser import Denoiser
from .errors import expect_value
from .grids import Grid
from .noise import check_seed, normal
from .plans import Plan
from .processes import Level, Process
from .run import Solution, Span, State, integrate, layout
from .solvers import DEFAULT_NFE, Solver, solver_table
from .typing import Float

__all__ = ["DEFAULT_NFE", "DEFAULT_SOLVER", "plan", "sample", "solve"]

#: The solver when the caller names none.
DEFAULT_SOLVER = "auto"

#: One draw, or all of them.
Noise = (
    Callable[[int], Float[Tensor, "n *state"]]
    | Sequence[Float[Tensor, "n *state"]]
    | Float[Tensor, "draws n *state"]
)


def solve(
    model: Denoiser,
    *,
    solver: Solver | Plan | str = DEFAULT_SOLVER,
    nfe: int | None = None,
    grid: Grid | str | Sequence[float] | None = None,
    span: Span = (None, None),
    n: int = 1,
    start: Float[Tensor, "n *state"] | None = None,
    seed: int | None = None,
    first: int = 0,
    noise: Noise | None = None,
    keep: str | Iterable[str] | None = None,
    callback: Callable[[State], Any] | None = None,
    progress: bool = False,
    device: torch.device | str | None = None,
    differentiable: bool = False,
    **options: Any,
) -> Solution:
    """Sample from ``model`` and return the whole :class:`Solution`.

    Args:
        model: a :class:`~flowsolve.Denoiser`.
        solver: "auto", a choice of solver and grid for the budget; a name (see
            ``flowsolve.solver_table()``), a solver object, or a :class:`~flowsolve.Plan`, which has
            its own ``nfe``, ``grid``, ``span`` and options. Other tools' names, "DPM++ 2M Karras",
            may bring a grid with them.
        nfe: at most this many evaluations of the denoiser, as many of them as the solver can use
            (default 20). Adaptive solvers take it as a cap (default: none).
        grid: a name ("karras", "karras(rho=5)"), a :mod:`flowsolve.grids` object, or a decreasing
            sequence of times, used as given. By default what the solver's name brings, as "auto"
            does, else Karras for EDM and VE, uniform on a table, quadratic in time otherwise.
        span: (noisy, quiet): the times between which to run, None for the process's own ends. A run
            ends on clean data, with the x̂0 of its last evaluation, unless ``span`` says otherwise.
        n: number of samples, if ``start`` is not given.
        start: the states to start from, at the first level, (n, *shape) or, where that is more, (n,
            *state_shape); by default drawn from the process's prior.
        seed: sample i's start and noise depend on (seed, i) alone. None draws a seed, see
            ``Solution.seed``.
        first: the number i of the first sample, to continue or split a larger run.
        noise: the caller's own noise instead: ``noise(k)`` or ``noise[k]`` is the k-th draw of the
            run, in the states' shape.
        keep: "path", "x0", or both in a tuple: what the solution keeps.
        callback: called with a :class:`State` after each step; returning True ends the run there.
        progress: show a progress bar (tqdm) over evaluations.
        device: where to start if the network has no parameters to say so.
        differentiable: keep the graph, so that gradients reach ``start`` and the network's
            parameters.
        **options: options of the solver, such as ``eta`` or ``rtol``.

    Raises:
        TypeError, ValueError: for arguments that do not fit, naming the argument, its value and
            what was expected.
        BudgetExceeded: an adaptive solver reached ``nfe``; the exception carries the state and
            level reached.
        NonFiniteError: the network returned NaN or Inf; the exception carries the state and the
            level.
    """
    checks.check_model(model)
    run = checks.check_layout(model.process, solver, nfe, grid, span, options)
    drawn = start is None or (noise is None and run.plan is not None and run.plan.draws > 0)
    used = check_seed(seed) if drawn else None
    x = _begin(model, run.levels[0], n, start, used, first, device)
    kept, draw = checks.check_keep(keep), _noise(noise, x, used, first)
    return integrate(model, run, x, nfe, draw, used, kept, callback, progress, differentiable)


def sample(
    model: Denoiser,
    *,
    n: int = 1,
    batch_size: int | None = None,
    seed: int | None = None,
    first: int = 0,
    **arguments: Any,
) -> Float[Tensor, "n *shape"]:
    """``n`` samples from ``model``, shape (n, *shape). Arguments as in :func:`solve`.

    Args:
        batch_size: run at most this many samples at a time; the noise of each sample is the same
            whatever it is.

    Raises:
        TypeError, ValueError, BudgetExceeded, NonFiniteError: as :func:`solve`.
    """
    checks.check_model(model)
    if batch_size is None:
        return solve(model, n=n, seed=seed, first=first, **arguments).x
    expect_value("batch_size", batch_size, "a positive integer")
    for name in ("start", "noise"):
        if arguments.get(name) is not None:
            raise ValueError(
                f"{name} and batch_size cannot be combined: split {name} yourself and call once "
                "for each part"
            )
    checks.check_count(n)
    seed = check_seed(seed)
    parts = [(i, min(i + batch_size, n)) for i in range(0, n, batch_size)]
    return torch.cat(
        [
            solve(model.rows(slice(i, j), n), n=j - i, seed=seed, first=first + i, **arguments).x
            for i, j in parts
        ]
    )


def plan(
    solver: Solver | str,
    process: Process,
    *,
    nfe: int | None = None,
    grid: Grid | str | Sequence[float] | None = None,
    span: Span = (None, None),
    **options: Any,
) -> Plan:
    """A fixed-step solver laid out on a grid, without a model: what :func:`solve` does when it is
    given the same arguments.

    Args:
        solver: a name or a solver object, but not an adaptive method or a bridge to another
            library.
        process: the process the plan is for.
        nfe, grid, span, options: as in :func:`solve`.

    Raises:
        TypeError, ValueError: for arguments that do not fit, naming the argument, its value and
            what was expected.
    """
    checks.check_process(process)
    chosen, on = checks.check_solver(process, solver, nfe, grid, options)
    if not chosen.fixed:
        near = min(
            (row for row in solver_table() if row.solver.fixed),
            key=lambda row: (abs(row.solver.order - chosen.order), row.family != "Runge-Kutta"),
        )
        raise ValueError(
            f"solver={solver!r} has no plan: its steps depend on the data, or are another "
            f"library's. Did you mean {near.name!r}?"
        )
    laid = layout(chosen, process, on, nfe, checks.check_span(span)).plan
    assert laid is not None
    return laid


def _begin(
    model: Denoiser, level: Level, n: int, start: Any, seed: int | None, first: int, device: Any
) -> Tensor:
    if start is not None:
        return checks.check_state(model, "start", start, model.state_shape)
    checks.check_count(n)
    checks.check_first(first)
    assert seed is not None
    place = torch.device(device) if device is not None else model.device
    return model.process.prior(level) @ normal(
        seed, range(first, first + n), 0, model.state_shape, model.state_dtype, place
    )


def _noise(noise: Noise | None, x: Tensor, seed: int | None, first: int) -> Callable[[int], Tensor]:
    if noise is None:
        samples = range(first, first + len(x))
        # The caller's start is as good as draw 0 of the streams, so steps use draws 1, 2, ...
        # either way.
        return lambda k: normal(seed or 0, samples, k + 1, x.shape[1:], x.dtype, x.device)

    def draw(k: int) -> Tensor:
        try:
            z = noise(k) if callable(noise) else noise[k]
        except IndexError:
            raise ValueError(
                f"noise has no draw number {k}; this run needs one for each of its stochastic steps"
            ) from None
        if not isinstance(z, Tensor) or z.shape != x.shape:
            what = f"shape {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
            raise ValueError(
                f"noise: draw {k} has {what}; expected a tensor of the state's shape "
                f"{tuple(x.shape)}"
            )
        return z.to(x)

    return draw
