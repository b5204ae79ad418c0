"""Grids in the process's own time, or in the indices of its table."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ..checked import Natural, checked
from ..processes import Level, Process
from ..readers import Must
from .base import Grid, strictly_decreasing

#: Powers between which times stay apart in double precision.
Power = Annotated[float, Must(lambda v: 0.1 <= v <= 10.0, "a positive number, from 0.1 to 10")]


class TimeGrid(Grid):
    """A grid in the process's own time; on a table, times are rounded to indices as the source
    does.

    Examples:
        >>> flowsolve.grids.Quadratic().fractions(4)
        array([1.    , 0.5625, 0.25  , 0.0625, 0.    ])
    """

    @staticmethod
    def rounding(indices: np.ndarray) -> np.ndarray:
        """Which way a fractional index goes to the table's."""
        return np.round(indices)

    def levels(
        self, process: Process, n: int, start: Level | None = None, end: Level | None = None
    ) -> tuple[Level, ...]:
        # The tools these grids come from start a little below the top; a caller's start is kept.
        given = start
        start, end = self._ends(process, n, start, end)
        if process.entries is not None:
            low = end.t + 1.0  # the clean level has index −1
            times = self.rounding(low + self.indices(n, start.t - low + 1.0))
            times = _distinct(np.clip(times, min(low, start.t), start.t), min(low, start.t))
            noisy = [process.level(float(t)) for t in times]
        elif math.isinf(
            end.t
        ):  # zero noise is infinitely far in this time (VE): stop at t_min, then jump
            noisy = (
                self._continuous(process, n - 1, start, process.level(process.t_min))
                if n > 1
                else [start]
            )
        else:
            noisy = self._continuous(process, n, start, end)[:-1]
        return strictly_decreasing([given or noisy[0], *noisy[1:], end])

    def _continuous(self, process: Process, n: int, start: Level, end: Level) -> list[Level]:
        inner = [
            process.level(end.t + (start.t - end.t) * float(u)) for u in self.fractions(n)[1:-1]
        ]
        return [start, *inner, end]

    def fractions(self, n: int) -> np.ndarray:
        """n + 1 numbers from 1 to 0, where the levels lie in continuous time; equal steps unless a
        grid says otherwise."""
        return np.linspace(1.0, 0.0, n + 1)

    @abstractmethod
    def indices(self, n: int, entries: float) -> np.ndarray:
        """n positions, decreasing, in a table 0 … entries − 1."""


def _distinct(times: np.ndarray, low: float) -> np.ndarray:
    """Decreasing indices, moved apart where some are the same, as little as that takes: down to
    ``low`` there is a level for each evaluation of the budget, or every entry of the table."""
    if len(set(times)) == len(times):
        return times
    steps = np.arange(len(times))
    rising = np.maximum.accumulate(times[::-1] - steps) + steps
    return np.maximum(low, np.minimum(rising, times[0] - steps[::-1]))[::-1]


@dataclass(frozen=True)
class Uniform(TimeGrid, name="uniform"):
    """τ_i = ⌊c i⌋ on a table (arXiv 2010.02502, appendix D.2); equal steps in time otherwise.

    Examples:
        >>> levels = flowsolve.grids.Uniform().levels(flowsolve.VP(), 4)
        >>> [round(level.t, 3) for level in levels]
        [1.0, 0.75, 0.5, 0.25, 0.0]
    """

    @staticmethod
    def rounding(indices: np.ndarray) -> np.ndarray:
        return np.floor(indices)

    def indices(self, n: int, entries: float) -> np.ndarray:
        return (np.arange(n) * entries / n)[::-1]


@dataclass(frozen=True)
class Quadratic(TimeGrid, name="quadratic"):
    """τ_i = ⌊c i²⌋ with the top at 0.8 of the table, as in the DDIM code; t ∝ (1 − i/n)² otherwise.

    On a table the run starts from 0.8 T, which is near enough to noise for the images of the paper.

    Examples:
        >>> levels = flowsolve.grids.Quadratic().levels(flowsolve.VP(), 4)
        >>> [round(level.t, 3) for level in levels]
        [1.0, 0.562, 0.25, 0.062, 0.0]
    """

    @staticmethod
    def rounding(indices: np.ndarray) -> np.ndarray:
        return np.floor(indices)

    def fractions(self, n: int) -> np.ndarray:
        return np.linspace(1.0, 0.0, n + 1) ** 2

    def indices(self, n: int, entries: float) -> np.ndarray:
        return (np.linspace(0.0, math.sqrt(entries * 0.8), n) ** 2)[::-1]


@dataclass(frozen=True)
class Linspace(TimeGrid, name="linspace", aliases=("normal",)):
    """Equal steps from the noisiest to the quietest trained time, both included, then clean
    (diffusers' "linspace").

    Examples:
        >>> table = flowsolve.VP.discrete(flowsolve.processes.tables.linear())
        >>> [round(level.t) for level in flowsolve.grids.Linspace().levels(table, 4)]
        [999, 666, 333, 0, -1]
    """

    def indices(self, n: int, entries: float) -> np.ndarray:
        return np.linspace(entries - 1.0, 0.0, n) if n > 1 else np.array([entries - 1.0])

    def _continuous(self, process: Process, n: int, start: Level, end: Level) -> list[Level]:
        quiet = process.level(process.t_min)
        if not end.clean or n == 1 or not quiet.t < start.t or quiet.clean:
            return super()._continuous(process, n, start, end)
        return [*super()._continuous(process, n - 1, start, quiet), end]


@dataclass(frozen=True)
class DPMLinspace(TimeGrid, name="dpm_linspace"):
    """n + 1 equal steps from the top of the table to its bottom, without the last (the "linspace"
    of diffusers' DPM-Solver, DEIS, UniPC and SA-Solver classes).

    Examples:
        >>> table = flowsolve.VP.discrete(flowsolve.processes.tables.linear())
        >>> [round(level.t) for level in flowsolve.grids.DPMLinspace().levels(table, 4)]
        [999, 749, 500, 250, -1]
    """

    def indices(self, n: int, entries: float) -> np.ndarray:
        return np.linspace(entries - 1.0, 0.0, n + 1)[:-1]


@checked
@dataclass(frozen=True)
class Trailing(TimeGrid, name="trailing"):
    """Equal steps that start at the very end of the table (arXiv 2305.08891, table 2), or steps
    that shorten towards clean data: τ_i + 1 = T (1 − i/n)^power.

    Attributes:
        power: 1 for equal steps; 2 is "quadratic" in continuous time, and the default on tables for
            methods of one evaluation a step.

    Examples:
        >>> table = flowsolve.VP.discrete(flowsolve.processes.tables.linear())
        >>> [round(level.t) for level in flowsolve.grids.Trailing().levels(table, 4)]
        [999, 749, 499, 249, -1]
    """

    power: Power = 1.0

    def fractions(self, n: int) -> np.ndarray:
        return np.linspace(1.0, 0.0, n + 1) ** self.power

    def indices(self, n: int, entries: float) -> np.ndarray:
        left = entries - np.arange(n) * entries / n
        return np.round(left * (left / entries) ** (self.power - 1.0)) - 1.0


@checked
@dataclass(frozen=True)
class Leading(TimeGrid, name="leading"):
    """Multiples of ⌊T/n⌋ from 0, plus ``offset`` (diffusers' "leading"; Stable Diffusion has offset
    1).

    On a continuous process, the quiet ends of n equal intervals: the run starts one step below the
    noisiest time.

    Examples:
        >>> table = flowsolve.VP.discrete(flowsolve.processes.tables.linear())
        >>> [round(level.t) for level in flowsolve.grids.Leading(offset=1).levels(table, 4)]
        [751, 501, 251, 1, -1]
    """

    offset: Natural = 0

    def indices(self, n: int, entries: float) -> np.ndarray:
        if self.offset >= entries:
            raise ValueError(
                f"offset={self.offset}: expected less than the {entries:g} entries of the run"
            )
        return np.arange(n)[::-1] * max(1.0, entries // n) + self.offset

    def _continuous(self, process: Process, n: int, start: Level, end: Level) -> list[Level]:
        if not end.clean:
            return super()._continuous(process, n, start, end)
        quiet = min(process.t_min, start.t)
        return [
            *(process.level(quiet + (start.t - quiet) * k / n) for k in range(n - 1, -1, -1)),
            end,
        ]


@checked
@dataclass(frozen=True)
class Beta(TimeGrid, name="beta"):
    """Times at quantiles of a Beta(alpha, beta) law, denser at both ends (arXiv 2407.12173).

    Examples:
        >>> levels = flowsolve.grids.Beta().levels(flowsolve.RectifiedFlow(), 4)
        >>> [round(level.t, 3) for level in levels]
        [1.0, 0.824, 0.5, 0.176, 0.0]
    """

    alpha: Power = 0.6
    beta: Power = 0.6

    def fractions(self, n: int) -> np.ndarray:
        return self._quantiles(np.linspace(1.0, 0.0, n + 1))

    def indices(self, n: int, entries: float) -> np.ndarray:
        return self._quantiles(1.0 - np.arange(n) / n) * (entries - 1.0)

    def _quantiles(self, parts: np.ndarray) -> np.ndarray:
        from scipy.special import betaincinv  # slow to import: only for those who use it

        return betaincinv(self.alpha, self.beta, parts)
