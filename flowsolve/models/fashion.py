"""The shipped model of clothes: Fashion-MNIST, 28×28, class-conditional, on a rectified flow.

    model = fashion(label=8)                             # bags
    x = flowsolve.sample(model, nfe=20, n=16, seed=0)    # (16, 1, 28, 28), values in [−1, 1]

FASHION.md beside this file is its model card; :func:`train_fashion` trains it again.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from ..checked import Count, OneSeed, Positive, checked
from ..checks import Device
from ..denoiser import Denoiser
from ..network import Floating
from ..typing import Int
from .data import CLASSES
from .files import images_of
from .recipes import FASHION
from .shipped import shipped
from .training import train_again

__all__ = ["NAMES", "fashion", "train_fashion"]

#: What the classes are.
NAMES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


@checked
def fashion(
    label: Int[Tensor, "*n"] | int | None = None,
    *,
    dtype: Floating = torch.float32,
    device: Device | None = None,
    weights: os.PathLike[str] | str | None = None,
) -> Denoiser:
    """The shipped model of clothes: a :class:`~flowsolve.Denoiser` on
    :class:`~flowsolve.RectifiedFlow` that predicts the velocity.

    Args:
        label: the class: None for any (the null class, what the model learnt of all of them), an
            integer 0 … 9 (:data:`NAMES`), or an integer tensor (n,) with one for each sample.
            ``model.given(label=...)`` changes it.
        dtype, device: as in :func:`~flowsolve.models.digits.digits`.
        weights: another file of weights, such as one :func:`train_fashion` wrote.

    Returns:
        The model, of samples (1, 28, 28) in [−1, 1].

    Raises:
        ImportError: without safetensors.
        FileNotFoundError: if there is no file ``weights``.
        TypeError, ValueError: for a label that is no class, a dtype or device that cannot be, and
            weights that are damaged or of another one's network.

    Examples:
        >>> model = flowsolve.fashion(label=torch.tensor([8, 5]))  # a bag, a sandal
        >>> flowsolve.sample(model, nfe=4, seed=0).shape
        torch.Size([2, 1, 28, 28])
    """
    return shipped(FASHION, label, dtype, device, weights)


@checked
def train_fashion(
    data: os.PathLike[str] | str,
    out: os.PathLike[str] | str,
    *,
    seconds: Positive | None = None,
    steps: Count | None = None,
    seed: OneSeed = 0,
    resume: bool = True,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a model as the shipped one was, on images of 28×28 in ten classes: about an hour of one
    core's time.

    Args:
        data: a file or folder that :func:`~flowsolve.models.files.read_images` reads. The shipped
            one's is train-images-idx3-ubyte.gz of Debian's package dataset-fashion-mnist.
        out: a folder, made if need be: ``checkpoint.pt``, from which an interrupted run goes on,
            and ``fashion.safetensors``.
        seconds, seed, resume, progress: as in :func:`~flowsolve.models.digits.train_digits`.
        steps: end after this many steps of 64 images, if ``seconds`` is not given either 9,000.

    Returns:
        As :func:`~flowsolve.models.digits.train_digits`.

    Raises:
        ImportError: without safetensors or, for the bar, tqdm.
        FileNotFoundError: if there is nothing at ``data``.
        ValueError: for ``data`` that cannot be read or are other images, and for a folder and a
            checkpoint as in :func:`~flowsolve.models.digits.train_digits`.

    Examples:
        >>> import numpy as np
        >>> from flowsolve.models import fashion
        >>> rng = np.random.default_rng(0)
        >>> images = rng.integers(0, 256, (100, 28, 28), np.uint8)
        >>> np.savez("set.npz", images=images, labels=np.arange(100) % 10)
        >>> trained = fashion.train_fashion("set.npz", "out", steps=1, progress=False)
        >>> trained["steps"]
        1
    """
    x, labels = images_of("data", data)
    if x.shape[1:] != FASHION.shape or int(labels.max()) >= CLASSES:
        raise ValueError(
            f"data={str(data)!r} has images {tuple(x.shape[1:])} in classes up to "
            f"{int(labels.max())}; expected {FASHION.shape} in classes 0 to {CLASSES - 1}"
        )
    return train_again(
        FASHION,
        x,
        labels,
        out,
        seconds=seconds,
        steps=steps,
        seed=seed,
        resume=resume,
        progress=progress,
    )
