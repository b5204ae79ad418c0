"""The shipped models: handwritten digits, 8×8, class-conditional, ready to sample, one for each of
three processes.

    model = digits(label=3)                          # or digits(label=3, process="cld"), "blurring"
    x = flowsolve.sample(model, nfe=20, n=16, seed=0)  # (16, 1, 8, 8), values in [−1, 1]

DIGITS.md beside this file is its model card; :func:`train_digits` trains it again, and
:mod:`flowsolve.models.quality` measures it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..denoiser import Denoiser
from ..errors import unknown
from ..output import write
from ..processes import CLD, VP, Blurring, Process
from ..training import Loss, simple, train
from ..typing import Int
from .data import CLASSES, SHAPE, data, require
from .preconditioned import Preconditioned
from .unet import UNet

WEIGHTS = Path(__file__).with_name("digits.safetensors")
#: The root mean square of the data.
SIGMA_DATA = 0.85


class Recipe(NamedTuple):
    """What one of the models is, and how it was trained."""

    file: str
    process: Process
    predicts: str
    network: Callable[[], nn.Module]
    steps: int
    loss: Loss = simple
    time: str | None = None

    def denoiser(self, net: nn.Module, label: Int[Tensor, "*n"] | int | None = None) -> Denoiser:
        return Denoiser(
            net, self.process, self.predicts, SHAPE, time=self.time, conditioning={"label": label}
        )


def _with_matrices(file: str, process: Process, steps: int) -> Recipe:
    def network() -> nn.Module:
        net = UNet(process.state_shape(SHAPE)[0], classes=CLASSES, outputs=SHAPE[0])
        return Preconditioned(net, process, SIGMA_DATA)

    return Recipe(file, process, "x0", network, steps, partial(simple, on="eps"), "t")


#: By the name of the process.
RECIPES = {
    "cosine": Recipe("digits.safetensors", VP.cosine(), "v", partial(UNet, classes=CLASSES), 3500),
    "cld": _with_matrices("digits_cld.safetensors", CLD(), 6000),
    # A blur as wide, in parts of the picture, as 10 pixels are of one of 32×32.
    "blurring": _with_matrices(
        "digits_blurring.safetensors", Blurring(SHAPE[1:], sigma_max=2.5), 5000
    ),
}


def recipe(process: str) -> Recipe:
    """The recipe of that name. Raises ValueError for an unknown one."""
    if process not in RECIPES:
        raise ValueError(unknown("process", process, RECIPES))
    return RECIPES[process]


def load(path: Path | str, process: str = "cosine") -> nn.Module:
    """The network of a weights file, in float32, in evaluation mode, its parameters frozen.

    Raises:
        ImportError: without safetensors.
        FileNotFoundError: if there is no such file.
        ValueError: for an unknown process, and for weights of another network.
    """
    load_file = require("safetensors.torch", "run").load_file
    if not Path(path).is_file():
        raise FileNotFoundError(f"path={str(path)!r}: there is no such file of weights")
    net = recipe(process).network()
    try:
        net.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    except RuntimeError:
        raise ValueError(
            f"path={str(path)!r}: these are not weights of the digits model on process={process!r}"
        ) from None
    return net.eval().requires_grad_(False)


@lru_cache
def _shipped(process: str, dtype: torch.dtype, device: torch.device) -> nn.Module:
    return load(WEIGHTS.with_name(recipe(process).file), process).to(device=device, dtype=dtype)


def digits(
    label: Int[Tensor, "*n"] | int | None = None,
    *,
    process: str = "cosine",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    weights: Path | str | None = None,
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
        TypeError, ValueError: for a label that is no digit, an unknown process, and weights of
            another one's network.
    """
    if isinstance(label, Tensor):
        if (
            label.is_floating_point()
            or label.is_complex()
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
    elif label is not None:
        if isinstance(label, bool) or not isinstance(label, (int, np.integer)):
            raise TypeError(
                f"label={label!r}: expected None, a digit 0 to 9, or a tensor of digits"
            )
        if not 0 <= label < CLASSES:
            raise ValueError(f"label={label!r}: expected a digit 0 to 9, or None for any")
        label = int(label)
    made, place = recipe(process), torch.device(device or "cpu")
    net = (
        _shipped(process, dtype, place)
        if weights is None
        else load(weights, process).to(device=place, dtype=dtype)
    )
    return made.denoiser(net, label)


def train_digits(
    out: Path | str,
    *,
    process: str = "cosine",
    seconds: float | None = None,
    steps: int | None = None,
    seed: int = 0,
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
        ValueError: for an unknown process, and if the folder's checkpoint is of a run with other
            settings.
    """
    to_bytes, made = require("safetensors.torch", "run").save, recipe(process)
    if steps is None:
        steps = made.steps if seconds is None else 10**9
    split, out = data(), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
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
        checkpoint=out / "checkpoint.pt",
        resume=resume,
        progress=progress,
    )
    assert isinstance(trained.model.net, torch.nn.Module)
    state = {
        name: tensor.to(torch.float16).contiguous()
        for name, tensor in trained.model.net.state_dict().items()
    }
    # One entry, since safetensors writes several in no particular order: the same weights are to be
    # the same file.
    content = to_bytes(state, metadata={"training": f"steps={trained.steps} seed={seed}"})
    weights = out / made.file
    write(weights, lambda file: file.write(content))
    return {
        "weights": weights,
        "checkpoint": out / "checkpoint.pt",
        "steps": trained.steps,
        "seconds": trained.seconds,
        "loss": float(trained.losses[-100:].mean()),
        "parameters": sum(p.numel() for p in net.parameters()),
        "seed": seed,
    }
