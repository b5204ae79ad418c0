"""A run: laid out before it has a model, then driven with one. What it records, and what comes back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .coordinates import Coordinates
from .denoiser import Denoiser, Linear
from .errors import BudgetExceeded, NonFiniteError
from .flow import Door, Leg, drive
from .grids import Explicit, Grid
from .grids import resolve as resolve_grid
from .operators import combine
from .plans import Plan, ask
from .processes import Level, Levels, Process
from .solvers import DEFAULT_NFE, Solver, legs

Span = tuple[float | None, float | None]


class State(NamedTuple):
    """What a callback sees after each step: the step's number (from 1), evaluations so far, the level and the state."""

    step: int
    nfe: int
    level: Level
    x: Tensor


@dataclass(frozen=True)
class Solution:
    """A finished run.

    Attributes:
        x: the result, (n, *shape). A run that ends on a noisy level ends on a state, which in a CLD has velocities as well.
        nfe: denoiser evaluations spent, each of a whole batch.
        grid: the levels of the run, as far as it went.
        seed: what start and noise were drawn from; None if both were the caller's.
        path: with keep="path": the states on the grid, (steps + 1, n, *state), the start first.
        x0_path: with keep="x0": x̂0 of each evaluation, (nfe, n, *state); where a sample was not evaluated, its last.
        stopped: True if the callback ended the run early.
        statistics: of a solver that steps every sample by itself: what each spent. None for the others.
    """

    x: Tensor
    nfe: int
    grid: tuple[Level, ...]
    seed: int | None
    path: Tensor | None = None
    x0_path: Tensor | None = None
    stopped: bool = False
    statistics: Statistics | None = None


class Statistics(NamedTuple):
    """What each sample of a batch spent: three tensors of integers (n,).

    Attributes:
        accepted, rejected: steps that were taken, and steps that had to be tried again with another length.
        evaluations: evaluations of the denoiser that the sample needed.
    """

    accepted: Tensor
    rejected: Tensor
    evaluations: Tensor


class _Record:
    """Watches a run: counts and keeps what was asked for. No device syncs."""

    def __init__(self, keep: frozenset[str], callback: Callable[[State], Any] | None, bar: Any) -> None:
        self.keep, self.callback, self.bar = keep, callback, bar
        self.asked: list[Level] = []
        self.reached: list[Level] = []
        self.path: list[Tensor] = []
        self.x0: list[Tensor] = []

    @property
    def looks(self) -> bool:
        return bool(self.keep) or self.callback is not None

    def evaluated(self, x: Tensor, out: Tensor, level: Level, linear: Linear) -> None:
        self.asked.append(level)
        if "x0" in self.keep:
            self.x0.append(combine(linear.x0, (x, out)))
        if self.bar is not None:
            self.bar.update()

    def repeat_x0(self, running: Tensor) -> None:
        """Of samples that are not running, x̂0 is what it was last."""
        if "x0" in self.keep and not running.all():
            self.x0[-1][~running] = self.x0[-2][~running]

    def arrived(self, x: Tensor, level: Level) -> bool:
        self.reached.append(level)
        if "path" in self.keep:
            self.path.append(x)
        if self.callback is None:
            return False
        return self.callback(State(len(self.reached), len(self.asked), level, x)) is True


class _Found(Exception):
    """The evaluation that :class:`_Search` was looking for."""


class _Search(_Record):
    """Watches a run for the first evaluation that is not finite."""

    def evaluated(self, x: Tensor, out: Tensor, level: Level, linear: Linear) -> None:
        self.asked.append(level)
        if not _finite(out):
            raise _Found


def _finite(x: Tensor) -> bool:
    # A sum is many times cheaper than isfinite, and finite only if all its terms are; the converse is rarely needed.
    return bool(torch.isfinite(x.detach().sum())) or bool(torch.isfinite(x).all())


def _non_finite(x: Tensor, asked: list[Level], running: Tensor | bool = True) -> NonFiniteError:
    """The error for the state or output ``x``; the last of ``asked``, if any, is where the network went wrong."""
    bad = ((~torch.isfinite(x.detach()).flatten(1).all(1)).cpu() & running).nonzero().flatten().tolist()
    level = asked[-1] if asked else None
    return NonFiniteError(x, level.each[bad[0]] if isinstance(level, Levels) else level, len(asked), bad)


def _locate(plan: Plan, model: Denoiser, x: Tensor, draw: Callable[[int], Tensor]) -> list[Level]:
    """Run again, looking at every evaluation: a run that goes well pays nothing for this. The levels up to the first bad one."""
    search = _Search(frozenset(), None, None)
    try:
        plan.run(model, x, draw, search)
    except _Found:
        return search.asked
    return []


class _LiveDoor(Door):
    """The door on tensors, for solvers whose arithmetic depends on the data."""

    def __init__(self, model: Denoiser, record: _Record, noise: Callable[[int], Tensor], cap: int | None, x: Tensor, level: Level) -> None:
        self.model, self.process, self.record, self.draw, self.cap = model, model.process, record, noise, cap
        self.x, self.draws = x, 0
        self.level: Level | Sequence[Level] = level
        self.spent = Statistics(*torch.zeros(3, len(x), dtype=torch.int64))
        self.statistics: Statistics | None = None
        self._gather()

    def _gather(self) -> None:
        """All samples are running, and all rows are evaluated."""
        self.running, self.rows, self.part = torch.ones(len(self.x), dtype=torch.bool), None, self.model

    def ask(self, x: Tensor, s: Level, coordinates: Coordinates) -> Tensor:
        if self.cap is not None and len(self.record.asked) >= self.cap:
            level = self.level if isinstance(self.level, Level) else Levels(self.level)
            raise BudgetExceeded(len(self.record.asked), self.x, level)
        linear = self.model.linear(s)
        if self.rows is None:
            out = ask(self.model, x, s, linear, self.record)
        else:
            part = self.part.evaluate(x[self.rows], Levels(s.each[row] for row in self.rows.tolist()))
            out = torch.zeros_like(x).index_copy(0, self.rows.to(x.device), part.to(x.dtype))
            self.record.evaluated(x, out, s, linear)
        if not _finite(out) and not _finite(out[self.running]):  # a step size is about to be computed from it
            raise _non_finite(out, self.record.asked, self.running)
        self.spent.evaluations.add_(self.running)
        self.record.repeat_x0(self.running)
        return combine(linear.mix(coordinates.p_of), (x, out))

    def noise(self) -> Tensor:
        self.draws += 1
        return self.draw(self.draws - 1)

    def reached(self, x: Tensor, t: Level) -> None:
        self.x, self.level = x, t

    def judged(self, x: Tensor, levels: Sequence[Level], accepted: Tensor, rejected: Tensor, running: Tensor) -> None:
        self.x, self.level, self.running, self.statistics = x, levels, running, self.spent
        self.spent.accepted.add_(accepted)
        self.spent.rejected.add_(rejected)
        # Only when half are done: the shapes that a network may be compiled or tuned for stay few.
        if 0 < 2 * int(running.sum()) <= (len(x) if self.rows is None else len(self.rows)):
            self.rows = running.nonzero().flatten()
            self.part = self.model.rows(self.rows, len(x))

    def arrive(self, x: Tensor, t: Level) -> None:
        self.reached(x, t)
        self._gather()
        self.stopped = self.record.arrived(x, t)

    def parameters(self) -> Iterable[Any]:
        net = self.model.net
        return [p for p in net.parameters() if p.requires_grad] if isinstance(net, torch.nn.Module) else ()


class Layout(NamedTuple):
    """A run before it has a model: its levels, its legs, and its plan if the solver has one."""

    levels: tuple[Level, ...]
    legs: tuple[Leg, ...]
    plan: Plan | None


@lru_cache(maxsize=256)
def layout(solver: Solver, process: Process, grid: Grid | None, nfe: int | None, span: Span, upward: bool = False) -> Layout:
    """Levels, legs and plan of a run; cached, since coefficients do not depend on the model or the data.

    With ``upward`` the run goes from the grid's quietest noisy level to its noisiest.
    """
    solver = solver.on(process)
    start = None if span[0] is None else process.level(span[0])
    end = None if span[1] is None else process.level(span[1])
    if isinstance(grid, Explicit):
        levels = grid.levels(process, None, start, end)
    elif solver.evaluations is None:
        if grid is not None:
            raise ValueError(f"{solver} chooses its own steps and cannot fill grid={grid}; leave grid out, or give the times to stop at")
        start, end = start or process.start, end or process.clean
        quiet = process.level(process.t_min)
        levels = (start, *([quiet] if end.clean and not quiet.clean and quiet.t < start.t else []), end)
    else:
        nfe = DEFAULT_NFE if nfe is None else nfe
        clean = (end or process.clean).clean
        if upward:
            nfe += clean  # no evaluation goes into a last step to clean data
        grid = resolve_grid(grid, process)
        beginning = grid.levels(process, nfe, start, end)[0]  # not always the process's: the paper's τ starts below it
        n = solver.steps(nfe - clean, beginning) + clean
        if n < 1:
            raise ValueError(f"nfe={nfe} does not pay for one step of {solver}, which takes {solver.evaluations}")
        levels = grid.levels(process, n + (upward and clean), start, end)
    if upward:
        levels = tuple(level for level in reversed(levels) if not level.clean)
    run = tuple(legs(solver, levels, None if solver.evaluations is None else nfe))
    plan = Plan.trace(process, run) if solver.fixed else None
    if plan is not None and nfe is not None and plan.nfe > nfe:
        raise ValueError(f"a grid of {len(run)} steps costs {plan.nfe} evaluations with {solver}, but nfe={nfe}; give one of the two")
    return Layout(levels, run, plan)


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
    """Drive ``x`` through a layout: by its plan, or on tensors with ``cap`` as the most evaluations."""
    bar = progress_bar(progress, run.plan.nfe if run.plan is not None else cap)
    record = _Record(keep, callback, bar)
    begin = x
    with torch.enable_grad() if differentiable else torch.no_grad(), bar or contextlib.nullcontext():
        door = None
        if run.plan is not None:
            x = run.plan.run(model, x, draw, record)
        else:
            door = _LiveDoor(model, record, draw, cap, x, run.levels[0])
            x = drive(run.legs, door, x)
            door.cap = None  # a backward pass through the adjoint asks again
        if not _finite(x):
            raise _non_finite(x, [] if run.plan is None else _locate(run.plan, model, begin, draw))
    end = record.reached[-1] if record.reached else run.levels[0]
    return Solution(
        x=model.process.data(x) if end.clean else x,
        nfe=len(record.asked),
        grid=(run.levels[0], *record.reached),
        seed=seed,
        path=torch.stack([begin, *record.path]) if "path" in keep else None,
        x0_path=torch.stack(record.x0) if "x0" in keep else None,
        stopped=len(record.reached) < len(run.levels) - 1,
        statistics=None if door is None else door.statistics,
    )


def progress_bar(progress: bool, total: int | None, unit: str = "eval", initial: int = 0) -> Any:
    """A tqdm bar, or None if ``progress`` is False. Raises ImportError, saying what to install, without tqdm."""
    if not progress:
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        raise ImportError("progress=True needs tqdm: pip install 'flowsolve[run]'") from None
    return tqdm(total=total, unit=unit, initial=initial, leave=False)
