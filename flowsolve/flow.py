r"""The loop, and what a solver's step sees of the world.

A step is written once, for tensors and for symbols: ``p = flow(x, s)`` asks the network at the state x on the level s
and returns p in the solver's coordinates; ``flow.move(x, s, t, p)`` holds p from s to t; ``flow.noise()`` is fresh
noise. Behind the flow stands a *door*, the one place where evaluations are made and counted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from .coordinates import Coordinates
from .processes import Level, Process


class Door(ABC):
    """The only way to the network: it asks, counts and reports. One kind works on tensors, one on symbols."""

    process: Process
    stopped: bool = False

    @abstractmethod
    def ask(self, x: Any, s: Level, coordinates: Coordinates) -> Any:
        """One evaluation at (x, s): p in ``coordinates``."""

    @abstractmethod
    def noise(self) -> Any:
        """Fresh standard normal noise in the state's shape."""

    @abstractmethod
    def arrive(self, x: Any, t: Level) -> None:
        """Told by the loop that a step ended with ``x`` on ``t``."""

    def reached(self, x: Any, t: Level) -> None:
        """Told by a method that subdivides its steps how far it has come."""
        return None

    def judged(self, x: Any, levels: Sequence[Level], accepted: Any, rejected: Any, running: Any) -> None:
        """Told by a method that steps every sample by itself how far each has come, whose step was accepted, whose rejected,
        and who has still to be asked; the last three are masks (n,)."""
        return None

    def parameters(self) -> Iterable[Any]:
        """What gradients may be asked for besides the state."""
        return ()


@dataclass(frozen=True)
class Flow:
    """What a solver's step sees: the door, in the solver's coordinates, and the one move all steps are made of."""

    door: Door
    coordinates: Coordinates

    @property
    def process(self) -> Process:
        """Where a step finds the levels of its stages."""
        return self.door.process

    def __call__(self, x: Any, s: Level) -> Any:
        """One evaluation of the network at (x, s): p."""
        return self.door.ask(x, s, self.coordinates)

    def move(self, x: Any, s: Level, t: Level, p: Any) -> Any:
        """x at t if p is held from s: Ψ x + (S_t − Ψ S_s) p."""
        carry, c = self.coordinates.hold(s, t)
        return carry @ x + c @ p

    def noise(self) -> Any:
        """Fresh standard normal noise in the state's shape."""
        return self.door.noise()


class Node(NamedTuple):
    """One remembered evaluation: where it was made, p in the coordinates it was asked in, and what a corrector wants to know."""

    level: Level
    x: Any
    p: Any
    coordinates: Coordinates
    taken: Any = None

    def seen_in(self, coordinates: Coordinates) -> Any:
        """p in other coordinates: a prediction is one thing, whatever it was asked as."""
        if coordinates == self.coordinates:
            return self.p
        a, b = self.coordinates.convert(coordinates, self.level)
        return a @ self.x + b @ self.p


class Rule(Protocol):
    """What the loop needs of a solver."""

    @property
    def coordinates(self) -> Coordinates: ...

    def step(self, flow: Flow, x: Any, s: Level, t: Level, past: tuple[Node, ...]) -> tuple[Any, tuple[Node, ...]]: ...


class Leg(NamedTuple):
    """One step of a run: which rule takes the state from s to t."""

    rule: Rule
    s: Level
    t: Level


def drive(legs: Sequence[Leg], door: Door, x: Any) -> Any:
    """The loop. It drives every solver, on tensors and on symbols."""
    past: tuple[Node, ...] = ()
    for rule, s, t in legs:
        x, past = rule.step(Flow(door, rule.coordinates), x, s, t, past)
        door.arrive(x, t)
        if door.stopped:
            break
    return x
