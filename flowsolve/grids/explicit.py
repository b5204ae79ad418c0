"""Times of the caller's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..checked import Count, checked
from ..processes import Level, Process
from ..readers import Must
from .base import Grid, strictly_decreasing

#: A time; that of clean data is −∞ on some processes.
Time = Annotated[float, Must(lambda v: True, "a time, which is a number", infinite=True)]


@checked
@dataclass(frozen=True)
class Explicit(Grid):
    """A sequence of times, used as given.

    Examples:
        >>> grid = flowsolve.grids.Explicit((1.0, 0.5, 0.1, 0.0))
        >>> flowsolve.plan("ddim", flowsolve.VP(), grid=grid).nfe
        3
    """

    times: tuple[Time, ...]

    @checked
    def levels(
        self,
        process: Process,
        n: Count | None = None,
        start: Level | None = None,
        end: Level | None = None,
    ) -> tuple[Level, ...]:
        if start is not None or end is not None:
            raise ValueError(
                "an explicit grid has its own ends; give either grid=[...] or span, not both"
            )
        if len(self.times) < 2:
            raise ValueError(
                f"grid={list(self.times)}: expected at least two times, from noisy to quiet"
            )
        for a, b in zip(self.times, self.times[1:], strict=False):
            if not b < a:
                raise ValueError(
                    f"grid: times must be strictly decreasing, from noisy to quiet, but {a!r} is "
                    f"followed by {b!r}"
                )
        # Times that another library has rounded may be the same level.
        try:
            levels = [process.level(t) for t in self.times]
        except ValueError as error:
            raise ValueError(f"grid: {error}") from None
        return strictly_decreasing(levels)
