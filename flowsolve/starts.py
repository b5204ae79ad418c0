"""What callers give to a run: states, and noise of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Protocol

import torch
from torch import Tensor

from . import network
from .brownian import Brownian
from .checked import Must
from .denoiser import Denoiser
from .errors import refused, unknown
from .noise import Place, Seed, Stream
from .processes import Level
from .readers import Later
from .typing import Float

#: How many samples.
Samples = Annotated[int, Must(lambda v: 1 <= v <= 2**40, "a positive integer, at most 2**40")]
#: The number of a sample.
Number = Annotated[int, Must(lambda v: 0 <= v < 2**63, "an integer from 0 to 2**63 - 1")]
#: A name, or one draw, or all of them.
Noise = Annotated[
    str
    | Callable[[int], Float[Tensor, "n *state"]]
    | Sequence[Float[Tensor, "n *state"]]
    | Float[Tensor, "draws n *state"],
    Later("draws"),
]


class Drawing(Protocol):
    """Where a program draws: see :class:`~flowsolve.plans.program.Program`."""

    places: Any
    intervals: Any


def check_state(
    model: Denoiser, name: str, x: Any, shape: tuple[int, ...] | None, data: bool = False
) -> Tensor:
    """``x`` of shape (n, *shape), in a dtype of the model's states; of a shape of None, any that
    the process has for its states, or for ``data``. Raises TypeError or ValueError naming it
    ``name``."""
    network.check_state(name, x, model.process, shape, model.device, data)
    least = torch.float32 if model.process.scalar else torch.float64
    return x if x.dtype == torch.float64 else x.to(least)


def own(noise: Noise | None) -> bool:
    """Whether noise is the caller's own, and no seed is needed. Raises ValueError for a name that
    is none."""
    if isinstance(noise, str) and noise != "brownian":
        raise ValueError(unknown("noise", noise, ("brownian",)))
    return noise is not None and not isinstance(noise, str)


def check_brownian(program: Drawing | None, begin: Level) -> None:
    """Raise ValueError unless there is a path to be drawn from."""
    if program is None:
        raise ValueError(
            "noise='brownian': the steps of this solver depend on the data; expected a fixed-step "
            "one, such as 'dpmpp2m_sde'"
        )
    if not begin.scalar:
        raise ValueError(
            "noise='brownian': the path's clock is σ̄, and here A and R are matrices; expected a "
            "process of numbers, such as flowsolve.VP(), or noise=None"
        )


def _path(path: Brownian, program: Drawing, white: Callable[[int], Tensor]) -> Any:
    """The draws of a program from a path; where it has been before, or goes up, white ones."""

    def draw(k: int) -> Tensor:
        interval = program.intervals[k]
        z = None if interval is None else path.between(*interval)
        return white(k) if z is None else z

    return draw


def draws(
    noise: Noise | None,
    x: Tensor,
    seed: Seed | None,
    first: int,
    program: Drawing | None,
    begin: Level,
) -> Callable[[int], Tensor]:
    """The k-th draw of a run from ``x`` on the level ``begin``: the caller's, or of the streams of
    ``seed``, or of a Brownian path, where the ``program`` draws it (None where that depends on the
    data)."""
    if not own(noise) and noise is not None:
        check_brownian(program, begin)
    if noise is None or isinstance(noise, str):
        if seed is None:  # no start is drawn and no step draws
            return lambda k: x
        stream = Stream(seed, range(first, first + len(x)), x.shape[1:], x.dtype, x.device)
        if program is not None:
            along = stream.along(program.places)
            return along if noise is None else _path(Brownian(stream), program, along)
        # Where the steps are depends on the data: all the draws have their place at the beginning.
        return lambda k: stream.at(Place(begin.t, k))
    several = isinstance(noise, (list, tuple)) and all(isinstance(z, Tensor) for z in noise)
    if not (callable(noise) or isinstance(noise, Tensor) or several):
        raise TypeError(refused("noise", noise, "a function of the draw's number, or the draws"))

    def draw(k: int) -> Tensor:
        try:
            z = noise(k) if callable(noise) else noise[k]
        except IndexError:
            raise ValueError(
                f"noise has no draw number {k}; this run needs one for each of its stochastic steps"
            ) from None
        network.check_like(f"noise: draw {k} has", z, x)
        return z.to(x)

    return draw
