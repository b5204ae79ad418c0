"""What was computed once and may be wanted again: plans, kept up to a number of bytes.

What is kept depends on no data and no network. The least recently used goes first; the last one is
kept whatever its size, so that a run that is repeated does not lay out again.
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from .checked import checked

C = TypeVar("C", bound=Callable[..., Any])

#: The bytes that are kept, of all functions together.
LIMIT = 256 * 2**20

#: How much of a long sequence is weighed: several steps of a plan.
_LONG = 90
_NOTHING = {type(None), bool, int, float, str}
_LOCK = threading.RLock()
_KEPT: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
_TABLES: list[Callable[[], None]] = []


def kept(function: C) -> C:
    """A function of hashable arguments, its results kept within :data:`LIMIT`."""

    @functools.wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        key = (function, args, *named.items())
        with _LOCK:
            found = _KEPT.get(key)
            if found is not None:
                _KEPT.move_to_end(key)
                return found[0]
        result = function(*args, **named)  # by two threads twice, rather than one at a time
        size = weigh((args, named, result))  # what is a key is held, too
        with _LOCK:
            if key in _KEPT:  # another thread was first: what it counted stays counted once
                return _KEPT[key][0]
            _KEPT[key] = result, size
            _Total.bytes += size
            while _Total.bytes > LIMIT and len(_KEPT) > 1:
                _Total.bytes -= _KEPT.popitem(last=False)[1][1]
        return result

    return call  # type: ignore[return-value]


class _Total:
    bytes = 0


def table(cached: C) -> C:
    """A function that keeps a fixed number of small things, which :func:`clear_cache` forgets."""
    _TABLES.append(cached.cache_clear)  # type: ignore[attr-defined]
    return cached


@checked
def clear_cache() -> None:
    """Forget what was kept for the next run with the same arguments; what is asked for again is
    computed again. Plans and the matrices of cosine transforms take at most 256 MiB together, or
    what the largest takes; beside them a fixed number of small tables is kept.

    Examples:
        >>> flowsolve.clear_cache()
    """
    with _LOCK:
        _KEPT.clear()
        _Total.bytes = 0
    for clear in _TABLES:
        clear()


def weigh(thing: Any, seen: dict[int, Any] | None = None) -> int:
    """About how many bytes a thing holds, what it holds in several places counted once. Of a long
    sequence, as the instructions of a plan are, a part stands for all."""
    total, todo, seen = 0, [thing], {} if seen is None else seen
    while todo:
        thing = todo.pop()
        if type(thing) in _NOTHING or id(thing) in seen:
            continue
        seen[id(thing)] = thing  # alive, or another thing might have its id
        if isinstance(thing, (np.ndarray, Tensor)):
            total += thing.nbytes + 300
        elif isinstance(thing, (tuple, list)):
            total += 60 + 8 * len(thing)
            if len(thing) <= _LONG:
                todo += thing
            else:
                middle = (len(thing) - _LONG) // 2
                total += len(thing) * weigh(thing[middle : middle + _LONG], seen) // _LONG
        elif isinstance(thing, dict):
            total += 100 + 100 * len(thing)
            todo += thing.values()
        elif not isinstance(thing, type):
            # A number's operator grows when it is first applied: by the number as a tensor.
            total += 300
            todo += getattr(thing, "__dict__", {}).values()
    return total
