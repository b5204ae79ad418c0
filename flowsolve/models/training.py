"""Training a shipped model again: a folder for each run, with its checkpoint and its weights."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import require
from ..output import alone, write
from ..training import train
from ..training.streams import drawing
from .data import CLASSES
from .recipes import Recipe


def train_again(
    made: Recipe,
    x: Tensor,
    labels: Tensor,
    out: os.PathLike[str] | str,
    *,
    seconds: float | None,
    steps: int | None,
    seed: int,
    resume: bool,
    progress: bool,
) -> dict[str, Any]:
    """Train the recipe's network on images x (n, *shape) and their labels (n,). Everything else,
    what is returned and what is raised is as :func:`~flowsolve.models.digits.train_digits` says."""
    to_bytes = require("safetensors.torch", "run", "a shipped model").save
    if steps is None:
        steps = made.steps if seconds is None else 10**9
    folder = Path(out)
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
            x,
            labels=labels,
            null=CLASSES,
            loss=made.loss,
            steps=steps,
            seconds=math.inf if seconds is None else seconds,
            batch_size=64,
            lr=made.lr,
            ema=made.ema,
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
