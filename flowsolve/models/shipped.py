"""What the functions that give the shipped models share: labels, and networks that are loaded
once."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checks import Device, check_device
from ..denoiser import Denoiser
from .data import CLASSES
from .recipes import WEIGHTS, Recipe, network_of


def shipped(
    made: Recipe,
    label: Tensor | int | None,
    dtype: torch.dtype,
    device: Device | None,
    weights: os.PathLike[str] | str | None,
) -> Denoiser:
    """The recipe's model, with the weights of its file or of another one. Raises what
    :func:`~flowsolve.models.digits.digits` says."""
    _check_label(label, made.kind)
    place = check_device("cpu" if device is None else device)
    if weights is None:
        return made.denoiser(_loaded(made, dtype, place), label, dtype)
    net = _moved(network_of("weights", Path(weights), made), dtype, place)
    return made.denoiser(net, label, dtype)


def _moved(net: nn.Module, dtype: torch.dtype, device: torch.device) -> nn.Module:
    with torch.inference_mode(False):
        return net.to(device=device, dtype=dtype)


@lru_cache
def _loaded(made: Recipe, dtype: torch.dtype, device: torch.device) -> nn.Module:
    return _moved(network_of("weights", WEIGHTS.with_name(made.file), made), dtype, device)


def _check_label(label: Tensor | int | None, kind: str) -> None:
    if isinstance(label, Tensor):
        if (
            label.is_floating_point()
            or label.is_complex()
            or label.is_meta
            or label.dtype == torch.bool
            or label.ndim > 1
        ):
            raise TypeError(
                f"label is a tensor of {label.dtype}, shape {tuple(label.shape)}; "
                "expected integers, shape (n,)"
            )
        if label.numel() and not 0 <= int(label.min()) <= int(label.max()) < CLASSES:
            raise ValueError(
                f"label has values from {int(label.min())} to {int(label.max())}; "
                f"expected a {kind} 0 to {CLASSES - 1} for each sample"
            )
    elif label is not None and not 0 <= label < CLASSES:
        raise ValueError(f"label={label!r}: expected a {kind} 0 to {CLASSES - 1}, or None for any")
