r"""Completions of data of which a part is known.

As a posterior (:mod:`flowsolve.posteriors`) the known entries are a measurement with a little
noise. RePaint (arXiv 2201.09865, algorithm 1) puts them in at each level, with the noise of the
level, beside what DDPM's step says of the rest, and goes back up and down again several times, to
harmonise the two: without that, known entries and the rest hardly hear of each other.
"""

from __future__ import annotations

from contextlib import nullcontext
from inspect import signature
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from .checked import Count, checked
from .checks import AnyGrid, AnySolver, check_layout, check_rows
from .denoiser import Denoiser
from .editing import drawn, stream_for
from .errors import Unsuited, refused
from .finite import check_finite, finite, non_finite
from .measurements import NoiseLevel
from .noise import Place, Seed, Stream
from .operators import combine
from .posteriors import posterior
from .processes import Level
from .readers import Later
from .run import progress_bar
from .sampling import DEFAULT_SOLVER
from .starts import Number, check_state
from .typing import Bool, Float

#: σ_y of known entries, unless the caller says otherwise, and RePaint's iterations.
NOISE, ITERATIONS = 0.01, 5


@checked
def inpaint(
    model: Denoiser,
    x: Annotated[Float[Tensor, "n *shape"], Later("check_state")],
    mask: Bool[Tensor, "*shape"],
    *,
    method: Literal["mmps", "pgdm", "repaint"] = "mmps",
    noise: NoiseLevel | None = None,
    solver: AnySolver = DEFAULT_SOLVER,
    nfe: Count | None = None,
    grid: AnyGrid = None,
    seed: Annotated[Seed | None, Later("check_seeds")] = None,
    first: Number = 0,
    iterations: Count | None = None,
    progress: bool = False,
    **options: Any,
) -> Float[Tensor, "n *shape"]:
    """Completions of ``x``, (n, *shape), of which only what ``mask`` marks is known.

    With "mmps" and "pgdm" a completion is a sample of :func:`flowsolve.posterior`, also where x is
    known: there it differs from x by about ``noise``. With "repaint" (arXiv 2201.09865) the known
    entries are x's to the bit.

    Args:
        model: on a process whose A and R are numbers.
        x: data, (n, *shape), a completion of each; what is not known may be anything finite.
            Several completions of one: ``x.expand(n, ...)``.
        mask: truth values in a sample's shape, True where x is known.
        method: "mmps", "pgdm" (see :func:`flowsolve.posterior`), or "repaint".
        noise: the standard deviation of the noise in what is known (default 0.01); not for
            "repaint", which takes it for exact.
        solver, nfe, grid, seed, first, progress, options: as in :func:`flowsolve.solve`. "repaint"
            is a rule of its own, without solver or options, and makes every step but the last
            ``iterations`` times: (steps − 1) · iterations + 1 evaluations, at most ``nfe``.
        iterations: of "repaint" (default 5).

    Returns:
        The completions, (n, *shape).

    Raises:
        TypeError, ValueError, BudgetExceeded, NonFiniteError: as :func:`flowsolve.posterior` and
            :func:`flowsolve.solve`.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> x, known = torch.tensor([[0.5, 0.0]]).expand(8, 2), torch.tensor([True, False])
        >>> filled = flowsolve.inpaint(model, x, known, method="repaint", nfe=46, seed=0)
        >>> filled.shape, bool((filled[:, 0] == 0.5).all())
        (torch.Size([8, 2]), True)
    """
    if not model.process.scalar:
        raise Unsuited(
            f"A and R of {model.process!r} are matrices, and inpainting is derived for numbers",
            "a process of numbers, such as flowsolve.VP()",
        )
    x = check_state(model, "x", x, model.shape, data=True)
    check_finite("x, also where it is not known,", x)
    there = mask.dtype == torch.bool and not mask.is_meta
    if not there or tuple(mask.shape) != tuple(x.shape[1:]) or not bool(mask.any()):
        expected = f"truth values of shape {tuple(x.shape[1:])}, True somewhere"
        raise ValueError(refused("mask", mask, expected))
    mask, stream = mask.to(x.device), stream_for(x, seed, first)
    model = check_rows(model.in_run(), first, len(x))
    if method == "repaint":
        for name, value in {"noise": noise, "solver": solver, **options}.items():
            if value is not None and value != DEFAULT_SOLVER:
                raise ValueError(
                    f"{name}={value!r} cannot be given with method='repaint', which has steps of "
                    "its own and takes what is known for exact"
                )
        times = ITERATIONS if iterations is None else iterations
        return _repaint(model, x, mask, nfe, times, grid, stream, progress)
    if iterations is not None:
        raise ValueError(f"iterations={iterations!r}: expected None unless method='repaint'")
    how = (model.process, solver, nfe, grid, (None, None), options)
    run = check_layout(*how, arguments=tuple(signature(inpaint).parameters), about=model.about)
    sigma = NOISE if noise is None else noise
    given = posterior(model, x[:, mask], mask, noise=sigma, method=method)
    start = model.process.prior(run.levels[0]) @ stream.numbered(0)
    return drawn(given, run, start, nfe, stream, progress)


@torch.no_grad()
def _repaint(
    model: Denoiser,
    x: Tensor,
    mask: Tensor,
    nfe: int | None,
    iterations: int,
    grid: Any,
    stream: Stream,
    progress: bool,
) -> Tensor:
    steps = None if nfe is None else (nfe - 1) // iterations + 1
    layout = check_layout(model.process, "ddpm", steps, grid, (None, None), {})
    *levels, end = layout.levels
    if not end.clean:
        raise ValueError(f"grid={grid!r} ends at {end}; expected one down to clean data")
    asked: list[Level] = []
    state = model.process.prior(levels[0]) @ stream.numbered(0)
    bar = progress_bar(progress, (len(levels) - 1) * iterations + 1)

    def estimates(state: Tensor, s: Level) -> list[Tensor]:
        both = (state, model.evaluate(state, s))
        asked.append(s)
        if bar is not None:
            bar.update()
        if not finite(both[1]):
            raise non_finite(both[1], asked)
        return [combine(pair, both) for pair in model.linear(s)]

    with bar or nullcontext():
        for s, t in pairwise(levels):
            q = model.process.bridge(s, t, 1.0)
            fresh, carry = t.R.excess(q), s.A @ t.A.inverse()
            again = s.R.excess(carry @ t.R)
            for k in range(iterations):
                z = [stream.at(Place(s.t, 3 * k + j)) for j in range(3)]
                drawn = combine((t.A, q, fresh), (*estimates(state, s), z[0]))
                below = torch.where(mask, combine((t.A, t.R), (x, z[1])), drawn)
                last = k == iterations - 1
                state = below if last else combine((carry, again), (below, z[2]))
        return torch.where(mask, x, estimates(state, levels[-1])[0])
