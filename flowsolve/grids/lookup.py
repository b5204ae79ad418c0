"""From what a user writes to a grid: a name, perhaps with options, an object, or times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..checked import Count, checked, read
from ..errors import refused
from ..named import named
from ..processes import Process
from .base import Grid
from .explicit import Explicit, Time


@checked
def default_grid(process: Process, evaluations: Count = 1) -> Grid:
    """The grid that the process names for methods of so many ``evaluations`` a step: Karras for
    those that live in σ (EDM, VE), quadratic in time for the others, from the last entry if it is a
    table.

    Measured (docs/benchmarks.md) on VP, cosine VP, EDM and rectified flow: the best of the named
    grids at 10 evaluations, and at 20 but for rectified flow, where beta and linspace are somewhat
    better; at least three times better than uniform with ab3 at 20. On tables: no method is worse
    than ddim.

    Examples:
        >>> [flowsolve.grids.default_grid(each) for each in (flowsolve.EDM(), flowsolve.VP())]
        [Karras(rho=7.0), Quadratic()]
    """
    return _named(process.grid_for(evaluations))


@checked
def find_grid(grid: Any, process: Process, evaluations: Count = 1) -> Grid:
    """The grid meant by a name ("karras"), a name with options ("karras(rho=5)"), a
    :class:`Grid`, a sequence of times, or None (the process's default for methods of so many
    ``evaluations`` a step).

    Raises:
        ValueError: for an unknown name, and an option's value out of range.
        TypeError: for an option the grid does not have, and for something that is no grid.

    Examples:
        >>> flowsolve.grids.find_grid("karras(rho=5)", flowsolve.VP())
        Karras(rho=5.0)
    """
    if grid is None:
        return default_grid(process, evaluations)
    if isinstance(grid, type) and issubclass(grid, Grid):
        return grid()
    if isinstance(grid, Grid):
        return grid
    if isinstance(grid, str):
        return _named(grid)
    what = refused("grid", grid, "a name, a flowsolve.grids object or a sequence of times")
    if not isinstance(grid, Iterable) or isinstance(grid, (bytes, Mapping)):
        raise TypeError(what)
    try:
        return Explicit(read("grid", grid, tuple[Time, ...]))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what}; {error}") from None


def _named(text: str) -> Grid:
    return named("grid", "grid", text, Grid.known)
