r"""What a solver's step sees of the world.

A step is written once, for tensors and for symbols: ``p = ode(x, s)`` asks the network at the state
x on the level s and returns p in the solver's coordinates; ``ode.move(x, s, t, p)`` holds p from s
to t; ``ode.noise()`` is fresh noise. Behind it stands an :class:`Evaluator`: on tensors it asks the
network and counts, on symbols it writes down that a plan will.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ..coordinates import Coordinates
from ..processes import Level, Process, Variable

if TYPE_CHECKING:
    from typing_extensions import Self


class Vector(Protocol):
    """What a step may do with a state, which is a tensor or a symbol; ``operator @ x`` besides."""

    def __add__(self, other: Self, /) -> Self: ...
    def __sub__(self, other: Self, /) -> Self: ...
    def __mul__(self, factor: float, /) -> Self: ...
    def __rmul__(self, factor: float, /) -> Self: ...


V = TypeVar("V", bound=Vector)


class Evaluator(ABC, Generic[V]):
    """Who makes evaluations and counts them: one kind works on tensors, one on symbols."""

    process: Process
    stopped: bool = False

    @abstractmethod
    def ask(self, x: V, s: Level, coordinates: Coordinates) -> V:
        """One evaluation at (x, s): p in ``coordinates``."""

    @abstractmethod
    def noise(self) -> V:
        """Fresh standard normal noise in the state's shape."""

    @abstractmethod
    def arrive(self, x: V, t: Level) -> None:
        """Told by the loop that a step ended with ``x`` on ``t``."""

    def settle(self, x: V) -> V:
        """``x``, computed now because it will be used more than once."""
        return x

    def reached(self, x: V, t: Level) -> bool:
        """Told by a method that subdivides its steps that one of its own ended with ``x`` on ``t``,
        short of the step's end. True asks it to return at once, with that."""
        return False

    def judged(
        self, x: V, levels: Sequence[Level], accepted: Any, rejected: Any, running: Any
    ) -> bool:
        """Told by a method that steps every sample by itself how far each has come, whose step was
        accepted, whose rejected, and who has still to be asked; the last three are masks (n,). True
        asks it to return at once, with that."""
        return False

    def parameters(self) -> Iterable[Any]:
        """What gradients may be asked for besides the state."""
        return ()


@dataclass(frozen=True)
class Ode(Generic[V]):
    """What a step sees: the evaluator, in the solver's coordinates, and the one move all steps are
    made of."""

    evaluator: Evaluator[V]
    coordinates: Coordinates

    def __post_init__(self) -> None:
        self.coordinates.require(self.process)

    @property
    def process(self) -> Process:
        """Where a step finds the levels of its stages."""
        return self.evaluator.process

    def variable(self, wanted: Variable) -> Variable:
        """The scalar in which a method that wants ``wanted`` is laid out here: the process's clock
        if it has one."""
        return self.process.clock or wanted

    def __call__(self, x: V, s: Level) -> V:
        """One evaluation of the network at (x, s): p."""
        return self.evaluator.ask(x, s, self.coordinates)

    def move(self, x: V, s: Level, t: Level, p: V) -> V:
        """x at t if p is held from s: Ψ x + (S_t − Ψ S_s) p."""
        carry, c = self.coordinates.hold(s, t)
        return carry @ x + c @ p

    def noise(self) -> V:
        """Fresh standard normal noise in the state's shape."""
        return self.evaluator.noise()


@dataclass(frozen=True)
class Evaluation(Generic[V]):
    """One remembered evaluation: where it was made, and p in the coordinates it was asked in.

    Attributes:
        level, x: where.
        p: the answer.
        coordinates: of the answer.
        taken: what a corrector wants to know of the step that began there; None if nothing may be
            corrected.
    """

    level: Level
    x: V
    p: V
    coordinates: Coordinates
    taken: Any = None

    def seen_in(self, coordinates: Coordinates) -> V:
        """p in other coordinates: a prediction is one thing, whatever it was asked as."""
        if coordinates is self.coordinates or coordinates == self.coordinates:
            return self.p
        a, b = self.coordinates.convert(coordinates, self.level)
        return a @ self.x + b @ self.p


#: The evaluations that a step remembers, newest first.
Past = tuple[Evaluation[V], ...]
