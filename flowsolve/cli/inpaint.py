"""``flowsolve inpaint``: held-out digits of which a part is hidden, and completions of them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from . import options
from .data import load_data
from .model import add_digits, load_model, running
from .options import Usage

HELP = "hide a part of held-out digits and draw completions of them into a picture"
EXAMPLES = """\
examples:
  flowsolve inpaint -o inpaint.png
  flowsolve inpaint --hide left --completions 6 --nfe 50
  flowsolve inpaint --hide centre --label 8 --method repaint --nfe 96
  flowsolve inpaint --noise 0.3 --solver ddpm --nfe 100

The rows of the picture: the digits, what is known of them, and the completions. The model has not
seen the digits; with --label it is told what they are.
"""
#: What may be hidden: the rows and columns of it, of 8.
HIDDEN = {
    "bottom": (slice(4, 8), slice(0, 8)),
    "top": (slice(0, 4), slice(0, 8)),
    "left": (slice(0, 8), slice(0, 4)),
    "right": (slice(0, 8), slice(4, 8)),
    "centre": (slice(2, 6), slice(2, 6)),
}


def add_arguments(add: Callable[..., Any]) -> None:
    """The arguments of the command."""
    options.add_output(add, "inpaint.png")
    add("--hide", choices=HIDDEN, default="bottom", help="what is hidden (default: bottom)")
    options.add_count(add, 8)
    add(
        "--completions",
        type=options.positive,
        default=4,
        metavar="K",
        help="how many of each (default: 4)",
    )
    add(
        "--method",
        choices=("mmps", "pgdm", "repaint"),
        default="mmps",
        help="how what is known is used (default: mmps)",
    )
    add(
        "--noise",
        type=options.size,
        metavar="S",
        help="standard deviation of the noise that is added to what is known, of values from -1 "
        "to 1 (default: none, taken for 0.01)",
    )
    add("--solver", metavar="NAME", help="one of `flowsolve solvers` (default: auto)")
    add(
        "--nfe",
        type=options.positive,
        metavar="N",
        help="at most N evaluations of the network (default: 20, and 96 with repaint)",
    )
    options.add_seed(add, "sample number i depends on S and i alone")
    add_digits(add)
    options.add_saying(add)


def run(arguments: argparse.Namespace) -> int:
    """Complete the digits, and write the picture."""
    import torch

    import flowsolve

    from .. import pictures
    from ..checks import check_layout
    from ..models import data
    from ..noise import normal

    arguments.model = arguments.process = arguments.data = None
    model = load_model(arguments)
    output = options.picture_file(arguments.output, "inpaint.png", data.SHAPE, "another file")
    assert output is not None
    x = load_data(arguments, model, arguments.n)
    known = torch.ones(data.SHAPE, dtype=torch.bool, device=x.device)
    known[(slice(None), *HIDDEN[arguments.hide])] = False
    z = normal(arguments.seed, range(len(x)), 1, data.SHAPE, x.dtype, x.device)
    seen = torch.where(known, x + (arguments.noise or 0.0) * z, 0.0)
    given = {"solver": arguments.solver, "noise": arguments.noise}
    how = {name: value for name, value in given.items() if value is not None}
    if arguments.method == "repaint" and how:
        raise Usage(f"--{next(iter(how))} cannot be combined with --method repaint")
    try:
        solver = arguments.solver or "auto"
        check_layout(
            model.process, solver, arguments.nfe, None, (None, None), {}, about=model.about
        )
    except (TypeError, ValueError) as error:
        raise Usage(error) from error
    begin = time.perf_counter()
    with running():
        drawn = flowsolve.inpaint(
            model,
            seen.repeat(arguments.completions, 1, 1, 1),
            known,
            method=arguments.method,
            nfe=arguments.nfe,
            seed=arguments.seed,
            progress=options.wants_bar(arguments),
            **how,
        )
    seconds = time.perf_counter() - begin
    facts = {"method": arguments.method, "seed": arguments.seed, "hidden": arguments.hide, **how}
    pictures.save_sheet(output, torch.cat([x, seen, drawn]), facts, columns=len(x))
    options.say(
        arguments,
        f"{arguments.method}, {len(x)} digits without their {arguments.hide}, "
        f"{arguments.completions} completions of each, {seconds:.2f} s, {output}",
    )
    return 0
