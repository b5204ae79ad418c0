"""The data that a command works on: held-out digits, or the user's own numbers."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .model import shipped
from .options import Usage

if TYPE_CHECKING:
    from torch import Tensor

    from ..denoiser import Denoiser


def add_data(add: Callable[..., Any]) -> None:
    """The argument that :func:`load_data` reads."""
    add(
        "--data",
        type=Path,
        metavar="FILE",
        help="the data as numbers, (n, *shape): .pt, .npy or .npz, as --save-tensor writes them "
        "(default: held-out digits, those of --label if it is given)",
    )


def load_data(arguments: argparse.Namespace, model: Denoiser, n: int | None) -> Tensor:
    """The first ``n`` samples of the data (None: all), on the model's device. Raises Usage for
    files that are no data of the model."""
    found, what = _found(arguments)
    if found.shape[1:] != model.data_shape or not found.is_floating_point():
        raise Usage(
            f"{what}: {found.dtype} of shape {tuple(found.shape)}; expected floating-point numbers "
            f"of shape (n, {', '.join(map(str, model.data_shape))}), as the model has"
        )
    n = len(found) if n is None else n
    if len(found) < n or not n:
        raise Usage(f"{what}: there are {len(found)} samples; expected {max(n, 1)} or more")
    return found[:n].to(model.device or "cpu")


def _found(arguments: argparse.Namespace) -> tuple[Tensor, str]:
    if arguments.data is not None:
        from .. import pictures

        try:
            return pictures.load_tensor(arguments.data), f"--data {str(arguments.data)!r}"
        except (FileNotFoundError, ValueError) as error:
            raise Usage(f"--data: {error}") from error
    if shipped(arguments) != "digits":
        raise Usage("--data: expected a file of numbers, since --model is not of digits")
    from ..models.data import data

    split, label = data(), arguments.label
    which = split.held_out_labels == label if label is not None else slice(None)
    of = "" if label is None else f" of the digit {label}"
    return split.held_out[which], f"held-out digits{of}"
