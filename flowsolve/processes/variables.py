"""Scalar names for a noise level: what a polynomial through past evaluations is drawn in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checked import checked
from .levels import Level


@checked
@dataclass(frozen=True)
class Variable:
    """A monotone scalar name for a noise level.

    Attributes:
        name: what it is called.
        of: its value at a level.
        to_sigma: σ̄ at a value, or at an array of them; None if that is the process's business.

    Examples:
        >>> from flowsolve.processes import LAMBDA
        >>> level = flowsolve.RectifiedFlow().level(0.5)
        >>> LAMBDA.of(level) == level.lam, float(LAMBDA.to_sigma(0.0))
        (True, 1.0)
    """

    name: str
    of: Callable[[Level], float]
    to_sigma: Callable[[Any], Any] | None

    def finite(self, level: Level) -> bool:
        """True where it has a finite value."""
        return math.isfinite(self.of(level))

    def __repr__(self) -> str:
        return self.name


def _sigma(level: Level) -> float:
    return level.sigma


def _same(value: Any) -> Any:
    return value


def _lambda(level: Level) -> float:
    return level.lam


def _sigma_of_lambda(value: Any) -> Any:
    with np.errstate(over="ignore"):
        return np.exp(-value)


def _time(level: Level) -> float:
    return level.t


def _flow_time(level: Level) -> float:
    return 1.0 if level.pure_noise else level.sigma / (1.0 + level.sigma)


def _sigma_of_flow_time(value: Any) -> Any:
    with np.errstate(divide="ignore"):
        return np.where(value >= 1.0, np.inf, np.divide(value, 1.0 - np.asarray(value)))


#: σ̄ itself; the clock of NOISE coordinates.
SIGMA = Variable("sigma", _sigma, _same)
#: λ = −log σ̄, half log-SNR.
LAMBDA = Variable("lambda", _lambda, _sigma_of_lambda)
#: The process's own time.
TIME = Variable("t", _time, None)
#: σ̄/(1+σ̄), the time of the rectified flow through the same levels; the clock of FLOW coordinates,
#: finite at both ends.
FLOW_TIME = Variable("flow_time", _flow_time, _sigma_of_flow_time)
VARIABLES = {v.name: v for v in (SIGMA, LAMBDA, TIME, FLOW_TIME)}
