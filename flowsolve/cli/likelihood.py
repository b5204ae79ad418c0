"""``flowsolve likelihood``: what a model thinks of data, in nats and in bits per dimension."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from . import options
from .data import add_data, load_data
from .model import add_model, load_model, running
from .options import Usage

HELP = "the log-likelihood of data under a model"
EXAMPLES = """\
examples:
  flowsolve likelihood -n 8 --solver auto --nfe 40
  flowsolve likelihood -n 8 --label 3 --divergence hutchinson
  flowsolve likelihood --model mine.py:denoiser --data mine.npy --width 0.0078125

Held-out digits are spread evenly over bins of 1/8 around their values, whose width the bits are
reckoned with; a file's numbers are taken as they are.
"""


def add_arguments(add: Callable[..., Any]) -> None:
    """The arguments of the command."""
    add("--solver", metavar="NAME", help="a deterministic one (default: steps of order 8)")
    add(
        "--nfe",
        type=options.positive,
        metavar="N",
        help="evaluations of the network (default: 480; 20 with a --solver)",
    )
    add(
        "--divergence",
        choices=("exact", "hutchinson"),
        default="exact",
        help="all of the trace, or a mean over random signs (default: exact)",
    )
    add("--probes", type=options.positive, metavar="K", help="how many random signs (default: 8)")
    options.add_count(add, 8)
    add(
        "--width",
        type=options.size,
        metavar="W",
        help="the bins that the data were rounded to, for bits (default: 1/8 for digits)",
    )
    options.add_seed(add, "of the random signs, and of where in their bins digits are")
    options.add_tensor(add, "the nats of each sample")
    add_data(add)
    add_model(add)
    options.add_saying(add)


def run(arguments: argparse.Namespace) -> int:
    """Say what was found, and write it."""
    model = load_model(arguments)
    import torch

    from .. import pictures
    from ..likelihood import log_likelihood
    from ..noise import normal

    if arguments.save_tensor:
        options.check_file(arguments.save_tensor, pictures.TENSORS)
    x, width = load_data(arguments, model, arguments.n), arguments.width
    if arguments.data is None:
        z = normal(arguments.seed, range(len(x)), 1, x.shape[1:], torch.float64, x.device)
        x, width = x + (torch.special.ndtr(z) - 0.5) / 8.0, width or 1.0 / 8.0
    how = {key: getattr(arguments, key) for key in ("solver", "nfe", "divergence", "seed")}
    if arguments.probes is not None:
        how["n_probes"] = arguments.probes
    if arguments.probes is not None and (arguments.divergence == "exact" or arguments.probes < 2):
        raise Usage("--probes: expected 2 or more, with --divergence hutchinson")
    if arguments.solver is not None:
        from ..encoding import check_upward

        try:
            check_upward(
                model.process, arguments.solver, arguments.nfe, None, (None, None), {}, model.about
            )
        except (TypeError, ValueError) as error:
            raise Usage(error) from error
    begin = time.perf_counter()
    with running():
        found = log_likelihood(model, x, progress=options.wants_bar(arguments), **how)
    seconds, nats = time.perf_counter() - begin, found.nats
    if arguments.save_tensor:
        pictures.save_tensor(arguments.save_tensor, nats)
    spread = "" if len(nats) < 2 else f" ± {float(nats.std()) / len(nats) ** 0.5:.2g}"
    probes = "" if found.stderr is None else f", of which the probes {found.stderr.mean():.2g} each"
    bits = "" if width is None else f", {float(found.bits(width).mean()):.4f} bits per dimension"
    options.say(
        arguments,
        f"{len(nats)} samples: {float(nats.mean()):.6g}{spread} nats{probes}{bits}, "
        f"{found.nfe} evaluations, {seconds:.2f} s" + options.files_said(arguments.save_tensor),
    )
    return 0
