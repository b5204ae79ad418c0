r"""Forward processes: :math:`x_t = A_t x_0 + R_t\varepsilon`, and back from a noise level to its time.

Times and levels are host numbers in float64. The level with :math:`R = 0` is *clean*, the one with :math:`A = 0` is
*pure noise*; both may be part of a run.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import unknown
from ..operators import Operator, Rows, Scalar

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Level:
    """One noise level: the time ``t`` and the operators ``A`` (signal) and ``R`` (noise root). Immutable."""

    t: float
    A: Operator
    R: Operator

    @property
    def clean(self) -> bool:
        """True where no noise is left, R = 0."""
        return self.R.zero

    @property
    def pure_noise(self) -> bool:
        """True where no signal is left, A = 0."""
        return self.A.zero

    @property
    def sigma(self) -> float:
        """σ̄ = R / A, the noise level of the DDIM paper's ODE; inf at pure noise. Scalar processes only."""
        if not (isinstance(self.A, Scalar) and isinstance(self.R, Scalar)):
            raise TypeError(f"sigma is one number only for scalar processes; this level has operators {self.A!r}, {self.R!r}")
        return math.inf if self.A.value == 0.0 else self.R.value / self.A.value

    @property
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


class Levels(Level):
    """A level for each sample of a batch: what the samples are on while a solver steps each by itself.

    A and R are :class:`~flowsolve.operators.Rows`, ``t`` is the noisiest of the times, ``each`` the levels.
    """

    _each: tuple[Level, ...]

    def __init__(self, each: Iterable[Level]) -> None:
        levels = tuple(each)
        object.__setattr__(self, "_each", levels)
        super().__init__(max([level.t for level in levels]), _rows([level.A for level in levels]), _rows([level.R for level in levels]))

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

    def __str__(self) -> str:
        return f"levels t={min(level.t for level in self._each):.6g} ... {self.t:.6g}, one for each sample"


def _rows(operators: list[Any]) -> Rows:
    for operator in operators:
        if not isinstance(operator, Scalar):
            raise TypeError(f"samples can be on levels of their own only in scalar processes; got the operator {operator!r}")
    return Rows(np.array([operator.value for operator in operators]))


@dataclass(frozen=True)
class Variable:
    """A monotone scalar name for a noise level: what a polynomial through past evaluations is drawn in."""

    name: str
    of: Callable[[Level], float]
    to_sigma: Callable[[float], float] | None

    def __repr__(self) -> str:
        return self.name


#: σ̄ itself; the clock of NOISE coordinates.
SIGMA = Variable("sigma", lambda level: level.sigma, lambda value: value)
#: λ = −log σ̄, half log-SNR.
LAMBDA = Variable("lambda", lambda level: level.lam, lambda value: math.exp(-value))
#: The process's own time.
TIME = Variable("t", lambda level: level.t, None)
#: σ̄/(1+σ̄), the time of the rectified flow through the same levels; the clock of VELOCITY coordinates, finite at both ends.
FLOW_TIME = Variable(
    "flow_time",
    lambda level: 1.0 if level.pure_noise else level.sigma / (1.0 + level.sigma),
    lambda value: math.inf if value >= 1.0 else value / (1.0 - value),
)
VARIABLES = {v.name: v for v in (SIGMA, LAMBDA, TIME, FLOW_TIME)}


class Process(ABC):
    """A forward diffusion. Subclasses are frozen dataclasses: hashable, comparable, safe to share between threads."""

    #: The noisiest time; a run starts here.
    t_max: float
    #: The quietest noisy time a network is asked at by default; grids that never reach zero noise by themselves end here.
    t_min: float
    #: The time at which nothing but x0 is left.
    t_clean: float = 0.0
    #: Number of entries of the table a discrete process was trained on; None for a continuous process.
    entries: int | None = None
    #: Whether A and R are numbers, so that a level has a σ̄.
    scalar: bool = True
    #: Whether A + R has an inverse at every level, so that VELOCITY coordinates exist.
    velocity: bool = True

    @abstractmethod
    def level(self, t: float) -> Level:
        """The level at time ``t``. Raises ValueError outside [t_clean, t_max]."""

    @abstractmethod
    def time_of(self, sigma: float) -> float:
        """The time at which σ̄ = R/A is ``sigma`` (inf allowed where the process reaches pure noise)."""

    @abstractmethod
    def label(self, level: Level) -> float:
        """What a network trained on this process is told about ``level`` (its time, index, log σ, ...)."""

    def prior(self, level: Level) -> Operator:
        """The root of the covariance a run is started with at ``level``: R, unless a convention says otherwise."""
        return level.R

    @abstractmethod
    def bridge(self, s: Level, t: Level, lam: float) -> Operator:
        """The noise root of the quieter level that the reverse SDE with noise λG goes to from s, when x̂0 is held and its noise left out.

        The state at t is :math:`A_t\\hat x_0 + R_tQ\\hat\\varepsilon` and noise of covariance :math:`R_t(1 - QQ^T)R_t^T`; this is
        :math:`R_tQ` (arXiv 2206.05564, proposition 6). With λ = 1 the two are the posterior q(x_t | x_s, x0), with λ = 0 there is no noise.
        """

    def rates(self, level: Level) -> tuple[Operator, Operator]:
        """(dA/dt, dR/dt), where A and R are matrices. Raises ValueError at a level where R has no inverse."""
        raise NotImplementedError(f"{type(self).__name__} has a clock of its own, σ̄; solvers step in that")

    def state_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a state for data of shape ``shape``. Raises ValueError for data the process is not made for."""
        return shape

    def state(self, x0: Tensor) -> Tensor:
        """The clean state of data ``x0``, (batch, *shape)."""
        return x0

    def data(self, x: Tensor) -> Tensor:
        """The data of a clean state: the inverse of :meth:`state`."""
        return x

    def at(self, variable: Variable | str, value: float) -> Level:
        """The level at which ``variable`` ("sigma", "lambda", "t", "flow_time") has this value."""
        if isinstance(variable, str):
            if variable not in VARIABLES:
                raise ValueError(unknown("variable", variable, VARIABLES))
            variable = VARIABLES[variable]
        if variable.to_sigma is None:
            return self.level(value)
        return self.level(self.time_of(variable.to_sigma(value)))

    @property
    def start(self) -> Level:
        """The noisiest level."""
        return self.level(self.t_max)

    @property
    def clean(self) -> Level:
        """The end of the road: A = 1, R = 0."""
        return self.level(self.t_clean)

    def _check(self, t: float) -> float:
        t = float(t)
        if self.t_max < t <= self.t_max + 1e-9 * abs(self.t_max):
            return self.t_max  # the noisiest level, by way of another library's sigmas and their rounding
        if not self.t_clean <= t <= self.t_max:
            raise ValueError(
                f"t={t!r} is outside this process's times: expected {self.t_clean:g} (clean) <= t <= {self.t_max:g}; got it for {self!r}"
            )
        return t
