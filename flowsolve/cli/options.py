"""What the commands of the command line share: the kinds of their arguments, the model they work
on, where pictures go."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..denoiser import Denoiser


#: The exit status of what Ctrl-C ended.
INTERRUPTED = 130


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


def add_model(add: Callable[..., Any]) -> None:
    """The arguments :func:`model` reads."""
    add(
        "--process",
        metavar="NAME",
        help="which digits model: cosine, cld or blurring (default: cosine)",
    )
    add("--label", type=int, metavar="D", help="a digit 0 to 9 (default: any)")
    add(
        "--weights",
        type=Path,
        metavar="FILE",
        help="the digits model with weights that `flowsolve train` wrote",
    )
    add(
        "--device",
        metavar="NAME",
        help="where the digits model runs: cpu, cuda, mps, ... (default: cpu)",
    )
    add(
        "--model",
        metavar="WHERE",
        help="your own model: module:name or file.py:name of a flowsolve.Denoiser "
        "or a function that returns one",
    )


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


def model(arguments: argparse.Namespace) -> Denoiser:
    """The model a command is to work on. Raises Usage if there is none such; what the user's own
    code raises passes through."""
    if arguments.model is not None:
        for name in ("process", "label", "weights", "device"):
            if getattr(arguments, name) is not None:
                raise Usage(f"--{name} is for the digits model and cannot be combined with --model")
        return _imported(arguments.model)
    import torch

    from ..models import digits

    # The network is small: a second thread would mostly wait for the first.
    torch.set_num_threads(1)
    process = arguments.process or "cosine"
    try:
        return digits.digits(
            label=arguments.label,
            process=process,
            weights=arguments.weights,
            device=arguments.device,
        )
    except FileNotFoundError as error:
        raise (
            Usage(f"there is no file of weights {arguments.weights}")
            if arguments.weights
            else error
        ) from None
    except (AssertionError, RuntimeError) as error:  # torch does not have the device
        raise Usage(f"--device {arguments.device}: {str(error).splitlines()[0]}") from error
    except (TypeError, ValueError) as error:
        raise Usage(error) from error


def _imported(where: str) -> Denoiser:
    import torch

    from ..denoiser import Denoiser

    place, _, name = where.rpartition(":")
    if not (place and name):
        raise Usage(f"--model {where!r}: expected module:name or file.py:name")
    path = Path(place) if place.endswith(".py") else None
    if path is not None and not path.is_file():
        raise Usage(f"--model {where!r}: there is no file {place}")
    # As `python file.py` and `python -m` do.
    sys.path.insert(0, str(path.parent.absolute()) if path is not None else os.getcwd())
    try:
        found = importlib.import_module(place) if path is None else _run(path)
    except ModuleNotFoundError as error:
        if path is None and error.name and f"{place}.".startswith(f"{error.name}."):
            raise Usage(f"--model {where!r}: {error}") from error
        raise
    if not hasattr(found, name):
        raise Usage(f"--model {where!r}: {place} has no {name!r}")
    value = getattr(found, name)
    if callable(value) and not isinstance(value, (Denoiser, torch.nn.Module)):
        value = value()
    if not isinstance(value, Denoiser):
        raise Usage(
            f"--model {where!r} is a {type(value).__name__}; "
            "expected a flowsolve.Denoiser, or a function that returns one"
        )
    return value


def _run(path: Path) -> Any:
    """The module that a file is."""
    spec = importlib.util.spec_from_file_location("flowsolve_model", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    check_file(path, pictures.picture_formats())
    return path


def check_file(path: Path, suffixes: Any) -> None:
    """Raise Usage if ``path`` cannot be written or ends in none of ``suffixes``."""
    from .. import pictures

    try:
        pictures.check(path, suffixes)
    except ValueError as error:
        raise Usage(error) from error
