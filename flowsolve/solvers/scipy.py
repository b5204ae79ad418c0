"""scipy's integrators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..checked import checked
from ..typing import Float
from .bridges import Bridge, Problem

_SCIPY: dict[str, tuple[int, int | None]] = {
    "RK23": (3, None),
    "RK45": (5, None),
    "DOP853": (8, None),
    "Radau": (5, None),
    "BDF": (5, None),
    "LSODA": (5, None),
}


@checked
@dataclass(frozen=True)
class SciPy(Bridge):
    """The integrators behind ``scipy.integrate.solve_ivp``. No gradients.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> flowsolve.sample(model, solver="scipy:RK45", n=2, seed=0).shape
        torch.Size([2, 2])
    """

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
            return slope(float(c), tensor(flat)).reshape(-1).to("cpu", torch.float64).numpy()

        flat = y.reshape(-1).to("cpu", torch.float64).numpy()
        solver = getattr(scipy.integrate, self.method)(
            field, start, flat, end, rtol=max(self.rtol, 2.3e-14), atol=self.atol
        )
        while solver.status == "running":
            reached(float(solver.t), tensor(solver.y))
            message = solver.step()
            if solver.status == "failed":
                raise RuntimeError(
                    f"scipy's {self.method} gave up at {solver.t:.6g}: {message}; loosen "
                    f"rtol={self.rtol}, atol={self.atol}"
                )
        return tensor(solver.y).to(y.dtype)
