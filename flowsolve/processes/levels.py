r"""Noise levels: one time t of a process, with its operators :math:`A_t` and :math:`R_t`.

Times and levels are host numbers in float64. The level with :math:`R = 0` is *clean*, the one with
:math:`A = 0` is *pure noise*; both may be part of a run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Generic, TypeVar

import numpy as np

from ..checked import read
from ..errors import Unsuited, refused
from ..operators import Operator, Rows, Scalar
from ..readers import Must

O_co = TypeVar("O_co", bound=Operator, covariant=True)

#: A level is as good as pure noise where less than this is left of the signal, A < 10⁻³: that is
#: lost in the rounding of half precision. The cosine table ends at σ̄ = 20291, the linear one at
#: 157.
LEAST_SIGNAL = 1e-3


#: A number, perhaps infinite.
Number = Annotated[float, Must(lambda v: True, "a number", infinite=True)]


@dataclass(frozen=True)
class Level(Generic[O_co]):
    """One noise level: the time ``t`` and the operators ``A`` (signal) and ``R`` (noise root).

    Examples:
        >>> level = flowsolve.RectifiedFlow().level(0.25)
        >>> level.A.value, level.R.value, round(level.sigma, 4), round(level.lam, 4)
        (0.75, 0.25, 0.3333, 1.0986)
    """

    t: float
    A: O_co
    R: O_co

    def __post_init__(self) -> None:
        # The quick way: a plan makes these by the thousand.
        if type(self.t) is not float or self.t != self.t:
            object.__setattr__(self, "t", read("t", self.t, Number))
        if type(self.A) is not Scalar or type(self.R) is not Scalar:
            for name in ("A", "R"):
                if not isinstance(getattr(self, name), Operator):
                    read(name, getattr(self, name), Operator)

    def __reduce__(self) -> Any:
        return type(self), (self.t, self.A, self.R)  # what has been computed since stays here

    @property
    def clean(self) -> bool:
        """True where no noise is left, R = 0."""
        return self.R.zero

    @property
    def pure_noise(self) -> bool:
        """True where no signal is left, A = 0."""
        return self.A.zero

    @property
    def drowned(self) -> bool:
        """True where the signal is a number, and none is left or as good as none."""
        return isinstance(self.A, Scalar) and self.A.value < LEAST_SIGNAL

    @property
    def scalar(self) -> bool:
        """True where A and R are numbers, so that there is a σ̄."""
        return isinstance(self.A, Scalar)

    @cached_property
    def sigma(self) -> float:
        """σ̄ = R / A, the noise level of the DDIM paper's ODE; inf at pure noise.

        Raises:
            ValueError: where A and R are no numbers.
        """
        if not (isinstance(self.A, Scalar) and isinstance(self.R, Scalar)):
            raise Unsuited(f"σ̄ = R/A is no number where A and R are matrices, as at t={self.t:.6g}")
        return math.inf if self.A.value == 0.0 else self.R.value / self.A.value

    @cached_property
    def lam(self) -> float:
        """λ = −log σ̄, half the log signal-to-noise ratio; inf when clean, −inf at pure noise."""
        sigma = self.sigma
        return math.inf if sigma == 0.0 else -math.log(sigma)

    @property
    def each(self) -> tuple[Level, ...]:
        """The levels of the samples of a batch: this one for all of them."""
        return (self,)

    def __str__(self) -> str:
        return f"level t={self.t:.6g} (A={self.A!r}, R={self.R!r})"


class Levels(Level[Rows]):
    """A level for each sample of a batch: where they are while each is stepped by itself.

    A and R are :class:`~flowsolve.operators.Rows`, ``t`` is the noisiest of the times, ``each``
    the levels.

    Examples:
        >>> process = flowsolve.RectifiedFlow()
        >>> levels = flowsolve.processes.Levels((process.level(0.25), process.level(0.5)))
        >>> levels.A @ torch.ones(2, 1)
        tensor([[0.7500],
                [0.5000]])
    """

    _each: tuple[Level, ...]

    def __init__(self, each: Iterable[Level]) -> None:
        try:
            levels = tuple(each)
        except TypeError:
            levels = ()
        if not levels or not all(isinstance(level, Level) for level in levels):
            raise TypeError(refused("each", each, "one level or more"))
        object.__setattr__(self, "_each", levels)
        super().__init__(
            max([level.t for level in levels]),
            rows([level.A for level in levels]),
            rows([level.R for level in levels]),
        )

    def __reduce__(self) -> Any:
        return Levels, (self._each,)

    @property
    def each(self) -> tuple[Level, ...]:
        return self._each

    @property
    def clean(self) -> bool:
        """True if a sample has no noise left."""
        return self.R.singular

    @property
    def pure_noise(self) -> bool:
        """True if a sample has no signal left."""
        return self.A.singular

    @property
    def drowned(self) -> bool:
        """True if a sample has no signal left, or as good as none."""
        return any(level.drowned for level in self._each)

    @property
    def scalar(self) -> bool:
        return True

    def __str__(self) -> str:
        low = min(level.t for level in self._each)
        return f"levels t={low:.6g} ... {self.t:.6g}, one for each sample"


def rows(operators: list[Any]) -> Rows:
    """One operator for each sample, of numbers. Raises TypeError for others."""
    for operator in operators:
        if not isinstance(operator, Scalar):
            raise TypeError(
                "samples can be on levels of their own only in scalar processes; got the operator "
                f"{operator!r}"
            )
    return Rows(np.array([operator.value for operator in operators]))


def numbers(level: Level) -> tuple[Any, Any]:
    """(A, R) of a scalar level: two numbers, or two arrays (n,) for samples on their own levels.

    Raises ValueError for other operators.
    """
    if not isinstance(level, Level):
        read("level", level, Level)
    if not (isinstance(level.A, (Scalar, Rows)) and isinstance(level.R, (Scalar, Rows))):
        raise Unsuited(
            "this is defined for scalar processes, whose A and R are numbers and no matrices"
        )
    return level.A.value, level.R.value
