"""``flowsolve train``: a digits model again."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import options
from .options import Usage

HELP = "train a digits model again"
EXAMPLES = None


def add_arguments(add: Callable[..., Any]) -> None:
    """The arguments of the command."""
    add("--process", metavar="NAME", help="which one: cosine, cld or blurring (default: cosine)")
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="where weights and state go (default: runs/digits, runs/digits_cld, ...)",
    )
    add("--seconds", type=options.seconds, metavar="S", help="train for about S seconds")
    add("--steps", type=options.positive, metavar="N", help="train for N steps")
    add("--seed", type=options.seed, default=0, metavar="S", help="the run's seed (default: 0)")
    add("--fresh", action="store_true", help="start again, even if DIR holds an unfinished run")
    add("-q", "--quiet", action="store_true", help="say nothing unless it fails")


def run(arguments: argparse.Namespace) -> int:
    """Train, or go on with a run that was interrupted."""
    import torch

    from ..models import digits

    torch.set_num_threads(1)
    if arguments.seconds is not None and arguments.steps is not None:
        raise Usage("--seconds and --steps cannot be combined: give one of the two")
    try:
        recipe = digits.recipe(arguments.process or "cosine")
    except ValueError as error:
        raise Usage(error) from error
    out = arguments.out or Path("runs", Path(recipe.file).stem)
    given: dict[str, Any] = {
        key: value
        for key in ("process", "seconds", "steps")
        if (value := getattr(arguments, key)) is not None
    }
    try:
        result = digits.train_digits(
            out,
            **given,
            seed=arguments.seed,
            resume=not arguments.fresh,
            progress=not arguments.quiet,
        )
    except KeyboardInterrupt:
        if (out / "checkpoint.pt").exists():
            print(f"flowsolve: the same command goes on with the run in {out}", file=sys.stderr)
        raise
    except (TypeError, ValueError) as error:
        raise Usage(error) from error
    options.say(
        arguments,
        f"{result['steps']} steps, {result['seconds']:.0f} s, loss {result['loss']:.4f}, "
        f"weights in {result['weights']}",
    )
    return 0
