r"""Between data: spherical interpolation of what they are encoded to.

A straight line between two states of noise leaves the sphere that all such states are near: half
way its norm is :math:`1/\sqrt2` of what it should be. The great circle stays (arXiv 2010.02502,
section 5.3),

.. math:: z_t = \frac{\sin((1 - t)\theta)}{\sin\theta}\,a + \frac{\sin(t\theta)}{\sin\theta}\,b,
          \qquad \cos\theta = \frac{\langle a, b\rangle}{|a||b|} .
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor

from . import conditioning as conditions
from .checked import Count, Fraction, checked
from .checks import AnyGrid, AnySolver
from .denoiser import Denoiser
from .encoding import check_upward, encode
from .errors import refused
from .finite import check_finite
from .readers import Later, Must
from .run import Span
from .sampling import DEFAULT_SOLVER, solve
from .starts import check_state
from .typing import Float

#: Below this sine of the angle the circle is a line, or is not known.
PARALLEL = 1e-6
#: How many points, the two ends among them.
Points = Annotated[int, Must(lambda v: 2 <= v <= 10_000, "an integer from 2 to 10000")]


@checked
def slerp(
    a: Float[Tensor, "n *state"], b: Float[Tensor, "n *state"], t: Fraction
) -> Float[Tensor, "n *state"]:
    """The point at ``t`` of the great circle from ``a`` (t = 0) to ``b`` (t = 1), of each sample by
    itself, (n, *state) in their dtype. The norm goes from that of a to that of b.

    Where the two point the same way, or opposite ways, or one is zero, it is a straight line.

    Returns:
        The point, (n, *state), in the dtype of ``a`` and ``b``.

    Raises:
        TypeError, ValueError: unless a and b are floating-point tensors of one shape.

    Examples:
        >>> flowsolve.slerp(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 0.5)
        tensor([[0.7071, 0.7071]])
    """
    if a.shape != b.shape or a.ndim < 2 or not (a.is_floating_point() and b.is_floating_point()):
        expected = f"floating-point numbers of the shape of a, {tuple(a.shape)}, (n, *state)"
        raise ValueError(refused("b", b, expected))
    if a.device != b.device or a.is_meta:
        raise ValueError(f"a is on {a.device}, b on {b.device}; expected one place, with values")
    dtype = torch.promote_types(a.dtype, b.dtype)
    x, y = (z.flatten(1).double() for z in (a, b))
    u, v = (torch.nn.functional.normalize(z, dim=1) for z in (x, y))
    # 2 atan2 keeps the digits that acos loses at small angles.
    angle = 2.0 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1))
    sine = angle.sin()
    straight = (sine < PARALLEL) | (x == 0.0).all(1) | (y == 0.0).all(1)
    sine = torch.where(straight, torch.ones_like(sine), sine)
    left = torch.where(straight, torch.full_like(sine, 1.0 - t), ((1.0 - t) * angle).sin() / sine)
    right = torch.where(straight, torch.full_like(sine, t), (t * angle).sin() / sine)
    return (left[:, None] * x + right[:, None] * y).view(a.shape).to(dtype)


@checked
def interpolate(
    model: Denoiser,
    a: Annotated[Float[Tensor, "n *shape"], Later("check_state")],
    b: Annotated[Float[Tensor, "n *shape"], Later("check_state")],
    steps: Points = 9,
    *,
    below: Annotated[
        tuple[Float[Tensor, "n *shape"], Float[Tensor, "n *shape"]] | None, Later("check_state")
    ] = None,
    encoded: bool = False,
    solver: AnySolver = DEFAULT_SOLVER,
    nfe: Count | None = None,
    grid: AnyGrid = None,
    span: Span = (None, None),
    progress: bool = False,
    differentiable: bool = False,
    **options: Any,
) -> Float[Tensor, "steps n *shape"]:
    """From ``a`` to ``b`` in ``steps`` pictures, (steps, n, *shape), both ends among them: encode
    both, go along :func:`slerp`, decode (arXiv 2010.02502, section 5.3).

    Args:
        a, b: data, (n, *shape).
        steps: how many points, 2 at least.
        below: data for two more corners, the one below a and the one below b. The result is then a
            square, (steps, steps, n, *shape), row by row: a circle along the left side and one
            along the right, and circles between those. (Columns first would give another square.)
        encoded: True if a, b and ``below`` are states of noise already, as :func:`flowsolve.encode`
            gives, (n, *state).
        solver, nfe, grid, span, progress, differentiable, options: as in :func:`flowsolve.encode`.
            Each direction costs ``nfe`` evaluations, of all the data or all the points at once.

    A conditioning with rows holds for the n samples: row i is for a[i], b[i] and all between.

    Returns:
        The pictures in order, (steps, n, *shape), or (steps, steps, n, *shape) with ``below``.

    Raises:
        TypeError, ValueError, BudgetExceeded, NonFiniteError: as :func:`flowsolve.encode`.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> a, b = model.draw(1, seed=0), model.draw(1, seed=1)
        >>> flowsolve.interpolate(model, a, b, 5, nfe=20).shape
        torch.Size([5, 1, 2])
    """
    how: dict[str, Any] = {"solver": solver, "nfe": nfe, "grid": grid, "span": span, **options}
    run: dict[str, Any] = {"progress": progress, "differentiable": differentiable}
    shape = model.shape and (model.state_shape if encoded else model.shape)
    names = ("a", "b", "below[0]", "below[1]") if below is not None else ("a", "b")
    if below is not None and not (isinstance(below, (tuple, list)) and len(below) == 2):
        raise TypeError(refused("below", below, "a pair of tensors, as a and b are"))
    corners = [
        check_state(model, name, x, shape, data=not encoded)
        for name, x in zip(names, (a, b, *(below or ())), strict=True)
    ]
    n = len(corners[0])
    for name, x in zip(names, corners, strict=True):
        if x.shape != corners[0].shape:
            raise ValueError(refused(name, x, f"the shape of a, {tuple(corners[0].shape)}"))
        check_finite(name, x)
    if model.per_sample is None:
        conditions.check_known(model.conditioning, 0, n, "interpolate")
    noisy = check_upward(model.process, solver, nfe, grid, span, options, model.about).levels[-1]

    def along(k: int, rows: int) -> Denoiser:
        """The model for k copies of its samples, or some of them."""
        return model.rows(torch.arange(rows, device="cpu").repeat(k))

    if not encoded:
        latents = encode(along(len(corners), n), torch.cat(corners), **how, **run)
        corners = list(latents.chunk(len(corners)))
    root = None
    if not model.process.scalar:  # noise is not equally strong in all directions: make it so
        root = model.process.prior(noisy)
        corners = [root.inverse() @ z for z in corners]
    ts = [k / (steps - 1) for k in range(steps)]
    if below is None:
        points = [slerp(corners[0], corners[1], t) for t in ts]
    else:
        left, right = ([slerp(corners[k], corners[k + 2], t) for t in ts] for k in (0, 1))
        points = [slerp(p, q, t) for p, q in zip(left, right, strict=True) for t in ts]
    start = torch.cat(points)
    start = start if root is None else root @ start
    x = solve(along(len(points), n), start=start, **how, **run).x
    return x.view(*[steps] * (1 if below is None else 2), n, *x.shape[1:])
