"""A state, driven through a layout."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..denoiser import Denoiser
from ..parametrizations import Linear
from ..plans import Plan, play
from ..processes import Level
from ..solvers import drive
from .layout import Layout
from .live import Live
from .record import Record, Solution, State, finite, non_finite, progress_bar


def integrate(
    model: Denoiser,
    run: Layout,
    x: Tensor,
    cap: int | None,
    draw: Callable[[int], Tensor],
    seed: int | None,
    keep: frozenset[str] = frozenset(),
    callback: Callable[[State], Any] | None = None,
    progress: bool = False,
    differentiable: bool = False,
) -> Solution:
    """Drive ``x`` through a layout: by its plan, or on tensors with ``cap`` as the most
    evaluations."""
    bar = progress_bar(progress, run.plan.nfe if run.plan is not None else cap)
    record = Record(keep, callback, bar)
    begin, graph = x, torch.enable_grad() if differentiable else torch.no_grad()
    with graph, bar or contextlib.nullcontext():
        live = None
        if run.plan is not None:
            x = play(run.plan, model, x, draw, record)
        else:
            live = Live(model, record, draw, cap, x, run.levels[0])
            x = drive(run.steps, live, x)
            live.cap = None  # a backward pass through the adjoint asks again
        if not finite(x):
            asked = [] if run.plan is None else _locate(run.plan, model, begin, draw)
            raise non_finite(x, asked)
    end = record.reached[-1] if record.reached else run.levels[0]
    return Solution(
        x=model.process.data(x) if end.clean else x,
        nfe=len(record.asked),
        grid=(run.levels[0], *record.reached),
        seed=seed,
        path=torch.stack([begin, *record.path]) if "path" in keep else None,
        x0_path=torch.stack(record.x0) if "x0" in keep else None,
        stopped=len(record.reached) < len(run.levels) - 1,
        statistics=None if live is None else live.statistics,
    )


class _Found(Exception):
    """The evaluation that :class:`_Search` was looking for."""


class _Search(Record):
    """Watches a run for the first evaluation that is not finite."""

    def evaluated(self, x: Tensor, out: Tensor, level: Level, linear: Linear) -> None:
        self.asked.append(level)
        if not finite(out):
            raise _Found


def _locate(plan: Plan, model: Denoiser, x: Tensor, draw: Callable[[int], Tensor]) -> list[Level]:
    """Run again, looking at every evaluation: a run that goes well pays nothing for this. The
    levels up to the first bad one."""
    search = _Search(frozenset(), None, None)
    try:
        play(plan, model, x, draw, search)
    except _Found:
        return search.asked
    return []
