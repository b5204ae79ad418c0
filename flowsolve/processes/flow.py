"""Flow matching: straight paths, and circles."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated

from ..checked import checked
from ..readers import Must
from .scalar import ScalarProcess

#: A standard deviation of data, whose square and that of its inverse are numbers of float32.
Spread = Annotated[float, Must(lambda v: 1e-18 < v < 1e18, "a positive number")]


@checked
@dataclass(frozen=True)
class RectifiedFlow(ScalarProcess):
    """Straight paths: A = 1 − t, R = t, pure noise at t = 1 (arXiv 2209.03003; 2210.02747).

    Attributes:
        shift: how much more noise the data take than small pictures do, σ̄ → shift · σ̄ (arXiv
            2403.03206, section 5.3.2), as models of large ones state it: "auto" places its levels
            around it. The process is the same.

    Examples:
        >>> process = flowsolve.RectifiedFlow()
        >>> process.start.pure_noise, process.level(0.5).sigma
        (True, 1.0)
    """

    shift: Spread = 1.0
    t_max: float = field(default=1.0, init=False)
    t_min: float = field(default=1e-3, init=False)

    def signal_and_noise(self, t: float) -> tuple[float, float]:
        return 1.0 - t, t

    def signal_and_noise_rates(self, t: float) -> tuple[float, float]:
        return -1.0, 1.0

    def time_of(self, sigma: float) -> float:
        return 1.0 if math.isinf(sigma) else sigma / (1.0 + sigma)


@checked
@dataclass(frozen=True)
class TrigFlow(ScalarProcess):
    """Circles: A = cos t, R = σ_data sin t, pure noise at t = π/2 (arXiv 2410.11081, section 3.1).

    With data of standard deviation σ_data a state has that size at every level.

    Attributes:
        sigma_data: the standard deviation of the data.

    Examples:
        >>> process = flowsolve.TrigFlow(sigma_data=0.5)
        >>> round(process.level(torch.pi / 4).sigma, 6)
        0.5
    """

    sigma_data: Spread = 1.0
    t_max: float = field(default=0.5 * math.pi, init=False)
    t_min: float = field(default=1e-3, init=False)

    def signal_and_noise(self, t: float) -> tuple[float, float]:
        return math.sin(self.t_max - t), self.sigma_data * math.sin(t)  # cos t, and 0 at π/2

    def signal_and_noise_rates(self, t: float) -> tuple[float, float]:
        return -math.sin(t), self.sigma_data * math.sin(self.t_max - t)

    def time_of(self, sigma: float) -> float:
        return math.atan(sigma / self.sigma_data)
