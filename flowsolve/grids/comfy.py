"""The schedulers of ComfyUI that are not here by another name: "karras", "exponential", "normal"
and "beta" are.

Times on a table are rounded to its entries, where ComfyUI interpolates σ and tells the network the
nearest entry's index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ..checked import checked
from ..processes import FLOW_TIME, Level, Process
from ..readers import Must
from .base import Grid, strictly_decreasing
from .in_sigma import VariableGrid
from .in_time import Leading, TimeGrid


@checked
@dataclass(frozen=True)
class Simple(TimeGrid, name="simple"):
    """T − 1 − ⌊i T/n⌋ on a table, from its end; equal steps in time otherwise."""

    def indices(self, n: int, entries: float) -> np.ndarray:
        return entries - 1.0 - np.floor(np.arange(n) * entries / n)


@checked
@dataclass(frozen=True)
class SGMUniform(TimeGrid, name="sgm_uniform"):
    """Equal steps from the noisiest trained time towards the quietest, of which the last goes to
    clean data instead."""

    def indices(self, n: int, entries: float) -> np.ndarray:
        return (entries - 1.0) * (1.0 - np.arange(n) / n)

    def _continuous(self, process: Process, n: int, start: Level, end: Level) -> list[Level]:
        quiet = process.level(process.t_min) if end.clean else end
        if not quiet.t < start.t:
            return super()._continuous(process, n, start, end)
        return [*super()._continuous(process, n, start, quiet)[:-1], end]


@checked
@dataclass(frozen=True)
class DDIMUniform(Leading, name="ddim_uniform"):
    """Multiples of ⌊T/n⌋ plus one, n of them: :class:`Leading` with that offset. (ComfyUI takes
    more where n is no divisor of T.)"""

    offset: int = 1


@checked
@dataclass(frozen=True)
class KLOptimal(VariableGrid, name="kl_optimal"):
    """atan σ̄ uniform: least Kullback-Leibler divergence for Gaussian data of variance 1 (arXiv
    2404.14507, theorem 3.1)."""

    def values(self, first: float, last: float, n: int) -> np.ndarray:
        return np.tan(np.linspace(np.arctan(first), np.arctan(last), n + 1))


@checked
@dataclass(frozen=True)
class LinearQuadratic(Grid, name="linear_quadratic"):
    """In rectified-flow time: half of the steps, all of one length, cover ``threshold`` of the way
    from noise, the others grow quadratically (arXiv 2410.13720, section 3.4.2; Mochi).

    Attributes:
        threshold: the part of the way, between 0 and 1/2.
    """

    threshold: Annotated[float, Must(lambda v: 0.0 < v < 0.5, "a number between 0 and 1/2")] = 0.025
    in_sigma = True

    def _covered(self, n: int) -> np.ndarray:
        """What part of the way is behind each of n + 1 levels: linear·i up to step n // 2, and a
        parabola from there to 1 that begins with the same slope."""
        half = n // 2
        if half == 0:
            return np.linspace(0.0, 1.0, n + 1)
        linear, i = self.threshold / half, np.arange(n + 1.0)
        return linear * i + (1.0 - linear * n) * (np.maximum(i - half, 0.0) / (n - half)) ** 2

    def levels(
        self, process: Process, n: int, start: Level | None = None, end: Level | None = None
    ) -> tuple[Level, ...]:
        start, end = self._ends(process, n, start, end)
        first, last = FLOW_TIME.of(start), FLOW_TIME.of(end)
        inner = (first + (last - first) * self._covered(n))[1:-1]
        return strictly_decreasing([start, *(process.at(FLOW_TIME, float(u)) for u in inner), end])
