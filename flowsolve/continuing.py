"""A run that was stopped, gone on with."""

from __future__ import annotations

from typing import Any

from .checks import check_layout
from .denoiser import Denoiser
from .run import Layout, Rest, Solution, Span


def check_rest(
    model: Denoiser,
    start: Solution,
    first: int,
    solver: Any,
    nfe: int | None,
    grid: Any,
    span: Span,
    options: dict[str, Any],
) -> tuple[Layout, Rest]:
    """The layout of what is left of the run of ``start``, and its rest. Arguments that say how to
    run are left out (then ``solver`` is None), or say what that run was.

    Raises:
        ValueError: naming what does not fit.
    """
    rest = start.rest
    if rest is None:
        reason = "its run has no plan" if start.stopped else "its run went to its end"
        raise ValueError(
            f"start: nothing is left of this solution, {reason}; go on from the state alone, with "
            "start=solution.x and the times from there, span=(solution.grid[-1].t, None) or grid=, "
            "or give the first run all of the grid and stop it by callback="
        )
    remains = rest.remains
    for name, here, there in (
        ("process", model.process, remains.process),
        ("predicts", model.answers, remains.answers),
    ):
        if here != there:
            raise ValueError(f"start: its run had {name}={there!r}, the model has {here!r}")
    x, like = start.x, remains.like
    if x.shape != like.shape or x.dtype != like.dtype or x.device != like.device:
        raise ValueError(
            f"start.x has shape {tuple(x.shape)}, {x.dtype}, on {x.device}; expected what its run "
            f"had, {tuple(like.shape)}, {like.dtype}, on {like.device}"
        )
    if first not in (0, rest.first):
        raise ValueError(
            f"first={first!r}: start is of a run with first={rest.first}; leave it out"
        )
    given = {"solver": solver, "nfe": nfe, "grid": grid}
    if span != (None, None):
        given["span"] = span
    given = {name: value for name, value in {**given, **options}.items() if value is not None}
    if given and given != {"nfe": rest.plan.nfe}:
        laid = check_layout(
            model.process, solver or "auto", nfe, grid, span, options, about=model.about
        )
        if laid.plan != rest.plan:
            said = ", ".join(f"{name}={value!r}" for name, value in given.items())
            raise ValueError(
                f"{said}: start goes on with its own run, {rest.plan!r}; leave out what says how "
                "to run, or say what was said then"
            )
    return Layout(remains.levels, (), rest.plan), rest
