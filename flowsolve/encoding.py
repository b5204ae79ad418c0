"""Data to noise, and back: the probability-flow ODE run upward, and down on the same levels."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Annotated, Any, Literal, NamedTuple, overload

from torch import Tensor

from .about import NOTHING, About
from .checked import Count, checked
from .checks import AnyGrid, AnySolver, check_layout, check_rows
from .denoiser import Denoiser
from .grids import Grid
from .latents import Latent
from .plans import Plan
from .processes import Process
from .readers import Later
from .run import Layout, Span, integrate
from .sampling import DEFAULT_NFE, DEFAULT_SOLVER, said, solve
from .solvers import Solver
from .starts import check_state
from .typing import Float


@overload
def encode(
    model: Denoiser,
    x: Float[Tensor, "n *shape"],
    *,
    nfe: int | None = None,
    exact: Literal[True],
) -> Latent: ...
@overload
def encode(
    model: Denoiser,
    x: Float[Tensor, "n *shape"],
    *,
    solver: Solver | Plan | str = DEFAULT_SOLVER,
    nfe: int | None = None,
    grid: Grid | str | Sequence[float] | None = None,
    span: Span = (None, None),
    exact: Literal[False] = False,
    progress: bool = False,
    differentiable: bool = False,
    **options: Any,
) -> Float[Tensor, "n *state"]: ...
@checked
def encode(
    model: Denoiser,
    x: Annotated[Float[Tensor, "n *shape"], Later("check_state")],
    *,
    solver: AnySolver = DEFAULT_SOLVER,
    nfe: Count | None = None,
    grid: AnyGrid = None,
    span: Span = (None, None),
    exact: bool = False,
    progress: bool = False,
    differentiable: bool = False,
    **options: Any,
) -> Float[Tensor, "n *state"] | Latent:
    """The noise that the ODE carries to ``x``: x0 → x_T (arXiv 2010.02502, section 5.4).

    The levels are those on which ``sample`` with the same solver, budget and grid asks, from the
    quiet end to the noisy one, for as many evaluations. The first is spent where the data end,
    x_q = A_q x0 + R_q ε̂(A_q x0, q) at the quietest noisy level q; the others go up from there.
    (Methods that choose their own steps spend two, see :mod:`flowsolve.solvers.ends`.)
    ``flowsolve.solve(model, start=encode(model, x, ...), ...)`` brings x back, up to the error of
    the solver. A ``span`` that ends on a noisy level takes x for a state there.

    Args:
        x: data, (n, *shape).
        solver, nfe, grid, span, progress, differentiable, options: as in :func:`flowsolve.solve`;
            the grid is given from noisy to quiet, as there. The solver must be deterministic.
        exact: True for the reversible leapfrog, with steps of its own, and a
            :class:`~flowsolve.Latent`, which comes back to the data without error.

    Returns:
        x_T, (n, *state), in the dtype of ``x``, float32 at least; the :class:`~flowsolve.Latent`
        with ``exact``.

    Raises:
        TypeError, ValueError, BudgetExceeded, NonFiniteError: as :func:`flowsolve.solve`.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> x0, how = model.draw(4, seed=0), {"solver": "unipc3", "nfe": 40}
        >>> noise = flowsolve.encode(model, x0, **how)
        >>> bool((flowsolve.sample(model, start=noise, **how) - x0).abs().max() < 1e-3)
        True
    """
    if exact:
        given = {"grid": grid, "span": span if span != (None, None) else None, **options}
        given |= {"solver": said(solver)}
        given |= {"differentiable": differentiable or None, "progress": progress or None}
        for name, value in given.items():
            if value is not None:
                raise ValueError(
                    f"{name}={value!r} cannot be given with exact=True, which has a method and "
                    "levels of its own; expected nfe alone"
                )
        x = check_state(model, "x", x, model.shape, data=True)
        return Latent.of(model, x, DEFAULT_NFE if nfe is None else nfe, end="data").encode(model)
    model, x = model.in_run(), check_state(model, "x", x, model.shape, data=True)
    model, x = check_rows(model, 0, len(x)), model.process.state(x)
    run = check_upward(model.process, solver, nfe, grid, span, options, model.about)

    def no_noise(k: int) -> Tensor:
        raise ValueError(f"solver={solver!r} draws noise; encoding needs a deterministic solver")

    return integrate(
        model, run, x, nfe, no_noise, None, progress=progress, differentiable=differentiable
    ).x


def check_upward(
    process: Process,
    solver: Any,
    nfe: int | None,
    grid: Any,
    span: Span,
    options: dict[str, Any],
    about: About = NOTHING,
) -> Layout:
    """The layout of a run from data to noise. Raises TypeError or ValueError naming what does not
    fit, a solver that draws noise among it."""
    arguments = (process, solver, nfe, grid, span, options)
    try:
        known = tuple(signature(encode).parameters)
        return check_layout(*arguments, upward=True, arguments=known, about=about)
    except ValueError as error:
        if not isinstance(solver, Plan) and _draws(*arguments):
            raise ValueError(
                f"solver={solver!r} draws noise; encoding needs a deterministic solver: {error}"
            ) from None
        raise


def _draws(*arguments: Any) -> bool:
    """Whether the run downward, if there is one, draws noise."""
    try:
        plan = check_layout(*arguments).plan
    except (TypeError, ValueError):
        return False
    return plan is not None and plan.draws > 0


class Reconstruction(NamedTuple):
    """Data that were encoded and decoded.

    Attributes:
        x: what came back, (n, *shape).
        latent: the noise in between, (n, *state), or the :class:`~flowsolve.Latent`.
        error: the mean square of x minus the data over the numbers of a sample, (n,), in the units
            of the data.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> x, latent, error = flowsolve.reconstruct(model, torch.zeros(4, 2), nfe=10)
        >>> x.shape, latent.shape, error.shape
        (torch.Size([4, 2]), torch.Size([4, 2]), torch.Size([4]))
    """

    x: Float[Tensor, "n *shape"]
    latent: Float[Tensor, "n *state"] | Latent
    error: Float[Tensor, "n"]


@checked
def reconstruct(
    model: Denoiser,
    x: Annotated[Float[Tensor, "n *shape"], Later("check_state")],
    *,
    solver: AnySolver = DEFAULT_SOLVER,
    nfe: Count | None = None,
    grid: AnyGrid = None,
    span: Span = (None, None),
    exact: bool = False,
    progress: bool = False,
    differentiable: bool = False,
    **options: Any,
) -> Reconstruction:
    """Encode ``x`` and decode what comes of it on the same levels: how much of the data the solver
    loses on the way there and back (arXiv 2010.02502, table 2).

    Args:
        x: data, (n, *shape).
        solver, nfe, grid, span, exact, progress, differentiable, options: as in :func:`encode`.
            ``nfe`` is spent in each direction, with ``exact`` one less on the way back.

    Returns:
        The data that came back, what was in between, and the error of each sample, (n,).

    Raises:
        TypeError, ValueError, BudgetExceeded, NonFiniteError: as :func:`encode`.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> x0 = model.draw(4, seed=0)
        >>> found = [flowsolve.reconstruct(model, x0, nfe=nfe) for nfe in (5, 10, 20)]
        >>> errors = [each.error.max() for each in found]
        >>> bool(errors[0] > errors[1] > errors[2])
        True
    """
    how: dict[str, Any] = {"solver": solver, "nfe": nfe, "grid": grid, "span": span, **options}
    how |= {"progress": progress, "differentiable": differentiable}
    latent: Any
    if exact:
        how["exact"] = True
        latent = encode(model, x, **how)
        back = latent.decode(model).x
    else:
        latent = encode(model, x, **how)
        back = solve(model, start=latent, **how).x
    error = (back.double() - x.double()).flatten(1).square().mean(1)
    return Reconstruction(back, latent, error)
