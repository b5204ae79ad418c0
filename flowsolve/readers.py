"""How a value is read by an annotation: NumPy's and torch's numbers become Python's, and what
cannot be is refused."""

from __future__ import annotations

import functools
import math
import operator
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from .errors import refused, unknown


class Must(NamedTuple):
    """What a value has to be besides its type, in ``Annotated[float, Must(...)]``.

    Attributes:
        test: of the value read.
        expected: the whole of what is expected, "a positive number".
        infinite: True where a number may be infinite; NaN it never is.
    """

    test: Callable[[Any], bool]
    expected: str
    infinite: bool = False


class Later(NamedTuple):
    """In an annotation: the argument is read inside, ``by`` a function that knows more."""

    by: str


class Reader(NamedTuple):
    """How values of one annotation are read, and what is said to be expected.

    ``read`` gives the value, converted; it raises TypeError or ValueError, of whatever message, for
    one that cannot be.
    """

    read: Callable[[Any], Any]
    expected: str


class Said(Exception):
    """A refusal that says more than what the reader expects: ``kind`` is the exception to raise,
    ``text`` its message after the argument's name."""

    def __init__(self, kind: type[Exception], text: str) -> None:
        self.kind, self.text = kind, text


def kind_of(error: Exception) -> type[Exception]:
    """What to raise for an error met in reading: TypeError for a thing of another kind, else
    ValueError."""
    return TypeError if isinstance(error, TypeError) else ValueError


def reader(hint: Any) -> Reader:
    """How an annotation is read."""
    origin = get_origin(hint)
    if origin is Annotated:
        base, *musts = get_args(hint)
        if any(isinstance(m, Later) for m in musts):
            return Reader(anything, "anything")
        return _must(base, [m for m in musts if isinstance(m, Must)])
    if origin in (Union, types.UnionType):
        return _union([reader(part) for part in get_args(hint)])
    if origin is Literal:
        return _literal(get_args(hint))
    if hint in _PLAIN:
        return _PLAIN[hint]
    if origin in (tuple, Sequence, Iterable, list):
        return _sequence(origin, get_args(hint))
    kind = origin or hint
    if kind is type(None):
        return Reader(_nothing, "None")
    if kind is Callable:
        return Reader(_callable, "a function")
    if hasattr(kind, "array_type"):  # a shape, where jaxtyping is installed
        kind = kind.array_type
    if not isinstance(kind, type) or kind is object:
        return Reader(anything, "anything")
    if kind.__name__ == "Tensor":
        return Reader(functools.partial(_tensor, kind), "a tensor, and not a sparse one")
    return Reader(functools.partial(_instance, kind), _described(kind))


def _described(kind: type) -> str:
    """What a class is called in messages: what it says itself, as its attribute ``such_as``, or
    its name."""
    said = getattr(kind, "such_as", None) or {
        "Mapping": "a dictionary",
        "PathLike": "a path",
        "device": 'a torch.device, such as "cpu"',
        "dtype": "a torch.dtype, such as torch.float32",
    }.get(kind.__name__)
    if isinstance(said, str):
        return said
    module = "flowsolve." * kind.__module__.startswith("flowsolve")
    return f"a {module}{kind.__name__}"


def anything(value: Any) -> Any:
    return value


def _nothing(value: Any) -> None:
    if value is not None:
        raise TypeError


def _callable(value: Any) -> Any:
    if not callable(value):
        raise TypeError
    return value


def _instance(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError
    return value


def _tensor(kind: type, value: Any) -> Any:
    """Of strided memory, as all arithmetic here wants it."""
    if str(_instance(kind, value).layout) != "torch.strided":
        raise TypeError
    return value


def _plain(value: Any) -> Any:
    """A number or a truth value of NumPy's or torch's as Python's."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        try:
            return (value.detach() if hasattr(value, "detach") else value).item()
        except RuntimeError:  # it has no value, as on the meta device
            raise TypeError from None
    return value


def _integer(value: Any) -> int:
    value = _plain(value)
    if isinstance(value, bool) or getattr(value, "ndim", 0):
        raise TypeError
    return operator.index(value)


def _float(value: Any, infinite: bool = False) -> float:
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    number = float(value)
    if math.isnan(number) or (math.isinf(number) and not infinite):
        raise ValueError
    return number


def _truth(value: Any) -> bool:
    value = _plain(value)
    if not isinstance(value, bool):
        raise TypeError
    return value


_PLAIN: dict[Any, Reader] = {
    Any: Reader(anything, "anything"),
    int: Reader(_integer, "an integer"),
    float: Reader(_float, "a finite number"),
    bool: Reader(_truth, "True or False"),
    str: Reader(functools.partial(_instance, str), "a string"),
}


def _must(base: Any, musts: list[Must]) -> Reader:
    plain = reader(base)
    first = plain.read
    if base is float and any(must.infinite for must in musts):
        first = functools.partial(_float, infinite=True)

    def take(value: Any) -> Any:
        value = first(value)
        if not all(must.test(value) for must in musts):
            raise ValueError
        return value

    return Reader(take, musts[-1].expected) if musts else plain


def _union(parts: list[Reader]) -> Reader:
    def take(value: Any) -> Any:
        errors: list[Exception] = []
        for part in parts:
            try:
                return part.read(value)
            except (TypeError, ValueError, OverflowError, Said) as error:
                errors.append(error)
        # Of the right kind for one of them: what that one has to say.
        raise next((e for e in errors if not isinstance(e, TypeError)), TypeError())

    names = list(dict.fromkeys(part.expected for part in parts if part.expected != "None"))
    names += ["None"] * any(part.expected == "None" for part in parts)
    return Reader(take, ", ".join(names[:-1]) + " or " * (len(names) > 1) + names[-1])


def _literal(choices: Sequence[Any]) -> Reader:
    def take(value: Any) -> Any:
        if not isinstance(value, str):
            raise TypeError
        if value not in choices:
            raise Said(ValueError, unknown("", value, choices))
        return value

    return Reader(take, "one of " + ", ".join(map(repr, choices)))


def _sequence(origin: Any, arguments: tuple[Any, ...]) -> Reader:
    fixed = origin is tuple and arguments[1:] != (...,)
    parts = [reader(part) for part in (arguments if fixed else arguments[:1])]
    numbers = all(part in _PLAIN.values() for part in parts)
    what = ", ".join(dict.fromkeys(part.expected for part in parts))
    number = {2: "pair"}.get(len(parts), f"sequence of {len(parts)}") if fixed else "sequence"
    expected = f"a {number}, each {what}"

    def take(value: Any) -> Any:
        if isinstance(value, (str, bytes, Mapping)):
            raise TypeError
        if getattr(value, "ndim", 1) != 1:
            raise TypeError
        try:
            items = list(value.tolist() if hasattr(value, "tolist") and numbers else value)
        except (RuntimeError, NotImplementedError):  # without values, as on the meta device
            raise TypeError from None
        if fixed and len(items) != len(parts):
            raise ValueError
        every = parts if fixed else parts * len(items)
        for k, (item, part) in enumerate(zip(items, every, strict=True)):
            try:
                items[k] = part.read(item)
            except Said as error:
                raise Said(error.kind, f"[{k}]{error.text}") from None
            except (TypeError, ValueError, OverflowError) as error:
                raise Said(kind_of(error), refused(f"[{k}]", item, part.expected)) from None
        return tuple(items)

    return Reader(take, expected)
