"""``flowsolve encode``: data to noise and back, and how much is lost."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from typing import Any

from . import options
from .data import add_data, load_data
from .model import add_model, load_model, running

HELP = "encode data to noise and decode them, and say how much was lost"
EXAMPLES = """\
examples:
  flowsolve encode --nfe 20 -o encode.png
  flowsolve encode --solver ddim --nfe 100 --label 3
  flowsolve encode --model mine.py:denoiser --data mine.npy --save-tensor latents.npy
"""


def add_arguments(add: Callable[..., Any]) -> None:
    """The arguments of the command."""
    options.add_output(add, "encode.png")
    options.add_solving(add)
    add("--exact", action="store_true", help="by the reversible leapfrog, without error")
    options.add_count(add, 8)
    options.add_tensor(add, "the noise")
    add_data(add)
    add_model(add)
    options.add_saying(add)


def run(arguments: argparse.Namespace) -> int:
    """Write the picture, three rows: the data, the noise they are encoded to (at half its
    contrast), what comes back of it."""
    model = load_model(arguments)
    output = options.picture_file(arguments.output, "encode.png", model.data_shape, "--save-tensor")
    import torch

    from .. import pictures
    from ..encoding import reconstruct

    if arguments.save_tensor:
        options.check_file(arguments.save_tensor, pictures.TENSORS)
    x, how = load_data(arguments, model, arguments.n), options.solving(arguments, model.process)
    if arguments.exact:
        if how["solver"] != "auto" or how["grid"] is not None or arguments.option:
            raise options.Usage("--exact has a method of its own; expected --nfe alone beside it")
        how = {"nfe": arguments.nfe, "exact": True}
    begin, bar = time.perf_counter(), options.wants_bar(arguments)
    with running():
        found = reconstruct(model, x, progress=bar and not arguments.exact, **how)
    seconds, error = time.perf_counter() - begin, float(found.error.mean())
    latent = found.latent if isinstance(found.latent, torch.Tensor) else found.latent.x
    noise = model.process.data(latent).to(x)
    name = "exact" if arguments.exact else arguments.solver
    rows = torch.cat([x, 0.5 * noise / noise.std(), found.x.to(x)])
    with contextlib.ExitStack() as files:  # which tries all of them
        if output is not None:
            facts = {"solver": name, "error": error}
            files.callback(pictures.save_sheet, output, rows, facts, columns=len(x))
        if arguments.save_tensor:
            files.callback(pictures.save_tensor, arguments.save_tensor, latent)
    options.say(
        arguments,
        f"{name}, {len(x)} samples there and back: mean square error {error:.3g}, "
        f"at most {float(found.error.max()):.3g}, {seconds:.2f} s"
        + options.files_said(output, arguments.save_tensor),
    )
    return 0
