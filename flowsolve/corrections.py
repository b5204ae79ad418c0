"""Corrections of x̂0, for :class:`~flowsolve.Denoiser`'s ``correct_x0``."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from .denoiser import Correction
from .processes import Level
from .typing import Float


def clip(low: float = -1.0, high: float = 1.0) -> Correction:
    """``correct_x0`` that clamps every estimate to [low, high], as DDPM's sampler does."""
    if not low < high:
        raise ValueError(f"expected low < high, got low={low!r}, high={high!r}")
    return partial(_clamp, low, high)


def dynamic_threshold(quantile: float = 0.995, least: float = 1.0) -> Correction:
    """``correct_x0`` that clamps to the sample's own quantile of |x̂0| and rescales to [−1, 1]
    (Imagen, arXiv 2205.11487)."""
    if not 0.0 < quantile <= 1.0:
        raise ValueError(f"quantile={quantile!r}: expected a number in (0, 1]")
    return partial(_rescale, quantile, least)


# Functions of the module, so that a denoiser with a correction can be pickled.


def _clamp(
    low: float, high: float, x0: Float[Tensor, "n *state"], level: Level
) -> Float[Tensor, "n *state"]:
    return x0.clamp(low, high)


def _rescale(
    quantile: float, least: float, x0: Float[Tensor, "n *state"], level: Level
) -> Float[Tensor, "n *state"]:
    size = torch.quantile(x0.abs().flatten(1), quantile, dim=1).clamp(min=least)
    size = size.view(-1, *[1] * (x0.ndim - 1))
    return x0.clamp(-size, size) / size
