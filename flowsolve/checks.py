"""What users may pass: each check raises TypeError or ValueError naming the argument, its value and
what was expected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .denoiser import Denoiser
from .errors import unknown
from .grids import Explicit, Grid, find_grid
from .plans import Plan
from .processes import Process
from .run import Layout, Span, layout
from .solvers import DEFAULT_NFE, Solver, find_solver


def check_model(model: Any) -> None:
    """A denoiser."""
    if not isinstance(model, Denoiser):
        raise TypeError(
            f"model is a {type(model).__name__}; wrap the network so that its process and "
            "prediction are known:\n    flowsolve.Denoiser(net, process=flowsolve.VP(), "
            'predicts="eps", shape=(3, 32, 32))'
        )


def check_process(process: Any) -> None:
    """A process."""
    if not isinstance(process, Process):
        raise TypeError(
            f"process={process!r} is not a process; expected flowsolve.VP(), flowsolve.EDM(), ..."
        )


def check_span(span: Any) -> Span:
    """A pair of times, None for the process's own."""
    if not (
        isinstance(span, (tuple, list))
        and len(span) == 2
        and all(t is None or isinstance(t, (int, float)) for t in span)
    ):
        raise TypeError(
            f"span={span!r}: expected a pair of times (noisy, quiet), each a number or None"
        )
    return (span[0], span[1])


def check_count(n: Any) -> None:
    """A number of samples."""
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"n={n!r}: expected a positive integer, the number of samples")
    if n < 1:
        raise ValueError(f"n={n!r}: expected a positive integer, the number of samples")


def check_first(first: Any) -> None:
    """The number of a sample."""
    if isinstance(first, bool) or not isinstance(first, int) or first < 0:
        raise ValueError(
            f"first={first!r}: expected a non-negative integer, the number of the first sample"
        )


def check_keep(keep: str | Iterable[str] | None) -> frozenset[str]:
    """What a solution is to keep."""
    kept = frozenset([keep] if isinstance(keep, str) else keep or ())
    for what in kept - {"path", "x0"}:
        raise ValueError(unknown("keep", what, ("path", "x0")))
    return kept


def check_state(model: Denoiser, name: str, x: Any, shape: tuple[int, ...]) -> Tensor:
    """``x`` of shape (n, *shape), in a dtype of the model's states. Raises TypeError or ValueError
    naming it ``name``."""
    expected = f"(n, {', '.join(map(str, shape))})"
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name} is {kind}; expected a floating-point tensor of shape {expected}")
    if x.ndim != len(shape) + 1 or tuple(x.shape[1:]) != shape or len(x) == 0:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected {expected} with n >= 1")
    if model.device is not None and x.device != model.device:
        raise ValueError(
            f"{name} is on {x.device}, the network on {model.device}; move one to the other"
        )
    least = torch.float32 if model.process.scalar else torch.float64
    return x if x.dtype == torch.float64 else x.to(least)


def check_layout(
    process: Process,
    solver: Any,
    nfe: Any,
    grid: Any,
    span: Any,
    options: dict[str, Any],
    upward: bool = False,
) -> Layout:
    """The layout of a run from what a user wrote. Raises TypeError or ValueError naming what does
    not fit."""
    if isinstance(solver, Plan):
        given = {"nfe": nfe, "grid": grid}
        if check_span(span) != (None, None):
            given["span"] = span
        named = {name: value for name, value in given.items() if value is not None}
        return _planned(solver, process, named | options, upward)
    chosen, on = check_solver(process, solver, nfe, grid, options)
    return layout(chosen, process, on, nfe, check_span(span), upward)


def check_solver(
    process: Process, solver: Any, nfe: Any, grid: Any, options: dict[str, Any]
) -> tuple[Solver, Grid | None]:
    """The solver, and the grid: the caller's, or what the solver's name brings."""
    if nfe is not None and (isinstance(nfe, bool) or not isinstance(nfe, int)):
        raise TypeError(f"nfe={nfe!r}: expected a positive integer")
    if nfe is not None and nfe < 1:
        raise ValueError(
            f"nfe={nfe!r}: expected a positive integer, the number of network evaluations to spend"
        )
    on = None if grid is None else find_grid(grid, process)
    budget = nfe or (len(on.times) - 1 if isinstance(on, Explicit) else DEFAULT_NFE)
    chosen, own = find_solver(solver, options, budget, process)
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
