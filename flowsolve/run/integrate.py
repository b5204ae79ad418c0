"""A state, driven through a layout."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..denoiser import Denoiser
from ..finite import NonFiniteError, check_finite, finite, non_finite
from ..parametrizations import Linear
from ..plans import Plan, Remains, Run, Watch, bind
from ..processes import Level
from ..solvers import drive
from .layout import Layout
from .live import Live, blame
from .record import CAP, Record, Rest, Solution, State, progress_bar


def integrate(
    model: Denoiser,
    run: Layout,
    x: Tensor,
    cap: int | None,
    draw: Callable[[int], Tensor],
    seed: int | tuple[int, ...] | None,
    keep: frozenset[str] = frozenset(),
    callback: Callable[[State], Any] | None = None,
    progress: bool = False,
    differentiable: bool = False,
    first: int = 0,
    rest: Remains | None = None,
) -> Solution:
    """Drive ``x`` through a layout: by its plan, or what is the ``rest`` of it, or on tensors with
    ``cap`` as the most evaluations."""
    most = cap if run.plan is None else rest.evaluations if rest else run.plan.nfe
    bar = progress_bar(progress, most)
    record = Record(keep, callback, bar)
    begin, graph = x, torch.enable_grad() if differentiable else torch.no_grad()
    with graph, bar or contextlib.nullcontext():
        live = played = None
        try:
            if run.plan is not None:
                played = _run(run.plan, rest, model, x, draw, record)
                x = played.through(model)
            else:
                if cap is None and any(step.rule.evaluations is None for step in run.steps):
                    cap = CAP
                live = Live(model, record, draw, cap, x, run.levels[0])
                x = drive(run.steps, live, x)
                live.cap = None  # a backward pass through the adjoint asks again
            if not finite(x):
                raise _located(run.plan, rest, model, begin, x, draw)
        except Exception:
            check_finite("x" if run.levels[0].t < run.levels[-1].t else "start", begin)
            raise
    end = record.reached[-1] if record.reached else run.levels[0]
    return Solution(
        x=model.process.data(x) if end.clean else x,
        nfe=len(record.asked),
        grid=(run.levels[0], *record.reached),
        seed=seed,
        path=torch.stack([begin, *record.path]) if "path" in keep else None,
        x0_path=torch.stack(record.x0) if "x0" in keep else None,
        stopped=end.t != run.levels[-1].t,
        statistics=None if live is None else live.statistics,
        rest=_left(run.plan, played, model, first),
    )


def _run(
    plan: Plan,
    rest: Remains | None,
    model: Denoiser,
    x: Tensor,
    draw: Callable[[int], Tensor],
    watch: Watch,
) -> Run:
    if rest is not None:
        return rest.run(x, draw, watch)
    return Run(bind(plan.program, model.answers, model.process), x, draw, watch)


def _left(plan: Plan | None, played: Run | None, model: Denoiser, first: int) -> Rest | None:
    """What a run that was stopped goes on with; None of one that is at its end, or has no plan."""
    if plan is None or played is None or played.at == len(played.bound.items):
        return None
    known = (plan.program, model.answers, model.process, played.at, played.known)
    return Rest(plan, Remains(*known), first)


class _Found(Exception):
    """(x, level) of the evaluation that :class:`_Search` was looking for."""


class _Search(Record):
    """Watches a run for the first evaluation that is not finite."""

    looks = True  # type: ignore[assignment]

    def evaluated(self, x: Tensor, out: Tensor, level: Level, linear: Linear) -> None:
        self.asked.append(level)
        if not finite(out):
            raise _Found(x, level)


def _located(
    plan: Plan | None,
    rest: Remains | None,
    model: Denoiser,
    begin: Tensor,
    end: Tensor,
    draw: Callable[[int], Tensor],
) -> NonFiniteError:
    """The error for a run to ``end``. That of a plan is made again, looking at every evaluation: a
    run that goes well pays nothing for this. (Without a plan each has been looked at.)"""
    search = _Search(frozenset(), None, None)

    def looked(k: int) -> Tensor:
        z = draw(k)
        check_finite(f"noise: draw {k}", z)
        return z

    try:
        if plan is not None:
            _run(plan, rest, model, begin, looked, search).through(model)
    except _Found as found:
        x, level = found.args
        if finite(x):
            return non_finite(end, search.asked, blame(model, x, level))
    return non_finite(end, [])
