"""The two calls: ``sample`` returns a tensor, ``solve`` all there is to know about the run."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from . import checks, starts
from . import conditioning as conditions
from .about import About, check_scale
from .checked import Count, checked
from .checks import AnyGrid, AnySolver, Device, Keep
from .continuing import check_rest
from .denoiser import Denoiser
from .gradients import Checkpointed, check_memory, constant
from .noise import Seed, check_seeds, normal
from .parallel import Parallel, check_parallel, in_parallel
from .processes import Level
from .readers import Later
from .run import Solution, Span, State, integrate
from .solvers import DEFAULT_NFE
from .starts import Noise, Number, Samples, check_state, draws
from .typing import Float

__all__ = ["DEFAULT_NFE", "DEFAULT_SOLVER", "sample", "solve"]

#: The solver when the caller names none.
DEFAULT_SOLVER = "auto"


@checked
def solve(
    model: Denoiser,
    *,
    solver: AnySolver = DEFAULT_SOLVER,
    nfe: Count | None = None,
    grid: AnyGrid = None,
    span: Span = (None, None),
    n: Samples | None = None,
    start: Annotated[Float[Tensor, "n *state"] | Solution | None, Later("check_state")] = None,
    seed: Annotated[Seed | None, Later("noise.check_seeds")] = None,
    first: Number = 0,
    noise: Noise | None = None,
    keep: Keep | Iterable[Keep] | None = None,
    callback: Callable[[State], Any] | None = None,
    progress: bool = False,
    device: Device | None = None,
    differentiable: bool = False,
    memory: Literal["checkpoint", "constant"] | None = None,
    parallel: Parallel | bool = False,
    **options: Any,
) -> Solution:
    """Sample from ``model`` and return the whole :class:`Solution`.

    Args:
        model: a :class:`~flowsolve.Denoiser`.
        solver: "auto", a solver and grid for the budget; a name (see ``flowsolve.solver_table()``),
            a solver object, or a :class:`~flowsolve.Plan`, with its own ``nfe``, ``grid``, ``span``
            and options. Other tools' names, "DPM++ 2M Karras", may bring a grid.
        nfe: at most this many evaluations of the denoiser, as many of them as the solver can use
            (default 20). Adaptive solvers take it as a cap (default 5000).
        grid: a name ("karras", "karras(rho=5)"), a :mod:`flowsolve.grids` object, or a decreasing
            sequence of times, used as given. By default what the solver's name brings, as "auto"
            does, else Karras for EDM and VE, quadratic in time otherwise, on a table from its
            last entry.
        span: (noisy, quiet): the times between which to run, None for the process's own ends. A run
            ends on clean data, with the x̂0 of its last evaluation, unless ``span`` says otherwise.
        n: number of samples, if neither ``start`` nor a list of seeds is given; by default as many
            as the model has rows of conditioning (``model.given(..., per_sample=...)``), else 1.
        start: the states to start from, at the first level, (n, *shape) or, where that is more, (n,
            *state_shape); by default drawn from the process's prior. Or the :class:`Solution` of a
            run that ``callback`` stopped: it goes on, with what the solver remembers and the seed
            it had, to the bit as if never stopped. What says how to run (``solver`` to ``span``,
            ``first``) is left out, or said again as it was; ``nfe`` and ``grid`` of the new
            solution are those of its part. From another state it goes on if ``start.x`` is changed.
        seed: sample i's start and noise depend on (seed, i) alone, the noise of a step on the time
            it begins at as well. A sequence has a seed for each sample, whose start and noise are
            what that seed gives its sample 0. None draws a seed, see ``Solution.seed``.
        first: the number i of the first sample, to continue or split a larger run.
        noise: None for noise fresh at each step; "brownian" for increments of one path, the same
            for runs of any number of steps, so that they end near each other; or the caller's own,
            ``noise(k)`` or ``noise[k]`` being the k-th draw of the run, in the states' shape.
        keep: "path", "x0", or both in a tuple: what the solution keeps.
        callback: called with a :class:`State` after each step, of an adaptive solver after each
            that it accepts; whatever it returns that is true ends the run there.
        progress: show a progress bar (tqdm) over evaluations.
        device: where to start if the network has no parameters to say so.
        differentiable: keep the graph, so that gradients reach ``start``, the conditioning and
            the network's parameters.
        memory: of a differentiable run: "checkpoint" keeps its states alone and asks the network
            again on the way back, for the same gradients to the bit; "constant" keeps nothing, by
            the reversible leapfrog, whose method and levels are its own. None keeps everything.
        parallel: True, or a :class:`~flowsolve.Parallel`: all steps at once, until they agree to a
            tolerance: more evaluations in fewer, larger calls, for a device a batch leaves idle.
        **options: options of the solver, such as ``eta`` or ``rtol``.

    Returns:
        The :class:`Solution`, whose ``x`` are the samples, (n, *shape).

    Raises:
        TypeError, ValueError: naming the argument that does not fit, and what was expected.
        BudgetExceeded: an adaptive solver reached ``nfe``; it has the state and level reached.
        NonFiniteError: the network returned NaN or Inf; it has the state and the level.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> solution = flowsolve.solve(model, solver="heun", nfe=9, n=4, seed=0, keep="path")
        >>> solution.x.shape, solution.nfe, solution.path.shape
        (torch.Size([4, 2]), 9, torch.Size([6, 4, 2]))
    """
    own = {"grid": grid, "noise": noise, "keep": keep, "callback": callback, **options}
    own |= {"solver": said(solver), "progress": progress or None}
    own |= {"span": None if span == (None, None) else span}
    check_memory(memory, differentiable, own)
    rest = None
    if isinstance(start, Solution):
        how = (said(solver), nfe, grid, span, options)
        run, (_, rest, first) = check_rest(model, start, first, *how)
        seed, start = start.seed if seed is None else seed, start.x
    else:
        how = (model.process, solver, nfe, grid, span, options)
        run = checks.check_layout(
            *how, arguments=_arguments(solve, sample), about=_about(model, start)
        )
    seed = check_seeds(seed)
    drawn = start is None or (not starts.own(noise) and (run.plan is None or run.plan.draws > 0))
    used = seed if drawn else None
    if start is not None:
        start = check_state(model, "start", start, model.shape and model.state_shape)
        n = len(start)
    n = _count(model, n, seed, first)
    model = checks.check_rows(model.in_run(), first, n)
    x = started(model, run.levels[0], n, used, first, device) if start is None else start
    if memory == "constant":
        return constant(model, x, DEFAULT_NFE if nfe is None else nfe, used)
    if memory == "checkpoint":
        model = Checkpointed.of(model, {})
    kept = frozenset([keep] if isinstance(keep, str) else keep or ())
    draw = draws(noise, x, used, first, run.plan and run.plan.program, run.levels[0])
    if parallel:
        alone = {"keep": keep, "callback": callback, "progress": progress, "memory": memory}
        alone |= {"differentiable": differentiable, "start": rest and "a Solution"}
        plan = check_parallel(model, run.plan, n, alone)
        how = (Parallel() if parallel is True else parallel, x, draw, used)
        solution = in_parallel(model, plan, *how)
    else:
        how = (kept, callback, progress, differentiable, first, rest)
        solution = integrate(model, run, x, nfe, draw, used, *how)
    plain = said(solver) is None and grid is None and span[1] is None and rest is None
    if plain and model.data_scale is None and model.process.scalar and not solution.stopped:
        check_scale(solution.x, solution.nfe)
    return solution


def _about(model: Denoiser, start: Any) -> About:
    """What is known of the data."""
    if model.shape is None and isinstance(start, Tensor):
        return model.about._replace(size=math.prod(start.shape[1:]))
    return model.about


def said(solver: Any) -> Any:
    """The solver, None if it is the default."""
    return None if isinstance(solver, str) and solver == DEFAULT_SOLVER else solver


@functools.cache
def _arguments(*functions: Callable[..., Any]) -> tuple[str, ...]:
    """What functions have besides options."""
    names = [name for each in functions for name in inspect.signature(each).parameters]
    return tuple(dict.fromkeys(n for n in names if n not in ("arguments", "options")))


@checked
def sample(
    model: Denoiser,
    *,
    n: Samples | None = None,
    batch_size: Count | None = None,
    seed: Annotated[Seed | None, Later("noise.check_seeds")] = None,
    first: Number = 0,
    **arguments: Any,
) -> Float[Tensor, "n *shape"]:
    """``n`` samples from ``model``: the ``x`` of :func:`solve`, whose arguments it takes.

    Args:
        batch_size: run at most this many samples at a time; the noise of each sample is the same
            whatever it is.

    Returns:
        (n, *shape), in the data's units, float32 at least.

    Raises:
        TypeError, ValueError, BudgetExceeded, NonFiniteError: as :func:`solve`.

    Examples:
        >>> model = flowsolve.digits()
        >>> flowsolve.sample(model, solver="ddim", nfe=10, n=4, seed=0).shape
        torch.Size([4, 1, 8, 8])
    """
    if batch_size is None:
        return solve(model, n=n, seed=seed, first=first, **arguments).x
    for name in ("start", "noise"):
        value = arguments.get(name)
        if value is not None and not (name == "noise" and isinstance(value, str)):
            raise ValueError(
                f"{name} and batch_size cannot be combined: split {name} yourself and call once "
                "for each part"
            )
    seed = check_seeds(seed)
    n = _count(model, n, seed, first)
    if model.per_sample is None:
        conditions.check_known(model.conditioning, first, n, f"batch_size={batch_size}")
        model = model.given(per_sample=[])
    parts = [(i, min(i + batch_size, n)) for i in range(0, n, batch_size)]
    seeds = [seed if isinstance(seed, int) else seed[i:j] for i, j in parts]
    return torch.cat(
        [
            solve(model, n=j - i, seed=own, first=first + i, **arguments).x
            for (i, j), own in zip(parts, seeds, strict=True)
        ]
    )


def _count(model: Denoiser, n: int | None, seed: Seed, first: int) -> int:
    """How many samples a call is for."""
    if isinstance(seed, int):
        return checks.samples_of(model, first) if n is None else n
    if n is not None and len(seed) != n:
        raise ValueError(
            f"seed has {len(seed)} numbers; expected an integer, or one for each of the {n} samples"
        )
    return len(seed)


def started(
    model: Denoiser, level: Level, n: int, seed: Seed | None, first: int, device: Device | None
) -> Float[Tensor, "n *state"]:
    """The starts of samples first, ..., first + n - 1 on ``level``, drawn from the prior there."""
    assert seed is not None
    place = checks.check_device(device) if device is not None else model.device
    return model.process.prior(level) @ normal(
        seed, range(first, first + n), 0, model.state_shape, model.state_dtype, place
    )
