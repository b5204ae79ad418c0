"""What a network is told besides its state and time, and which of it has a row for each sample.

A name, "y", or a path into what is nested, "added.text", declares that a value has a row for each
sample. Dictionaries, and lists and tuples of tensors, hold values that have rows each; tensors,
arrays and other lists have rows themselves; numbers, strings and None are for all samples alike.
"""

from __future__ import annotations

import functools
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

Picked = slice | Tensor


class Rows(ABC):
    """A value that has rows and is not there as a whole: which are wanted is said first."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, rows: Picked) -> Any:
        """Those rows, as the network is told them."""


def rows_of(value: Any) -> int | None:
    """How many rows a value has, None if it is for all samples alike."""
    if isinstance(value, Rows):
        return len(value)
    if isinstance(value, (Tensor, np.ndarray)):
        return len(value) if value.ndim else None
    return len(value) if isinstance(value, (list, tuple)) else None


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values in a nested one, such as all of a conditioning, with their paths."""
    inside = _inside(value)
    for key, inner in inside:
        yield from leaves(inner, f"{path}.{key}" if path else str(key))
    if not inside:
        yield path, value


def _inside(value: Any) -> list[tuple[Any, Any]]:
    """What a dictionary, or a list of tensors, holds; nothing for a value itself."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, (list, tuple)):
        held = (Tensor, np.ndarray, Mapping)
        return list(enumerate(value)) if any(isinstance(v, held) for v in value) else []
    return []


def declared(path: str, names: Sequence[str]) -> bool:
    """Whether one of ``names`` is the path or leads to it."""
    return any(f"{path}.".startswith(f"{name}.") for name in names)


def cut(conditioning: Mapping[str, Any], names: Sequence[str], rows: Picked) -> dict[str, Any]:
    """The conditioning of some samples: of the values ``names`` their rows, the others whole."""
    return {key: _cut(value, key, names, rows) for key, value in conditioning.items()}


def _cut(value: Any, path: str, names: Sequence[str], rows: Picked) -> Any:
    inside = _inside(value)
    if not inside:
        if not declared(path, names) or rows_of(value) is None:
            return value
        if isinstance(value, np.ndarray):
            return value[rows.cpu().numpy() if isinstance(rows, Tensor) else rows]
        if isinstance(value, (Tensor, Rows)):
            return value[rows]
        picked = value[rows] if isinstance(rows, slice) else [value[i] for i in rows.tolist()]
        return type(value)(picked)
    parts = {key: _cut(inner, f"{path}.{key}", names, rows) for key, inner in inside}
    if isinstance(value, Mapping):
        return parts
    make: Callable[..., Any] = type(value)
    return make(*parts.values()) if hasattr(value, "_fields") else make(parts.values())


def check(conditioning: Mapping[str, Any], names: Sequence[str] | None) -> None:
    """Raise ValueError for a name that leads to nothing."""
    paths = [path for path, _ in leaves(conditioning) if path]
    for name in names or ():
        if not any(declared(path, [name]) for path in paths):
            raise ValueError(
                f"per_sample: there is no {name!r} in the conditioning; it has "
                f"{', '.join(paths) or 'nothing'}"
            )


def count(conditioning: Mapping[str, Any], names: Sequence[str] | None) -> int | None:
    """The rows that all the values declared have, None if there is none.

    Raises:
        ValueError: if they have different numbers of rows.
    """
    found = {
        path: rows
        for path, leaf in leaves(conditioning)
        if declared(path, names or ()) and (rows := rows_of(leaf)) is not None
    }
    if len(set(found.values())) > 1:
        have = ", ".join(f"{path} {rows}" for path, rows in found.items())
        raise ValueError(f"per_sample: expected as many rows in each value, but there are {have}")
    return next(iter(found.values()), None)


def doubtful(conditioning: Mapping[str, Any], n: int, first: int = 0) -> str | None:
    """The path of a value that may be for each or for all of n samples: it has as many rows or, if
    they are not the first ones, enough for all up to theirs. None if there is none."""
    sized = [(path, rows_of(leaf) or 0) for path, leaf in leaves(conditioning)]
    same = (path for path, rows in sized if rows == n > 1)
    enough = (path for path, rows in sized if first and rows >= first + n)
    return next(same, None) or next(enough, None)


def divisible(
    net: Any, conditioning: Mapping[str, Any], names: Sequence[str] | None, n: int
) -> bool:
    """Whether a network may be asked for some of n samples alone: what has a row for each of them
    is declared, or there is none. A function may hold rows of its own around it."""
    if names is not None:
        return True
    closure = isinstance(net, (types.FunctionType, types.MethodType, functools.partial))
    return not closure and doubtful(conditioning, n) is None


def check_known(conditioning: Mapping[str, Any], first: int, n: int, why: str) -> None:
    """Raise ValueError, naming it, for a value that may have a row for each of the samples or not,
    where nobody said which: ``why`` it has to be known."""
    path = doubtful(conditioning, n, first)
    if path is not None:
        raise ValueError(
            f"{path} may have a row for each sample or be the same for all, and {why} needs to "
            f"know: expected model.given(..., per_sample=[{path!r}]), or per_sample=[] if no "
            "value has rows"
        )
