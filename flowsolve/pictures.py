"""Samples as files: a sheet of small pictures, a tensor; each written under a temporary name and
then put in place."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .checked import Count, checked
from .errors import refused
from .output import unwritable, write

#: A tile is at least this wide and high, in pixels, so that an 8×8 digit can be read.
TILE = 64
GAP = 2

#: What :func:`save_tensor` can write.
TENSORS = (".pt", ".npy", ".npz")


def depictable(shape: Sequence[int]) -> bool:
    """True if samples of this shape are pictures: (1 or 3, height, width)."""
    return len(shape) == 3 and shape[0] in (1, 3)


@checked
def sheet(x: Tensor, *, columns: Count | None = None) -> Any:
    """``x``, (n, 1 or 3, height, width) in [−1, 1], as one picture of Pillow's, as near to a square
    as it gets.

    Small images are enlarged by a whole factor with a smooth filter: the eye reads a blurred digit
    better than its pixels.
    """
    from PIL import Image

    if not depictable(x.shape[1:]) or x.numel() == 0 or x.is_complex() or x.is_meta:
        raise ValueError(
            f"samples of shape {tuple(x.shape[1:])} are not pictures; "
            "expected (1, height, width) or (3, height, width)"
        )
    n, channels, height, width = x.shape
    columns = min(n, columns or math.ceil(math.sqrt(n)))
    mode, paper = ("L", 72) if channels == 1 else ("RGB", (72, 72, 72))
    pixels = (
        x.detach()
        .float()
        .clamp(-1.0, 1.0)
        .add(1.0)
        .mul(127.5)
        .round()
        .byte()
        .permute(0, 2, 3, 1)
        .cpu()
        .numpy()
    )
    scale = math.ceil(TILE / min(height, width))
    size = (width * scale, height * scale)
    across, down = size[0] + GAP, size[1] + GAP
    picture = Image.new(mode, (columns * across + GAP, math.ceil(n / columns) * down + GAP), paper)
    for i, image in enumerate(pixels):
        tile = Image.fromarray(image[:, :, 0] if channels == 1 else image, mode=None).resize(
            size, Image.Resampling.BICUBIC
        )
        picture.paste(tile, (GAP + i % columns * across, GAP + i // columns * down))
    return picture


@checked
def save_sheet(
    path: Path, x: Tensor, facts: Mapping[str, object], *, columns: Count | None = None
) -> None:
    """Write the sheet to ``path``; a PNG also carries ``facts`` as text. Raises ValueError for what
    is no picture, and for a path to which none can be written."""
    check_picture(path)
    from PIL.PngImagePlugin import PngInfo

    picture, options = sheet(x, columns=columns), {}
    kind = picture_formats()[path.suffix.lower()]
    if kind == "PNG":
        options["pnginfo"] = info = PngInfo()
        for key, value in facts.items():
            info.add_itxt(key, str(value))
    write(path, lambda file: picture.save(file, kind, **options))


def picture_formats() -> dict[str, str]:
    """Suffixes of the pictures Pillow can write, with its names for them."""
    from PIL import Image

    return {
        suffix: kind for suffix, kind in Image.registered_extensions().items() if kind in Image.SAVE
    }


def check(path: Path, suffixes: Iterable[str]) -> None:
    """Raise ValueError if ``path`` cannot be written or ends in none of ``suffixes``: before the
    work, not after it."""
    if path.suffix.lower() not in suffixes:
        known = ", ".join(
            s
            for s in (".png", ".jpg", ".webp", ".svg", ".pdf", ".pt", ".npy", ".npz")
            if s in suffixes
        )
        raise ValueError(f"path={str(path)!r}: expected a name ending in one of {known}")
    reason = unwritable(path)
    if reason is not None:
        raise ValueError(f"{str(path)!r} cannot be written: {reason}")


def check_picture(path: Path) -> None:
    """Raise ValueError if no picture can be written to ``path``. Some kinds Pillow writes only with
    a plug-in, or only of two colours, so it is asked to write a small one."""
    from PIL import Image

    formats = picture_formats()
    check(path, formats)
    try:
        for mode in ("L", "RGB"):
            Image.new(mode, (16, 16)).save(io.BytesIO(), formats[path.suffix.lower()])
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(
            f"{str(path)!r} cannot be written: {error}; expected .png, .jpg, ..."
        ) from None


@checked
def save_tensor(path: Path, x: Tensor) -> None:
    """Write the samples themselves: .pt for torch, .npy or .npz (under the key "samples") for
    NumPy. Raises ValueError for another suffix."""
    check(path, TENSORS)
    if x.is_meta:
        raise ValueError(refused("x", x, "numbers, which a tensor on the meta device has not"))
    x = x.detach().cpu()
    if path.suffix.lower() == ".pt":
        write(path, lambda file: torch.save(x, file))
    elif path.suffix.lower() == ".npy":
        write(path, lambda file: np.save(file, x.numpy()))
    else:
        write(path, lambda file: np.savez(file, samples=x.numpy()))
