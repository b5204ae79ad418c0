"""torchdiffeq's integrators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from ..checked import Must, checked
from ..typing import Float
from .bridges import Bridge, Problem

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

Substeps = Annotated[int, Must(lambda v: 1 <= v <= 10_000, "an integer from 1 to 10000")]


@checked
@dataclass(frozen=True)
class TorchDiffEq(Bridge):
    """torchdiffeq's ``odeint``. Its fixed-step methods take one step per step of the grid, and
    gradients go through these steps; those of adaptive methods through ``odeint_adjoint``.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> flowsolve.sample(model, solver="dopri5", rtol=1e-3, n=2, seed=0).shape
        torch.Size([2, 2])
    """

    @property
    def _controlled(self) -> bool:
        """Whether the method holds its error to the tolerances: then the adjoint does, too."""
        return self.evaluations is None

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
            if torch.is_grad_enabled() and self._controlled:
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


@checked
@dataclass(frozen=True)
class TorchDiffEqAdams(TorchDiffEq):
    """torchdiffeq's Adams methods, which need a constant step: ``substeps`` equal ones of the clock
    over each step of the grid.

    Examples:
        >>> flowsolve.solvers.TorchDiffEqAdams("implicit_adams", substeps=10).order
        4
    """

    substeps: Substeps = 20

    @staticmethod
    def methods() -> Mapping[str, tuple[int, int | None]]:
        return {"explicit_adams": (4, None), "implicit_adams": (4, None)}

    def _options(self, start: float, end: float, device: torch.device) -> dict[str, Any]:
        return {"step_size": abs(end - start) / self.substeps}

    @property
    def _controlled(self) -> bool:
        return False
