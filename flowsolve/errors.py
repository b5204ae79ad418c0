"""What goes wrong, said so that it can be mended: the argument, its value, what was expected, the nearest choice."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from .processes import Level


def unknown(argument: str, value: object, choices: Iterable[str], unlisted: Iterable[str] = ()) -> str:
    """The message for a name that is none of ``choices``, with the nearest first, of them or of the ``unlisted`` ones."""
    names = sorted(choices)
    typed = str(value).lower()
    swapped = [name for name in names if sorted(name) == sorted(typed)]  # transposed letters: the commonest slip
    near = swapped or _nearest(typed, [*names, *unlisted])
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{argument}={value!r} is not known.{hint} Known: {', '.join(names)}."


def _nearest(typed: str, names: list[str]) -> list[str]:
    small = {name.lower(): name for name in names}
    return [small[name] for name in difflib.get_close_matches(typed, small, n=1, cutoff=0.5)]


#: What an option may have to be.
_KINDS: dict[str, Callable[[Any], bool]] = {
    "a positive number": lambda v: _real(v) and 0.0 < v < math.inf,
    "a number >= 0": lambda v: _real(v) and v >= 0.0,
    "a finite number": lambda v: _real(v) and math.isfinite(v),
    "a finite number >= 0": lambda v: _real(v) and 0.0 <= v < math.inf,
    "a positive integer": lambda v: isinstance(v, int) and v >= 1,
    "an integer >= 0": lambda v: isinstance(v, int) and v >= 0,
}


def _real(value: Any) -> bool:
    return isinstance(value, (int, float))


def expect(owner: object, kind: str, *names: str) -> None:
    """Raise ValueError unless the attributes ``names`` are of a kind, such as "a positive number"."""
    for name in names:
        expect_value(name, getattr(owner, name), kind)


def expect_value(name: str, value: Any, kind: str) -> None:
    """Raise ValueError unless ``value``, called ``name``, is of a kind."""
    if not _KINDS[kind](value):
        raise ValueError(f"{name}={value!r}: expected {kind}")


class BudgetExceeded(RuntimeError):
    """An adaptive method reached its cap on evaluations before the end.

    Attributes:
        x: the last state reached, shape (batch, *shape).
        level: the noise level of ``x``; of a solver that steps every sample by itself, :class:`~flowsolve.processes.Levels`.
        nfe: evaluations spent.
    """

    def __init__(self, nfe: int, x: Tensor, level: Level) -> None:
        self.nfe, self.x, self.level = nfe, x, level
        super().__init__(
            f"nfe={nfe} evaluations were spent at {level}, before the end of the run. "
            "Raise nfe or loosen rtol and atol; the state reached is in this exception's .x and .level."
        )


class NonFiniteError(ValueError):
    """The network returned NaN or Inf, or the state overflowed.

    Attributes:
        x: the state at the end of the run (with the non-finite entries).
        level: the level of the first non-finite evaluation, None if every evaluation was finite.
        samples: indices in the batch of the samples concerned.
    """

    def __init__(self, x: Tensor, level: Level | None, evaluation: int, samples: list[int]) -> None:
        self.x, self.level, self.samples = x, level, samples
        where = (
            f"the network returned NaN or Inf first at evaluation {evaluation}, {level}"
            if level is not None
            else "every evaluation was finite but the state overflowed"
        )
        some = ", ".join(map(str, samples[:8])) + (", ..." if len(samples) > 8 else "")
        super().__init__(f"{where}; samples of the batch that are not finite at the end: {some}.")
