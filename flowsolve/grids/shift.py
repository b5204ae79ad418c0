"""Any grid, moved towards noise or data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

from ..checked import checked
from ..processes import SIGMA, VP, Level, Process
from ..readers import Later, Must
from .base import Grid, strictly_decreasing
from .lookup import find_grid

#: Factors that leave levels apart.
Factor = Annotated[float, Must(lambda v: 1e-3 <= v <= 1e3, "a number from 0.001 to 1000")]


@checked
@dataclass(frozen=True)
class Shift(Grid):
    r"""The levels of another grid, shifted: σ̄ → shift·σ̄, as models of larger pictures want more
    noise for as long (arXiv 2403.03206, section 5.3.2; 2301.11093)::

        grid=flowsolve.grids.Shift("karras", 3.0)

    The ends stay. Where the run begins at a finite :math:`\bar\sigma_s` or does not end on clean
    data, :math:`\bar\sigma_e = 0`, it is the part u of the way from one to the other that is
    shifted, :math:`u \to \mathrm{shift}\,u/(1+(\mathrm{shift}-1)u)`,
    :math:`u=(\bar\sigma-\bar\sigma_e)/(\bar\sigma_s-\bar\sigma_e)`, which is the same in the limit
    of pure noise. So two shifts are one by their product, and ``Shift("trailing", 3)`` of a
    rectified flow is :class:`Shifted`. No level is moved below the quietest trained one.

    Attributes:
        grid: what is shifted: a name, a grid, or times; None for the process's own.
        shift: above 1 towards noise, below 1 towards data.

    Examples:
        >>> levels = flowsolve.grids.Shift("trailing", 3.0).levels(flowsolve.RectifiedFlow(), 4)
        >>> levels == flowsolve.grids.Shifted(3.0).levels(flowsolve.RectifiedFlow(), 4)
        True
    """

    grid: Annotated[Any, Later("find_grid")]
    shift: Factor
    in_sigma = True

    def __post_init__(self) -> None:
        if self.grid is not None:  # a name and times are the same for every process
            object.__setattr__(self, "grid", find_grid(self.grid, VP()))

    def levels(
        self, process: Process, n: int, start: Level | None = None, end: Level | None = None
    ) -> tuple[Level, ...]:
        inner = find_grid(self.grid, process).levels(process, n, start, end)
        if not process.scalar:
            self._ends(process, n, start, end)  # says so
        top, bottom = inner[0].sigma, inner[-1].sigma
        least = max(bottom, process.level(process.t_min).sigma)

        def moved(level: Level) -> Level:
            up = level.sigma - bottom
            # (s − 1) u is 0 from pure noise, where there is no end to the way.
            part = 0.0 if math.isinf(top) else (self.shift - 1.0) * up / (top - bottom)
            sigma = bottom + self.shift * up / (1.0 + part)
            return process.at(SIGMA, max(sigma, min(least, level.sigma)))

        return strictly_decreasing([inner[0], *map(moved, inner[1:-1]), inner[-1]])
