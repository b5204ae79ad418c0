"""The shipped models of handwritten digits, 8×8, class-conditional, ready to sample, one for each
of three processes.

    model = digits(label=3)                          # or digits(label=3, process="cld"), "blurring"
    x = flowsolve.sample(model, nfe=20, n=16, seed=0)  # (16, 1, 8, 8), values in [−1, 1]

DIGITS.md beside this file is its model card; :func:`train_digits` trains it again, and
:mod:`flowsolve.models.quality` measures it.
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
from .data import data
from .recipes import RECIPES, WEIGHTS, Recipe, load, recipe
from .shipped import shipped
from .training import train_again

__all__ = ["RECIPES", "WEIGHTS", "Recipe", "digits", "load", "recipe", "train_digits"]


@checked
def digits(
    label: Int[Tensor, "*n"] | int | None = None,
    *,
    process: str = "cosine",
    dtype: Floating = torch.float32,
    device: Device | None = None,
    weights: os.PathLike[str] | str | None = None,
) -> Denoiser:
    """A shipped model: a :class:`~flowsolve.Denoiser` on the cosine VP that predicts v, or one on a
    process of matrices, that predicts x0.

    Args:
        label: the digit: None for any (the null class, what the model learnt of all of them), an
            integer 0 … 9, or an integer tensor (n,) with one for each sample.
            ``model.given(label=...)`` changes it.
        process: "cosine", "cld" (critically-damped Langevin) or "blurring".
        dtype: the network's. The network is loaded once for each dtype and device and shared: copy
            it before changing it.
        device: where it is to run (default: the CPU).
        weights: another file of weights, such as one :func:`train_digits` wrote for this process.

    Returns:
        The model, of samples (1, 8, 8) in [−1, 1].

    Raises:
        ImportError: without safetensors.
        FileNotFoundError: if there is no file ``weights``.
        TypeError, ValueError: for a label that is no digit, an unknown process, a dtype or device
            that cannot be, and weights that are damaged or of another one's network.

    Examples:
        >>> model = flowsolve.digits(label=3)
        >>> flowsolve.sample(model, nfe=4, n=2, seed=0).shape
        torch.Size([2, 1, 8, 8])
    """
    return shipped(recipe(process), label, dtype, device, weights)


@checked
def train_digits(
    out: os.PathLike[str] | str,
    *,
    process: str = "cosine",
    seconds: Positive | None = None,
    steps: Count | None = None,
    seed: OneSeed = 0,
    resume: bool = True,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a model as the shipped one was: three to five minutes of one core's time.

    Args:
        out: a folder, made if need be: ``checkpoint.pt``, from which an interrupted run goes on,
            and ``digits.safetensors`` (``digits_cld.safetensors``,
            ``digits_blurring.safetensors``).
        process: as in :func:`digits`.
        seconds: end after this long, counting what earlier parts of the run took; the learning rate
            comes down in time for it.
        steps: end after this many steps of 64 images, if neither is given as many as the shipped
            one took (3,500, 6,000, 5,000). Several times as many begin to copy the training images.
        seed: of the initial weights and everything random in training.
        resume: continue from the folder's checkpoint, if there is one.
        progress: show a progress bar.

    Returns:
        "weights" and "checkpoint" (paths), "steps", "seconds", "loss" (mean of the last hundred
        steps), "parameters", "seed".

    Raises:
        ImportError: without scikit-learn, safetensors or, for the bar, tqdm.
        ValueError: for an unknown process, a folder that cannot be written or in which another run
            is at work, and if its checkpoint is damaged or of a run with other settings.

    Examples:
        >>> from flowsolve.models import digits
        >>> trained = digits.train_digits("run", steps=1, progress=False)
        >>> model = flowsolve.digits(weights=trained["weights"])
    """
    made, split = recipe(process), data()
    return train_again(
        made,
        split.train,
        split.train_labels,
        out,
        seconds=seconds,
        steps=steps,
        seed=seed,
        resume=resume,
        progress=progress,
    )
