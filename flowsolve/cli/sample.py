"""``flowsolve sample``: samples into a picture, or as numbers."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options
from .model import add_guidance, add_model, guided_model, running, shipped
from .options import Usage

if TYPE_CHECKING:
    from torch import Tensor

    from ..denoiser import Denoiser

HELP = "draw samples into a picture: from a shipped model, or from your own"
EXAMPLES = """\
examples:
  flowsolve sample --solver ddim --nfe 20 -o samples.png
  flowsolve sample --solver ab2 --nfe 10 --grid karras --label 3 -o threes.png
  flowsolve sample --solver ddim --eta 1 --nfe 100 --seed 7 --save-tensor samples.npz
  flowsolve sample --solver dopri5 --option rtol=1e-3 --option atol=1e-3
  flowsolve sample --label 8 --guidance 2 --solver unipc3 --nfe 12
  flowsolve sample --model fashion --label 8 --nfe 10 -o bags.png
  flowsolve sample --model mine.py:denoiser --save-tensor mine.npz
  flowsolve sample --model FOLDER --solver auto --nfe 10
  flowsolve compare --solvers ddim,heun,ab3 --nfe 5,8,10,20 -o compare.png
  flowsolve sample --process cld --solver unipc3 --nfe 20
  flowsolve inpaint --hide left -o inpaint.png
  flowsolve train --seconds 60 --out runs/digits
  flowsolve solvers
"""


def add_arguments(add: Callable[..., Any]) -> None:
    """The arguments of the command."""
    options.add_output(add, "samples.png")
    add(
        "--solver",
        default="ddim",
        metavar="NAME",
        help="one of `flowsolve solvers` (default: ddim)",
    )
    add(
        "--nfe",
        type=options.positive,
        metavar="N",
        help="at most N evaluations of the network (default: 20; 5000 for adaptive solvers)",
    )
    options.add_count(add, 64)
    options.add_seed(add, "sample number i depends on S and i alone")
    add(
        "--grid",
        metavar="NAME",
        help="where the noise levels lie: uniform, karras, logsnr, ... "
        "(default: the process's own)",
    )
    add("--eta", type=float, metavar="E", help="noise of the DDIM family: 0 deterministic, 1 DDPM")
    options.add_option(add)
    add_guidance(add)
    add(
        "--batch-size",
        type=options.positive,
        default=64,
        metavar="B",
        help="samples at a time; Ctrl-C keeps the finished ones (default: 64)",
    )
    options.add_tensor(add, "the samples")
    add_model(add)
    options.add_saying(add)


def run(arguments: argparse.Namespace) -> int:
    """Draw the samples; the finished ones are written whatever ends it."""
    given = dict(arguments.option)
    if arguments.eta is not None:
        given["eta"] = arguments.eta

    from .. import pictures
    from ..checks import check_layout

    model = guided_model(arguments)
    output = options.picture_file(
        arguments.output, "samples.png", model.data_shape, "--save-tensor"
    )
    if arguments.save_tensor:
        options.check_file(arguments.save_tensor, pictures.TENSORS)
    elif output is None:
        raise Usage(
            f"samples of shape {model.data_shape} are not pictures: "
            "say where the numbers go, with --save-tensor"
        )
    try:
        how = (arguments.solver, arguments.nfe, arguments.grid, (None, None), given)
        check_layout(model.process, *how, about=model.about)
    except (TypeError, ValueError) as error:
        raise Usage(error) from error
    kind = {"digits": "digit", "fashion": "class"}.get(shipped(arguments) or "")
    which = f"any {kind}" if arguments.label is None else f"the {kind} {arguments.label}"
    which = which if kind else arguments.model
    budget = "" if arguments.nfe is None else f", at most {arguments.nfe} evaluations"
    options.say(
        arguments,
        f"sampling {arguments.n} of {which} with {arguments.solver}{budget}, seed {arguments.seed}",
    )
    begin = time.perf_counter()
    parts: list[Tensor] = []
    spent: list[int] = []
    try:
        with running():
            _draw(model, arguments, given, parts, spent)
    except BaseException as error:  # Ctrl-C, or a network that fails: main says what
        if parts:
            done = f"{sum(map(len, parts))} of {arguments.n} samples"
            line = _write(arguments, output, parts, spent, given, begin)
            print(f"flowsolve: ended after {done}, which were written: {line}", file=sys.stderr)
        elif not isinstance(error, Exception):
            print(
                "flowsolve: ended before the first batch was finished; nothing was written",
                file=sys.stderr,
            )
        raise
    options.say(arguments, _write(arguments, output, parts, spent, given, begin))
    return 0


def _write(
    arguments: argparse.Namespace,
    output: Path | None,
    parts: list[Tensor],
    spent: list[int],
    given: dict[str, Any],
    begin: float,
) -> str:
    """The files that were asked for, one even if the other fails. Returns what there is to say."""
    import torch

    from .. import pictures

    seconds, x = time.perf_counter() - begin, torch.cat(parts)
    evaluations = f"{spent[0]}" if len(set(spent)) == 1 else f"{min(spent)} to {max(spent)}"
    solver, facts = arguments.solver, {"evaluations": evaluations, "seed": arguments.seed, **given}
    with contextlib.ExitStack() as files:  # which tries all of them
        if output:
            files.callback(pictures.save_sheet, output, x, {"solver": solver, **facts})
        if arguments.save_tensor:
            files.callback(pictures.save_tensor, arguments.save_tensor, x)
    names = " and ".join(str(file) for file in (output, arguments.save_tensor) if file)
    return f"{solver}, {evaluations} evaluations, {len(x)} samples, {seconds:.2f} s, {names}"


def _draw(
    model: Denoiser,
    arguments: argparse.Namespace,
    given: dict[str, Any],
    parts: list[Tensor],
    spent: list[int],
) -> None:
    """Draw into ``parts``, a batch at a time, and into ``spent`` what each cost."""
    import flowsolve

    bar = _Bar(arguments)
    wanted: dict[str, Any] = {
        key: getattr(arguments, key) for key in ("solver", "nfe", "grid", "seed")
    } | given
    try:
        for i in range(0, arguments.n, arguments.batch_size):
            n = min(arguments.batch_size, arguments.n - i)
            solution = flowsolve.solve(model, n=n, first=i, callback=bar.step, **wanted)
            parts.append(solution.x)
            spent.append(solution.nfe)
            bar.finished(n)
    finally:
        bar.close()


class _Bar:
    """Progress in samples, a batch's share growing with its evaluations; shown on a terminal unless
    told otherwise."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.bar, self.done, self.nfe = None, 0, arguments.nfe or 20
        if options.wants_bar(arguments):
            from tqdm import tqdm

            self.bar = tqdm(total=arguments.n, unit="sample", leave=False, file=sys.stderr)

    def step(self, state: Any) -> None:
        self._show(self.done + int(len(state.x) * min(1.0, state.nfe / self.nfe)))

    def finished(self, n: int) -> None:
        self.done += n
        self._show(self.done)

    def _show(self, samples: int) -> None:
        if self.bar is not None:
            self.bar.update(samples - self.bar.n)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
