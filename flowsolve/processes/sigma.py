"""Processes that live in σ: variance exploding, and Karras et al.'s."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..checked import Positive, checked
from ..typing import Float
from .levels import Level
from .scalar import ScalarProcess, check_sigmas


@checked
@dataclass(frozen=True)
class VE(ScalarProcess):
    """Variance exploding: A = 1, R = σ_min (σ_max/σ_min)^t (arXiv 2011.13456, eq. 31). The network
    is told σ.

    Examples:
        >>> process = flowsolve.VE(sigma_max=50.0)
        >>> level = process.at("sigma", 2.0)
        >>> level.A.value, round(level.sigma, 9), round(process.label(level), 9)
        (1.0, 2.0, 2.0)
    """

    sigma_min: Positive = 0.01
    sigma_max: Positive = 50.0
    t_max: float = field(default=1.0, init=False)
    t_min: float = field(default=0.0, init=False)
    t_clean: float = field(default=-math.inf, init=False)
    grid = "karras"

    def __post_init__(self) -> None:
        check_sigmas(self.sigma_min, self.sigma_max)

    def signal_and_noise(self, t: float) -> tuple[float, float]:
        return 1.0, self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def signal_and_noise_rates(self, t: float) -> tuple[float, float]:
        return 0.0, self.signal_and_noise(t)[1] * math.log(self.sigma_max / self.sigma_min)

    def time_of(self, sigma: float) -> float:
        if sigma == 0.0:
            return -math.inf
        return math.log(sigma / self.sigma_min) / math.log(self.sigma_max / self.sigma_min)

    def label(self, level: Level) -> float:
        return level.sigma


@checked
@dataclass(frozen=True)
class EDM(ScalarProcess):
    """Karras et al.'s parametrisation: A = 1, R = t = σ; the network is told ¼ ln σ (arXiv
    2206.00364, table 1).

    Examples:
        >>> process = flowsolve.EDM()
        >>> process.start.sigma, process.level(1.0).t, process.label(process.level(1.0))
        (80.0, 1.0, 0.0)
    """

    sigma_min: Positive = 0.002
    sigma_max: Positive = 80.0
    grid = "karras"

    def __post_init__(self) -> None:
        check_sigmas(self.sigma_min, self.sigma_max)

    @property
    def t_max(self) -> float:  # type: ignore[override]
        return self.sigma_max

    @property
    def t_min(self) -> float:  # type: ignore[override]
        return self.sigma_min

    def signal_and_noise(self, t: float) -> tuple[float, float]:
        return 1.0, t

    def signal_and_noise_rates(self, t: float) -> tuple[float, float]:
        return 0.0, 1.0

    def time_of(self, sigma: float) -> float:
        return sigma

    def label(self, level: Level) -> float:
        if level.clean:
            raise ValueError(f"level={level}: expected one with noise, ln σ is told to networks")
        return 0.25 * math.log(level.sigma)

    @checked
    def training_times(self, u: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """ln σ ~ N(−1.2, 1.2²), the last row of the paper's table."""
        super().training_times(u)  # refuses what is not in [0, 1)
        u = u.to(torch.promote_types(u.dtype, torch.float32))  # half precision has no ndtri
        times = (torch.special.ndtri(u) * 1.2 - 1.2).exp()
        return times.clamp(self.sigma_min, self.sigma_max)
