"""The two calls: ``sample`` returns a tensor, ``solve`` everything there is to know about the run."""

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
from .errors import BudgetExceeded, NonFiniteError, unknown
from .grids import Explicit, Grid
from .grids import resolve as resolve_grid
from .noise import check_seed, normal
from .operators import combine
from .plan import Door, Leg, Plan, ask, drive
from .processes import Level, Process
from .solvers import Solver, legs
from .solvers import resolve as resolve_solver

#: Evaluations of a fixed-step solver when neither nfe nor an explicit grid says otherwise.
DEFAULT_NFE = 20
DEFAULT_SOLVER = "ab2"

Noise = Callable[[int], Tensor] | Sequence[Tensor] | Tensor
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
        x: the result, (n, *shape).
        nfe: denoiser evaluations spent.
        grid: the levels of the run, as far as it went.
        seed: what start and noise were drawn from; None if both were the caller's.
        path: with keep="path": the states on the grid, (steps + 1, n, *shape), the start first.
        x0_path: with keep="x0": x̂0 of each evaluation, (nfe, n, *shape).
        stopped: True if the callback ended the run early.
    """

    x: Tensor
    nfe: int
    grid: tuple[Level, ...]
    seed: int | None
    path: Tensor | None = None
    x0_path: Tensor | None = None
    stopped: bool = False


class _Record:
    """Watches a run: counts, keeps what was asked for, remembers where the first NaN was. No device syncs."""

    def __init__(self, keep: frozenset[str], callback: Callable[[State], Any] | None, bar: Any) -> None:
        self.keep, self.callback, self.bar = keep, callback, bar
        self.sums: list[Tensor] = []
        self.asked: list[Level] = []
        self.reached: list[Level] = []
        self.path: list[Tensor] = []
        self.x0: list[Tensor] = []

    def evaluated(self, x: Tensor, out: Tensor, level: Level, linear: Linear) -> None:
        # One reduction, looked at only when the run is over: a NaN or Inf anywhere makes the sum one.
        self.sums.append(out.detach().sum(dtype=torch.float32 if out.dtype.itemsize < 4 else None))
        self.asked.append(level)
        if "x0" in self.keep:
            self.x0.append(combine(linear.x0, (x, out)))
        if self.bar is not None:
            self.bar.update()

    def arrived(self, x: Tensor, level: Level) -> bool:
        self.reached.append(level)
        if "path" in self.keep:
            self.path.append(x)
        if self.callback is None:
            return False
        return self.callback(State(len(self.reached), len(self.asked), level, x)) is True

    def check(self, x: Tensor) -> None:
        """Raise if ``x`` is not finite, naming the first evaluation that was not."""
        if torch.isfinite(x.detach().sum()) or torch.isfinite(x).all():
            return
        bad = (~torch.isfinite(x.detach()).flatten(1).all(1)).nonzero().flatten().tolist()
        first = next((k for k, ok in enumerate(torch.isfinite(torch.stack(self.sums)).tolist()) if not ok), None)
        raise NonFiniteError(x, None if first is None else self.asked[first], None if first is None else first + 1, bad)


class _LiveDoor(Door):
    """The door on tensors, for solvers whose arithmetic depends on the data."""

    def __init__(self, model: Denoiser, record: _Record, noise: Callable[[int], Tensor], cap: int | None, x: Tensor, level: Level) -> None:
        self.model, self.process, self.record, self.draw, self.cap = model, model.process, record, noise, cap
        self.x, self.level, self.draws = x, level, 0

    def ask(self, x: Tensor, s: Level, coordinates: Coordinates) -> Tensor:
        if self.cap is not None and len(self.record.asked) >= self.cap:
            raise BudgetExceeded(len(self.record.asked), self.x, self.level)
        linear = self.model.linear(s)
        out = ask(self.model, x, s, linear, self.record)
        self.record.check(out)
        return combine(linear.mix(coordinates.p_of), (x, out))

    def noise(self) -> Tensor:
        self.draws += 1
        return self.draw(self.draws - 1)

    def reached(self, x: Tensor, t: Level) -> None:
        self.x, self.level = x, t

    def arrive(self, x: Tensor, t: Level) -> None:
        self.reached(x, t)
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
def layout(solver: Solver, process: Process, grid: Grid | None, nfe: int | None, span: Span) -> Layout:
    """Levels, legs and plan of a run; cached, since coefficients do not depend on the model or the data."""
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
        grid = resolve_grid(grid, process)
        beginning = grid.levels(process, nfe, start, end)[0]  # not always the process's: the paper's τ starts below it
        n = solver.steps(nfe - clean, beginning) + clean
        if n < 1:
            raise ValueError(f"nfe={nfe} does not pay for one step of {solver}, which takes {solver.evaluations}")
        levels = grid.levels(process, n, start, end)
    run = tuple(legs(solver, levels, None if solver.evaluations is None else nfe))
    plan = Plan.trace(process, run) if solver.fixed else None
    if plan is not None and nfe is not None and plan.nfe > nfe:
        raise ValueError(f"a grid of {len(run)} steps costs {plan.nfe} evaluations with {solver}, but nfe={nfe}; give one of the two")
    return Layout(levels, run, plan)


def solve(
    model: Denoiser,
    *,
    solver: Solver | str = DEFAULT_SOLVER,
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
        solver: a name (see ``flowsolve.solvers()``) or a solver object.
        nfe: at most this many evaluations of the denoiser, as many of them as the solver can use (default 20). Adaptive
            solvers take it as a cap (default: none).
        grid: a name, a :mod:`flowsolve.grids` object, or a decreasing sequence of times, used as given; by default
            Karras for EDM and VE, uniform in time otherwise.
        span: (noisy, quiet): the times between which to run, None for the process's own ends. A run ends on clean data,
            with the x̂0 of its last evaluation, unless ``span`` says otherwise.
        n: number of samples, if ``start`` is not given.
        start: the states to start from, (n, *shape), at the first level; by default drawn from the process's prior.
        seed: sample i's start and noise depend on (seed, i) alone. None draws a seed, see ``Solution.seed``.
        first: the number i of the first sample, to continue or split a larger run.
        noise: the caller's own noise instead: ``noise(k)`` or ``noise[k]`` is the k-th draw of the run, (n, *shape).
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
    _check_model(model)
    chosen = resolve_solver(solver, options)
    if nfe is not None and (isinstance(nfe, bool) or not isinstance(nfe, int)):
        raise TypeError(f"nfe={nfe!r}: expected a positive integer")
    if nfe is not None and nfe < 1:
        raise ValueError(f"nfe={nfe!r}: expected a positive integer, the number of network evaluations to spend")
    kept = frozenset([keep] if isinstance(keep, str) else keep or ())
    for what in kept - {"path", "x0"}:
        raise ValueError(unknown("keep", what, ("path", "x0")))
    run = layout(chosen, model.process, None if grid is None else resolve_grid(grid, model.process), nfe, _check_span(span))
    used = None if start is not None and (noise is not None or run.plan is None or run.plan.draws == 0) else check_seed(seed)
    x = _start(model, run.levels[0], n, start, used, first, device)
    draw = _noise(noise, x, used, first)
    bar = _bar(progress, run.plan.nfe if run.plan is not None else nfe)
    record = _Record(kept, callback, bar)
    begin = x
    with torch.enable_grad() if differentiable else torch.no_grad(), bar or contextlib.nullcontext():
        if run.plan is not None:
            x = run.plan.run(model, x, draw, record)
        else:
            door = _LiveDoor(model, record, draw, nfe, x, run.levels[0])
            x = drive(run.legs, door, x)
            door.cap = None  # a backward pass through the adjoint asks again
        record.check(x)
    return Solution(
        x=x,
        nfe=len(record.asked),
        grid=(run.levels[0], *record.reached),
        seed=used,
        path=torch.stack([begin, *record.path]) if "path" in kept else None,
        x0_path=torch.stack(record.x0) if "x0" in kept else None,
        stopped=len(record.reached) < len(run.legs),
    )


def sample(model: Denoiser, *, n: int = 1, batch_size: int | None = None, seed: int | None = None, first: int = 0, **arguments: Any) -> Tensor:
    """``n`` samples from ``model``, shape (n, *shape). Arguments as in :func:`solve`.

    Args:
        batch_size: run at most this many samples at a time; the noise of each sample is the same whatever it is.

    Raises:
        As :func:`solve`.
    """
    _check_model(model)
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
    return torch.cat([solve(model.rows(i, j, n), n=j - i, seed=seed, first=first + i, **arguments).x for i, j in parts])


def _check_model(model: Any) -> None:
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


def _start(model: Denoiser, level: Level, n: int, start: Any, seed: int | None, first: int, device: Any) -> Tensor:
    if start is None:
        _check_count(n)
        if isinstance(first, bool) or not isinstance(first, int) or first < 0:
            raise ValueError(f"first={first!r}: expected a non-negative integer, the number of the first sample")
        assert seed is not None
        place = torch.device(device) if device is not None else model.device
        return model.process.prior(level) @ normal(seed, range(first, first + n), 0, model.shape, model.state_dtype, place)
    if not isinstance(start, Tensor) or not start.is_floating_point():
        kind = f"a tensor of {start.dtype}" if isinstance(start, Tensor) else type(start).__name__
        raise TypeError(f"start is {kind}; expected a floating-point tensor of shape (n, {', '.join(map(str, model.shape))})")
    if start.ndim != len(model.shape) + 1 or tuple(start.shape[1:]) != model.shape or len(start) == 0:
        raise ValueError(f"start has shape {tuple(start.shape)}; expected (n, {', '.join(map(str, model.shape))}) with n >= 1")
    if model.device is not None and start.device != model.device:
        raise ValueError(f"start is on {start.device}, the network on {model.device}; move one to the other")
    return start if start.dtype == torch.float64 else start.to(torch.float32)


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


def _bar(progress: bool, total: int | None) -> Any:
    if not progress:
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        raise ImportError("progress=True needs tqdm: pip install 'flowsolve[run]'") from None
    return tqdm(total=total, unit="eval", leave=False)
