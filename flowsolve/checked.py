"""What an argument may be, said where it is declared: in its annotation.

    @checked
    @dataclass(frozen=True)
    class Karras(Grid):
        rho: Positive = 7.0

:func:`checked` reads every argument by its annotation before the function runs: NumPy's and torch's
numbers become Python's, and what cannot be is refused with its name, its value and what was
expected, a TypeError for another kind of thing, a ValueError for a value out of range. What the
arguments must be to each other is the function's own business.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Annotated, Any, TypeVar
from typing import get_type_hints as hints_of

from .errors import refused, unknown
from .readers import Must, Reader, Said, anything, kind_of, reader

C = TypeVar("C", bound=Callable[..., Any])

Count = Annotated[int, Must(lambda v: v >= 1, "a positive integer")]
Natural = Annotated[int, Must(lambda v: v >= 0, "an integer >= 0")]
Positive = Annotated[float, Must(lambda v: v > 0.0, "a positive number")]
NonNegative = Annotated[float, Must(lambda v: v >= 0.0, "a number >= 0")]
#: A number >= 0 or infinity.
Extended = Annotated[float, Must(lambda v: v >= 0.0, "a number >= 0, or inf", infinite=True)]
Fraction = Annotated[float, Must(lambda v: 0.0 <= v <= 1.0, "a number from 0 to 1")]
Part = Annotated[float, Must(lambda v: 0.0 < v <= 1.0, "a number in (0, 1]")]
#: One seed.
OneSeed = Annotated[int, Must(lambda v: 0 <= v < 2**64, "an integer from 0 to 2**64 - 1")]


def read(name: str, value: Any, hint: Any) -> Any:
    """``value`` as an argument called ``name`` that is annotated ``hint``.

    Raises:
        TypeError, ValueError: naming it, its value and what was expected.
    """
    return _named(name, value, reader(hint))


def checked(target: C) -> C:
    """The function or class, its arguments read by their annotations at each call."""
    if not inspect.isclass(target):
        return _wrapped(target, target)
    cls: Any = target
    cls.__init__ = _wrapped(cls.__init__, cls)
    return cls


def _wrapped(function: Any, annotated: Any) -> Any:
    parameters = inspect.signature(function).parameters
    kinds = [p.kind for p in parameters.values()]
    places = [n for n, p in parameters.items() if p.kind <= p.POSITIONAL_OR_KEYWORD]
    open_ended = inspect.Parameter.VAR_KEYWORD in kinds

    known: tuple[dict[str, Reader], list[Reader | None]] | None = None

    @functools.wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        nonlocal known
        if known is None:  # the first call: by now all that annotations name is there
            found = _readers(function, annotated)
            known = found, [found.get(name) for name in places]
        readers, by_place = known
        read_in = [
            value if how is None else _named(name, value, how)
            for name, value, how in zip(places, args, by_place, strict=False)
        ]
        for name, value in named.items():
            if name in readers:
                named[name] = _named(name, value, readers[name])
            elif not open_ended and name not in parameters:
                choices = [n for n in parameters if n != "self"]
                raise TypeError(
                    unknown("argument", name, choices) + f" (an argument of {annotated.__name__})"
                )
        return function(*read_in, *args[len(places) :], **named)

    vars(call)["__checked__"] = True
    return call


def _readers(function: Any, annotated: Any) -> dict[str, Reader]:
    """The readers of a function's arguments; those without are taken as they are."""
    # A dataclass says what its fields are in all the modules that its bases are from.
    whose = annotated if is_dataclass(annotated) else function
    hints = hints_of(whose, include_extras=True)
    return {
        name: found
        for name, p in inspect.signature(function).parameters.items()
        if name in hints
        and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        and (found := reader(hints[name])).read is not anything
    }


def _named(name: str, value: Any, how: Reader) -> Any:
    try:
        return how.read(value)
    except Said as error:
        raise error.kind(name + error.text) from None
    except (TypeError, ValueError, OverflowError) as error:
        raise kind_of(error)(refused(name, value, how.expected)) from None
