r"""Grids: decreasing sequences of levels from the start of a run to its end.

A grid is a frozen object; ``grid.levels(process, n, start, end)`` gives n + 1 levels, n steps. A run that ends on clean
data makes its last evaluation at the last noisy level, so named grids place n noisy levels and put the clean one after
them. Two kinds need no care about it: an explicit sequence, used as given, and grids in a time that reaches zero noise.

Levels that coincide (two table indices rounded to one, say) are merged: a zero step changes nothing and costs an
evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import unknown
from ..processes import EDM, VE, Level, Process
from .base import Grid
from .in_sigma import LARGEST_SIGMA, Karras, Logistic, LogSNR, Shifted, Sigma
from .in_time import Beta, Leading, Linspace, Quadratic, Trailing, Uniform

__all__ = [
    "GRIDS",
    "LARGEST_SIGMA",
    "Beta",
    "Explicit",
    "Grid",
    "Karras",
    "Leading",
    "Linspace",
    "LogSNR",
    "Logistic",
    "Quadratic",
    "Shifted",
    "Sigma",
    "Trailing",
    "Uniform",
    "default_grid",
    "resolve",
]


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
    "logistic": Logistic(),
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
