"""What is known of the data and of the network before a run, on which "auto" depends."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .errors import warn


class About(NamedTuple):
    """What is known.

    Attributes:
        size: how many numbers a sample's state has.
        scale: the standard deviation of one of them.
        predicts: what the network predicts, a
            :class:`~flowsolve.parametrizations.Parametrization`.
        jumps: whether its answers jump on the way, as guidance between two levels makes them.
    """

    size: int | None = None
    scale: float | None = None
    predicts: Any = None
    jumps: bool = False


NOTHING = About()

#: Variances of an entry of the data within which "auto" needs no scale, and the fewest samples,
#: numbers and evaluations that show another. (One evaluation gives the mean, of no variance.)
USUAL = (0.1, 1.5)
SAMPLES, NUMBERS, EVALUATIONS = 8, 64, 5


def check_scale(x: Tensor, nfe: int) -> None:
    """Warn if clean samples ``x``, of ``nfe`` evaluations, are of another scale than "auto" takes
    data to have."""
    if len(x) < SAMPLES or x.numel() < NUMBERS or nfe < EVALUATIONS:
        return
    flat = x.detach().float().flatten(1)
    try:
        variance, usual = torch.stack([flat.var(), flat.square().mean(1).median()]).tolist()
    except RuntimeError as error:
        if "vmap" in str(error):  # there are no numbers to look at inside torch.func.vmap
            return
        raise
    few = variance > 10.0 * usual  # which blew up: that is not the scale of the data
    if not (few or USUAL[0] <= variance <= USUAL[1]):
        scale = f"{variance**0.5:.1g}"
        warn(
            f"entries of the samples have a standard deviation of about {scale}, and solver='auto' "
            f"chose its levels for data between {USUAL[0] ** 0.5:.1f} and {USUAL[1] ** 0.5:.1f}; "
            f"expected Denoiser(..., data_scale={scale})"
        )
