"""What the commands of the command line share: the kinds of their arguments, where pictures go."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Usage(Exception):
    """What was asked for does not exist or does not fit together: exit status 2."""


def _number(kind: type, low: float, high: float, expected: str) -> Any:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value < high:
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
        return value

    return parse


positive = _number(int, 1, math.inf, "a positive integer")
seconds = _number(float, 1e-3, math.inf, "a positive number of seconds")
size = _number(float, 1e-9, math.inf, "a positive number")
seed = _number(int, 0, 2**64, "an integer from 0 to 2**64 - 1")


def names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    found = tuple(name.strip() for name in text.split(","))
    if not all(found):
        raise argparse.ArgumentTypeError(f"{text!r}: expected names with commas between them")
    return found


def budgets(text: str) -> tuple[int, ...]:
    """Positive integers with commas between them."""
    return tuple(positive(number) for number in text.split(","))


def option(text: str) -> tuple[str, Any]:
    """``key=value``, the value as Python reads it."""
    key, equals, value = text.partition("=")
    if not (key.isidentifier() and equals):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not of the form key=value, such as rtol=1e-3"
        )
    try:
        return key, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return key, value


def add_output(add: Callable[..., Any], default: str) -> None:
    """Where the picture goes."""
    text = f"the picture (default: {default}, if the samples are pictures)"
    add("-o", "--output", type=Path, metavar="FILE", help=text)


def add_count(add: Callable[..., Any], default: int) -> None:
    """The number of samples."""
    text = f"how many samples (default: {default})"
    add("-n", "--n", type=positive, default=default, metavar="N", help=text)


def add_seed(add: Callable[..., Any], text: str) -> None:
    """The seed, and what it is the seed of."""
    add("--seed", type=seed, default=0, metavar="S", help=f"{text} (default: 0)")


def add_option(add: Callable[..., Any]) -> None:
    """Options of the solver that have no argument of their own."""
    add(
        "--option",
        type=option,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any option of the solver; may be repeated",
    )


def add_solving(add: Callable[..., Any]) -> None:
    """Which solver goes up and down the ODE, and how finely."""
    add("--solver", default="auto", metavar="NAME", help="a deterministic one (default: auto)")
    add(
        "--nfe",
        type=positive,
        metavar="N",
        help="evaluations of the network in each direction (default: 20)",
    )
    add("--grid", metavar="NAME", help="where the noise levels lie (default: the solver's own)")
    add_option(add)


def solving(arguments: argparse.Namespace, process: Any) -> dict[str, Any]:
    """What :func:`add_solving` was told. Raises Usage if that cannot go up."""
    from ..encoding import check_upward

    named = {key: getattr(arguments, key) for key in ("solver", "nfe", "grid")}
    own = dict(arguments.option)
    try:
        check_upward(process, named["solver"], named["nfe"], named["grid"], (None, None), own)
    except (TypeError, ValueError) as error:
        raise Usage(error) from error
    return {**named, **own}


def files_said(*files: Path | None) -> str:
    """ ", a and b", of the files that there are."""
    names = [str(file) for file in files if file]
    return ", " * bool(names) + " and ".join(names)


def add_tensor(add: Callable[..., Any], what: str) -> None:
    """Where ``what`` goes as numbers."""
    text = f"also write {what} as numbers: .pt, .npy or .npz"
    add("--save-tensor", type=Path, metavar="FILE", help=text)


def add_saying(add: Callable[..., Any]) -> None:
    """The arguments that say how much a command says."""
    add(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="a progress bar (default: if stderr is a terminal)",
    )
    add("-q", "--quiet", action="store_true", help="say nothing unless it fails")


def wants_bar(arguments: argparse.Namespace) -> bool:
    """Whether to show a progress bar. One that nobody asked for is not missed where tqdm is not
    installed."""
    if arguments.quiet or arguments.progress is not None:
        return bool(arguments.progress) and not arguments.quiet
    return sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None


def say(arguments: argparse.Namespace, line: object) -> None:
    """Print it, unless asked to be quiet."""
    if not arguments.quiet:
        print(line, flush=True)


def picture_file(
    output: Path | None, default: str, shape: tuple[int, ...], instead: str
) -> Path | None:
    """Where the picture goes: ``output`` if given, else ``default``, else nowhere, if samples of
    ``shape`` are no pictures.

    Raises:
        Usage: for a file that cannot be written, and for ``output`` where there is no picture,
            naming what to use ``instead``.
    """
    from .. import pictures

    if not pictures.depictable(shape):
        if output is not None:
            raise Usage(
                f"--output {str(output)!r}: samples of shape {shape} are not pictures; "
                f"use {instead}"
            )
        return None
    path = output or Path(default)
    check_file(path)
    return path


def check_file(path: Path, suffixes: Any = None) -> None:
    """Raise Usage if ``path`` cannot be written or ends in none of ``suffixes``, by default those
    of pictures."""
    from .. import pictures

    try:
        pictures.check(path, suffixes) if suffixes else pictures.check_picture(path)
    except ValueError as error:
        raise Usage(error) from error
