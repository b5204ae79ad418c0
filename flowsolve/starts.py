"""What callers give to a run: states, and noise of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor

from . import network
from .checked import Must
from .denoiser import Denoiser
from .errors import refused
from .noise import Place, Seed, Stream
from .processes import Level
from .readers import Later
from .typing import Float

#: How many samples.
Samples = Annotated[int, Must(lambda v: 1 <= v <= 2**40, "a positive integer, at most 2**40")]
#: The number of a sample.
Number = Annotated[int, Must(lambda v: 0 <= v < 2**63, "an integer from 0 to 2**63 - 1")]
#: One draw, or all of them.
Noise = Annotated[
    Callable[[int], Float[Tensor, "n *state"]]
    | Sequence[Float[Tensor, "n *state"]]
    | Float[Tensor, "draws n *state"],
    Later("draws"),
]


def check_state(
    model: Denoiser, name: str, x: Any, shape: tuple[int, ...] | None, data: bool = False
) -> Tensor:
    """``x`` of shape (n, *shape), in a dtype of the model's states; of a shape of None, any that
    the process has for its states, or for ``data``. Raises TypeError or ValueError naming it
    ``name``."""
    network.check_state(name, x, model.process, shape, model.device, data)
    least = torch.float32 if model.process.scalar else torch.float64
    return x if x.dtype == torch.float64 else x.to(least)


def draws(
    noise: Noise | None,
    x: Tensor,
    seed: Seed | None,
    first: int,
    places: Sequence[Place] | None,
    begin: Level,
) -> Callable[[int], Tensor]:
    """The k-th draw of a run from ``x`` on the level ``begin``: the caller's, or of the streams of
    ``seed`` at the k-th of its ``places`` (None where they depend on the data)."""
    if noise is None:
        if seed is None:  # no start is drawn and no step draws
            return lambda k: x
        stream = Stream(seed, range(first, first + len(x)), x.shape[1:], x.dtype, x.device)
        if places is not None:
            return stream.along(places)
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
