"""``flowsolve compare``: solvers from the same starts, as a table, a picture and a work-precision
plot."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options
from .model import add_model, load_model, running
from .options import Usage

if TYPE_CHECKING:
    from ..comparison import Comparison
    from ..denoiser import Denoiser

HELP = "compare solvers from the same starts"
EXAMPLES = """\
examples:
  flowsolve compare --solvers ddim,heun,ab3 --nfe 5,10,20 -o compare.png
  flowsolve compare --solvers "ddim,DPM++ 2M Karras,unipc3" --nfe 5,7,10,14,20,40 \
--plot work_precision.png
  flowsolve compare --model mine.py:denoiser -n 32
  flowsolve compare --pipeline FOLDER --prompt "a red fox" --nfe 5,8,12 -n 1
"""


def add_arguments(add: Callable[..., Any]) -> None:
    """The arguments of the command."""
    options.add_output(add, "compare.png")
    add(
        "--plot",
        type=Path,
        metavar="FILE",
        help="also a work-precision plot: errors over evaluations",
    )
    add(
        "--solvers",
        type=options.names,
        metavar="A,B,...",
        help="some of `flowsolve solvers` (default: auto,ddim,heun,dpmpp2m)",
    )
    add(
        "--nfe",
        type=options.budgets,
        metavar="N,M,...",
        help="the numbers of evaluations (default: 5,8,10,20)",
    )
    options.add_count(add, 16)
    options.add_seed(add, "of the starts and the noise")
    add(
        "--grid",
        metavar="NAME",
        help="where the noise levels lie, for all solvers (default: the process's own)",
    )
    add_model(add)
    add(
        "--pipeline",
        metavar="FOLDER",
        help="a pipeline that diffusers saved, as the model: compares its latents",
    )
    add("--prompt", metavar="TEXT", help="what the pipeline is asked for")
    add("--guidance", type=float, metavar="W", help="the pipeline's guidance_scale")
    options.add_saying(add)


def run(arguments: argparse.Namespace) -> int:
    """Make the comparison; what is finished is written whatever ends it."""
    with contextlib.ExitStack() as stack:
        return _compare(arguments, _model(arguments, stack))


def _model(arguments: argparse.Namespace, stack: contextlib.ExitStack) -> Denoiser:
    if arguments.pipeline is None:
        for name in ("prompt", "guidance"):
            if getattr(arguments, name) is not None:
                raise Usage(f"--{name} is for a pipeline: expected --pipeline FOLDER as well")
        return load_model(arguments)
    for name in ("model", "process", "label", "weights", "device"):
        if getattr(arguments, name) is not None:
            raise Usage(f"--{name} cannot be combined with --pipeline")
    call: dict[str, Any] = {}
    if arguments.prompt is not None:
        call |= {"prompt": arguments.prompt, "num_images_per_prompt": arguments.n}
    else:
        call |= {"batch_size": arguments.n}
    if arguments.guidance is not None:
        call["guidance_scale"] = arguments.guidance
    try:
        from ..integrations.diffusers import denoiser
        from ..integrations.diffusers.networks import saved_pipeline

        pipe = saved_pipeline(arguments.pipeline)
        with running():
            return stack.enter_context(denoiser(pipe, **call))
    except (ImportError, OSError, TypeError, ValueError) as error:
        raise Usage(f"--pipeline {arguments.pipeline!r}: {error}") from error


def _compare(arguments: argparse.Namespace, model: Denoiser) -> int:
    from .. import comparison
    from ..comparison import figures

    output = options.picture_file(arguments.output, "compare.png", model.data_shape, "--plot")
    if arguments.plot is not None:
        options.check_file(arguments.plot, figures.plot_formats())
    solvers = arguments.solvers or comparison.DEFAULT_SOLVERS
    nfe = arguments.nfe or comparison.DEFAULT_BUDGETS
    try:
        rows, budgets = comparison.cases(model, solvers, nfe, arguments.grid, (None, None))
    except (TypeError, ValueError) as error:
        raise Usage(error) from error
    wanted: dict[str, Any] = {
        "solvers": solvers,
        "nfe": nfe,
        "n": arguments.n,
        "seed": arguments.seed,
        "grid": arguments.grid,
    }
    latest: Comparison | None = None

    def keep(so_far: Comparison) -> None:
        nonlocal latest
        latest = so_far

    bar = options.wants_bar(arguments)
    try:
        with running():
            comparison.compare(model, **wanted, callback=keep, progress=bar)
    except BaseException:  # Ctrl-C, or a solver that fails: main says what, after what there is
        if latest is not None:
            files = _write(arguments, output, latest)
            print(
                f"flowsolve: {latest.finished} of {len(rows) * len(budgets)} runs "
                f"were finished{files}",
                file=sys.stderr,
            )
        raise
    assert latest is not None
    files = _write(arguments, output, latest)
    options.say(arguments, f"{latest.finished} runs in {latest.seconds.sum():.2f} s{files}")
    return 0


def _write(arguments: argparse.Namespace, output: Path | None, result: Comparison) -> str:
    """The files that were asked for, one even if the other fails, and the table on stdout. Returns
    ", a and b"."""
    with contextlib.ExitStack() as files:  # which tries all of them
        files.callback(options.say, arguments, result)
        if output is not None:
            files.callback(result.picture, output)
        if arguments.plot is not None:
            files.callback(result.plot, arguments.plot)
    return options.files_said(output, arguments.plot)
