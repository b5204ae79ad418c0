r"""What a network may be trained to return: combinations of the data and the noise.

A network is asked at :math:`x = Ax_0 + R\varepsilon` and learns :math:`a x_0 + b\varepsilon`. The
two equations give the estimates back as coefficients of (x, o), o being its output:

.. math::
   \hat x_0 = \frac{bx - Ro}{D},\qquad \hat\varepsilon = \frac{Ao - ax}{D},\qquad D = Ab - Ra .

==========  ======================  =====================================================
predicts    target                  source
==========  ======================  =====================================================
"eps"       ε                       arXiv 2006.11239
"x0"        x0
"v"         A ε − R x0              arXiv 2202.00512, on any process
"velocity"  A'x0 + R'ε              dx/dt, t the process's own time: ε − x0 on a rectified flow
                                    (arXiv 2209.03003; 2210.02747; 2401.08740 on any path)
"flow"      ε − x0                  on any process: dx/dt of the rectified flow through its levels
"score"     −ε/R                    arXiv 2011.13456
"F"         (R x0/σ_d − A σ_d ε)/n  arXiv 2206.00364, table 1; n² = R² + A²σ_d²; input x/n
"scm"       (A'x0 + R'ε)/σ_d        arXiv 2410.11081, eq. 4; input x/σ_d
==========  ======================  =====================================================

A table of β's has no dx/dt at its entries: "velocity" and "scm" are refused there.

A subclass that is defined with a name is known by it: ``class Mine(Parametrization, name="mine")``.
Solvers use these coefficients, not tensors of x̂0 and ε̂, so that a conversion costs nothing and
cancels in float64 rather than float32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from .checked import checked
from .errors import register
from .linear import Linear, Pair, asked, check_asked, of_operators
from .named import named
from .operators import Operator, multiplication
from .processes import Level, Process, Spread, numbers


class Parametrization(ABC):
    """What a network returns. A subclass gives the :meth:`target`, and the :meth:`input_scale` if
    it has one; it should be hashable, as a frozen dataclass is."""

    #: The names that ``predicts`` may be.
    known: ClassVar[dict[str, type[Parametrization]]] = {}
    name: ClassVar[str] = ""
    #: True of one whose network may return the data alone, where a state has more than them in it.
    of_data: ClassVar[bool] = False

    def __init_subclass__(cls, name: str = "", **rest: Any) -> None:
        super().__init_subclass__(**rest)
        cls.name = name or cls.__name__
        if "target" in vars(cls):
            cls.target = of_operators(cls.target)  # type: ignore[method-assign]
        if "input_scale" in vars(cls):
            cls.input_scale = asked(cls.input_scale)  # type: ignore[method-assign]
        if name:
            register("prediction", Parametrization.known, name, cls)

    @abstractmethod
    def target(self, process: Process, level: Level) -> Pair:
        """(a, b): the network is to return a x0 + b ε. ``level`` is noisy. Numbers are taken for
        the operators that multiply by them.

        Raises ValueError where it is not defined, as most are not where A and R are matrices.
        """

    @asked
    def input_scale(self, process: Process, level: Level) -> Operator | None:
        """What the state is multiplied by before the network sees it; None for nothing."""
        return None

    def coefficients(self, process: Process, level: Level) -> Linear:
        """(x̂0, ε̂) in terms of the state and the output.

        Raises:
            ValueError: at a level where the output determines nothing, as ε at pure noise, and on
                clean data.
        """
        check_asked(process, level)
        if level.clean:
            raise ValueError(
                f"the network is not defined on clean data, {level}; expected a level with noise, "
                "such as t_min"
            )
        a, b = self.target(process, level)
        if level.pure_noise and a.zero:
            raise ValueError(
                f"predicts={self.name!r} says nothing about x0 at pure noise, {level}; start from "
                "a quieter level (span=(t, None) with t below the process's t_max) or use a "
                "network that predicts x0, v or velocity"
            )
        try:
            return _solved(level, a, b)
        except ZeroDivisionError:
            raise ValueError(
                f"predicts={self.name!r}: from {a!r} x0 + {b!r} eps the two cannot be told at "
                f"{level}; expected a target (a, b) with an inverse of A b - R a"
            ) from None


def _solved(level: Level, a: Operator, b: Operator) -> Linear:
    """(x̂0, ε̂) from x = A x̂0 + R ε̂ and o = a x̂0 + b ε̂."""
    if a.zero:  # of one estimate alone, that one is read off and nothing cancels
        inverse, back = level.A.inverse(), b.inverse()
        return Linear((inverse, -(inverse @ level.R @ back)), (a, back))
    if b.zero:
        inverse, back = level.R.inverse(), a.inverse()
        return Linear((b, back), (inverse, -(inverse @ level.A @ back)))
    if not level.scalar:  # b⁻¹ first: matrices need not commute
        back = b.inverse()
        m, noise = (level.A - level.R @ back @ a).inverse(), level.R @ back
        return Linear((m, -(m @ noise)), (-(back @ a @ m), back + back @ a @ m @ noise))
    d = (level.A @ b - level.R @ a).inverse()
    return Linear((d @ b, -(d @ level.R)), (-(d @ a), d @ level.A))


@dataclass(frozen=True)
class Eps(Parametrization, name="eps"):
    """The noise."""

    def target(self, process: Process, level: Level) -> Pair:
        one = level.A.eye()
        return one * 0.0, one


@dataclass(frozen=True)
class X0(Parametrization, name="x0"):
    """The data; where a state has more than them in it, the data alone will do."""

    of_data = True

    def target(self, process: Process, level: Level) -> Pair:
        one = level.R.eye()
        return one, one * 0.0


@dataclass(frozen=True)
class V(Parametrization, name="v"):
    """Salimans and Ho's v."""

    def target(self, process: Process, level: Level) -> Pair:
        a, r = numbers(level)
        return multiplication(-r), multiplication(a)


@dataclass(frozen=True)
class Velocity(Parametrization, name="velocity"):
    """dx/dt along the process's path, in its own time."""

    def target(self, process: Process, level: Level) -> Pair:
        numbers(level)  # matrices are refused
        if process.entries:
            raise ValueError(
                f"predicts={self.name!r} is dx/dt, which {process!r} does not have at the entries "
                "of its table; expected a prediction without it, such as 'v', or 'flow' for ε − x0"
            )
        return process.rates(level)


@dataclass(frozen=True)
class Flow(Parametrization, name="flow"):
    """The direction of the straight path from data to noise, whatever the process's own: p of FLOW
    coordinates."""

    def target(self, process: Process, level: Level) -> Pair:
        one = numbers(level)[0] * 0.0 + 1.0
        return multiplication(-one), multiplication(one)


@dataclass(frozen=True)
class Score(Parametrization, name="score"):
    """∇ log p of the noisy state."""

    def target(self, process: Process, level: Level) -> Pair:
        r = numbers(level)[1]
        return multiplication(0.0 * r), multiplication(-1.0 / r)


@checked
@dataclass(frozen=True)
class F(Parametrization, name="F"):
    """EDM's preconditioned network: its input and its target have unit size at every level.

    Attributes:
        sigma_data: σ_d, the standard deviation of the data.
    """

    sigma_data: Spread = 0.5

    def _norm(self, level: Level) -> tuple[Any, Any, Any]:
        a, r = numbers(level)
        return a, r, (r * r + (a * self.sigma_data) ** 2) ** 0.5

    def target(self, process: Process, level: Level) -> Pair:
        a, r, n = self._norm(level)
        return multiplication(r / (self.sigma_data * n)), multiplication(-a * self.sigma_data / n)

    def input_scale(self, process: Process, level: Level) -> Operator:
        return multiplication(1.0 / self._norm(level)[2])


@checked
@dataclass(frozen=True)
class SCM(Velocity, name="scm"):
    """Simplified consistency models' network F, dx/dt = σ_d F: on :class:`~flowsolve.TrigFlow`,
    cos t ε − sin t x0/σ_d.

    Attributes:
        sigma_data: σ_d, the standard deviation of the data; None for the process's, 1 if it does
            not say.
    """

    sigma_data: Spread | None = None

    def _unit(self, process: Process) -> float:
        return 1.0 / (self.sigma_data or getattr(process, "sigma_data", 1.0))

    def target(self, process: Process, level: Level) -> Pair:
        down, up = super().target(process, level)
        return down * self._unit(process), up * self._unit(process)

    def input_scale(self, process: Process, level: Level) -> Operator:
        return level.A.eye() * self._unit(process)


def find_parametrization(predicts: Any) -> Parametrization:
    """The object that ``predicts`` is or names, perhaps with options ("F(sigma_data=1)"). Raises
    TypeError or ValueError otherwise."""
    if isinstance(predicts, str):
        return named("predicts", "prediction", predicts, Parametrization.known)
    if not isinstance(predicts, Parametrization):
        raise TypeError(
            f"predicts={predicts!r}: expected a name such as 'eps' or a flowsolve.Parametrization"
        )
    if type(predicts).__hash__ is None:
        raise TypeError(
            f"predicts={predicts!r} cannot be hashed, and plans are kept by it; expected a frozen "
            "dataclass"
        )
    return predicts
