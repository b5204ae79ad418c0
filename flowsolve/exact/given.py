"""What exact denoisers are given: numbers of a law as float64 tensors, and states."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import refused, shown
from ..operators import Rows
from ..processes import Level, Process

#: Numbers beyond this have squares that are none.
LARGEST = 1e100


def numbers_of(name: str, value: Any) -> Tensor:
    """The argument ``name`` of a law in float64: where it is if it is a tensor, else on the CPU,
    whatever torch's defaults.

    Raises:
        TypeError: for what is no real numbers.
        ValueError: for numbers that are not finite.
    """
    expected = "finite numbers, a tensor or nested lists of them"
    given = value if isinstance(value, Tensor) else None
    try:
        with torch.inference_mode(False):  # the law may be asked for gradients later
            if given is None:
                array = np.asarray(value)
                real = array.dtype.kind in "iuf"
                out = torch.tensor(array.astype(np.float64) if real else [], device="cpu")
            else:
                real = not (given.is_complex() or given.dtype == torch.bool or given.is_meta)
                out = given.to(torch.float64) if real else torch.empty(0, device="cpu")
                out = out.clone() if out.is_inference() else out
    except (TypeError, ValueError, RuntimeError, OverflowError):
        real, out = False, torch.empty(0, device="cpu")
    if not real:
        raise TypeError(refused(name, value, expected))
    if not (out.abs() <= LARGEST).all():
        raise ValueError(refused(name, value, expected))
    return out


def check_states(x: Any, shape: tuple[int, ...]) -> None:
    """Raise TypeError or ValueError unless ``x`` is finite states (n, *shape)."""
    expected = f"a tensor of finite floating-point numbers, (n, {', '.join(map(str, shape))})"
    there = isinstance(x, Tensor) and x.layout is torch.strided and not x.is_meta
    if not there or not x.is_floating_point():
        raise TypeError(refused("x", x, expected))
    if tuple(x.shape[1:]) != shape or not x.numel() or not torch.isfinite(x).all():
        raise ValueError(refused("x", x, expected))


def level_of(process: Process, level: Any, name: str = "level") -> Level:
    """The level, or the one at a time. Raises TypeError or ValueError for what is none of
    ``process``."""
    if not isinstance(level, Level):
        return process.level(level)
    like = process.start.R
    fits = (
        isinstance(level.R, Rows)
        if process.scalar and isinstance(level.R, Rows)
        else (type(level.R) is type(like) and level.R.entries.shape == like.entries.shape)
    )
    if not fits:
        raise ValueError(f"{name}={shown(level)}: expected a level of {process!r}, or a time")
    return level
