"""What goes wrong, said so that it can be mended: the argument, its value, what was expected, the
nearest choice."""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any


def unknown(
    argument: str, value: object, choices: Iterable[str], unlisted: Iterable[str] = ()
) -> str:
    """The message for a name that is none of ``choices``, with the nearest first, of them or of the
    ``unlisted`` ones."""
    names = sorted(choices)
    near = closest(str(value), [*names, *unlisted])
    hint = f" Did you mean {near!r}?" if near else ""
    return f"{argument}={value!r} is not known.{hint} Known: {', '.join(names)}."


def closest(typed: str, names: Sequence[str], cutoff: float = 0.5) -> str | None:
    """The name that was probably meant, None if none is as near as ``cutoff``, 1 being equal."""
    typed = typed.lower()
    for name in names:  # transposed letters: the commonest slip
        if sorted(name) == sorted(typed):
            return name
    small = {name.lower(): name for name in names}
    near = difflib.get_close_matches(typed, small, n=1, cutoff=cutoff)
    return small[near[0]] if near else None


def refused(name: str, value: object, expected: str) -> str:
    """The message for a ``value`` that the argument ``name`` cannot have."""
    return f"{name}={shown(value)}: expected {expected}"


def shown(value: Any, width: int = 200) -> str:
    """A value as messages show it: short, and of arrays what they are."""
    if hasattr(value, "shape") and hasattr(value, "dtype") and getattr(value, "ndim", 0):
        return f"<{type(value).__name__} {value.dtype} of shape {tuple(value.shape)}>"
    try:
        text = repr(value)
    except Exception:  # a repr of the user's own
        text = object.__repr__(value)
    if "\n" in text:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= width else text[: width - 4] + " ..."


def warn(message: str) -> None:
    """Warn of something in the call that the user made, wherever in the library it is found."""
    frame, level = sys._getframe(1), 1
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == "flowsolve":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level + 1)


def register(what: str, known: dict[str, Any], name: str, cls: type) -> None:
    """Enter a class by its name. Raises ValueError if another one has it; the same one defined
    again takes its own place."""
    there = known.get(name)
    if there is not None and (there.__module__, there.__qualname__) != (
        cls.__module__,
        cls.__qualname__,
    ):
        raise ValueError(f"name={name!r} is taken by a {what}, {there!r}; expected another")
    known[name] = cls


class Unsuited(ValueError):
    """What was asked for makes no sense on this process: ``reason`` says why, ``instead`` what to
    use.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.CLD(), [0.0, 1.0], 0.25)
        >>> try:
        ...     flowsolve.log_likelihood(model, torch.zeros(1, 2))
        ... except flowsolve.errors.Unsuited as error:
        ...     print(error.reason)
        A and R of CLD(...) are matrices, and the change of volume is derived for numbers
    """

    def __init__(self, reason: str, instead: str = "") -> None:
        self.reason, self.instead = reason, instead
        super().__init__(f"{reason}; use {instead}" if instead else reason)

    def __reduce__(self) -> Any:
        return type(self), (self.reason, self.instead)


def require(module: str, extra: str, what: str) -> Any:
    """The module. Raises ImportError, saying ``what`` needs it and naming the ``extra`` that
    installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        name = module.split(".")[0]
        raise ImportError(
            f"{what} needs {name}: pip install 'flowsolve[{extra}]'", name=name
        ) from error


def abroad(error: BaseException) -> TracebackType | None:
    """The frames of an error after the last one of flowsolve, None if there are none: of one that
    the user's own code raised, the way there."""
    home, where, step = str(Path(__file__).parent), None, error.__traceback__
    while step is not None:
        ours = step.tb_frame.f_code.co_filename.startswith(home)
        where = None if ours else where or step
        step = step.tb_next
    return where
