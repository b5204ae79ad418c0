"""What a network is told of a level, and back."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from ...processes import Level, Process


@dataclass(frozen=True)
class Clock(ABC):
    """What a network of ``process`` is told of a level, and back.

    Examples:
        >>> from diffusers import DDIMScheduler
        >>> clock = flowsolve.integrations.diffusers.read(DDIMScheduler()).clock
        >>> clock.told(clock.level(500)), clock.time(500)
        (500, 500)
    """

    process: Process

    @abstractmethod
    def told(self, level: Level) -> float:
        """What the network is told; an integer stays one."""

    @abstractmethod
    def time(self, told: float) -> float:
        """The process's time of that."""

    def level(self, told: float) -> Level:
        """The level that a network is told of so; beyond the ends, the nearest."""
        return self.process.level(
            min(max(self.time(told), self.process.t_clean), self.process.t_max)
        )


class Index(Clock):
    """The entry of a table. What lies between entries, as Karras's levels do, is told as it is."""

    def told(self, level: Level) -> float:
        near = round(level.t)
        return near if abs(level.t - near) < 1e-6 else level.t

    def time(self, told: float) -> float:
        return told


@dataclass(frozen=True)
class Thousandths(Clock):
    """T t of a flow or, ``turned`` round, T (1 − t)."""

    T: float
    turned: bool

    def told(self, level: Level) -> float:
        return self.T * (1.0 - level.t if self.turned else level.t)

    def time(self, told: float) -> float:
        return 1.0 - told / self.T if self.turned else told / self.T


class QuarterLog(Clock):
    """¼ ln σ, EDM's."""

    def told(self, level: Level) -> float:
        return 0.25 * math.log(level.sigma)

    def time(self, told: float) -> float:
        return math.exp(4.0 * told)


class Angle(Clock):
    """(2/π) atan σ, Stable Audio's."""

    def told(self, level: Level) -> float:
        return 2.0 / math.pi * math.atan(level.sigma)

    def time(self, told: float) -> float:
        return math.tan(0.5 * math.pi * told)
