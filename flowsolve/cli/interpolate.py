"""``flowsolve interpolate``: pictures between pictures."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from typing import Any

from . import options
from .data import add_data, load_data
from .model import add_model, load_model, running

HELP = "go from each of the data to another along a great circle of noise"
EXAMPLES = """\
examples:
  flowsolve interpolate -o interpolate.png
  flowsolve interpolate -n 2 --steps 15 --solver ddim --nfe 100
  flowsolve interpolate --square --steps 7
"""


def add_arguments(add: Callable[..., Any]) -> None:
    """The arguments of the command."""
    options.add_output(add, "interpolate.png")
    options.add_solving(add)
    add(
        "-n",
        "--n",
        type=options.positive,
        default=4,
        metavar="N",
        help="how many pairs, each a row: the first N data to the next N (default: 4)",
    )
    add("--steps", type=options.positive, default=9, metavar="K", help="points (default: 9)")
    add("--square", action="store_true", help="one square between the first four data instead")
    options.add_tensor(add, "the points")
    add_data(add)
    add_model(add)
    options.add_saying(add)


def run(arguments: argparse.Namespace) -> int:
    """Write the picture: a pair a row, or the square."""
    model = load_model(arguments)
    output = options.picture_file(
        arguments.output, "interpolate.png", model.data_shape, "--save-tensor"
    )
    from .. import pictures
    from ..interpolation import interpolate

    if arguments.save_tensor:
        options.check_file(arguments.save_tensor, pictures.TENSORS)
    if arguments.steps < 2:
        raise options.Usage(f"--steps {arguments.steps}: expected 2 or more, the ends among them")
    n = 1 if arguments.square else arguments.n
    a, b, *below = load_data(arguments, model, 4 if arguments.square else 2 * n).split(n)
    how = {
        "below": (below[0], below[1]) if below else None,
        "progress": options.wants_bar(arguments),
    }
    how |= options.solving(arguments, model.process)
    begin = time.perf_counter()
    with running():
        points = interpolate(model, a, b, arguments.steps, **how)
    seconds = time.perf_counter() - begin
    rows = points.flatten(0, 2) if below else points.transpose(0, 1).flatten(0, 1)
    with contextlib.ExitStack() as files:  # which tries all of them
        if output is not None:
            facts = {"solver": arguments.solver}
            files.callback(pictures.save_sheet, output, rows, facts, columns=arguments.steps)
        if arguments.save_tensor:
            files.callback(pictures.save_tensor, arguments.save_tensor, points)
    what = "a square" if below else f"{n} pairs"
    options.say(
        arguments,
        f"{arguments.solver}, {what}, {len(rows)} points, {seconds:.2f} s"
        + options.files_said(output, arguments.save_tensor),
    )
    return 0
