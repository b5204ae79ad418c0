r"""Forward processes, :math:`x_t = A_t x_0 + R_t\varepsilon`, and back from a level to its time.

A subclass that is defined is known: :data:`KNOWN` has it, and the tests of the zoo run on its
:meth:`Process.examples`.
"""

from __future__ import annotations

import inspect
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from torch import Tensor

from ..checked import Count, checked, read
from ..errors import refused, unknown
from ..operators import Operator
from ..typing import Float
from .levels import Level, Number
from .variables import VARIABLES, Variable

if TYPE_CHECKING:
    from typing_extensions import Self

O_co = TypeVar("O_co", bound=Operator, covariant=True)

#: How far beyond the noisiest level a number of another library may lie, of the whole range: what
#: float32 leaves of a product of a thousand. And beyond clean data: what it leaves of a difference.
ROUNDED, LEFT = 1e-5, 2.0**-23
#: Every process class that has been defined.
KNOWN: list[type[Process]] = []


class Process(ABC, Generic[O_co]):
    """A forward diffusion. Subclasses are frozen dataclasses: hashable, comparable, shared freely.

    What a subclass has to say: :meth:`level`, :meth:`time_of`, :meth:`label`, :meth:`bridge`,
    :meth:`rates`, and its times. The other methods answer for most processes. Those of numbers
    begin with :class:`~flowsolve.processes.ScalarProcess`, which needs less.

    Examples:
        >>> process = flowsolve.VP()
        >>> level = process.level(0.5)
        >>> x = level.A @ torch.ones(4, 2) + level.R @ torch.zeros(4, 2)  # x0 = 1, ε = 0
        >>> x.shape, round(process.time_of(level.sigma), 6)
        (torch.Size([4, 2]), 0.5)
    """

    such_as: ClassVar[str] = "a process, such as flowsolve.VP()"
    #: The noisiest time; a run starts here.
    t_max: float
    #: The quietest noisy time a network is asked at by default; grids that never reach zero noise
    #: by themselves end here.
    t_min: float
    #: The time at which nothing but x0 is left.
    t_clean: float = 0.0
    #: Number of entries of the table a discrete process was trained on; None for a continuous one.
    entries: int | None = None
    #: The one variable in which solvers lay out their steps and polynomials, for processes whose
    #: levels have no σ̄; None where every variable will do.
    clock: Variable | None = None
    #: By how much levels are shifted for large pictures, σ̄ → shift · σ̄: "auto" goes by it.
    shift: float = 1.0
    #: Whether A + R has an inverse at every level, so that FLOW coordinates exist.
    flows: bool = True
    #: The name of the grid of runs that ask for none, perhaps with options, see
    #: :mod:`flowsolve.grids`.
    grid: str = "quadratic"

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        KNOWN.append(cls)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            try:
                hash(value)
            except TypeError:
                raise TypeError(
                    refused(name, value, "what can be hashed, such as a tuple")
                    + f": plans are kept by their process, a {type(self).__name__}"
                ) from None
        if type(self).__hash__ is None:
            raise TypeError(f"{self!r} can change; expected a frozen dataclass")

    def __setattr__(self, name: str, value: Any) -> None:
        raise TypeError(
            f"{name}={value!r} cannot be set: plans are kept by their process, which must not "
            f"change; expected {type(self).__name__} to be a frozen dataclass"
        )

    @classmethod
    def examples(cls) -> Mapping[str, Self]:
        """Instances by name, for tests: the default one, unless a subclass has others."""
        return {re.sub("(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower(): cls()}

    @property
    def scalar(self) -> bool:
        """Whether A and R are numbers, so that a level has a σ̄."""
        return self.clock is None

    @abstractmethod
    def level(self, t: float) -> Level[O_co]:
        """The level at time ``t``. Raises ValueError outside [t_clean, t_max]; by rounding of
        float32 a time may be."""

    @abstractmethod
    def time_of(self, sigma: float) -> float:
        """The time at which σ̄ = R/A is ``sigma`` (inf where the process reaches pure noise).
        Raises ValueError for a σ̄ that no level has."""

    @abstractmethod
    def label(self, level: Level) -> float:
        """What a network trained on this process is told about ``level`` (its time, log σ, ...)."""

    @checked
    def prior(self, level: Level) -> Operator:
        """The root of the covariance a run is started with at ``level``: R, unless a convention
        says otherwise."""
        return level.R

    @abstractmethod
    def bridge(self, s: Level, t: Level, lam: float) -> Operator:
        """The noise root of the quieter level that the reverse SDE with noise λG goes to from s,
        when x̂0 is held and its noise left out.

        The state at t is :math:`A_t\\hat x_0 + R_tQ\\hat\\varepsilon` and noise of covariance
        :math:`R_t(1 - QQ^T)R_t^T`; this is :math:`R_tQ` (arXiv 2206.05564, proposition 6). With
        λ = 1 the two are the posterior q(x_t | x_s, x0), with λ = 0 there is no noise.
        """

    @abstractmethod
    def rates(self, level: Level) -> tuple[Operator, Operator]:
        """(dA/dt, dR/dt), t the process's own time. Raises ValueError where one is infinite."""

    @checked
    def grid_for(self, evaluations: Count) -> str:
        """The grid of runs that ask for none, with a method of so many evaluations a step:
        ``grid``, unless a subclass says otherwise."""
        return self.grid

    @checked
    def training_times(self, u: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """The times to train at for numbers ``u`` that are uniform in [0, 1): uniform in t, or on
        the entries of a table."""
        there = u.is_floating_point() and not u.is_meta
        if not there or not ((u >= 0.0) & (u < 1.0)).all():
            raise ValueError(refused("u", u, "numbers in [0, 1)"))
        if self.entries is not None:
            return (u * self.entries).floor()
        return self.t_min + u * (self.t_max - self.t_min)

    @checked
    def state_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a state for data of shape ``shape``. Raises ValueError for data that the
        process is not made for."""
        return shape

    @checked
    def state(self, x0: Float[Tensor, "n *shape"]) -> Float[Tensor, "n *state"]:
        """The clean state of data ``x0``, (batch, *shape)."""
        return x0

    @checked
    def data(self, x: Float[Tensor, "n *state"]) -> Float[Tensor, "n *shape"]:
        """The data of a clean state: the inverse of :meth:`state`."""
        return x

    def at(self, variable: Variable | str, value: float) -> Level[O_co]:
        """The level where ``variable`` ("sigma", "lambda", "t", "flow_time") has this value.

        Raises ValueError where there is none; a value that is beyond an end by rounding, as another
        library's float32 numbers may be, is that end.
        """
        if isinstance(variable, str):
            if variable not in VARIABLES:
                raise ValueError(unknown("variable", variable, VARIABLES))
            variable = VARIABLES[variable]
        if not isinstance(variable, Variable):
            raise TypeError(refused("variable", variable, f"one of {', '.join(VARIABLES)}"))
        if variable.to_sigma is None:
            return self.level(value)
        if self.scalar:
            ends = variable.of(self.start), variable.of(self.clean)
            value = within(self, variable.name, value, *ends)
        return self.level(self.time_of(float(variable.to_sigma(value))))

    @cached_property
    def start(self) -> Level[O_co]:
        """The noisiest level."""
        return self.level(self.t_max)

    @cached_property
    def clean(self) -> Level[O_co]:
        """The end of the road: A = 1, R = 0."""
        return self.level(self.t_clean)


def within(process: Process, name: str, value: float, noisy: float, clean: float) -> float:
    """``value`` of the argument ``name``, between that of the noisiest level and that of clean
    data; one of the two for a value that lies beyond by rounding. Raises ValueError farther out."""
    if type(value) is not float:
        value = read(name, value, Number)
    low, high = (clean, noisy) if clean < noisy else (noisy, clean)
    if low <= value <= high:
        return value
    size = high - low if math.isfinite(high - low) else 1.0
    if abs(value - noisy) <= ROUNDED * size:
        return noisy
    if abs(value - clean) <= LEFT * size:
        return clean
    raise ValueError(
        f"{name}={value!r} is outside this process's levels: expected {low:g} <= {name} <= "
        f"{high:g}, from {noisy:g} (the noisiest) to {clean:g} (clean); got it for {process!r}"
    )


def examples() -> dict[str, Process]:
    """An instance or more of every process that is known, by name."""
    return {
        name: process
        for cls in KNOWN
        if not inspect.isabstract(cls) and cls.__name__[0] != "_"
        for name, process in cls.examples().items()
    }
