r"""From data part of the way to noise, and back: what is drawn keeps what the noise leaves of them.

A strength s from 0 to 1 is measured in flow time, :math:`u=\bar\sigma/(1+\bar\sigma)`, the share of
noise in the straight path from the data: the start is :math:`x = Ax_0 + Rz` at u = s u_max, with
u_max that of the noisiest level. A strength is the same amount of noise on every process, whatever
its own time.
"""

from __future__ import annotations

from inspect import signature
from typing import Annotated, Any

from torch import Tensor

from .checked import Count, Part, checked
from .checks import AnyGrid, AnySolver, check_layout, check_rows
from .denoiser import Denoiser
from .errors import Unsuited, refused
from .finite import check_finite
from .grids import Explicit, find_grid
from .noise import Seed, Stream, check_seeds
from .operators import combine
from .processes import FLOW_TIME, Level, Process
from .readers import Later
from .run import Layout, integrate
from .sampling import DEFAULT_SOLVER
from .starts import Number, check_state, draws
from .typing import Float


@checked
def edit(
    model: Denoiser,
    x: Annotated[Float[Tensor, "n *shape"], Later("check_state")],
    *,
    strength: Part,
    solver: AnySolver = DEFAULT_SOLVER,
    nfe: Count | None = None,
    grid: AnyGrid = None,
    seed: Annotated[Seed | None, Later("check_seeds")] = None,
    first: Number = 0,
    progress: bool = False,
    differentiable: bool = False,
    **options: Any,
) -> Float[Tensor, "n *shape"]:
    """Data like ``x``, (n, *shape): noise is added to x, and taken away by the model (SDEdit, arXiv
    2108.01073; "img2img").

    All of ``nfe`` is spent, on the levels from where the noise ends down, whatever the strength.

    Args:
        model: on a process whose A and R are numbers; perhaps one told what to make of x
            (``model.given(label=...)``).
        x: data, (n, *shape).
        strength: how much noise: 1 is all of the process's, which leaves what its noisiest level
            does, nothing on a rectified flow; small ones leave all but the details.
        solver, nfe, grid, progress, differentiable, options: as in :func:`flowsolve.solve`; the
            grid is laid from the start down. A plan, which has its own start, is refused.
        seed, first: as in :func:`flowsolve.solve`: the noise added to sample i depends on (seed, i)
            alone.

    Returns:
        The edited data, (n, *shape).

    Raises:
        TypeError, ValueError, BudgetExceeded, NonFiniteError: as :func:`flowsolve.solve`.
        Unsuited: for processes whose A and R are matrices, which have no flow time.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> flowsolve.edit(model, torch.zeros(4, 2), strength=0.3, nfe=10, seed=0).shape
        torch.Size([4, 2])
    """
    if not model.process.scalar:
        raise Unsuited(
            f"A and R of {model.process!r} are matrices, and a strength is flow time, which only "
            "numbers have",
            "a start of your own: flowsolve.solve(model, start=..., span=(t, None))",
        )
    x = check_state(model, "x", x, model.shape, data=True)
    check_finite("x", x)
    stream = stream_for(x, seed, first)
    model = check_rows(model.in_run(), first, len(x))
    if grid is not None and isinstance(find_grid(grid, model.process), Explicit):
        expected = "a grid's name or object, to be laid from the start; times have their own"
        raise ValueError(refused("grid", grid, expected))
    level = _level_of(model.process, strength)
    how = (model.process, solver, nfe, grid, (level.t, None), options)
    run = check_layout(*how, arguments=tuple(signature(edit).parameters), about=model.about)
    start = combine((run.levels[0].A, run.levels[0].R), (x, stream.numbered(0)))
    return drawn(model, run, start, nfe, stream, progress, differentiable)


def _level_of(process: Process, strength: float) -> Level:
    u, least = (FLOW_TIME.of(each) for each in (process.start, process.level(process.t_min)))
    if strength * u <= least:
        raise ValueError(
            f"strength={strength!r}: expected more than {least / u:.3g}, the noise of the quietest "
            f"level of {process!r}, which leaves x as it is"
        )
    return process.start if strength == 1.0 else process.at(FLOW_TIME, strength * u)


def stream_for(x: Tensor, seed: Seed | None, first: int) -> Stream:
    """The noise of the samples from number ``first`` on, which are like ``x``."""
    seeds, n = check_seeds(seed), len(x)
    if not isinstance(seeds, int) and len(seeds) != n:
        raise ValueError(
            f"seed has {len(seeds)} numbers; expected an integer, or one for each of the {n} "
            "samples"
        )
    return Stream(seeds, range(first, first + n), x.shape[1:], x.dtype, x.device)


def drawn(
    model: Denoiser,
    run: Layout,
    start: Tensor,
    nfe: int | None,
    stream: Stream,
    progress: bool,
    differentiable: bool = False,
) -> Tensor:
    """Where a run from ``start`` ends, with what noise it draws from ``stream``."""
    seed, first = stream.seed, stream.samples.start
    seeds = seed if isinstance(seed, int) else tuple(seed)
    draw = draws(None, start, seed, first, run.plan and run.plan.program, run.levels[0])
    how = {"progress": progress, "differentiable": differentiable, "first": first}
    return integrate(model, run, start, nfe, draw, seeds, **how).x
