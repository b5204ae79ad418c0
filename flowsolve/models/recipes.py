"""What the shipped models are, and how their weights are read from files."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..checked import checked
from ..denoiser import Denoiser
from ..errors import require, unknown
from ..processes import CLD, VP, Blurring, Process, RectifiedFlow
from ..training import Loss, simple
from ..typing import Int
from .data import CLASSES, SHAPE
from .preconditioned import Preconditioned
from .unet import UNet

WEIGHTS = Path(__file__).with_name("digits.safetensors")
#: The root mean square of the data.
SIGMA_DATA = 0.85


class Recipe(NamedTuple):
    """What one of the models is, and how it was trained.

    Examples:
        >>> from flowsolve.models import recipes
        >>> recipes.FASHION.shape, recipes.FASHION.predicts
        ((1, 28, 28), 'velocity')
    """

    file: str
    #: What errors call it.
    name: str
    process: Process
    predicts: str
    network: Callable[[], nn.Module]
    steps: int
    loss: Loss = simple
    time: str | None = None
    shape: tuple[int, ...] = SHAPE
    lr: float = 4e-3
    ema: float = 0.998
    #: What a label is.
    kind: str = "digit"

    def denoiser(
        self,
        net: nn.Module,
        label: Int[Tensor, "*n"] | int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Denoiser:
        return Denoiser(
            net,
            self.process,
            self.predicts,
            self.shape,
            time=self.time,
            dtype=dtype,
            conditioning={"label": label},
            per_sample=("label",),
        )


def _with_matrices(name: str, process: Process, steps: int) -> Recipe:
    def network() -> nn.Module:
        net = UNet(process.state_shape(SHAPE)[0], classes=CLASSES, outputs=SHAPE[0])
        return Preconditioned(net, process, SIGMA_DATA)

    loss, file = partial(simple, on="eps"), f"digits_{name}.safetensors"
    return Recipe(file, _digits_on(name), process, "x0", network, steps, loss, "t")


def _digits_on(name: str) -> str:
    return f"digits model on process={name!r}"


#: Of digits, by the name of the process.
RECIPES = {
    "cosine": Recipe(
        WEIGHTS.name,
        _digits_on("cosine"),
        VP.cosine(),
        "v",
        partial(UNet, classes=CLASSES),
        3500,
    ),
    "cld": _with_matrices("cld", CLD(), 6000),
    # A blur as wide, in parts of the picture, as 10 pixels are of one of 32×32.
    "blurring": _with_matrices("blurring", Blurring(SHAPE[1:], sigma_max=2.5), 5000),
}
FASHION = Recipe(
    "fashion.safetensors",
    "fashion model",
    RectifiedFlow(),
    "velocity",
    partial(UNet, base=40, classes=CLASSES, patch=2),
    9000,
    shape=(1, 28, 28),
    lr=2e-3,
    ema=0.999,
    kind="class",
)


@checked
def recipe(process: str) -> Recipe:
    """The recipe of that name. Raises ValueError for an unknown one.

    Examples:
        >>> from flowsolve.models import recipes
        >>> recipes.recipe("cld").predicts
        'x0'
    """
    if process not in RECIPES:
        raise ValueError(unknown("process", process, RECIPES))
    return RECIPES[process]


@checked
def load(path: os.PathLike[str] | str, process: str = "cosine") -> nn.Module:
    """The network of a weights file, in float32, in evaluation mode, its parameters frozen.

    Raises:
        ImportError: without safetensors.
        FileNotFoundError: if there is no such file.
        ValueError: for an unknown process, and for a file that is damaged or has weights of another
            network.

    Examples:
        >>> from flowsolve.models import digits
        >>> net = digits.load(digits.WEIGHTS)
        >>> net(torch.zeros(2, 1, 8, 8), torch.ones(2), label=3).shape
        torch.Size([2, 1, 8, 8])
    """
    return network_of("path", Path(path), recipe(process))


def network_of(argument: str, path: Path, made: Recipe) -> nn.Module:
    """The recipe's network of the file at ``path``, which the caller knows as ``argument``. Raises
    as :func:`load`.

    Examples:
        >>> from flowsolve.models import digits, recipes
        >>> net = recipes.network_of("weights", digits.WEIGHTS, recipes.recipe("cosine"))
    """
    load_file = require("safetensors.torch", "run", "a shipped model").load_file
    if not path.is_file():
        raise FileNotFoundError(f"{argument}={str(path)!r}: there is no such file of weights")
    # Whoever asks first, in whatever mode: the network is everybody's. It is made without values,
    # since drawing some would move torch's global generator.
    with torch.inference_mode(False):
        with torch.device("meta"):
            net = made.network()
        try:
            with torch.device("cpu"):  # whatever the default device is
                found = load_file(path, device="cpu")
        except OSError:
            raise
        except Exception as error:  # SafetensorError, and what torch makes of damaged headers
            raise ValueError(
                f"{argument}={str(path)!r} is damaged, or no file of weights ({error}); expected "
                "one in the format of safetensors"
            ) from None
        try:
            if not all(x.is_floating_point() and x.isfinite().all() for x in found.values()):
                raise RuntimeError
            weights = {name: tensor.float() for name, tensor in found.items()}
            net.load_state_dict(weights, assign=True)
        except RuntimeError:
            raise ValueError(
                f"{argument}={str(path)!r}: these are not weights of the {made.name}; "
                "expected finite floating-point numbers of its shapes"
            ) from None
    return net.eval().requires_grad_(False)
