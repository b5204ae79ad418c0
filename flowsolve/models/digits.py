"""The shipped models: handwritten digits, 8×8, class-conditional, ready to sample, one for each of
three processes.

    model = digits(label=3)                          # or digits(label=3, process="cld"), "blurring"
    x = flowsolve.sample(model, nfe=20, n=16, seed=0)  # (16, 1, 8, 8), values in [−1, 1]

DIGITS.md beside this file is its model card; :func:`train_digits` trains it again, and
:mod:`flowsolve.models.quality` measures it.
"""

from __future__ import annotations

import contextlib
import math
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checked import Count, OneSeed, Positive, checked
from ..checks import Device, check_device
from ..denoiser import Denoiser
from ..network import Floating
from ..output import alone, write
from ..training import train
from ..training.streams import drawing
from ..typing import Int
from .data import CLASSES, data, require
from .recipes import RECIPES, WEIGHTS, Recipe, load, network_of, recipe

__all__ = ["RECIPES", "WEIGHTS", "Recipe", "digits", "load", "recipe", "train_digits"]


def _moved(net: nn.Module, dtype: torch.dtype, device: torch.device) -> nn.Module:
    with torch.inference_mode(False):
        return net.to(device=device, dtype=dtype)


@lru_cache
def _shipped(process: str, dtype: torch.dtype, device: torch.device) -> nn.Module:
    made = network_of("weights", WEIGHTS.with_name(recipe(process).file), process)
    return _moved(made, dtype, device)


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

    Raises:
        ImportError: without safetensors.
        FileNotFoundError: if there is no file ``weights``.
        TypeError, ValueError: for a label that is no digit, an unknown process, a dtype or device
            that cannot be, and weights that are damaged or of another one's network.
    """
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
                "expected digits 0 to 9"
            )
    elif label is not None and not 0 <= label < CLASSES:
        raise ValueError(f"label={label!r}: expected a digit 0 to 9, or None for any")
    made, place = recipe(process), check_device("cpu" if device is None else device)
    net = (
        _shipped(process, dtype, place)
        if weights is None
        else _moved(network_of("weights", Path(weights), process), dtype, place)
    )
    return made.denoiser(net, label, dtype)


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
    """
    to_bytes, made = require("safetensors.torch", "run").save, recipe(process)
    if steps is None:
        steps = made.steps if seconds is None else 10**9
    split, folder = data(), Path(out)
    weights, checkpoint = folder / made.file, folder / "checkpoint.pt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # a null character is a ValueError
        reason = getattr(error, "strerror", error)
        raise ValueError(f"out={str(out)!r} is no folder: {reason}") from None
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(alone(weights))
        except OSError as error:
            what = "is another run's" if isinstance(error, BlockingIOError) else "cannot be written"
            expected = f"{error.strerror}; expected a folder for each run"
            raise ValueError(f"out={str(out)!r} {what}: {expected}") from None
        stack.enter_context(torch.inference_mode(False))
        with drawing(seed), torch.device("cpu"):
            net = made.network()
        trained = train(
            made.denoiser(net),
            split.train,
            labels=split.train_labels,
            null=CLASSES,
            loss=made.loss,
            steps=steps,
            seconds=math.inf if seconds is None else seconds,
            batch_size=64,
            lr=4e-3,
            ema=0.998,
            seed=seed,
            checkpoint=checkpoint,
            resume=resume,
            progress=progress,
        )
        assert isinstance(trained.model.net, torch.nn.Module)
        state = {
            name: tensor.to(torch.float16).contiguous()
            for name, tensor in trained.model.net.state_dict().items()
        }
        # One entry, since safetensors writes several in no particular order: the same weights are
        # to be the same file.
        content = to_bytes(state, metadata={"training": f"steps={trained.steps} seed={seed}"})
        write(weights, lambda file: file.write(content))
    return {
        "weights": weights,
        "checkpoint": checkpoint,
        "steps": trained.steps,
        "seconds": trained.seconds,
        "loss": float(trained.losses[-100:].mean()),
        "parameters": sum(p.numel() for p in net.parameters()),
        "seed": seed,
    }
