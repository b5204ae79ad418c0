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

import numpy as np
import torch
from torch import Tensor

from ..coordinates import FLOW, NOISE, Coordinates
from ..errors import expect, unknown
from ..processes import Level
from ..typing import Float
from .base import Solver
from .ode import Ode, Past


class Problem(NamedTuple):
    """An initial value problem dy/dc = slope(c, y), from ``start`` to ``end``.

    Attributes:
        slope, y, start, end: the equation, the state at the start, and the ends of c.
        reached: is to be told c and y of accepted steps.
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
    """

    method: str
    rtol: float = 1e-5
    atol: float = 1e-5
    coordinates: Coordinates = NOISE  # type: ignore[assignment]
    fixed = False

    def __post_init__(self) -> None:
        if self.method not in self.methods():
            raise ValueError(unknown("method", self.method, self.methods()))
        expect(self, "a positive number", "rtol", "atol")

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
        if not t.clean and self.singular(s, t):
            return replace(self, coordinates=FLOW)
        return super().between(s, t)

    def step(self, ode: Ode[Any], x: Any, s: Level, t: Level, past: Past[Any]) -> Any:
        coordinates, process = ode.coordinates, ode.process
        clock = ode.variable(self.variable)
        start, end = clock.of(s), clock.of(t)
        low, high = sorted((start, end))

        def at(c: float) -> Level:
            # The ends are met exactly, whatever the library's rounding of its time.
            c = min(max(c, low), high)
            return s if c == start else t if c == end else process.at(clock, c)

        def state(c: float, y: Tensor) -> Tensor:
            return coordinates.P(at(c)) @ y if process.scalar else y

        def reached(c: float, y: Tensor) -> None:
            ode.evaluator.reached(state(c, y), at(c))

        def slope(c: float, y: Tensor) -> Tensor:
            p = ode(state(c, y), at(c))
            if process.scalar:
                return p
            a, b = coordinates.slope(process, at(c))
            return a @ y + b @ p

        y = coordinates.P(s).inverse() @ x if process.scalar else x
        problem = Problem(slope, y, start, end, reached, ode.evaluator.parameters())
        return state(end, self.integrate(problem)), past


_TORCHDIFFEQ: dict[str, tuple[int, int | None]] = {
    "dopri5": (5, None),
    "dopri8": (8, None),
    "bosh3": (3, None),
    "fehlberg2": (2, None),
    "adaptive_heun": (2, None),
    "euler": (1, 1),
    "midpoint": (2, 2),
    "heun2": (2, 2),
    "heun3": (3, 3),
    "rk4": (4, 4),
}


@dataclass(frozen=True)
class TorchDiffEq(Bridge):
    """torchdiffeq's ``odeint``; gradients through ``odeint_adjoint``. Its fixed-step methods take
    one step per step of the grid."""

    @staticmethod
    def methods() -> Mapping[str, tuple[int, int | None]]:
        return _TORCHDIFFEQ

    def integrate(self, problem: Problem) -> Float[Tensor, "n *state"]:
        import torchdiffeq  # slow to import: only for those who use it

        slope, y, start, end, reached, parameters = problem

        def field(c: Tensor, y: Tensor) -> Tensor:
            # The adjoint asks for a gradient in time, which we do not use.
            return slope(float(c.detach()), y)

        if self.evaluations is None:
            field.callback_step = lambda c, y, h: reached(float(c), y)  # type: ignore[attr-defined]
        span = torch.tensor([start, end], dtype=torch.float64, device=y.device)
        arguments: dict[str, Any] = {"rtol": self.rtol, "atol": self.atol, "method": self.method}
        arguments["options"] = self._options(start, end, y.device)
        try:
            if torch.is_grad_enabled():
                path: Any = torchdiffeq.odeint_adjoint(
                    field, y, span, adjoint_params=tuple(parameters), **arguments
                )
            else:
                path = torchdiffeq.odeint(field, y, span, **arguments)
            return path[-1]
        except AssertionError as error:
            raise RuntimeError(
                f"torchdiffeq's {self.method} gave up: {error}; loosen rtol={self.rtol} and "
                f"atol={self.atol}"
            ) from error

    def _options(self, start: float, end: float, device: torch.device) -> dict[str, Any]:
        if self.evaluations is not None:
            return {}
        # Never step past the end.
        return {"step_t": torch.tensor([end], dtype=torch.float64, device=device)}


@dataclass(frozen=True)
class TorchDiffEqAdams(TorchDiffEq):
    """torchdiffeq's Adams methods, which need a constant step: ``substeps`` equal ones of the clock
    over each step of the grid."""

    substeps: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        expect(self, "a positive integer", "substeps")

    @staticmethod
    def methods() -> Mapping[str, tuple[int, int | None]]:
        return {"explicit_adams": (4, None), "implicit_adams": (4, None)}

    def _options(self, start: float, end: float, device: torch.device) -> dict[str, Any]:
        return {"step_size": abs(end - start) / self.substeps}


_SCIPY: dict[str, tuple[int, int | None]] = {
    "RK23": (3, None),
    "RK45": (5, None),
    "DOP853": (8, None),
    "Radau": (5, None),
    "BDF": (5, None),
    "LSODA": (5, None),
}


@dataclass(frozen=True)
class SciPy(Bridge):
    """The integrators behind ``scipy.integrate.solve_ivp``. No gradients."""

    @staticmethod
    def methods() -> Mapping[str, tuple[int, int | None]]:
        return _SCIPY

    def integrate(self, problem: Problem) -> Float[Tensor, "n *state"]:
        import scipy.integrate

        if torch.is_grad_enabled():
            raise ValueError(
                f"solver='scipy:{self.method}' has no gradients; use 'torchdiffeq:dopri5' with "
                "differentiable=True"
            )

        slope, y, start, end, reached, _ = problem

        def tensor(flat: np.ndarray) -> Tensor:
            return torch.from_numpy(np.array(flat)).view(y.shape).to(y.device)

        def field(c: float, flat: np.ndarray) -> np.ndarray:
            return slope(c, tensor(flat)).reshape(-1).to("cpu", torch.float64).numpy()

        flat = y.reshape(-1).to("cpu", torch.float64).numpy()
        solver = getattr(scipy.integrate, self.method)(
            field, start, flat, end, rtol=max(self.rtol, 2.3e-14), atol=self.atol
        )
        while solver.status == "running":
            reached(solver.t, tensor(solver.y))
            message = solver.step()
            if solver.status == "failed":
                raise RuntimeError(
                    f"scipy's {self.method} gave up at {solver.t:.6g}: {message}; loosen "
                    f"rtol={self.rtol}, atol={self.atol}"
                )
        return tensor(solver.y).to(y.dtype)
