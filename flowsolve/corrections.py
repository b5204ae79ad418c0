"""Corrections of x̂0, for :class:`~flowsolve.Denoiser`'s ``correct_x0``."""

from __future__ import annotations

import math
from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from .checked import Must, Part, Positive, checked
from .denoiser import Correction
from .processes import Level
from .typing import Float

#: A bound, infinite for none.
Bound = Annotated[float, Must(lambda v: v > 0.0, "a positive number, or inf", infinite=True)]
#: The most numbers that torch.quantile takes.
LONGEST = 2**24


@checked
def clip(low: float = -1.0, high: float = 1.0) -> Correction:
    """``correct_x0`` that clamps every estimate to [low, high], as DDPM's sampler does (arXiv
    2006.11239).

    Returns:
        A function (x̂0, level) → x̂0, both (n, *shape).

    Raises:
        ValueError: unless low < high.

    Examples:
        >>> correct = flowsolve.clip()
        >>> correct(torch.tensor([-3.0, 0.5]), flowsolve.VP().clean)
        tensor([-1.0000,  0.5000])
        >>> model = flowsolve.Denoiser(lambda x, t: x, flowsolve.VP(), correct_x0=correct)
    """
    if not low < high:
        raise ValueError(f"expected low < high, got low={low!r}, high={high!r}")
    return partial(_clamp, low, high)


@checked
def dynamic_threshold(
    quantile: Part = 0.995, least: Positive = 1.0, most: Bound = math.inf
) -> Correction:
    """``correct_x0`` that clamps to the sample's own quantile of |x̂0|, ``least`` at least and
    ``most`` at most, and rescales to [−1, 1] (Imagen, arXiv 2205.11487).

    Returns:
        A function (x̂0, level) → x̂0, both (n, *shape).

    Raises:
        ValueError: for a quantile outside (0, 1], a ``least`` that is not positive, and a ``most``
            below it.

    Examples:
        >>> correct = flowsolve.dynamic_threshold(quantile=0.5)
        >>> correct(torch.tensor([[-4.0, 2.0, 1.0]]), flowsolve.VP().clean)
        tensor([[-1.0000,  1.0000,  0.5000]])
    """
    if most < least:
        raise ValueError(f"most={most!r}: expected at least least={least!r}")
    return partial(_rescale, quantile, least, most)


# Functions of the module, so that a denoiser with a correction can be pickled.


def _clamp(
    low: float, high: float, x0: Float[Tensor, "n *state"], level: Level
) -> Float[Tensor, "n *state"]:
    most = torch.finfo(x0.dtype).max  # beyond it there is nothing to clamp
    return x0.clamp(max(low, -most), min(high, most))


def _rescale(
    quantile: float, least: float, most: float, x0: Float[Tensor, "n *state"], level: Level
) -> Float[Tensor, "n *state"]:
    largest = torch.finfo(x0.dtype).max
    low, high = min(least, largest), min(most, largest)
    size = _quantile(x0.abs().flatten(1), quantile).clamp(low, high)
    size = size.view(-1, *[1] * (x0.ndim - 1))
    return x0.clamp(-size, size) / size


def _quantile(rows: Float[Tensor, "n k"], q: float) -> Float[Tensor, "n"]:
    """``torch.quantile(rows, q, dim=1)``, of rows of any length."""
    if rows.shape[1] <= LONGEST:
        return torch.quantile(rows, q, dim=1)
    place, ordered = q * (rows.shape[1] - 1), rows.sort(dim=1).values
    below, above = (ordered[:, int(k)] for k in (math.floor(place), math.ceil(place)))
    return torch.lerp(below, above, place - math.floor(place))
