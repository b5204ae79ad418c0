r"""What a solver is. All of the interface is here, each part with the question it answers.

What a method must say:

====================  ==========================================================================
``coordinates``       In which coordinates is the network asked?
``order``             How fast does it converge?
``step``              How does one step go?
====================  ==========================================================================

The rest has answers that are right for a method of one evaluation a step:

====================  ==========================================================================
``evaluations``       How many evaluations does a step take?
``variable``          In which scalar are its steps uniform, its polynomials drawn?
``between(s, t)``     Which method takes a step between these levels, if this one cannot?
``steps(n, start)``   How many steps do n evaluations pay for?
``rules(levels, n)``  Which method takes each of the steps of a run?
``descend``           How is a step made that will have noise added at its end?
``fixed``             Is the arithmetic independent of the data, so that there is a plan?
====================  ==========================================================================

A method that needs a number σ̄ asks the level for it (``level.sigma``); where A and R are matrices
there is none, and the method is refused there by that very question.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..checked import checked
from ..coordinates import DATA, NOISE, Coordinates
from ..processes import SIGMA, Level, Variable
from .ode import Evaluation, Ode, Past, V

#: Where the state is, in a step that will have noise added at its end, while the noise level is at
#: a level: see :mod:`flowsolve.solvers.descent`.
Shadow = Callable[[Level], Level]


@dataclass(frozen=True)
class Solver(ABC):
    """A method: a frozen dataclass, its fields its options. In a run several may take turns.

    Examples:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Euler(flowsolve.solvers.Solver):
        ...     coordinates, order = flowsolve.coordinates.NOISE, 1
        ...
        ...     def step(self, ode, x, s, t, past):
        ...         return ode.move(x, s, t, ode(x, s)), past
        >>> plan = flowsolve.plan(Euler(), flowsolve.VP(), nfe=9)
        >>> plan == flowsolve.plan("ddim", flowsolve.VP(), nfe=9)
        True
    """

    such_as: ClassVar[str] = "a flowsolve.solvers object, such as flowsolve.solvers.DDIM()"
    #: False for solvers whose arithmetic depends on the data; they run on tensors, without a plan.
    fixed = True

    @property
    @abstractmethod
    def coordinates(self) -> Coordinates:
        """In which p is asked."""

    @property
    @abstractmethod
    def order(self) -> int:
        """Order of convergence in the step size."""

    @abstractmethod
    def step(self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V]) -> tuple[V, Past[V]]:
        """x at t from x at s, and the evaluations to remember, newest first.

        Arithmetic on states is ``+``, ``-``, ``*`` by a number and ``operator @ x`` alone, so that
        one method serves tensors and the symbols that a plan is traced with.
        """

    @property
    def evaluations(self) -> int | None:
        """Denoiser calls per step; None where the method decides and the budget is a cap."""
        return 1

    @property
    def variable(self) -> Variable:
        """The scalar in which the method is laid out: the coordinates' own clock, unless it says
        otherwise. Where the process has a clock of its own, that one takes its place."""
        return self.coordinates.clock or SIGMA

    def between(self, s: Level, t: Level) -> Solver:
        """The method for a step from s to t: this one, unless it cannot start or end one there.

        Onto clean data that is the hold of the last prediction, x = x̂0; where P has no inverse,
        the same hold.
        """
        if t.clean:
            return Hold(NOISE if DATA.singular(s) else DATA)  # CLD has velocities with noise alone
        return Hold(DATA) if self.singular(s, t) else self

    def singular(self, s: Level, t: Level) -> bool:
        """True if the coordinates have no inverse at one of the levels."""
        return self.coordinates.singular(s) or self.coordinates.singular(t)

    def steps(self, budget: int, start: Level) -> int:
        """The most steps from ``start`` that ``budget`` evaluations pay for."""
        return budget if self.evaluations is None else budget // self.evaluations

    def rules(self, levels: Sequence[Level], budget: int | None) -> list[Solver]:
        """The method of each step from one of ``levels``, all of them noisy, to the next, spending
        at most ``budget`` (None: what whole steps need)."""
        return [self] * (len(levels) - 1)

    def descend(
        self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V], shadow: Shadow
    ) -> tuple[V, Past[V]]:
        """The step from s to t, ending on the shadow of t, from where noise will take it to t: the
        step to the shadow, unless the method can do better with what it knows of the way."""
        return self.step(ode, x, s, shadow(t), past)


def check_planned(name: str, solver: Solver) -> None:
    """Raise ValueError unless ``solver``, an argument called ``name``, can be laid out as a
    plan."""
    if not solver.fixed:
        raise ValueError(
            f"{name}={solver!r}: its steps depend on the data, or are another library's; "
            "expected a solver with a plan, such as DDIM()"
        )


@checked
@dataclass(frozen=True)
class Hold(Solver):
    """Hold the prediction over the step, x_t = A_t x̂0 + R_t ε̂.

    Attributes:
        coordinates: in which that is carried out; the result is the same in all.

    Examples:
        >>> plan = flowsolve.plan(flowsolve.solvers.Hold(), flowsolve.VP(), nfe=4)
        >>> plan == flowsolve.plan("ddim", flowsolve.VP(), nfe=4)
        True
    """

    coordinates: Coordinates = NOISE  # type: ignore[assignment]

    @property
    def order(self) -> int:
        return 1

    def step(self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V]) -> tuple[V, Past[V]]:
        p = ode(x, s)
        return ode.move(x, s, t, p), (Evaluation(s, x, p, ode.coordinates), *past)


@dataclass(frozen=True)
class Rise(Solver):
    """From clean data up to the quietest noisy level q, x_q = A_q x0 + R_q ε̂(A_q x0, q): the noise
    that the ODE brings to x0 is what the network sees in it there."""

    @property
    def coordinates(self) -> Coordinates:
        return NOISE

    @property
    def order(self) -> int:
        return 1

    def step(self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V]) -> tuple[V, Past[V]]:
        x = ode.evaluator.settle((t.A @ s.A.inverse()) @ x)
        return x + t.R @ ode(x, t), ()
