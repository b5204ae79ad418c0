r"""Bridges to ODE libraries: torchdiffeq and scipy on :math:`d(P^{-1}x) = dc\,p`, that is dx̄ = ε̂
dσ̄ in NOISE coordinates.

Where A and R are matrices there is no clock that is a number, and the equation is that of dx/dt.

They subdivide a step themselves, so their arithmetic depends on the data and they run on tensors;
the budget is a cap. torchdiffeq's step sizes are chosen for the batch as a whole (its error norm is
a mean over all samples), so a sample's result depends, within the tolerance, on its neighbours.
scipy integrates the batch as one long float64 vector on the CPU: meant for reference trajectories.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..checked import Positive
from ..coordinates import FLOW, NOISE, Coordinates, check_clock
from ..errors import unknown
from ..processes import Level
from ..typing import Float
from .base import Solver
from .ends import Ends
from .ode import Ode, Past

#: From a σ̄ like this a step is laid out as from pure noise.
HUGE = 1e6


class Problem(NamedTuple):
    """An initial value problem dy/dc = slope(c, y), from ``start`` to ``end``.

    Attributes:
        slope, y, start, end: the equation, the state at the start, and the ends of c.
        reached: is to be told c and y where steps begin.
        parameters: what else gradients may be asked for.
    """

    slope: Callable[[float, Tensor], Tensor]
    y: Float[Tensor, "n *state"]
    start: float
    end: float
    reached: Callable[[float, Tensor], None]
    parameters: Iterable[Any]


@dataclass(frozen=True)
class Bridge(Solver):
    """An integrator from another library, by its name there.

    Attributes:
        method: the integrator.
        rtol, atol: relative and absolute tolerance on x̄ = P⁻¹x.

    Examples:
        >>> flowsolve.solvers.SciPy.methods()["RK45"]  # order 5, evaluations as it likes
        (5, None)
        >>> flowsolve.solvers.SciPy("RK45", rtol=1e-6).coordinates
        NOISE
    """

    method: str
    rtol: Positive = 1e-5
    atol: Positive = 1e-5
    coordinates: Coordinates = NOISE  # type: ignore[assignment]
    fixed = False

    def __post_init__(self) -> None:
        if self.method not in self.methods():
            raise ValueError(unknown("method", self.method, self.methods()))
        check_clock(self.coordinates)

    @property
    def order(self) -> int:
        return self.methods()[self.method][0]

    @property
    def evaluations(self) -> int | None:
        return self.methods()[self.method][1]

    @staticmethod
    @abstractmethod
    def methods() -> Mapping[str, tuple[int, int | None]]:
        """Names, with the order and the evaluations per step (None where the method decides)."""

    @abstractmethod
    def integrate(self, problem: Problem) -> Float[Tensor, "n *state"]:
        """y at the end."""

    def between(self, s: Level, t: Level) -> Solver:
        if self.evaluations is None and (s.clean or t.clean):
            return Ends(self)
        huge = s.scalar and max(s.sigma, t.sigma) > HUGE
        if not t.clean and (self.singular(s, t) or huge):
            return replace(self, coordinates=FLOW)
        return super().between(s, t)

    def step(self, ode: Ode[Any], x: Any, s: Level, t: Level, past: Past[Any]) -> Any:
        coordinates, process = ode.coordinates, ode.process
        clock = ode.variable(self.variable)
        start, end = clock.of(s), clock.of(t)
        low, high = sorted((start, end))
        if start == end:  # so short that the clock does not see it
            return x, past

        def at(c: float) -> Level:
            # The ends are met exactly, whatever the library's rounding of its time.
            c = min(max(c, low), high)
            return s if c == start else t if c == end else process.at(clock, c)

        def state(c: float, y: Tensor) -> Tensor:
            return coordinates.P(at(c)) @ y if process.scalar else y

        here = start

        def reached(c: float, y: Tensor) -> None:
            nonlocal here
            if c != here:  # a step that has to be made again begins where the last one did
                here = c
                if ode.evaluator.reached(state(c, y), at(c)):
                    raise _Stop(c, y)

        def slope(c: float, y: Tensor) -> Tensor:
            p = ode(state(c, y), at(c))
            if process.scalar:
                return p
            a, b = coordinates.slope(process, at(c))
            return a @ y + b @ p

        y = coordinates.P(s).inverse() @ x if process.scalar else x
        problem = Problem(slope, y, start, end, reached, ode.evaluator.parameters())
        try:
            return state(end, self.integrate(problem)), past
        except _Stop as stop:
            c, y = stop.args
            if torch.is_grad_enabled() and not y.requires_grad:
                # The adjoint's gradients are of whole integrations.
                y = self.integrate(problem._replace(end=c, reached=lambda c, y: None))
            return state(c, y), past


class _Stop(Exception):
    """(c, y), where whoever watches asked to stop."""
