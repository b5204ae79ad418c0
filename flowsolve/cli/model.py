"""The model a command works on: a shipped one or the user's own, whose errors are told as
theirs."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..errors import abroad
from .options import Usage

if TYPE_CHECKING:
    from ..denoiser import Denoiser


class Foreign(Exception):
    """An error that was not raised by flowsolve: the model's own code's, to be told with the way
    there, ``where``."""

    def __init__(self, cause: BaseException, where: TracebackType, said: object = None) -> None:
        super().__init__(said or f"the model's code raised {type(cause).__name__}: {cause}")
        self.cause, self.where = cause, where


@contextlib.contextmanager
def running() -> Iterator[None]:
    """The block asks the network: what its code raises becomes :class:`Foreign`."""
    try:
        yield
    except (MemoryError, OSError, Usage):
        raise
    except Exception as error:
        # Of an error that flowsolve explains, the model's own is the cause.
        cause = error.__cause__ or error
        where = abroad(cause)
        if where is None:
            raise
        raise Foreign(cause, where, None if cause is error else error) from None


def add_model(add: Callable[..., Any]) -> None:
    """The arguments :func:`load_model` reads."""
    add(
        "--process",
        metavar="NAME",
        help="which digits model: cosine, cld or blurring (default: cosine)",
    )
    add_digits(add)
    add(
        "--model",
        metavar="WHERE",
        help="digits (the default), fashion, or your own: module:name or file.py:name of a "
        "flowsolve.Denoiser or a function that returns one, or the folder of a pipeline that "
        "diffusers saved",
    )


def add_digits(add: Callable[..., Any]) -> None:
    """Those for shipped models alone, of digits or not."""
    add("--label", type=int, metavar="D", help="a digit or class 0 to 9 (default: any)")
    add(
        "--weights",
        type=Path,
        metavar="FILE",
        help="the shipped model with weights that `flowsolve train` wrote",
    )
    add(
        "--device",
        metavar="NAME",
        help="where the shipped model runs: cpu, cuda, mps, ... (default: cpu)",
    )


def add_guidance(add: Callable[..., Any]) -> None:
    """The argument that :func:`guided_model` reads besides."""
    add(
        "--guidance",
        type=float,
        metavar="W",
        help="how far towards --label and away from any: 1 not at all, 2 twice as far",
    )


def shipped(arguments: argparse.Namespace) -> str | None:
    """The name of the shipped model that was asked for, None for the user's own."""
    name = arguments.model or "digits"
    return name if name in ("digits", "fashion") else None


def load_model(arguments: argparse.Namespace) -> Denoiser:
    """The model a command is to work on. Raises Usage if there is none such; what the user's own
    code raises passes through."""
    name = shipped(arguments)
    if name is None:
        for option in ("process", "label", "weights", "device"):
            if getattr(arguments, option) is not None:
                raise Usage(
                    f"--{option} is for a shipped model and cannot be combined with --model "
                    f"{arguments.model}"
                )
        return _imported(arguments.model)
    if name != "digits" and arguments.process is not None:
        raise Usage(f"--process is for the digits model and cannot be combined with --model {name}")
    import torch

    from ..models import digits, fashion

    # The network is small: a second thread would mostly wait for the first.
    torch.set_num_threads(1)
    given = {key: getattr(arguments, key) for key in ("label", "weights", "device")}
    try:
        if name == "fashion":
            return fashion.fashion(**given)
        return digits.digits(process=arguments.process or "cosine", **given)
    except FileNotFoundError as error:
        raise (
            Usage(f"there is no file of weights {arguments.weights}")
            if arguments.weights
            else error
        ) from None
    except (TypeError, ValueError) as error:
        raise Usage(error) from error


def guided_model(arguments: argparse.Namespace) -> Denoiser:
    """:func:`load_model`, with the guidance that was asked for."""
    model = load_model(arguments)
    if arguments.guidance is None:
        return model
    if shipped(arguments) is None:
        raise Usage("--guidance is for shipped models: return flowsolve.guided(...) from --model")
    if arguments.label is None:
        raise Usage("--guidance: expected --label as well; towards any class there is no way")
    from ..guidance import guided
    from ..models.data import CLASSES

    try:
        return guided(model, {"label": CLASSES}, scale=arguments.guidance)
    except (TypeError, ValueError) as error:
        raise Usage(f"--guidance: {error}") from error


def _imported(where: str) -> Denoiser:
    import torch

    from ..denoiser import Denoiser

    if Path(where).is_dir():
        return _saved(where)
    place, _, name = where.rpartition(":")
    if not (place and name):
        expected = "expected module:name, file.py:name or a folder, or digits or fashion"
        raise Usage(f"--model {where!r}: {expected}")
    path = Path(place) if place.endswith(".py") else None
    if path is not None and not path.is_file():
        raise Usage(f"--model {where!r}: there is no file {place}")
    # As `python file.py` and `python -m` do.
    sys.path.insert(0, str(path.parent.absolute()) if path is not None else os.getcwd())
    if path is None and not all(part.isidentifier() for part in place.split(".")):
        raise Usage(
            f"--model {where!r}: {place!r} is no module; expected module:name or file.py:name"
        )
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
    if value.shape is None:
        raise Usage(f"--model {where!r}: expected a Denoiser that has a shape=")
    return value


def _saved(folder: str) -> Denoiser:
    from ..integrations.loading import load

    try:
        return load(folder)
    except (ImportError, OSError, TypeError, ValueError) as error:
        raise Usage(f"--model {folder!r}: {error}") from error


def _run(path: Path) -> Any:
    """The module that a file is."""
    spec = importlib.util.spec_from_file_location("flowsolve_model", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
