"""A prediction as coefficients of the state and what the network returns."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from .checked import read
from .errors import refused
from .operators import Operator
from .processes import Level, Process
from .typing import Float

F = TypeVar("F", bound=Callable[..., Any])
Pair = tuple[Operator, Operator]


class Linear(NamedTuple):
    """A prediction as coefficients: x̂0 = x0[0] x + x0[1] o, ε̂ = eps[0] x + eps[1] o.

    Examples:
        >>> level = flowsolve.VP().level(0.5)
        >>> linear = flowsolve.parametrizations.Eps().coefficients(flowsolve.VP(), level)
        >>> linear.mix((-1.0, 1.0))[1].value == 1.0 + level.sigma  # o's share of ε̂ − x̂0
        True
    """

    x0: Pair
    eps: Pair

    def mix(self, weights: tuple[float, float]) -> Pair:
        """Coefficients of w₀x̂0 + w₁ε̂."""
        a, b = weights
        if b == 0.0:
            return self.x0[0] * a, self.x0[1] * a
        if a == 0.0:
            return self.eps[0] * b, self.eps[1] * b
        return self.x0[0] * a + self.eps[0] * b, self.x0[1] * a + self.eps[1] * b


class Prediction(NamedTuple):
    """The two estimates at one state, x = A x̂0 + R ε̂; each of shape (batch, *state).

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> level, x = model.process.level(0.5), torch.ones(1, 2)
        >>> x0, eps = model(x, level)
        >>> torch.allclose(level.A @ x0 + level.R @ eps, x.double())
        True
    """

    x0: Float[Tensor, "n *state"]
    eps: Float[Tensor, "n *state"]


#: What ``correct_x0`` of a denoiser is: a function (x̂0, level) → x̂0.
Correction = Callable[[Float[Tensor, "n *state"], Level], Float[Tensor, "n *state"]]


def check_asked(process: Any, level: Any) -> None:
    """Raise TypeError unless these are a process and a level. The quick way: this is asked at each
    evaluation."""
    if not (isinstance(process, Process) and isinstance(level, Level)):
        read("process", process, Process)
        read("level", level, Level)


def asked(function: F) -> F:
    """A parametrization's method of (process, level), which are these."""

    @functools.wraps(function)
    def call(self: Any, process: Process, level: Level) -> Any:
        check_asked(process, level)
        return function(self, process, level)

    return call  # type: ignore[return-value]


def of_operators(target: Callable[..., Any]) -> Callable[..., Pair]:
    """A parametrization's ``target``, with operators for its numbers."""

    @functools.wraps(target)
    def pair(self: Any, process: Process, level: Level) -> Pair:
        check_asked(process, level)
        try:
            found = target(self, process, level)
        except ZeroDivisionError:
            raise ValueError(f"level={level}: expected one with noise") from None
        try:
            a, b = (o if isinstance(o, Operator) else level.A.eye() * o for o in found)
        except (TypeError, ValueError):
            expected = "two operators or numbers, such as (level.A * 0.5, level.R)"
            raise TypeError(refused(f"predicts={self.name!r}: target", found, expected)) from None
        return a, b

    return pair
