"""Times of the caller's own."""

from __future__ import annotations

from dataclasses import dataclass

from ..processes import Level, Process
from .base import Grid


@dataclass(frozen=True)
class Explicit(Grid):
    """A sequence of times, used as given."""

    times: tuple[float, ...]

    def levels(
        self,
        process: Process,
        n: int | None = None,
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
        return tuple(process.level(t) for t in self.times)
