"""The two calls: ``sample`` returns a tensor, ``solve`` everything there is to know about the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from .denoiser import Denoiser
from .errors import unknown
from .grids import Explicit, Grid
from .grids import resolve as resolve_grid
from .noise import check_seed, normal
from .plans import Plan
from .processes import Level, Process
from .run import Layout, Solution, Span, State, integrate, layout
from .solvers import DEFAULT_NFE, Solver, choose, table

__all__ = ["DEFAULT_NFE", "DEFAULT_SOLVER", "plan", "sample", "solve"]

#: The solver when the caller names none.
DEFAULT_SOLVER = "auto"

Noise = Callable[[int], Tensor] | Sequence[Tensor] | Tensor


def solve(
    model: Denoiser,
    *,
    solver: Solver | Plan | str = DEFAULT_SOLVER,
    nfe: int | None = None,
    grid: Grid | str | Sequence[float] | None = None,
    span: Span = (None, None),
    n: int = 1,
    start: Tensor | None = None,
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
        solver: "auto", a choice of solver and grid for the budget; a name (see ``flowsolve.solvers()``), a solver object, or a
            :class:`~flowsolve.Plan`, which has its own ``nfe``, ``grid``, ``span`` and options. Other tools' names, "DPM++ 2M
            Karras", may bring a grid with them.
        nfe: at most this many evaluations of the denoiser, as many of them as the solver can use (default 20). Adaptive
            solvers take it as a cap (default: none).
        grid: a name, a :mod:`flowsolve.grids` object, or a decreasing sequence of times, used as given. By default what the
            solver's name brings, as "auto" does, else Karras for EDM and VE, uniform on a table, quadratic in time otherwise.
        span: (noisy, quiet): the times between which to run, None for the process's own ends. A run ends on clean data,
            with the x̂0 of its last evaluation, unless ``span`` says otherwise.
        n: number of samples, if ``start`` is not given.
        start: the states to start from, at the first level, (n, *shape) or, where that is more, (n, *state_shape); by default
            drawn from the process's prior.
        seed: sample i's start and noise depend on (seed, i) alone. None draws a seed, see ``Solution.seed``.
        first: the number i of the first sample, to continue or split a larger run.
        noise: the caller's own noise instead: ``noise(k)`` or ``noise[k]`` is the k-th draw of the run, in the states' shape.
        keep: "path", "x0", or both in a tuple: what the solution keeps.
        callback: called with a :class:`State` after each step; returning True ends the run there.
        progress: show a progress bar (tqdm) over evaluations.
        device: where to start if the network has no parameters to say so.
        differentiable: keep the graph, so that gradients reach ``start`` and the network's parameters.
        **options: options of the solver, such as ``eta`` or ``rtol``.

    Raises:
        TypeError, ValueError: for arguments that do not fit, naming the argument, its value and what was expected.
        BudgetExceeded: an adaptive solver reached ``nfe``; the exception carries the state and level reached.
        NonFiniteError: the network returned NaN or Inf; the exception carries the state and the level.
    """
    check_model(model)
    run = check_layout(model.process, solver, nfe, grid, span, options)
    used = None if start is not None and (noise is not None or run.plan is None or run.plan.draws == 0) else check_seed(seed)
    x = _begin(model, run.levels[0], n, start, used, first, device)
    kept = frozenset([keep] if isinstance(keep, str) else keep or ())
    for what in kept - {"path", "x0"}:
        raise ValueError(unknown("keep", what, ("path", "x0")))
    return integrate(model, run, x, nfe, _noise(noise, x, used, first), used, kept, callback, progress, differentiable)


def sample(
    model: Denoiser, *, n: int = 1, batch_size: int | None = None, seed: int | None = None, first: int = 0, **arguments: Any
) -> Tensor:
    """``n`` samples from ``model``, shape (n, *shape). Arguments as in :func:`solve`.

    Args:
        batch_size: run at most this many samples at a time; the noise of each sample is the same whatever it is.

    Raises:
        TypeError, ValueError, BudgetExceeded, NonFiniteError: as :func:`solve`.
    """
    check_model(model)
    if batch_size is None:
        return solve(model, n=n, seed=seed, first=first, **arguments).x
    if not (isinstance(batch_size, int) and batch_size >= 1):
        raise ValueError(f"batch_size={batch_size!r}: expected a positive integer")
    for name in ("start", "noise"):
        if arguments.get(name) is not None:
            raise ValueError(f"{name} and batch_size cannot be combined: split {name} yourself and call once for each part")
    _check_count(n)
    seed = check_seed(seed)
    parts = [(i, min(i + batch_size, n)) for i in range(0, n, batch_size)]
    return torch.cat([solve(model.rows(slice(i, j), n), n=j - i, seed=seed, first=first + i, **arguments).x for i, j in parts])


def plan(
    solver: Solver | str,
    process: Process,
    *,
    nfe: int | None = None,
    grid: Grid | str | Sequence[float] | None = None,
    span: Span = (None, None),
    **options: Any,
) -> Plan:
    """A fixed-step solver laid out on a grid, without a model: what :func:`solve` does when it is given the same arguments.

    Args:
        solver: a name or a solver object, but not an adaptive method or a bridge to another library.
        process: the process the plan is for.
        nfe, grid, span, options: as in :func:`solve`.

    Raises:
        TypeError, ValueError: for arguments that do not fit, naming the argument, its value and what was expected.
    """
    if not isinstance(process, Process):
        raise TypeError(f"process={process!r} is not a process; expected flowsolve.VP(), flowsolve.EDM(), ...")
    chosen, on = _chosen(process, solver, nfe, grid, options)
    if not chosen.fixed:
        fixed = [row for row in table() if row.solver.fixed]
        near = min(fixed, key=lambda row: (abs(row.solver.order - chosen.order), row.family != "Runge-Kutta"))
        raise ValueError(
            f"solver={solver!r} has no plan: its steps depend on the data, or are another library's. Did you mean {near.name!r}?"
        )
    laid = layout(chosen, process, on, nfe, _check_span(span)).plan
    assert laid is not None
    return laid


def check_model(model: Any) -> None:
    if not isinstance(model, Denoiser):
        raise TypeError(
            f"model is a {type(model).__name__}; wrap the network so that its process and prediction are known:\n"
            '    flowsolve.Denoiser(net, process=flowsolve.VP(), predicts="eps", shape=(3, 32, 32))'
        )


def _check_span(span: Any) -> Span:
    if not (isinstance(span, (tuple, list)) and len(span) == 2 and all(t is None or isinstance(t, (int, float)) for t in span)):
        raise TypeError(f"span={span!r}: expected a pair of times (noisy, quiet), each a number or None")
    return (span[0], span[1])


def _check_count(n: Any) -> None:
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"n={n!r}: expected a positive integer, the number of samples")
    if n < 1:
        raise ValueError(f"n={n!r}: expected a positive integer, the number of samples")


def _begin(model: Denoiser, level: Level, n: int, start: Any, seed: int | None, first: int, device: Any) -> Tensor:
    if start is not None:
        return check_state(model, "start", start, model.state_shape)
    _check_count(n)
    if isinstance(first, bool) or not isinstance(first, int) or first < 0:
        raise ValueError(f"first={first!r}: expected a non-negative integer, the number of the first sample")
    assert seed is not None
    place = torch.device(device) if device is not None else model.device
    return model.process.prior(level) @ normal(seed, range(first, first + n), 0, model.state_shape, model.state_dtype, place)


def check_state(model: Denoiser, name: str, x: Any, shape: tuple[int, ...]) -> Tensor:
    """``x`` of shape (n, *shape), in a dtype of the model's states. Raises TypeError or ValueError naming it ``name``."""
    expected = f"(n, {', '.join(map(str, shape))})"
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name} is {kind}; expected a floating-point tensor of shape {expected}")
    if x.ndim != len(shape) + 1 or tuple(x.shape[1:]) != shape or len(x) == 0:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected {expected} with n >= 1")
    if model.device is not None and x.device != model.device:
        raise ValueError(f"{name} is on {x.device}, the network on {model.device}; move one to the other")
    return x if x.dtype == torch.float64 else x.to(torch.float32 if model.process.scalar else torch.float64)


def _noise(noise: Noise | None, x: Tensor, seed: int | None, first: int) -> Callable[[int], Tensor]:
    if noise is None:
        samples = range(first, first + len(x))
        # The caller's start is as good as draw 0 of the streams, so steps use draws 1, 2, ... either way.
        return lambda k: normal(seed or 0, samples, k + 1, x.shape[1:], x.dtype, x.device)

    def draw(k: int) -> Tensor:
        try:
            z = noise(k) if callable(noise) else noise[k]
        except IndexError:
            raise ValueError(f"noise has no draw number {k}; this run needs one for each of its stochastic steps") from None
        if not isinstance(z, Tensor) or z.shape != x.shape:
            what = f"shape {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
            raise ValueError(f"noise: draw {k} has {what}; expected a tensor of the state's shape {tuple(x.shape)}")
        return z.to(x)

    return draw


def check_layout(process: Process, solver: Any, nfe: Any, grid: Any, span: Any, options: dict[str, Any], upward: bool = False) -> Layout:
    """The layout of a run from what a user wrote. Raises TypeError or ValueError naming what does not fit."""
    if isinstance(solver, Plan):
        given = {"nfe": nfe, "grid": grid, "span": None if _check_span(span) == (None, None) else span}
        return _planned(solver, process, {key: value for key, value in given.items() if value is not None} | options, upward)
    chosen, on = _chosen(process, solver, nfe, grid, options)
    return layout(chosen, process, on, nfe, _check_span(span), upward)


def _chosen(process: Process, solver: Any, nfe: Any, grid: Any, options: dict[str, Any]) -> tuple[Solver, Grid | None]:
    """The solver, and the grid: the caller's, or what the solver's name brings."""
    if nfe is not None and (isinstance(nfe, bool) or not isinstance(nfe, int)):
        raise TypeError(f"nfe={nfe!r}: expected a positive integer")
    if nfe is not None and nfe < 1:
        raise ValueError(f"nfe={nfe!r}: expected a positive integer, the number of network evaluations to spend")
    on = None if grid is None else resolve_grid(grid, process)
    budget = nfe or (len(on.times) - 1 if isinstance(on, Explicit) else DEFAULT_NFE)
    chosen, own = choose(solver, options, budget, process.scalar)
    return chosen, (resolve_grid(own, process) if on is None and own is not None else on)


def _planned(plan: Plan, process: Process, given: dict[str, Any], upward: bool) -> Layout:
    if upward:
        raise ValueError("solver: a plan runs from noise to data, and encoding from data to noise; give the solver itself")
    for name, value in given.items():
        raise ValueError(f"{name}={value!r} cannot be given beside a plan, which has its own {name}")
    plan.check(process)
    return Layout(plan.levels, (), plan)
