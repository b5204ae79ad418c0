r"""Grids: decreasing sequences of levels from the start of a run to its end.

A grid is a frozen object; ``grid.levels(process, n, start, end)`` gives n + 1 levels, n steps. A run that ends on clean
data makes its last evaluation at the last noisy level, so named grids place n noisy levels and put the clean one after
them. Two kinds need no care about it: an explicit sequence, used as given, and grids in a time that reaches zero noise.

Levels that coincide (two table indices rounded to one, say) are merged: a zero step changes nothing and costs an
evaluation.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import betaincinv

from .errors import unknown
from .processes import EDM, FLOW_TIME, LAMBDA, SIGMA, VE, Level, Process, Variable

#: Where grids in σ̄ put their second-noisiest level when the first is pure noise (σ̄ = ∞): EDM's σ_max.
LARGEST_SIGMA = 80.0


class Grid(ABC):
    """How to place the levels of a run."""

    @abstractmethod
    def levels(self, process: Process, n: int, start: Level | None = None, end: Level | None = None) -> tuple[Level, ...]:
        """Levels from ``start`` (default: the process's noisiest) to ``end`` (default: clean), n steps.

        Raises:
            ValueError: if n < 1 or the levels are not strictly decreasing in noise.
        """

    def _ends(self, process: Process, n: int, start: Level | None, end: Level | None) -> tuple[Level, Level]:
        if not (isinstance(n, int) and n >= 1):
            raise ValueError(f"n={n!r} steps: expected a positive integer")
        start = process.start if start is None else start
        end = process.clean if end is None else end
        if not end.t < start.t:
            raise ValueError(f"the run's end, {end}, is not quieter than its start, {start}; expected span=(noisy, quiet)")
        return start, end


def _strictly_decreasing(levels: Sequence[Level]) -> tuple[Level, ...]:
    kept = [levels[0]]
    for level in levels[1:]:
        if level.t < kept[-1].t:
            kept.append(level)
        elif level.t > kept[-1].t:
            raise ValueError(f"a grid must be decreasing: {kept[-1]} is followed by {level}")
    if len(kept) < 2:
        raise ValueError("a grid needs at least two different levels")
    return tuple(kept)


class _TimeGrid(Grid):
    """A grid in the process's own time; on a table, times are rounded to indices as the source does."""

    @staticmethod
    def rounding(indices: np.ndarray) -> np.ndarray:
        """Which way a fractional index goes to the table's."""
        return np.round(indices)

    def levels(self, process: Process, n: int, start: Level | None = None, end: Level | None = None) -> tuple[Level, ...]:
        given = start  # the tools these grids come from start a little below the top; a caller's own start is kept
        start, end = self._ends(process, n, start, end)
        if process.entries is not None:
            low = end.t + 1.0  # the clean level has index −1
            times = self.rounding(low + self.indices(n, start.t - low + 1.0))
            noisy = [process.level(min(start.t, max(min(low, start.t), float(t)))) for t in times]
        elif math.isinf(end.t):  # zero noise is infinitely far in this time (VE): stop at t_min, then jump
            noisy = self._continuous(process, n - 1, start, process.level(process.t_min)) if n > 1 else [start]
        else:
            noisy = self._continuous(process, n, start, end)[:-1]
        return _strictly_decreasing([given or noisy[0], *noisy[1:], end])

    def _continuous(self, process: Process, n: int, start: Level, end: Level) -> list[Level]:
        inner = [process.level(end.t + (start.t - end.t) * float(u)) for u in self.fractions(n)[1:-1]]
        return [start, *inner, end]

    def fractions(self, n: int) -> np.ndarray:
        """n + 1 numbers from 1 to 0, where the levels lie in continuous time; equal steps unless a grid says otherwise."""
        return np.linspace(1.0, 0.0, n + 1)

    @abstractmethod
    def indices(self, n: int, entries: float) -> np.ndarray:
        """n positions, decreasing, in a table 0 … entries − 1."""


@dataclass(frozen=True)
class Uniform(_TimeGrid):
    """τ_i = ⌊c i⌋ on a table (arXiv 2010.02502, appendix D.2); equal steps in time otherwise."""

    @staticmethod
    def rounding(indices: np.ndarray) -> np.ndarray:
        return np.floor(indices)

    def indices(self, n: int, entries: float) -> np.ndarray:
        return (np.arange(n) * entries / n)[::-1]


@dataclass(frozen=True)
class Quadratic(_TimeGrid):
    """τ_i = ⌊c i²⌋ with the top at 0.8 of the table, as in the DDIM code; t ∝ (1 − i/n)² otherwise.

    On a table the run starts from 0.8 T, which is near enough to noise for the images of the paper.
    """

    @staticmethod
    def rounding(indices: np.ndarray) -> np.ndarray:
        return np.floor(indices)

    def fractions(self, n: int) -> np.ndarray:
        return np.linspace(1.0, 0.0, n + 1) ** 2

    def indices(self, n: int, entries: float) -> np.ndarray:
        return (np.linspace(0.0, math.sqrt(entries * 0.8), n) ** 2)[::-1]


@dataclass(frozen=True)
class Linspace(_TimeGrid):
    """Equal steps from the noisiest to the quietest trained time, both included, then clean (diffusers' "linspace")."""

    def indices(self, n: int, entries: float) -> np.ndarray:
        return np.linspace(entries - 1.0, 0.0, n) if n > 1 else np.array([entries - 1.0])

    def _continuous(self, process: Process, n: int, start: Level, end: Level) -> list[Level]:
        quiet = process.level(process.t_min)
        if not end.clean or n == 1 or not quiet.t < start.t or quiet.clean:
            return super()._continuous(process, n, start, end)
        return [*super()._continuous(process, n - 1, start, quiet), end]


@dataclass(frozen=True)
class Trailing(_TimeGrid):
    """Equal steps that start at the very end of the table (arXiv 2305.08891, table 2)."""

    def indices(self, n: int, entries: float) -> np.ndarray:
        return np.round(entries - np.arange(n) * entries / n) - 1.0


@dataclass(frozen=True)
class Leading(_TimeGrid):
    """Multiples of ⌊T/n⌋ from 0, plus ``offset`` (diffusers' "leading"; Stable Diffusion has offset 1).

    On a continuous process, the quiet ends of n equal intervals: the run starts one step below the noisiest time.
    """

    offset: int = 0

    def indices(self, n: int, entries: float) -> np.ndarray:
        return np.arange(n)[::-1] * max(1.0, entries // n) + self.offset

    def _continuous(self, process: Process, n: int, start: Level, end: Level) -> list[Level]:
        if not end.clean:
            return super()._continuous(process, n, start, end)
        quiet = min(process.t_min, start.t)
        return [*(process.level(quiet + (start.t - quiet) * k / n) for k in range(n - 1, -1, -1)), end]


@dataclass(frozen=True)
class Beta(_TimeGrid):
    """Times at quantiles of a Beta(alpha, beta) law, denser at both ends (arXiv 2407.12173)."""

    alpha: float = 0.6
    beta: float = 0.6

    def fractions(self, n: int) -> np.ndarray:
        return betaincinv(self.alpha, self.beta, np.linspace(1.0, 0.0, n + 1))

    def indices(self, n: int, entries: float) -> np.ndarray:
        return betaincinv(self.alpha, self.beta, 1.0 - np.arange(n) / n) * (entries - 1.0)


class _VariableGrid(Grid):
    """A grid in a function of σ̄: n levels from the start to the quietest trained level, then clean."""

    variable: Variable = SIGMA

    def levels(self, process: Process, n: int, start: Level | None = None, end: Level | None = None) -> tuple[Level, ...]:
        start, end = self._ends(process, n, start, end)
        if end.clean and n == 1:
            return start, end
        quiet = process.level(process.t_min) if end.clean else end
        if end.clean and quiet.sigma >= start.sigma * (1.0 - 1e-9):
            # A start below the trained levels: no room for this grid's law, equal steps in σ̄ to zero noise.
            sigmas = np.linspace(start.sigma, 0.0, n + 1)[1:-1]
            return _strictly_decreasing([start, *(process.at(SIGMA, float(v)) for v in sigmas), end])
        steps = n - 1 if end.clean else n
        first = start
        if math.isinf(self.variable.of(start)):
            first = process.at(SIGMA, max(LARGEST_SIGMA, 2.0 * quiet.sigma))
        values = self.values(self.variable.of(first), self.variable.of(quiet), steps)
        inner = [process.at(self.variable, float(v)) for v in values[1:-1]]
        return _strictly_decreasing([start, *inner, quiet, *([end] if end.clean else [])])

    @abstractmethod
    def values(self, first: float, last: float, n: int) -> np.ndarray:
        """n + 1 values of the variable."""


@dataclass(frozen=True)
class Karras(_VariableGrid):
    """σ̄^{1/ρ} uniform (arXiv 2206.00364, eq. 5)."""

    rho: float = 7.0

    def values(self, first: float, last: float, n: int) -> np.ndarray:
        return np.linspace(first ** (1 / self.rho), last ** (1 / self.rho), n + 1) ** self.rho


@dataclass(frozen=True)
class LogSNR(_VariableGrid):
    """λ = −log σ̄ uniform, that is σ̄ in geometric progression (arXiv 2206.00927; k-diffusion's "exponential")."""

    variable = LAMBDA

    def values(self, first: float, last: float, n: int) -> np.ndarray:
        return np.linspace(first, last, n + 1)


@dataclass(frozen=True)
class Sigma(_VariableGrid):
    """σ̄ uniform: the equal steps in which Euler on dx̄ = ε̂ dσ̄ is analysed."""

    def values(self, first: float, last: float, n: int) -> np.ndarray:
        return np.linspace(first, last, n + 1)


@dataclass(frozen=True)
class Shifted(Grid):
    """Uniform in rectified-flow time u = σ̄/(1+σ̄), after u → shift·u/(1 + (shift − 1)u), that is σ̄ → shift·σ̄.

    The schedule of Stable Diffusion 3 (arXiv 2403.03206, section 5.3.2), where shift is 3; for any scalar process.
    """

    shift: float = 3.0

    def __post_init__(self) -> None:
        if not self.shift > 0:
            raise ValueError(f"shift={self.shift!r}: expected a positive number")

    def levels(self, process: Process, n: int, start: Level | None = None, end: Level | None = None) -> tuple[Level, ...]:
        start, end = self._ends(process, n, start, end)

        def unshift(u: float) -> float:
            return u / (self.shift - (self.shift - 1.0) * u)

        u = np.linspace(unshift(FLOW_TIME.of(start)), unshift(FLOW_TIME.of(end)), n + 1)[1:-1]
        u = self.shift * u / (1.0 + (self.shift - 1.0) * u)
        return _strictly_decreasing([start, *(process.at(FLOW_TIME, float(v)) for v in u), end])


@dataclass(frozen=True)
class Explicit(Grid):
    """A sequence of times, used as given."""

    times: tuple[float, ...]

    def levels(self, process: Process, n: int | None = None, start: Level | None = None, end: Level | None = None) -> tuple[Level, ...]:
        if start is not None or end is not None:
            raise ValueError("an explicit grid has its own ends; give either grid=[...] or span, not both")
        if len(self.times) < 2:
            raise ValueError(f"grid={list(self.times)}: expected at least two times, from noisy to quiet")
        for a, b in zip(self.times, self.times[1:], strict=False):
            if not b < a:
                raise ValueError(f"grid: times must be strictly decreasing, from noisy to quiet, but {a!r} is followed by {b!r}")
        return tuple(process.level(t) for t in self.times)


GRIDS: dict[str, Grid] = {
    "uniform": Uniform(),
    "quadratic": Quadratic(),
    "linspace": Linspace(),
    "trailing": Trailing(),
    "leading": Leading(),
    "karras": Karras(),
    "logsnr": LogSNR(),
    "exponential": LogSNR(),
    "sigma": Sigma(),
    "beta": Beta(),
    "shifted": Shifted(),
}


def default_grid(process: Process) -> Grid:
    """Karras for the processes that live in σ (EDM, VE), the paper's uniform τ on a table, quadratic in time for the others.

    Measured (docs/benchmarks.md) on VP, cosine VP, EDM and rectified flow: the best of the named grids at 10 evaluations, and at 20 but
    for rectified flow, where beta and linspace are somewhat better; at least three times better than uniform with ab3 at 20.
    """
    if isinstance(process, (EDM, VE)):
        return GRIDS["karras"]
    return GRIDS["uniform" if process.entries is not None else "quadratic"]


def resolve(grid: Any, process: Process) -> Grid:
    """The :class:`Grid` meant by a name, a Grid, a sequence of times, or None (the process's default)."""
    if grid is None:
        return default_grid(process)
    if isinstance(grid, Grid):
        return grid
    if isinstance(grid, str):
        if grid not in GRIDS:
            raise ValueError(unknown("grid", grid, GRIDS))
        return GRIDS[grid]
    try:
        return Explicit(tuple(float(t) for t in grid))
    except (TypeError, ValueError):
        raise TypeError(f"grid={grid!r}: expected a name, a flowsolve.grids object or a sequence of times") from None
